"""What is prose, and what is not."""

from collections.abc import Iterator
import hashlib
import html.parser
import re

from data_pipelines.errors import InputError

_SHORTEST = 80  # characters of a paragraph
_LETTERS = 0.8  # share of letters among the characters of a paragraph that are no space
_BREAK = re.compile(r'\n[ \t\r]*\n')
_BLOCKS = frozenset(('article', 'blockquote', 'body', 'center', 'dd', 'div', 'dl', 'dt', 'footer', 'h1', 'h2', 'h3',
                     'h4', 'h5', 'h6', 'header', 'hr', 'li', 'main', 'ol', 'p', 'section', 'table', 'td', 'th', 'title',
                     'tr', 'ul'))
_UNREAD = frozenset(('head', 'nav', 'pre', 'script', 'style'))  # none of it is prose


class Cleaner:
  """Picks the prose out of texts, and counts what it leaves. Keeps a digest of every paragraph it has passed."""

  def __init__(self):
    self._passed: set[bytes] = set()
    self._short = self._odd = self._repeated = 0

  def paragraphs(self, text: str) -> Iterator[str]:
    """The text's paragraphs of prose that have not come before, each on one line."""
    for part in _BREAK.split(text):
      paragraph = ' '.join(part.split())
      digest = hashlib.blake2b(paragraph.encode(), digest_size=8).digest()
      if not paragraph:
        continue
      if len(paragraph) < _SHORTEST:
        self._short += 1
      elif not mostly_letters(paragraph):
        self._odd += 1
      elif digest in self._passed:
        self._repeated += 1
      else:
        self._passed.add(digest)
        yield paragraph

  def report(self) -> str:
    return (f'of {len(self._passed) + self._short + self._odd + self._repeated} paragraphs, {self._short} under '
            f'{_SHORTEST} characters, {self._odd} that are not mostly letters, {self._repeated} repeated')


def mostly_letters(text: str) -> bool:
  """Whether four of five characters, spaces aside, are letters."""
  letters = sum(character.isalpha() for character in text)
  return letters >= _LETTERS * sum(not character.isspace() for character in text)


def web_page(source: str) -> str:
  """The text of an HTML page, an empty line between its blocks. Code, menus and the page's head are left out.

  Raises:
    InputError: the parser cannot make sense of it.
  """
  page = _Page()
  try:
    page.feed(source)
    page.close()
  except AssertionError as error:  # of a marked section that HTML does not have, as `<![foo[`
    raise InputError(f'not HTML ({error})') from error
  return page.text()


class _Page(html.parser.HTMLParser):
  def __init__(self):
    super().__init__(convert_charrefs=True)
    self._parts: list[str] = []
    self._unread: list[str] = []  # open elements of which nothing is read

  def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
    if tag in _UNREAD:
      self._unread.append(tag)
    elif tag in ('body', 'main'):
      self._unread.clear()  # whatever the page has forgotten to close
    if tag in _BLOCKS or tag in _UNREAD:
      self._parts.append('\n\n')
    elif tag == 'br':
      self._parts.append('\n')

  def handle_endtag(self, tag: str) -> None:
    if tag in self._unread:
      del self._unread[self._unread.index(tag):]
    if tag in _BLOCKS or tag in _UNREAD:
      self._parts.append('\n\n')

  def handle_data(self, data: str) -> None:
    if not self._unread:
      self._parts.append(re.sub(r'\s+', ' ', data))

  def text(self) -> str:
    return ''.join(self._parts).strip()
