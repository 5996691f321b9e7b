"""Atari 2600 games in other modes and difficulties, played by scripts that read the console's memory."""

from data_pipelines.datasets.rlds import ControlBuilder


class Builder(ControlBuilder, skip_registration=True):
  DESCRIPTION = __doc__
