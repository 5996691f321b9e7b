"""Rows of Parquet files, a row at a time, nested lists as arrays."""

from collections.abc import Collection, Iterator
import os
from typing import Any

import numpy as np

from data_pipelines.datasets.imports.items import Damage, Item
from data_pipelines.datasets.imports.packages import import_package

_PICTURE_BYTES = 'bytes'  # the field that holds a picture in Hugging Face's layout


def schema_of(file: str | os.PathLike) -> Any:
  """The Arrow schema of a file."""
  return import_package('pyarrow.parquet').read_schema(file)


def rows(file: str | os.PathLike, columns: Collection[str], batch: int = 1) -> Iterator[dict[str, Any] | Damage]:
  """Rows with these columns, `batch` of them read at once; a file that is damaged ends with a Damage."""
  parquet = import_package('pyarrow.parquet')
  try:
    with parquet.ParquetFile(file) as opened:
      for table in opened.iter_batches(batch_size=batch, columns=list(columns)):
        for place in range(table.num_rows):
          yield {name: array_of(table.column(name)[place]) for name in columns}
  except (OSError, ValueError) as error:  # Arrow's errors are of these
    yield Damage(os.path.basename(file), f'cannot be read on ({error})')


def array_of(scalar: Any) -> Any:
  """A list as an array, or as nested lists where it is ragged; a picture as bytes, a scalar as it is."""
  arrow = import_package('pyarrow')
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
  arrow = import_package('pyarrow')
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
  types = import_package('pyarrow').types
  return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
