import base64
import html.parser
import json
import pathlib
import re

import imageio.v3 as imageio
import numpy as np
import pytest

from gato_jax.pages import page as page_module
from gato_jax.pages.page import Markup, Section, data, element, figure, page, paragraph, picture, svg, table
from tests.gato_jax import pages_cases

PAGES = pathlib.Path(page_module.__file__).parent
HOSTILE = '</script><img src=x onerror="console.error(1)">\'&'


@pytest.fixture(scope='module')
def driver():
  with pages_cases.chromium() as driver:
    yield driver


@pytest.fixture
def image():
  return np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)


def whole_page(image, extra='', title='A page'):
  numbers = table('Scores of ' + HOSTILE, ['task', 'score'], [[HOSTILE, 1.5], ['b', '-2'], ['c', 'none']])
  drawing = svg(100, 50, 'A line', element('line', x1=0, y1=0, x2=100, y2=50, stroke='var(--series-1)'))
  wide = table('Wide', [f'column {i}' for i in range(40)], [['x' * 9] * 40])
  return page(title, 'What it is.', [
      Section('first', 'First', [paragraph(HOSTILE), picture(image, HOSTILE, scale=8), data('values', [HOSTILE]),
                                  extra]),
      Section('second', 'Second', [figure(drawing, 'It falls.', numbers=numbers), wide])], footer='Made by a test.')


class Texts(html.parser.HTMLParser):
  """Elements and texts as a browser's parser would have them."""

  def __init__(self, text):
    super().__init__()
    self.elements, self.texts = [], []
    self.feed(text)

  def handle_starttag(self, tag, attributes):
    self.elements.append((tag, dict(attributes)))

  def handle_data(self, text):
    self.texts.append(text)


def test_text_from_data_never_becomes_markup():
  attributes = {'aria_label': HOSTILE, 'class_': 'a', 'hidden': True, 'open': False, 'id': None}
  read = Texts(element('p', HOSTILE, element('b', HOSTILE), **attributes))
  assert read.elements == [('p', {'aria-label': HOSTILE, 'class': 'a', 'hidden': None}), ('b', {})]
  assert ''.join(read.texts) == HOSTILE * 2


def test_markup_is_left_alone_and_text_in_tables_is_not():
  assert element('p', Markup('<b>x</b>')) == '<p><b>x</b></p>'
  read = Texts(table(HOSTILE, [HOSTILE], [[HOSTILE]]))
  assert read.texts == [HOSTILE] * 3
  assert not {'img', 'script'} & {name for name, _ in read.elements}


def test_numbers_in_tables_stand_to_the_right():
  classes = re.findall(r'<td( class="number")?>', table('t', ['a'] * 7, [['1', 1, 2.5, '12,345', '-3.5%', '1x', '-']]))
  assert [bool(each) for each in classes] == [True, True, True, True, False, False]


def test_data_survives_the_way_to_the_script():
  value = {'a': [HOSTILE, '<!--<script>', '\u2028', 1.25]}
  text = data('x', value)
  assert text.count('<') == 2
  assert json.loads(text[text.index('>') + 1:text.rindex('<')]) == value


@pytest.mark.parametrize('script', sorted(path.name for path in PAGES.glob('*.js')))
def test_scripts_put_text_in_as_text(script):
  assert not re.search(r'innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(', (PAGES / script).read_text())


def test_a_picture_is_embedded_pixel_by_pixel(image):
  (name, attributes), = Texts(picture(image, 'noise', scale=4)).elements
  assert (name, attributes['width'], attributes['height'], attributes['class']) == ('img', '96', '64', 'pixels')
  kind, _, encoded = attributes['src'].partition(',')
  assert kind == 'data:image/png;base64'
  np.testing.assert_array_equal(imageio.imread(base64.b64decode(encoded)), image)


@pytest.mark.parametrize(('width', 'dark'), pages_cases.LOOKS)
def test_a_page_of_every_element_is_sound(driver, image, tmp_path, width, dark):
  (tmp_path / 'page.html').write_text(whole_page(image))
  pages_cases.open_page(driver, tmp_path / 'page.html', width, dark)
  assert pages_cases.problems(driver) == []
  assert driver.execute_script("return JSON.parse(document.getElementById('values').textContent)") == [HOSTILE]
  background = driver.execute_script('return getComputedStyle(document.body).backgroundColor')
  assert (sum(map(int, re.findall(r'\d+', background))) < 150) == dark


@pytest.mark.parametrize(('fault', 'found'), [
    ('<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">', 'no alt text'),
    ('<svg></svg>', 'no text alternative'),
    ('<canvas></canvas>', 'no text alternative'),
    ('<h5>deep</h5>', 'heading of level 5 after level 2'),
    ('<p id="second">twice</p>', 'an id that stands twice'),
    ('<a href="#nowhere">x</a>', 'a link to nowhere'),
    ('<table><tr><td>x</td></tr></table>', 'a table without caption'),
    ('<button></button>', 'no name'),
    ('<label>x <input type="checkbox" tabindex="3"></label>', 'a tab order of its own'),
    ('<div style="width: 3000px">x</div>', 'pixels wider than the screen'),
    ('<div style="overflow-x: scroll"><p style="width: 3000px; max-width: none">x</p></div>', 'not by keyboard'),
    ('<p style="color: #999; background: #fff">x</p>', 'contrast 2.85'),
    ('<script>console.error("it failed")</script>', 'it failed'),
    ('<script>undefined.x</script>', 'Cannot read properties'),
    ('<img alt="x" src="https://example.com/x.png">', 'Content Security Policy'),
    ('<script>fetch("https://example.com/")</script>', 'Content Security Policy'),
])
def test_the_audit_finds(driver, image, tmp_path, fault, found):
  (tmp_path / 'page.html').write_text(whole_page(image, Markup(fault)))
  pages_cases.open_page(driver, tmp_path / 'page.html', pages_cases.PHONE)
  assert any(found in problem for problem in pages_cases.problems(driver)), pages_cases.problems(driver)


def test_keyboard_reaches_the_content_and_scrolling_tables(driver, image, tmp_path):
  (tmp_path / 'page.html').write_text(whole_page(image))
  pages_cases.open_page(driver, tmp_path / 'page.html')
  pages_cases.press(driver, 'Tab')
  assert driver.execute_script('return document.activeElement.className') == 'skip'
  pages_cases.press(driver, 'Enter')
  assert driver.execute_script('return document.activeElement.id') == 'content'
  pages_cases.press(driver, 'Tab', 'Tab')
  assert driver.execute_script("return document.activeElement.getAttribute('aria-label')") == 'Wide'


def test_a_screenshot_of_an_element_has_its_size(driver, image, tmp_path):
  (tmp_path / 'page.html').write_text(whole_page(image))
  pages_cases.open_page(driver, tmp_path / 'page.html')
  pages_cases.screenshot(driver, tmp_path / 'shot.png', 'img')
  assert imageio.imread(tmp_path / 'shot.png').shape[:2] == (128, 192)
