# Chromium without a window, for the scripts that are put behind this one, and how each takes wishes: one a line on standard input,
# an answer a line on standard output.
import json, sys
from selenium import webdriver
from selenium.webdriver.chrome.service import Service


def chromium(*flags):
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    # A container has neither a sandbox for it nor much shared memory.
    for flag in ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", *flags]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))


def serve(driver, fulfil):
    try:
        for line in sys.stdin:
            print(json.dumps(fulfil(json.loads(line))), flush=True)
    finally:
        driver.quit()


