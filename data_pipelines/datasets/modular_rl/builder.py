"""Planar walkers, hoppers and cheetahs with some of their limbs taken off, played by gaits."""

from data_pipelines.datasets.rlds import ControlBuilder


class Builder(ControlBuilder, skip_registration=True):
  DESCRIPTION = __doc__
