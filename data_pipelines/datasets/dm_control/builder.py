"""DeepMind Control Suite tasks from state, played by controllers and gaits."""

from data_pipelines.datasets.rlds import ControlBuilder


class Builder(ControlBuilder, skip_registration=True):
  DESCRIPTION = __doc__
