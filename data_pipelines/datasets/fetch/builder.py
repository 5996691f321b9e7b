"""Fetch manipulation tasks from state or from two cameras, played by scripted experts."""

from data_pipelines.datasets.rlds import ControlBuilder


class Builder(ControlBuilder, skip_registration=True):
  DESCRIPTION = __doc__
