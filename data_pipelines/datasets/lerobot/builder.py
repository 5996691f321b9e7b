"""Episodes of a LeRobot dataset, version 2 or 3 (github.com/huggingface/lerobot): Parquet and video."""

from data_pipelines.datasets.imports.import_builder import ImportBuilder
from data_pipelines.datasets.lerobot.reader import LeRobotReader


class Builder(ImportBuilder, skip_registration=True):
  DESCRIPTION = __doc__

  def open_reader(self) -> LeRobotReader:
    return LeRobotReader(self.request.path)
