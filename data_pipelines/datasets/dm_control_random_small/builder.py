"""DeepMind Control Suite tasks whose physical parameters are 5 to 10% off, others in every episode."""

from data_pipelines.datasets.rlds import ControlBuilder


class Builder(ControlBuilder, skip_registration=True):
  DESCRIPTION = __doc__
