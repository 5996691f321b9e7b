"""Episodes in the layout of the JAT dataset of Hugging Face (huggingface.co/datasets/jat-project/jat-dataset)."""

from data_pipelines.datasets.imports.import_builder import ImportBuilder
from data_pipelines.datasets.jat.reader import JATReader


class Builder(ImportBuilder, skip_registration=True):
  DESCRIPTION = __doc__

  def open_reader(self) -> JATReader:
    return JATReader(self.request.path, self.request.mapping.split)
