"""What MkDocs builds besides `docs/*.md`, and a check of what it has built.

Pages made from the code (config, licences), CONTRIBUTING and SECURITY from the root, the explorer page, and of each
file of the repository that a page links to, a page that shows it. So the site stands alone.
"""

import os
import pathlib
import posixpath
import re
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

from docs.hooks import config_reference, licences
from docs.hooks.built import problems

ROOT = pathlib.Path(__file__).parents[2]
EXPLORER = ROOT / 'build' / 'explorer.html'
MADE = {'config.md': config_reference.page, 'licences.md': licences.page}
FROM_ROOT = {'CONTRIBUTING.md': 'contributing.md', 'SECURITY.md': 'security.md', 'README.md': 'index.md'}
_LINK = re.compile(r'(?<=\]\()(?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?(?=\))')


def on_files(files: Files, config: Any) -> Files:
  """Adds what is not in `docs/`."""
  if not EXPLORER.is_file():
    raise PluginError(f'{EXPLORER} is not there; `make docs` makes it')
  files.append(File.generated(config, 'explorer.html', abs_src_path=str(EXPLORER)))
  for uri, make in MADE.items():
    files.append(File.generated(config, uri, content=make()))
  for name, uri in FROM_ROOT.items():
    if uri not in files.src_uris:
      files.append(File.generated(config, uri, content=(ROOT / name).read_text()))
  for path in sorted({path for file in files.documentation_pages() for path in _shown(file)}):
    files.append(File.generated(config, _source_uri(path), content=_source_page(path)))
  return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
  """Lets links to files of the repository lead to their pages here."""
  here = page.file.src_uri

  def link(match: re.Match) -> str:
    uri = _uri(_target(here, match[1]))
    return posixpath.relpath(uri, posixpath.dirname(here)) + (match[2] or '')

  return markdown if here.startswith('source/') else _LINK.sub(link, markdown)


def on_post_build(config: Any) -> None:
  """Fails where a page needs something from elsewhere, or links to what is not there."""
  if found := problems(pathlib.Path(config.site_dir)):
    raise PluginError('\n'.join(found))


def _target(here: str, link: str) -> str:
  """The path in the repository that a link on a page means."""
  folder = '' if here in FROM_ROOT.values() and here != 'index.md' else posixpath.join('docs', posixpath.dirname(here))
  return posixpath.normpath(posixpath.join(folder, link))


def _uri(path: str) -> str:
  """Where a file of the repository is on the site."""
  if path in FROM_ROOT:
    return FROM_ROOT[path]
  if path.startswith('docs/') and not path.startswith('docs/hooks/'):
    return path.removeprefix('docs/')
  return _source_uri(path)


def _shown(file: File) -> set[str]:
  """The repository's files that a page links to and that have no page of their own."""
  targets = {_target(file.src_uri, link) for link, _ in _LINK.findall(file.content_string)}
  return {path for path in targets if _uri(path).startswith('source/') and (ROOT / path).is_file()}


def _source_uri(path: str) -> str:
  return f'source/{path}.md'


def _source_page(path: str) -> str:
  text = (ROOT / path).read_text()
  language = {'.py': 'python', '.yml': 'yaml', '.js': 'javascript'}.get(os.path.splitext(path)[1], 'text')
  fence = '`' * 5
  return f'---\nsearch:\n  exclude: true\n---\n\n# {path}\n\n{fence}{language}\n{text}\n{fence}\n'
