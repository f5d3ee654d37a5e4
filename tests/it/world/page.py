# Chromium without a window. One wish a line on standard input, one answer a line on standard output.
import base64, json, sys
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

options = webdriver.ChromeOptions()
options.binary_location = "/usr/bin/chromium"
# A container has neither a sandbox for it nor much shared memory.
for flag in ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--window-size=1280,900", "--hide-scrollbars"]:
    options.add_argument(flag)
options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))


def picture(file, width, height):
    metrics = lambda height: driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500})
    metrics(height or 900)
    whole = height or int(driver.execute_script("return document.documentElement.scrollHeight"))
    if not height:
        metrics(whole)
    driver.execute_script("scrollTo(0, 0)")
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    with open(file, "wb") as out:
        out.write(base64.b64decode(shot["data"]))
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    return True


def fulfil(wish):
    if "open" in wish:
        driver.get(wish["open"])
        return True
    if "script" in wish:
        return driver.execute_script(wish["script"])
    if "keys" in wish:
        driver.find_element(By.CSS_SELECTOR, wish["at"]).send_keys(wish["keys"])
        return True
    if "picture" in wish:
        return picture(wish["picture"], wish["width"], wish["height"])
    if "complaints" in wish:
        # A browser asks for an icon of its own accord.
        return [line["message"] for line in driver.get_log("browser") if line["level"] == "SEVERE" and "favicon" not in line["message"]]


try:
    for line in sys.stdin:
        print(json.dumps(fulfil(json.loads(line))), flush=True)
finally:
    driver.quit()
