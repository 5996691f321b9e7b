"""Gymnasium's classic control and Box2D tasks, played by heuristics."""

from data_pipelines.datasets.rlds import ControlBuilder


class Builder(ControlBuilder, skip_registration=True):
  DESCRIPTION = __doc__
