"""Reads LeRobot datasets from their own description of themselves, meta/info.json."""

from collections.abc import Collection, Iterator, Mapping
import json
import pathlib
from typing import Any

import numpy as np

from data_pipelines.datasets.imports.items import Damage, Item, RawEpisode
from data_pipelines.datasets.imports.parquet import rows
from data_pipelines.datasets.lerobot.episode_files import EpisodeFiles, episode_files, task_names
from data_pipelines.datasets.lerobot.video import VideoFrames
from data_pipelines.errors import InputError

_BOOKKEEPING = {'timestamp', 'frame_index', 'episode_index', 'index', 'task_index'}
_TASK = 'task'
_ROWS = 256  # of a table, read at once


class LeRobotReader:
  """A `Reader`. Items have LeRobot's names, `observation.state` and the like; `task` is what is to be done, in words.

  Args:
    path: the folder that holds `meta`, `data` and `videos`.
  """

  last_step = 'action'

  def __init__(self, path: str):
    root = pathlib.Path(path)
    try:
      self._info = json.loads((root / 'meta' / 'info.json').read_text())
      features, version = self._info['features'], self._info['codebase_version']
    except (OSError, ValueError, KeyError, TypeError) as error:
      raise InputError(f'{path} is no LeRobot dataset: meta/info.json cannot be read ({error})') from error
    if not version.startswith(('v2', 'v3')):
      raise InputError(f'{path} is of LeRobot {version}; versions 2 and 3 can be read: convert it with its own scripts')
    try:
      self._cameras = [name for name, feature in features.items() if feature['dtype'] == 'video']
      self.items: Mapping[str, Item] = {
          name: _item(feature) for name, feature in features.items() if name not in _BOOKKEEPING
      } | {_TASK: Item('text')}
      self._episodes = episode_files(root, self._info, self._cameras)
      self._tasks = task_names(root, self._info)
    except KeyError as error:
      raise InputError(f'{path} is no LeRobot dataset: nothing in meta says {error}') from error

  def episodes(self, names: Collection[str]) -> Iterator[RawEpisode | Damage]:
    columns = [name for name in names if name not in self._cameras and name != _TASK]
    tables = _Tables([*columns, 'episode_index', 'task_index'])
    for files in self._episodes:
      place = f'episode {files.index}'
      steps = tables.steps(files)
      if len(steps) != files.length:
        damage = f' ({tables.damage})' if tables.damage else ''
        yield Damage(place, f'{files.table.name} has {len(steps)} steps of its {files.length}{damage}')
        continue
      items = {name: self._column(name, [step[name] for step in steps]) for name in columns}
      for camera in set(names) & set(self._cameras):
        video = files.videos[camera]
        items[camera] = VideoFrames(video.file, video.start, files.length, self._info['fps'])
      if _TASK in names:
        items[_TASK] = [self._tasks.get(step['task_index'], '') for step in steps]
      yield RawEpisode(place, items)

  def _column(self, name: str, values: list[Any]) -> Any:
    if self.items[name].kind in ('image', 'text'):
      return values
    try:
      return np.array(values)
    except ValueError:  # ragged, which whoever converts the episode names
      return values


class _Tables:
  """Steps by episode out of tables that are read once from their start, as episodes follow one another.

  Attributes:
    damage: the last of the present file that could not be read, and why; nobody knows whose steps those were.
  """

  def __init__(self, columns: list[str]):
    self._columns = columns
    self._file: pathlib.Path | None = None
    self._rows: Iterator[dict[str, Any]] = iter(())
    self._next: dict[str, Any] | None = None
    self.damage = ''

  def steps(self, files: EpisodeFiles) -> list[dict[str, Any]]:
    """The steps of an episode that can be read."""
    if files.table != self._file:
      self._file, self._rows, self.damage = files.table, self._good_rows(files.table), ''
      self._next = next(self._rows, None)
    steps = []
    while self._next and self._next['episode_index'] <= files.index:
      if self._next['episode_index'] == files.index:
        steps.append(self._next)
      self._next = next(self._rows, None)
    return steps

  def _good_rows(self, table: pathlib.Path) -> Iterator[dict[str, Any]]:
    for place, row in rows(table, self._columns, _ROWS):
      if isinstance(row, Damage):
        self.damage = f'{place}: {row.problem}'
      else:
        yield row


def _item(feature: Mapping[str, Any]) -> Item:
  shape, kind = tuple(feature['shape']), feature['dtype']
  if kind in ('video', 'image'):
    first = (feature.get('names') or [''])[0]
    if isinstance(first, str) and first.startswith('channel'):
      shape = (*shape[1:], shape[0])
    return Item('image', shape, lossy=kind == 'video')
  if kind == 'string':
    return Item('text')
  shape = () if shape == (1,) else shape
  if kind == 'bool':
    return Item('integer', shape, 2)
  return Item('integer' if kind.startswith(('int', 'uint')) else 'number', shape)
