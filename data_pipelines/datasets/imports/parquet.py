"""Rows of Parquet files, a row at a time, nested lists as arrays. Whatever is read from such a file is read here."""

from collections.abc import Collection, Iterator
import os
from typing import Any

import numpy as np

from data_pipelines.datasets.imports.items import Damage, Item
from data_pipelines.errors import InputError
from data_pipelines.packages import import_package

_PICTURE_BYTES = 'bytes'  # the field that holds a picture in Hugging Face's layout


def schema_of(file: str | os.PathLike) -> Any:
  """The Arrow schema of a file; raises InputError where it cannot be read."""
  parquet = import_package('pyarrow.parquet', 'formats')
  try:
    return parquet.read_schema(file)
  except _errors() as error:
    raise InputError(f'{file}: not a readable Parquet file ({error})') from error


def rows(file: str | os.PathLike, columns: Collection[str],
         batch: int = 1) -> Iterator[tuple[str, dict[str, Any] | Damage]]:
  """Rows with these columns, `batch` of them read at once, each after its place: the file and its number from 0.

  A bad row is a Damage, and so is the rest of a row group that cannot be read; the rows behind it follow. A file that
  cannot be opened is one Damage, as nobody knows its rows.
  """
  parquet = import_package('pyarrow.parquet', 'formats')
  try:
    opened = parquet.ParquetFile(file)
  except _errors() as error:
    yield str(file), Damage(str(file), f'cannot be read ({error})')
    return
  with opened:
    missing = sorted(set(columns) - set(opened.schema_arrow.names))
    if missing:
      yield str(file), Damage(str(file), f'it has no column {", ".join(missing)}', opened.metadata.num_rows)
      return
    start = 0
    for group in range(opened.num_row_groups):
      yield from _rows_of_group(opened, group, start, str(file), columns, batch)
      start += opened.metadata.row_group(group).num_rows


def _rows_of_group(opened: Any, group: int, start: int, file: str, columns: Collection[str],
                   batch: int) -> Iterator[tuple[str, dict[str, Any] | Damage]]:
  row, stop = start, start + opened.metadata.row_group(group).num_rows
  try:
    for table in opened.iter_batches(batch, row_groups=[group], columns=list(columns)):
      for index in range(table.num_rows):
        place = f'{file}, row {row}'
        yield place, _row(table, index, columns, place)
        row += 1
  except _errors() as error:
    place = f'{file}, rows {row} to {stop - 1}'
    yield place, Damage(place, f'cannot be read ({error})', stop - row)


def _row(table: Any, index: int, columns: Collection[str], place: str) -> dict[str, Any] | Damage:
  row = {}
  for name in columns:
    try:
      row[name] = array_of(table.column(name)[index])
    except (*_errors(), ValueError, KeyError) as error:
      return Damage(place, f'"{name}": {error}')
  return row


def _errors() -> tuple[type[Exception], ...]:
  return OSError, import_package('pyarrow', 'formats').ArrowException


def array_of(scalar: Any) -> Any:
  """A list as an array, or as nested lists where it is ragged; a picture as bytes, a scalar as it is."""
  arrow = import_package('pyarrow', 'formats')
  if scalar is None or not scalar.is_valid:
    raise ValueError('a value is missing')
  if arrow.types.is_struct(scalar.type):
    return scalar[_PICTURE_BYTES].as_py()
  if not _is_list(scalar.type):
    return scalar.as_py()
  values, shape = scalar.values, [len(scalar.values)]
  while _is_list(values.type):
    lengths = np.unique(values.value_lengths().to_numpy(zero_copy_only=False)) if len(values) else np.zeros(1, int)
    if len(lengths) != 1:
      return scalar.as_py()
    shape.append(int(lengths[0]))
    values = values.flatten()
  if arrow.types.is_struct(values.type):
    return values.field(_PICTURE_BYTES).to_pylist()
  if arrow.types.is_string(values.type) or arrow.types.is_large_string(values.type):
    return values.to_pylist()
  return values.to_numpy(zero_copy_only=False).reshape(shape)


def item_of(column: Any, first: Any) -> Item:
  """What an Arrow column of episodes holds a step, with the shape that the first episode has."""
  arrow = import_package('pyarrow', 'formats')
  kind = column.type
  while _is_list(kind):
    kind = kind.value_type
  shape = np.shape(first)[1:] if isinstance(first, np.ndarray) else ()
  if arrow.types.is_struct(kind) and kind.get_field_index(_PICTURE_BYTES) >= 0:
    return Item('image', (None, None, None))
  if arrow.types.is_string(kind) or arrow.types.is_large_string(kind):
    return Item('text')
  if arrow.types.is_boolean(kind):
    return Item('integer', shape, 2)
  if arrow.types.is_integer(kind):
    return Item('integer', shape)
  return Item('number' if arrow.types.is_floating(kind) else 'other', shape)


def _is_list(kind: Any) -> bool:
  types = import_package('pyarrow', 'formats').types
  return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
