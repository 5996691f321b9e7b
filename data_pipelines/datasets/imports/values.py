"""What only the values of a dataset can tell: how far its actions go, how large its pictures are."""

from collections.abc import Collection
from typing import Literal

import numpy as np

from data_pipelines.datasets.imports.items import Pictures, RawEpisode, Reader
from data_pipelines.datasets.imports.pictures import picture_size
from data_pipelines.errors import InputError


class DatasetValues:
  """Reads the dataset once, when the first question is asked that it takes the values for."""

  def __init__(self, reader: Reader, observation: Collection[str], actions: Collection[str], reward: str):
    """What is asked about: observed items, those of the action, and the reward (empty: none)."""
    items = reader.items
    self._reader = reader
    self._numbers = set(actions)
    self._numbers |= {name for name in observation if items[name].kind == 'integer' and not items[name].num_values}
    self._pictures = {name for name in observation if items[name].kind == 'image' and None in items[name].shape}
    self._actions = actions
    self._reward = reward
    self._ranges: dict[str, tuple[np.ndarray, np.ndarray]] | None = None
    self._sizes: dict[str, tuple[int, int]] = {}
    self._ends_at_rest = True

  def range(self, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest value of each number of an item."""
    self._read()
    return self._ranges[name]

  def count(self, name: str) -> int:
    """One above the greatest value of an item; 0 where it has negative ones."""
    low, high = self.range(name)
    return int(high.max()) + 1 if low.min() >= 0 else 0

  def picture_size(self, name: str) -> tuple[int, int]:
    """Height and width."""
    height, width = self._reader.items[name].shape[:2]
    if height and width:
      return height, width
    self._read()
    return self._sizes[name]

  @property
  def last_step(self) -> Literal['action', 'observation']:
    """Whether episodes end with an action."""
    self._read()
    return 'observation' if self._ends_at_rest else 'action'

  def _read(self) -> None:
    if self._ranges is not None:
      return
    self._ranges = {}
    names = self._numbers | self._pictures | ({self._reward} - {''})
    for episode in self._reader.episodes(names):
      if isinstance(episode, RawEpisode) and all(name in episode.items for name in names):
        self._add(episode)
    unknown = (self._numbers - set(self._ranges)) | (self._pictures - set(self._sizes))
    if unknown:
      raise InputError(f'no episode has a good value of {", ".join(sorted(unknown))}')

  def _add(self, episode: RawEpisode) -> None:
    for name in self._pictures - set(self._sizes):
      pictures: Pictures = episode.items[name]
      if len(pictures) and (size := picture_size(pictures[0])):
        self._sizes[name] = size
    for name in self._numbers:
      try:
        values = np.atleast_1d(np.asarray(episode.items[name], np.float64))
      except ValueError:  # ragged: the episode is left out later, and so is one with other bad values
        return
      if len(values) and np.isfinite(values).all() and values.size == len(values) * self._reader.items[name].size:
        least, greatest = values.min(axis=0), values.max(axis=0)
        low, high = self._ranges.get(name, (least, greatest))
        self._ranges[name] = np.minimum(low, least), np.maximum(high, greatest)
    ends = (np.atleast_1d(episode.items[name])[-1:] for name in (*self._actions, *({self._reward} - {''})))
    # What means nothing may also be NaN.
    self._ends_at_rest &= not any(np.any(np.nan_to_num(np.array(end, np.float64))) for end in ends)
