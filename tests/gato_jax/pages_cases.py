"""A real Chromium, without a window, for the tests of pages: opens a file, audits it, takes its picture."""

import base64
from collections.abc import Iterator
import contextlib
import os
import pathlib
import shutil

import pytest

DESKTOP, PHONE = 1280, 390  # pixels of width
LOOKS = [(width, dark) for width in (DESKTOP, PHONE) for dark in (False, True)]
_AUDIT = pathlib.Path(__file__).with_name('pages_audit.js').read_text()
_FLAGS = ('--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--hide-scrollbars',
          '--force-color-profile=srgb',
          # no name is found, so whatever a page might fetch fails, and the failure is in the log
          '--host-resolver-rules=MAP * ~NOTFOUND')


@contextlib.contextmanager
def chromium() -> Iterator:
  """A Selenium driver; make one fixture a module of it. Skips the test where there is no Chromium."""
  webdriver = pytest.importorskip('selenium.webdriver', reason='no Selenium')
  browser = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
  driver_path = shutil.which('chromedriver')
  if not browser or not driver_path:
    pytest.skip('no Chromium with its chromedriver on this machine')
  options = webdriver.ChromeOptions()
  options.binary_location = browser
  for flag in _FLAGS:
    options.add_argument(flag)
  options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
  driver = webdriver.Chrome(options, webdriver.ChromeService(driver_path, log_output=os.devnull))
  try:
    yield driver
  finally:
    driver.quit()


def open_page(driver, path: pathlib.Path, width: int = DESKTOP, dark: bool = False,
              reduced_motion: bool = True) -> None:
  """Opens a file at a width, in the dark or light."""
  metrics = {'width': width, 'height': 900, 'deviceScaleFactor': 1, 'mobile': width < 600}
  driver.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', metrics)
  driver.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': [
      {'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'},
      {'name': 'prefers-reduced-motion', 'value': 'reduce' if reduced_motion else 'no-preference'}]})
  driver.get_log('browser')  # what an earlier page said
  driver.get(path.resolve().as_uri())


def problems(driver) -> list[str]:
  """Console messages, requests, and what `pages_audit.js` finds wrong with the page that is open; empty if all is well.

  The audit: every picture, drawing and canvas has a text alternative; one h1, main and header; headings in order; no id
  twice; no link to nowhere; tables with caption and headers; everything that takes the focus has a name and nothing
  its own tab order; buttons of 24 pixels; nothing wider than the screen but what scrolls by itself; contrast of text
  4.5 : 1, large text 3 : 1.
  """
  console = [f'console: {entry["level"]} {entry["message"]}' for entry in driver.get_log('browser')
             if entry['level'] != 'DEBUG']
  fetched = driver.execute_script(
      "return performance.getEntriesByType('resource').map((entry) => entry.name).filter((name) => "
      "!name.startsWith('data:'))")
  return console + [f'fetched {name[:100]}' for name in fetched] + driver.execute_script(_AUDIT)


def press(driver, *keys: str) -> None:
  """Presses keys, named as in the DOM (`Tab`, `ArrowRight`, `a`), one after the other, wherever the focus is."""
  names = {'Enter': '\ue007', 'Tab': '\ue004', 'Escape': '\ue00c', 'ArrowLeft': '\ue012', 'ArrowUp': '\ue013',
           'ArrowRight': '\ue014', 'ArrowDown': '\ue015', 'Home': '\ue011', 'End': '\ue010', 'Space': ' '}
  from selenium.webdriver import ActionChains

  ActionChains(driver).send_keys(*(names.get(key, key) for key in keys)).perform()


def screenshot(driver, path: pathlib.Path, selector: str = '') -> None:
  """A PNG of the whole page, or of the first element that a CSS selector finds."""
  box = driver.execute_script(
      'const node = arguments[0] ? document.querySelector(arguments[0]) : document.documentElement;'
      'const box = node.getBoundingClientRect();'
      'return {x: box.x + scrollX, y: box.y + scrollY, width: box.width, height: box.height, scale: 1}', selector)
  shot = driver.execute_cdp_cmd('Page.captureScreenshot', {'clip': box, 'captureBeyondViewport': True})

  path.write_bytes(base64.b64decode(shot['data']))
