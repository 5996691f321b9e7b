"""The built pages in a real Chromium: `make docs` runs it. Screenshots of every page go to build/screenshots."""

import pathlib
import urllib.parse

import pytest

from tests.gato_jax import pages_cases

BUILD = pathlib.Path(__file__).parents[1] / 'build'
SITE = (BUILD / 'site').resolve()
SCREENSHOTS = BUILD / 'screenshots'
LOOKS = ((pages_cases.DESKTOP, False), (pages_cases.PHONE, True))
PAGES = sorted(page.name for page in SITE.glob('*.html') if page.name != '404.html')  # a server's, with its own paths
IDS = 'return [...document.querySelectorAll("[id], a[name]")].map((node) => node.id || node.name)'
LINKS = 'return [...document.querySelectorAll("a[href]")].map((link) => link.href)'


@pytest.fixture(scope='module')
def driver():
  SCREENSHOTS.mkdir(exist_ok=True)
  with pages_cases.chromium() as driver:
    yield driver


def test_links_lead_somewhere(driver):
  ids, links = {}, {}
  for name in PAGES:
    pages_cases.open_page(driver, SITE / name)
    ids[name], links[name] = set(driver.execute_script(IDS)), driver.execute_script(LINKS)
  for name, urls in links.items():
    for url in map(urllib.parse.urlparse, urls):
      if url.scheme != 'file':
        continue
      path = pathlib.Path(urllib.parse.unquote(url.path))
      assert path.is_file() and path.is_relative_to(SITE), f'{name}: {path}'
      place = urllib.parse.unquote(url.fragment)
      assert not place or path.name not in ids or place in ids[path.name], f'{name}: {path.name}#{place}'


@pytest.mark.parametrize('width, dark', LOOKS)
@pytest.mark.parametrize('name', PAGES)
def test_pages_open_without_complaint(driver, name, width, dark):
  """The console is silent, nothing is fetched from elsewhere or missing, and nothing is wider than the screen."""
  pages_cases.open_page(driver, SITE / name, width, dark)
  console = [entry['message'] for entry in driver.get_log('browser') if entry['level'] in ('SEVERE', 'WARNING')]
  assert not console
  assert driver.execute_script('return document.documentElement.scrollWidth') <= width
  pages_cases.screenshot(driver, SCREENSHOTS / f'{name}-{width}.png')
