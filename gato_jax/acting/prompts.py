"""Demonstrations to start an episode with (paper section 2.4)."""

from data_pipelines.datasets.episodes import ControlEpisode
from data_pipelines.datasets.sources import ControlSource
from data_pipelines.errors import InputError


def demonstrations(source: ControlSource, count: int) -> list[ControlEpisode]:
  """The source's first `count` successful episodes without injected noise.

  Raises:
    InputError: it has none.
  """
  indexes = source.demonstrations()[:count]
  if not len(indexes):
    raise InputError(f'{source.name}: no successful demonstration among its {len(source)} episodes to prompt with; '
                     'raise data.mixture.*.episodes, or set acting.prompt=False')
  return [source[int(index)] for index in indexes]
