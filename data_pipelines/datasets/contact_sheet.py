"""A sample of a dataset's episodes as one picture: a row an episode, its timesteps from left to right."""

from collections.abc import Iterator, Sequence
import contextlib
import os
import textwrap
from typing import Any

from matplotlib.figure import Figure
import numpy as np

from data_pipelines.datasets.catalogue import dataset_type
from data_pipelines.datasets.episodes import ControlEpisode, Episode
from data_pipelines.datasets.listing import built_datasets
from data_pipelines.datasets.sources import ControlSource, RecordSource, open_directory
from data_pipelines.environments.registry import SPECS, make
from data_pipelines.environments.specs import Environment
from data_pipelines.errors import InputError

ROWS = 8
_FRAMES = 6  # of a control episode
_CELL_INCHES = 1.7
_LINE = 36  # characters of text under a picture
_LINES = 9


def draw_contact_sheet(name: str, data_dir: str, path: str) -> int:
  """Draws episodes of a dataset, or of a control task `dataset/task`, as a PNG.

  What is drawn of a control episode is its own pictures; where it has none, those of its simulator, in which its
  actions are played again; where there is no simulator or nothing to draw with, its numbers over time.

  Returns:
    how many episodes were drawn; 0, and no PNG, where nothing is built of it.
  """
  rows = [row for source, indexes in _sample(name, data_dir) for row in _rows(source, indexes)]
  if not rows:
    return 0
  figure = Figure(figsize=(_CELL_INCHES * _FRAMES, (_CELL_INCHES + 0.3) * len(rows)), layout='constrained')
  axes = figure.subplots(len(rows), max(map(len, (cells for _, cells in rows))), squeeze=False)
  for row, (title, cells) in zip(axes, rows, strict=True):
    for axis in row:
      axis.axis('off')
    row[0].set_title(title, fontsize=7, loc='left')
    for axis, cell in zip(row, cells, strict=False):
      _draw(axis, cell)
  os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
  figure.savefig(path, dpi=100)
  return len(rows)


def _sample(name: str, data_dir: str) -> list[tuple[RecordSource, list[int]]]:
  """Episodes spread over what is built: over the tasks, of each its newest variant, and over the episodes of each."""
  dataset, _, task = name.partition('/')
  newest = {}
  for built in built_datasets(dataset, data_dir):
    if not task or built.task == name:
      newest.setdefault(built.task, built.directory)
  tasks = sorted(newest)[:ROWS]
  kind = dataset_type(dataset).kind
  sources = [open_directory(kind, each or name, newest[each], 'train') for each in tasks]
  return [(source, sorted(set(np.linspace(0, len(source) - 1, ROWS // len(sources)).astype(int).tolist())))
          for source in sources]


def _rows(source: RecordSource, indexes: Sequence[int]) -> Iterator[tuple[str, list[Any]]]:
  """Title of each episode, and its pictures, number arrays or texts."""
  if not isinstance(source, ControlSource):
    yield from ((f'{source.name}, episode {index}', list(_plain_cells(source[index]))) for index in indexes)
    return
  pictures = [key for key, spec in sorted(source.task.observation.items()) if spec.kind == 'image']
  with _simulator(source.task.name if not pictures else '') as environment:
    for index in indexes:
      episode = source[index]
      steps = np.unique(np.linspace(0, episode.length - 1, _FRAMES).astype(int))
      if pictures:
        cells = [_side_by_side([episode.observation[key][int(step)] for key in pictures]) for step in steps]
      else:
        cells = _replayed(environment, int(source.table.seed[index]), episode, steps) or [_numbers(source, episode)]
      noisy = ', noisy' if source.noisy[index] else ''
      return_ = f'return {episode.episode_return:.1f}'
      yield f'{source.name}, episode {index}: {episode.length} steps, {return_}{noisy}', cells


def _side_by_side(pictures: Sequence[np.ndarray]) -> np.ndarray:
  """Pictures [H, W, 3] of cameras whose heights may differ, with white below the lower ones."""
  height = max(map(len, pictures))
  return np.concatenate([np.pad(picture, ((0, height - len(picture)), (0, 0), (0, 0)), constant_values=255)
                         for picture in pictures], axis=1)


@contextlib.contextmanager
def _simulator(task: str) -> Iterator[Environment | None]:
  """The task's simulator; None where there is none."""
  try:
    environment = make(task) if task in SPECS else None
  except InputError:  # it is not installed
    environment = None
  try:
    yield environment
  finally:
    if environment:
      environment.close()


def _replayed(environment: Environment | None, seed: int, episode: ControlEpisode, steps: np.ndarray) -> list:
  """What the simulator draws at these timesteps; nothing where it cannot."""
  frames = []
  if environment:
    environment.reset(seed)
    for step in range(int(steps[-1]) + 1):
      if step in steps:
        frames.append(environment.render())
      environment.step(episode.action[step])
  return [] if any(frame is None for frame in frames) else frames


def _plain_cells(episode: Episode) -> Iterator[np.ndarray | str]:
  """Pictures and texts of an episode that is none of control, in the order of its fields."""
  for value in vars(episode).values():
    yield from ([value] if isinstance(value, (str, np.ndarray)) else list(value)[:_FRAMES])


def _numbers(source: ControlSource, episode: ControlEpisode) -> np.ndarray:
  """Observations and actions, a row each, every one scaled to its own range; float [items, T]."""
  columns = [np.reshape(episode.observation[key], (episode.length, -1))
             for key, spec in sorted(source.task.observation.items()) if spec.kind in ('continuous', 'discrete')]
  columns.append(np.reshape(episode.action, (episode.length, -1)))
  values = np.concatenate(columns, axis=1).T.astype(float)
  low, high = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
  return (values - low) / np.where(high > low, high - low, 1)


def _draw(axis: Any, cell: np.ndarray | str | None) -> None:
  if isinstance(cell, np.ndarray):
    axis.imshow(cell, aspect='auto' if cell.ndim == 2 else 'equal', interpolation='nearest')
  elif cell is not None:
    lines = textwrap.wrap(cell, _LINE)
    text = '\n'.join(lines[:_LINES]) + (' ...' if len(lines) > _LINES else '')
    axis.text(0, 1, text.replace('$', r'\$'), fontsize=6, va='top', transform=axis.transAxes)
