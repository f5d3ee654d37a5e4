# The page at /docs in Chromium, without a window, with the document of a plugin that means its reader ill: what becomes of it.
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

gateway, token = sys.argv[1:3]
driver = chromium("--ignore-certificate-errors")
out = {}
try:
    wait = WebDriverWait(driver, 120)
    driver.get(gateway + "/docs")
    driver.find_element(By.ID, "token").send_keys(token)
    driver.find_element(By.CSS_SELECTOR, "#key button").click()
    wait.until(lambda _: driver.find_elements(By.CSS_SELECTOR, ".opblock"))
    for control in driver.find_elements(By.CSS_SELECTOR, ".opblock-summary-control, .model-box-control, .models-control"):
        driver.execute_script("arguments[0].click()", control)
    wait.until(lambda _: driver.find_elements(By.CSS_SELECTOR, ".opblock-description"))
    for link in driver.find_elements(By.CSS_SELECTOR, "#ui a"):
        if (link.get_attribute("href") or "").lower().startswith("javascript:"):
            driver.execute_script("arguments[0].click()", link)
    # Each thing that the page would have done has been done once the page has drawn twice.
    driver.set_script_timeout(60)
    driver.execute_async_script("const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))")
    out["owned"] = driver.execute_script("return window.owned === undefined ? null : window.owned")
    out["acting"] = driver.execute_script("""
        return [...document.querySelectorAll("#ui *")].filter((one) =>
            ["SCRIPT", "IFRAME", "OBJECT", "EMBED", "BASE", "META", "LINK"].includes(one.tagName) && !one.closest("svg")
            || [...one.attributes].some((attribute) => attribute.name.startsWith("on"))).map((one) => one.outerHTML.slice(0, 200))""")
    out["links"] = driver.execute_script("""
        return [...document.querySelectorAll("#ui a[href]")].map((one) => one.protocol).filter((one) => one === "javascript:" || one === "data:")""")
    out["text"] = driver.find_element(By.ID, "ui").text
finally:
    driver.quit()
print(json.dumps(out))
