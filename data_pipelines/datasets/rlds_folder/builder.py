"""Episodes of a prepared TFDS dataset in the RLDS layout, read through its own features.json."""

from data_pipelines.datasets.imports.import_builder import ImportBuilder
from data_pipelines.datasets.rlds_folder.reader import RLDSReader


class Builder(ImportBuilder, skip_registration=True):
  DESCRIPTION = __doc__

  def open_reader(self) -> RLDSReader:
    return RLDSReader(self.request.path, self.request.mapping.split)
