# What a person does at the operator's page, a wish each.
import base64
from selenium.webdriver.common.by import By

driver = chromium("--window-size=1280,900", "--hide-scrollbars")


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


serve(driver, fulfil)
