"""A folder of the user's own texts: .txt and .md files (a document each) and .jsonl files (a document a line)."""

from collections.abc import Iterator

from data_pipelines.datasets.builder import TextBuilder
from data_pipelines.datasets.text_folder.files import documents, fingerprint, text_files


class Builder(TextBuilder, skip_registration=True):
  DESCRIPTION = __doc__

  def documents(self) -> Iterator[str]:
    self.info.metadata['fingerprint'] = fingerprint(self.request.path)
    for path in text_files(self.request.path):
      for place, text in documents(path):
        if text.strip():
          yield text
        else:
          self.dropped.append(f'{place}: empty')
