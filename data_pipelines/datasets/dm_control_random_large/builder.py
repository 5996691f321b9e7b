"""DeepMind Control Suite tasks whose physical parameters are 20 to 40% off, others in every episode."""

from data_pipelines.datasets.rlds import ControlBuilder


class Builder(ControlBuilder, skip_registration=True):
  DESCRIPTION = __doc__
