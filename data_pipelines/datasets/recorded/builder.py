"""Episodes that `EpisodeWriter` wrote, on a robot or anywhere else."""

from data_pipelines.datasets.imports.import_builder import ImportBuilder
from data_pipelines.datasets.recorded.reader import RecordedReader


class Builder(ImportBuilder, skip_registration=True):
  DESCRIPTION = __doc__

  def open_reader(self) -> RecordedReader:
    return RecordedReader(self.request.path)
