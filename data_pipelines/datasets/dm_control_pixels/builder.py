"""DeepMind Control Suite tasks from pictures, played by experts that read the state."""

from data_pipelines.datasets.rlds import ControlBuilder


class Builder(ControlBuilder, skip_registration=True):
  DESCRIPTION = __doc__
