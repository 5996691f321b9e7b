"""Weights as safetensors files: a tensor a parameter, named by its path, in files of a limited size and an index.

The layout of files and index is Hugging Face's: `model-00001-of-00002.safetensors`, `model.safetensors.index.json`.
Nothing in a file is ever executed. What is read is checked against what the config asks for before any tensor is, so
that memory is bounded by the files' size.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import functools
import json
import pathlib
import re
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from data_pipelines.errors import InputError

INDEX = 'model.safetensors.index.json'
DTYPES = {'float32': np.dtype(np.float32), 'bfloat16': np.dtype(ml_dtypes.bfloat16)}
JSON_LIMIT = 2**26  # bytes of a JSON file: more is a mistake, or an attack
_FILE = re.compile(r'model-\d{5}-of-\d{5}\.safetensors')
_STORED = {'F32': 'float32', 'BF16': 'bfloat16'}  # safetensors' names

Read = Callable[[Sequence[str]], Mapping[str, np.ndarray]]


def names(tree: Any) -> dict[str, Any]:
  """Path with dots -> leaf: the tensors' names."""
  leaves = jax.tree.leaves_with_path(tree)
  return {jax.tree_util.keystr(path, simple=True, separator='.'): leaf for path, leaf in leaves}


def nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
  """The inverse of `names`, for a tree of dicts or a part of one."""
  tree: dict[str, Any] = {}
  for name, leaf in leaves.items():
    *path, last = name.split('.')
    functools.reduce(lambda node, key: node.setdefault(key, {}), path, tree)[last] = leaf
  return tree


def write_weights(folder: pathlib.Path, shapes: Mapping[str, tuple[int, ...]], read: Read, dtype: str,
                  shard_bytes: int) -> int:
  """Writes the files and the index; holds the tensors of one file at a time.

  Args:
    folder: there already.
    shapes: of all tensors by name.
    read: the float32 tensors of some names.
    dtype: of DTYPES.
    shard_bytes: a file holds no more, unless it is a single tensor.

  Returns:
    bytes of all tensors.
  """
  shards = list(_shards(shapes, DTYPES[dtype].itemsize, shard_bytes))
  weight_map, total = {}, 0
  for number, shard in enumerate(shards, start=1):
    file = f'model-{number:05}-of-{len(shards):05}.safetensors'
    tensors = {name: np.array(tensor, DTYPES[dtype], order='C', copy=None) for name, tensor in read(shard).items()}
    save_file(tensors, folder / file, metadata={'format': 'gato_jax'})
    weight_map |= dict.fromkeys(shard, file)
    total += sum(tensor.nbytes for tensor in tensors.values())
  (folder / INDEX).write_text(json.dumps({'metadata': {'total_size': total}, 'weight_map': weight_map}, indent=2))
  return total


def read_weights(folder: pathlib.Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, jax.Array]:
  """All tensors by name, float32 on the first device, where they are put one after the other.

  Args:
    folder: of an export.
    shapes: name -> shape of the tensors that must be there, and no others.

  Raises:
    InputError: files are missing or damaged, or hold other tensors than `shapes`.
  """
  weight_map = _weight_map(folder)
  if differences := sorted({*weight_map} ^ {*shapes}):
    raise InputError(f'{folder / INDEX}: its tensors are not those of the config; {_some(differences)} are on one side '
                     'only. Export again')
  for file in sorted(set(weight_map.values())):
    _check_file(folder / file, {name: shapes[name] for name in shapes if weight_map[name] == file})
  return {name: jnp.asarray(tensor) for name, tensor in _tensors(folder, weight_map)}


def read_json(path: pathlib.Path) -> Any:
  """The content of a JSON file of a sensible size; InputError where it is none."""
  try:
    if path.stat().st_size > JSON_LIMIT:
      raise InputError(f'{path} has {path.stat().st_size:,} bytes, more than {JSON_LIMIT:,}: it is not one of ours')
    return json.loads(path.read_text(encoding='utf-8'))
  except (OSError, ValueError, RecursionError) as error:
    raise InputError(f'{path} cannot be read ({error}); export again') from error


def _shards(shapes: Mapping[str, tuple[int, ...]], itemsize: int, shard_bytes: int) -> Iterator[list[str]]:
  shard, size = [], 0
  for name, shape in shapes.items():
    more = int(np.prod(shape, dtype=np.int64)) * itemsize
    if shard and size + more > shard_bytes:
      yield shard
      shard, size = [], 0
    shard.append(name)
    size += more
  yield shard


def _weight_map(folder: pathlib.Path) -> dict[str, str]:
  index = read_json(folder / INDEX)
  weight_map = index.get('weight_map') if isinstance(index, dict) else None
  if not isinstance(weight_map, dict) or not weight_map:
    raise InputError(f'{folder / INDEX} has no weight_map; export again')
  for name, file in weight_map.items():
    # A file is named by an index that may come from anywhere: it must lie in this folder.
    if not isinstance(file, str) or not _FILE.fullmatch(file):
      raise InputError(f'{folder / INDEX}: {name} lies in {file!r}, which is not the name of a file of weights')
  return weight_map


def _check_file(path: pathlib.Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
  """The file's header against what it must hold; safetensors itself checks the header against the file's size."""
  with _open(path) as file:
    if differences := sorted({*file.keys()} ^ {*shapes}):
      raise InputError(f'{path} holds other tensors than its index says: {_some(differences)}; export again')
    for name, shape in shapes.items():
      header = file.get_slice(name)
      if header.get_dtype() not in _STORED or tuple(header.get_shape()) != tuple(shape):
        raise InputError(f'{path}: {name} is {header.get_dtype()} {header.get_shape()}, the config asks for '
                         f'F32 or BF16 {list(shape)}; export again')


def _tensors(folder: pathlib.Path, weight_map: Mapping[str, str]) -> Iterator[tuple[str, np.ndarray]]:
  for path in sorted({folder / file for file in weight_map.values()}):
    with _open(path) as file:
      for name in file.keys():
        yield name, file.get_tensor(name).astype(np.float32, copy=False)


def _open(path: pathlib.Path) -> Any:
  try:
    return safe_open(path, framework='numpy')
  except (OSError, SafetensorError) as error:
    raise InputError(f'{path} is no readable file of weights ({error}); export again') from error


def _some(items: Sequence[str]) -> str:
  return ', '.join(items[:5]) + (f' and {len(items) - 5} more' if len(items) > 5 else '')
