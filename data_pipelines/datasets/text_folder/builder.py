"""A folder of the user's own texts: .txt and .md files (a document each), .jsonl and Parquet (their `text`s)."""

from collections.abc import Iterator

from data_pipelines.datasets.builder import Skip, TextBuilder
from data_pipelines.datasets.files import find_files
from data_pipelines.datasets.text_files import SUFFIXES, documents


class Builder(TextBuilder, skip_registration=True):
  DESCRIPTION = __doc__

  def documents(self, skip: Skip) -> Iterator[str]:
    for path in find_files(self.request.path, SUFFIXES):
      empty = 0
      for document in documents(path, skip):
        if document.strip():
          yield document
        else:
          empty += 1
      if empty:
        self.leave_out(f'{path}: {empty} empty')
