"""Reads the folder of an `EpisodeWriter`."""

from collections.abc import Collection, Iterator, Mapping
import dataclasses
import pathlib
from typing import Any
import zipfile

import numpy as np

from data_pipelines.datasets.imports.items import Damage, Item, RawEpisode
from data_pipelines.datasets.recorded.writer import PICTURES, SUFFIX
from data_pipelines.errors import InputError

_NOT_ITEMS = frozenset(('terminated', 'action_low', 'action_high'))


class RecordedReader:
  """A `Reader`. Items are `observation.<key>`, `action`, `reward` and, if it was said, `success`.

  Args:
    path: the folder.
  """

  last_step = 'action'

  def __init__(self, path: str):
    self._files = sorted(pathlib.Path(path).glob(f'*{SUFFIX}'))
    first = next((arrays for arrays in map(_load, self._files) if not isinstance(arrays, str)), None)
    if first is None:
      raise InputError(f'{path} holds no episode of an EpisodeWriter that can be read')
    self.items: Mapping[str, Item] = {name: _item(values) for name, values in _items(first).items()}
    if first['action_low'].size:
      self.items['action'] = dataclasses.replace(
          self.items['action'], low=first['action_low'], high=first['action_high'])

  def episodes(self, names: Collection[str]) -> Iterator[RawEpisode | Damage]:
    for file in self._files:
      arrays = _load(file)
      if isinstance(arrays, str):
        yield Damage(file.name, arrays)
        continue
      items = _items(arrays)
      yield RawEpisode(file.name, {name: items[name] for name in names if name in items}, bool(arrays['terminated']))


def _load(file: pathlib.Path) -> dict[str, np.ndarray] | str:
  """All arrays of a file, or why it cannot be read."""
  try:
    with np.load(file) as arrays:
      if missing := _NOT_ITEMS.difference(arrays.files):
        return f'is not of an EpisodeWriter: it has no {", ".join(sorted(missing))}'
      return {name: arrays[name] for name in arrays.files}
  except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
    return f'cannot be read ({error})'


def _items(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
  png, ends = PICTURES
  items: dict[str, Any] = {}
  for name, array in arrays.items():
    if name.endswith(png):
      bounds = [0, *arrays[name.removesuffix(png) + ends].tolist()]
      content = array.tobytes()
      items[name.removesuffix(png)] = [content[start:stop] for start, stop in zip(bounds, bounds[1:], strict=False)]
    elif not name.endswith(ends) and name not in _NOT_ITEMS:
      items[name] = array.tolist() if array.dtype.kind == 'U' else array
  return items


def _item(values: Any) -> Item:
  if isinstance(values, list):
    return Item('text') if isinstance(values[0], str) else Item('image', (None, None, None))
  if values.dtype.kind == 'b':
    return Item('integer', values.shape[1:], 2)
  return Item('number' if values.dtype.kind == 'f' else 'integer', values.shape[1:])
