# The page at /docs: what it shows before and after a token is typed into it.
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

gateway, token = sys.argv[1:3]
driver = chromium("--ignore-certificate-errors")
out = {}
try:
    wait = WebDriverWait(driver, 120)
    said = lambda: driver.find_element(By.ID, "said").text
    driver.get(gateway + "/docs")
    wait.until(lambda _: "bearer token" in said())
    out["before"] = said()
    driver.find_element(By.ID, "token").send_keys(token)
    driver.find_element(By.CSS_SELECTOR, "#key button").click()
    wait.until(lambda _: "paths" in said())
    wait.until(lambda _: driver.find_elements(By.CSS_SELECTOR, ".opblock"))
    out["after"] = said()
    out["operations"] = sorted(one.text.replace("​", "").split("\n")[1] for one in driver.find_elements(By.CSS_SELECTOR, ".opblock"))
    # It tries one, with the token.
    block = driver.find_element(By.CSS_SELECTOR, ".opblock-get")
    block.find_element(By.CSS_SELECTOR, ".opblock-summary-control").click()
    wait.until(lambda _: block.find_elements(By.CSS_SELECTOR, ".try-out__btn"))
    block.find_element(By.CSS_SELECTOR, ".try-out__btn").click()
    wait.until(lambda _: block.find_elements(By.CSS_SELECTOR, "button.execute"))
    driver.execute_script("arguments[0].click()", block.find_element(By.CSS_SELECTOR, "button.execute"))
    wait.until(lambda _: block.find_elements(By.CSS_SELECTOR, ".live-responses-table .response-col_status"))
    out["tried"] = block.find_element(By.CSS_SELECTOR, ".live-responses-table tbody .response-col_status").text.split("\n")[0]
    out["kept"] = driver.execute_script("return [localStorage.length, sessionStorage.length, document.cookie]")
    out["violations"] = [entry["message"] for entry in driver.get_log("browser") if "Content Security Policy" in entry["message"]]
    driver.save_screenshot(sys.argv[3])
finally:
    driver.quit()
print(json.dumps(out))
