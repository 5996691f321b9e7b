"""Prose from a folder of texts and web pages: long paragraphs of mostly letters, each kept once."""

from collections.abc import Iterable, Iterator
import pathlib

from data_pipelines.datasets.builder import Skip, TextBuilder
from data_pipelines.datasets.files import find_files
from data_pipelines.datasets.prose_folder.cleaning import Cleaner, web_page
from data_pipelines.datasets.text_files import LONGEST, SUFFIXES, documents, whole
from data_pipelines.errors import InputError

_WEB = ('.html', '.htm', '.html.gz', '.htm.gz')


class Builder(TextBuilder, skip_registration=True):
  DESCRIPTION = __doc__

  def documents(self, skip: Skip) -> Iterator[str]:
    cleaner = Cleaner()
    for path in find_files(self.request.path, SUFFIXES + _WEB):
      if path.name.lower().endswith(_WEB):
        texts: Iterable[str] = _page(path, skip)
      else:
        texts = documents(path, skip)
      for text in texts:
        yield from _joined(cleaner.paragraphs(text))
    self.leave_out(cleaner.report())


def _page(path: pathlib.Path, skip: Skip) -> Iterator[str]:
  try:
    yield web_page(''.join(whole(path, skip)))
  except InputError as error:
    skip(f'{path}: {error}')


def _joined(paragraphs: Iterable[str]) -> Iterator[str]:
  """Documents of at most `LONGEST` characters, but that no paragraph is cut."""
  document = ''
  for paragraph in paragraphs:
    if document and len(document) + len(paragraph) > LONGEST:
      yield document
      document = ''
    document += f'\n\n{paragraph}' if document else paragraph
  if document:
    yield document
