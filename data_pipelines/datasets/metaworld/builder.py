"""Meta-World manipulation tasks from state, played by the scripted policies that ship with it."""

from data_pipelines.datasets.rlds import ControlBuilder


class Builder(ControlBuilder, skip_registration=True):
  DESCRIPTION = __doc__
