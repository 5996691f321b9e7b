"""Reads Parquet files with an episode a row: `*_observations`, `*_actions` and `rewards`, a list of steps each.

The final observation is not stored. Atari's pictures have four channels: successive grey frames, the newest last.
"""

from collections.abc import Collection, Iterator, Mapping
import dataclasses
import pathlib

from data_pipelines.datasets.imports.items import Damage, Item, RawEpisode
from data_pipelines.datasets.imports.parquet import item_of, rows, schema_of
from data_pipelines.errors import InputError

_SPLIT = 'train'


class JATReader:
  """A `Reader`. Items are `observation.<column>`, `action`, `reward`; other columns keep their names.

  Args:
    path: the folder of one task, such as `jat-dataset/mujoco-ant`.
    split: what its files' names begin with; empty: `train`.
  """

  last_step = 'action'

  def __init__(self, path: str, split: str):
    folder = pathlib.Path(path)
    self._files = sorted(folder.rglob(f'{split or _SPLIT}-*.parquet'))
    if not self._files:
      raise InputError(f'{path} holds no {split or _SPLIT}-*.parquet file; name the folder of one task, or set '
                       'mapping.split')
    columns, first = self._first_row()
    self._columns = _names(list(columns))
    self.items: Mapping[str, Item] = {
        name: dataclasses.replace(item_of(columns[column], first[column]), stacked=True)
        for name, column in self._columns.items()
    }

  def episodes(self, names: Collection[str]) -> Iterator[RawEpisode | Damage]:
    columns = {name: self._columns[name] for name in names}
    for file in self._files:
      for place, row in rows(file, columns.values()):
        if isinstance(row, Damage):
          yield row
        else:
          yield RawEpisode(place, {name: row[column] for name, column in columns.items()})

  def _first_row(self):
    """The columns by name, and the first row that can be read."""
    problem = 'no rows'
    for file in self._files:
      try:
        columns = {column.name: column for column in schema_of(file)}
      except InputError as error:
        problem = str(error)
        continue
      for _, row in rows(file, columns):
        if isinstance(row, dict):
          return columns, row
        problem = f'{row.place}: {row.problem}'
    raise InputError(f'{self._files[0].parent}: no row of it can be read ({problem})')


def _names(columns: list[str]) -> dict[str, str]:
  """Item -> column."""
  actions = [column for column in columns if column.endswith('_actions')]
  names = {}
  for column in columns:
    if column.endswith('_observations'):
      names[f'observation.{column}'] = column
    elif column in actions:
      names['action' if len(actions) == 1 else f'action.{column}'] = column
    else:
      names['reward' if column == 'rewards' else column] = column
  return names
