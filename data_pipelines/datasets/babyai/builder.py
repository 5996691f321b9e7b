"""BabyAI levels with their mission as text, played by the BabyAI bot."""

from data_pipelines.datasets.rlds import ControlBuilder


class Builder(ControlBuilder, skip_registration=True):
  DESCRIPTION = __doc__
