"""Opens what TFDS prepared, whoever did, without running anything that it names."""

from collections.abc import Iterator
import json
import os
import pathlib
from typing import Any

import tensorflow_datasets as tfds

from data_pipelines.errors import InputError

FEATURES_FILE = 'features.json'
_CLASS_KEYS = ('pythonClassName', 'python_class_name', 'type')  # the last of older versions
_OURS = 'tensorflow_datasets.'


def open_builder(directory: str | os.PathLike) -> tfds.core.DatasetBuilder:
  """The builder of a folder that holds a prepared dataset; raises InputError as `refuse_foreign_classes`."""
  refuse_foreign_classes(directory)
  return tfds.builder_from_directory(directory)


def refuse_foreign_classes(directory: str | os.PathLike) -> None:
  """Call before TFDS opens a folder.

  `features.json` names the classes that decode the records, and TFDS imports the module of a class that it does not
  know: any on the path, the working directory's and so perhaps the dataset's own among them.

  Raises:
    InputError: a class is not one of TFDS's.
  """
  file = pathlib.Path(directory) / FEATURES_FILE
  foreign = sorted({name for name in _classes(_read(file)) if not name.startswith(_OURS)})
  if foreign:
    raise InputError(f'{file} wants the code of {", ".join(foreign)}, which is not run; convert the dataset to the '
                     "features of tensorflow_datasets with its author's package, and name the result")


def _read(file: pathlib.Path) -> Any:
  """None where it cannot be read: TFDS then says so."""
  try:
    return json.loads(file.read_bytes())
  except (OSError, ValueError):
    return None


def _classes(content: Any) -> Iterator[str]:
  if isinstance(content, list):
    for value in content:
      yield from _classes(value)
  elif isinstance(content, dict):
    for key, value in content.items():
      if isinstance(value, str):
        if key in _CLASS_KEYS:
          yield value
        elif key == 'json':  # content in a string
          yield from _classes(json.loads(value))
      else:
        yield from _classes(value)
