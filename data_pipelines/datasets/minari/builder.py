"""Episodes of a Minari dataset (minari.farama.org)."""

from data_pipelines.datasets.imports.import_builder import ImportBuilder
from data_pipelines.datasets.minari.reader import MinariReader


class Builder(ImportBuilder, skip_registration=True):
  DESCRIPTION = __doc__

  def open_reader(self) -> MinariReader:
    return MinariReader(self.request.path)
