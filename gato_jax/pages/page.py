"""One self-contained HTML file: its frame, and the elements that it is made of. All text is escaped on its way in."""

import base64
from collections.abc import Iterator, Sequence
import contextlib
import html
import importlib.resources
import io
import json
import pathlib
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from data_pipelines.errors import InputError

_VOID = ('br', 'img', 'input', 'meta')
# Nothing is fetched from anywhere, and no script but the page's own is run.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


class Markup(str):
  """HTML. Any other string is text, which is escaped wherever it is put into an element."""


class Section(NamedTuple):
  """A part of a page with a heading and a place in the table of contents.

  Attributes:
    identifier: its anchor: letters, digits and dashes.
    title: its heading.
    content: its elements; text is escaped.
  """

  identifier: str
  title: str
  content: Sequence[Any]


def escape(content: Any) -> Markup:
  """Markup as it is, anything else as text."""
  return content if isinstance(content, Markup) else Markup(html.escape(str(content), quote=True))


def join(*content: Any) -> Markup:
  """One thing after the other."""
  return Markup(''.join(map(escape, content)))


def element(name: str, /, *content: Any, **attributes: Any) -> Markup:
  """An HTML or SVG element.

  Args:
    name: of the element.
    *content: markup, or text, which is escaped.
    **attributes: `class_` is written `class`, `aria_label` is written `aria-label`. True has no value; None and False
      are left out.
  """
  written = ''.join(_attribute(key.rstrip('_').replace('_', '-'), value) for key, value in attributes.items()
                    if value is not None and value is not False)
  opening = f'<{name}{written}>'
  return Markup(opening if name in _VOID else f'{opening}{join(*content)}</{name}>')


def _attribute(key: str, value: Any) -> str:
  return f' {key}' if value is True else f' {key}="{html.escape(str(value), quote=True)}"'


def paragraph(*content: Any, **attributes: Any) -> Markup:
  return element('p', *content, **attributes)


def table(caption: str, header: Sequence[Any], rows: Sequence[Sequence[Any]], hide_caption: bool = False) -> Markup:
  """A table whose first column names the row; numbers, int or float or text of one, stand to the right.

  It scrolls sideways by itself where the screen is narrow.
  """
  head = element('tr', *(element('th', cell, scope='col') for cell in header))
  body = join(*(element('tr', element('th', row[0], scope='row'), *map(_cell, row[1:])) for row in rows))
  inner = element('table', element('caption', caption, class_='hidden' if hide_caption else None),
                  element('thead', head), element('tbody', body))
  return element('div', inner, class_='scroll', role='region', aria_label=caption, tabindex='0')


def _cell(value: Any) -> Markup:
  """A cell of a table."""
  number = isinstance(value, (int, float)) or (isinstance(value, str) and _is_number(value))
  return element('td', value, class_='number' if number else None)


def _is_number(text: str) -> bool:
  return text.rstrip('%').replace(',', '').replace('.', '', 1).lstrip('+-\N{MINUS SIGN}').isdigit()


def figure(content: Markup, *caption: Any, numbers: Markup | None = None, **attributes: Any) -> Markup:
  """A picture, plot or drawing with its caption, and under it, folded away, its numbers as a `table`."""
  folded = element('details', element('summary', 'The same as a table'), numbers) if numbers else ''
  return element('figure', content, element('figcaption', *caption), folded, **attributes)


def svg(width: float, height: float, title: str, *content: Any, description: str = '', **attributes: Any) -> Markup:
  """A drawing of width x height units that screen readers take for one picture named `title`."""
  label = f'{title}. {description}' if description else title
  return element('svg', *content, viewBox=f'0 0 {width:g} {height:g}', role='img', aria_label=label, **attributes)


def picture(image: np.ndarray | bytes, alternative: str, scale: int = 1, **attributes: Any) -> Markup:
  """A picture, embedded.

  Args:
    image: uint8 [height, width, 3], or the bytes of a PNG, JPEG, GIF or WebP file.
    alternative: what it shows, for who does not see it.
    scale: screen pixels a pixel, of which each is drawn as a sharp square.
    **attributes: of the element.
  """
  file = image if isinstance(image, bytes) else png(image)
  with Image.open(io.BytesIO(file)) as opened:
    (width, height), kind = opened.size, opened.format.lower()
  return element('img', src=data_uri(file, kind), alt=alternative, width=width * scale, height=height * scale,
                 **({'class_': 'pixels'} if scale > 1 else {}) | attributes)


def data_uri(file: bytes, kind: str) -> str:
  """The address that a picture's bytes have of themselves; kind: png, jpeg, gif or webp."""
  return f'data:image/{kind};base64,{base64.b64encode(file).decode()}'


def png(image: np.ndarray) -> bytes:
  """A PNG file of uint8 [height, width, 3]."""
  file = io.BytesIO()
  Image.fromarray(image).save(file, 'PNG', optimize=True)
  return file.getvalue()


def data(identifier: str, value: Any) -> Markup:
  """JSON for the page's scripts: `JSON.parse(document.getElementById(identifier).textContent)`."""
  # A `<` could end the element or begin a comment within it.
  text = json.dumps(value, allow_nan=False, separators=(',', ':')).replace('<', '\\u003c')
  return element('script', Markup(text), type='application/json', id=identifier)


def resource(name: str) -> str:
  """The text of a style sheet or script beside this module."""
  return importlib.resources.files(__package__).joinpath(name).read_text(encoding='utf-8')


def page(title: str, lead: Any, sections: Sequence[Section], *, styles: Sequence[str] = (),
         scripts: Sequence[str] = (), footer: Any = '') -> str:
  """The whole file.

  Args:
    title: of the window and the first heading.
    lead: what the page is, in a sentence or two.
    sections: its parts, in order; the table of contents lists them.
    styles: names of style sheets beside this module, to follow `page.css`.
    scripts: names of scripts beside this module, run when the page has been read.
    footer: how it was made.
  """
  style = ''.join(map(resource, ('page.css', *styles)))
  head = element(
      'head', element('meta', charset='utf-8'), element('meta', http_equiv='Content-Security-Policy', content=_POLICY),
      element('meta', name='viewport', content='width=device-width, initial-scale=1'),
      element('meta', name='color-scheme', content='light dark'), element('title', title),
      element('style', Markup(style)))
  links = (element('li', element('a', section.title, href=f'#{section.identifier}')) for section in sections)
  body = element(
      'body', element('a', 'Skip to the content', href='#content', class_='skip'),
      element('header', element('h1', title), paragraph(lead, class_='lead')),
      element('nav', element('ol', *links), aria_label='Contents'),
      element('main', *map(_section, sections), id='content', tabindex='-1'),
      element('footer', paragraph(footer)) if footer else '',
      *(element('script', Markup(resource(name))) for name in scripts))
  return f'<!DOCTYPE html>\n{element("html", head, body, lang="en")}\n'


@contextlib.contextmanager
def writing(path: pathlib.Path) -> Iterator[None]:
  """Raises InputError where a page cannot be written there."""
  try:
    yield
  except OSError as error:
    raise InputError(f'{path} cannot be written ({error}); give --out=FILE') from error


def _section(section: Section) -> Markup:
  heading = element('h2', section.title, id=f'{section.identifier}-title')
  return element('section', heading, *section.content, id=section.identifier,
                 aria_labelledby=f'{section.identifier}-title')
