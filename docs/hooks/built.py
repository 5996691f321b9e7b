"""What is wrong with a built site: links that lead nowhere, and what it would fetch from elsewhere."""

import html.parser
import pathlib
from urllib.parse import unquote, urlsplit

# Of these tags the attribute makes a browser fetch something.
_FETCHED = {'script': 'src', 'img': 'src', 'iframe': 'src', 'source': 'src', 'video': 'src'}
_FETCHED_LINKS = {'stylesheet', 'icon', 'preload', 'modulepreload'}


class _Page(html.parser.HTMLParser):
  """The ids of a page, the addresses it links to, and those it fetches."""

  def __init__(self, text: str):
    super().__init__()
    self.ids, self.links, self.fetched = set(), [], []
    self.feed(text)

  def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
    values = {name: value or '' for name, value in attributes}
    self.ids |= {values[name] for name in ('id', 'name') if name in values}
    if tag == 'a' and 'href' in values:
      self.links.append(values['href'])
    if tag == 'link' and _FETCHED_LINKS & set(values.get('rel', '').split()):
      self.fetched.append(values['href'])
    if tag in _FETCHED and values.get(_FETCHED[tag], ''):
      self.fetched.append(values[_FETCHED[tag]])


def problems(site: pathlib.Path) -> list[str]:
  """One line each; nothing for a site that is whole."""
  pages = {path: _Page(path.read_text(encoding='utf-8')) for path in sorted(site.rglob('*.html'))}
  found = []
  for path, page in pages.items():
    name = path.relative_to(site)
    for address in page.fetched:
      if urlsplit(address).netloc:
        found.append(f'{name} fetches {address}')
      elif not address.startswith('data:') and not _file(site, path, address).is_file():
        found.append(f'{name} has no {address}')
    for address in page.links:
      target = _file(site, path, address)
      if urlsplit(address).scheme or urlsplit(address).netloc:
        continue
      if not target.is_file():
        found.append(f'{name} links to {address}, which is not there')
      elif (place := unquote(urlsplit(address).fragment)) and target in pages and place not in pages[target].ids:
        found.append(f'{name} links to {address}, but there is no such place')
  return found


def _file(site: pathlib.Path, page: pathlib.Path, address: str) -> pathlib.Path:
  path = unquote(urlsplit(address).path)
  folder = site if path.startswith('/') else page.parent
  target = (folder / path.lstrip('/')).resolve() if path else page
  return target / 'index.html' if target.is_dir() else target
