"""DeepMind Control Suite tasks from state, played by scripted controllers."""

from data_pipelines.datasets.rlds import ControlBuilder


class Builder(ControlBuilder, skip_registration=True):
  DESCRIPTION = __doc__
