"""Procgen levels, played by search."""

from data_pipelines.datasets.rlds import ControlBuilder


class Builder(ControlBuilder, skip_registration=True):
  DESCRIPTION = __doc__
