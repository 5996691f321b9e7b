"""Reads Minari datasets through Minari; their spaces say what their items are."""

from collections.abc import Collection, Iterator, Mapping
import pathlib
from typing import Any

import numpy as np

from data_pipelines.datasets.imports.items import Damage, Item, RawEpisode
from data_pipelines.environments.gymnasium_spaces import leaf_bounds, leaf_values, leaves, observation_spec
from data_pipelines.errors import InputError
from data_pipelines.packages import import_package

_FOLDER = 'data'  # of a dataset, where Minari keeps its files


class MinariReader:
  """A `Reader`. Items are `observation` and `action`, with `.<key>` behind if their spaces are nested, and `reward`;
  what was recorded of `info`, if it is numbers, is `infos.<key>`.

  Args:
    path: the folder of one dataset, such as `~/.minari/datasets/D4RL/door/human-v2`.
  """

  last_step = 'action'

  def __init__(self, path: str):
    folder = pathlib.Path(path) / _FOLDER
    if not (folder / 'metadata.json').is_file():
      raise InputError(f'{path} is no Minari dataset: it has no {_FOLDER}/metadata.json')
    minari = import_package('minari', 'formats')
    try:
      self._dataset = minari.MinariDataset(folder)
    except Exception as error:  # Minari's, pydantic's or the storage's own for a damaged file
      raise InputError(f'{path}: Minari cannot open it ({error})') from error
    self._spaces = {'observation': self._dataset.observation_space, 'action': self._dataset.action_space}
    self.items: Mapping[str, Item] = {
        name: _item(leaf, name) for what, space in self._spaces.items() for name, leaf in leaves(space, what)
    } | {'reward': Item('number')} | self._infos()

  def episodes(self, names: Collection[str]) -> Iterator[RawEpisode | Damage]:
    for index in self._dataset.episode_indices:
      place = f'episode {index}'
      try:
        episode = self._dataset[index]
      except Exception as error:  # likewise
        yield Damage(place, f'cannot be read ({type(error).__name__}: {error})')
        continue
      values = {'reward': episode.rewards}
      values |= dict(leaf_values(self._spaces['observation'], episode.observations, 'observation'))
      values |= dict(leaf_values(self._spaces['action'], episode.actions, 'action'))
      values |= {f'infos.{key}': info for key, info in episode.infos.items()}
      ended = bool(len(episode.terminations) and episode.terminations[-1])
      yield RawEpisode(place, {name: values[name] for name in names if name in values}, ended)

  def _infos(self) -> dict[str, Item]:
    if not len(self._dataset):
      return {}
    infos = self._dataset[int(self._dataset.episode_indices[0])].infos
    return {f'infos.{key}': Item('number', value.shape[1:]) for key, value in infos.items()
            if isinstance(value, np.ndarray) and value.dtype.kind in 'biuf'}


def _item(space: Any, name: str) -> Item:
  if name.split('.')[0] == 'observation':
    try:
      spec = observation_spec(space, name)
    except InputError:
      return Item('other')
    if spec.kind == 'image':
      return Item('image', space.shape)
    kind = {'continuous': 'number', 'discrete': 'integer', 'text': 'text'}[spec.kind]
    return Item(kind, spec.shape, spec.num_values)
  if type(space).__name__ == 'Discrete':
    return Item('integer', (), int(space.n))
  try:
    low, high = leaf_bounds(space, name)
  except InputError:  # unbounded: the data tell; or not made of numbers
    return Item('number', space.shape) if type(space).__name__ == 'Box' else Item('other')
  return Item('number', space.shape, 0, low, high)
