"""Data on storage elsewhere: gs://, s3:// and whatever else fsspec opens, read and written through a local copy.

ArrayRecord reads local files only, and random access over a network would be slow, so a dataset is copied once, whole,
before it is read. Copies lie under $GATO_JAX_CACHE, by default ~/.cache/gato_jax.
"""

from collections.abc import Iterator, Mapping
import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import tempfile
from typing import Any

import fsspec
from fsspec.utils import tokenize

from data_pipelines.errors import InputError

CACHE_VARIABLE = 'GATO_JAX_CACHE'
INCOMPLETE = 'incomplete.'  # what names start with, TFDS's too, until all is written; they are never copied
_NOTE = '.copied.json'  # beside a copy: what it is a copy of
_LOCK = '.lock'  # beside it too


def is_remote(path: str) -> bool:
  return '://' in path


def local_path(path: str) -> str:
  """Where the local copy of a path lies, whether it is there or not; a local path itself."""
  if not is_remote(path):
    return path
  cache = os.environ.get(CACHE_VARIABLE, os.path.join(os.path.expanduser('~'), '.cache', 'gato_jax'))
  scheme, _, rest = path.partition('://')
  return os.path.join(cache, scheme, *rest.split('/'))


def fetch(path: str) -> str:
  """Makes the local copy of a file or directory what is there now; a path that does not exist has none.

  Processes of a machine may do so at once. What was written into a copy here, such as an index, stays with it.

  Returns:
    `local_path(path)`.

  Raises:
    InputError: fsspec has no way to open it.
  """
  local = local_path(path)
  if not is_remote(path):
    return local
  system, root = _open(path)
  versions = _versions(system, root)
  with _alone(local):
    if versions and versions == _copied(local):
      return local
    remove(local)
    if versions:
      with tempfile.TemporaryDirectory(prefix=INCOMPLETE, dir=os.path.dirname(local)) as folder:
        for name in versions:
          target = os.path.join(folder, 'copy', name) if name else os.path.join(folder, 'copy')
          os.makedirs(os.path.dirname(target), exist_ok=True)
          system.get_file(_child(root, name), target)
        os.replace(os.path.join(folder, 'copy'), local)
      _remember(local, versions)
    return local


def push(path: str, only_new: bool = False) -> None:
  """Puts the local copy of a file or directory where it belongs; nothing to do for a local path.

  Args:
    path: where it belongs.
    only_new: leave out files that are there already.
  """
  if not is_remote(path):
    return
  system, root = _open(path)
  local = local_path(path)
  there, here = _versions(system, root), _local_names(local)
  for name in there.keys() - here:
    system.rm_file(_child(root, name))
  for name in sorted(here - there.keys() if only_new else here, key=_written_last):
    system.makedirs(os.path.dirname(_child(root, name)), exist_ok=True)
    system.put_file(os.path.join(local, name) if name else local, _child(root, name))
  _remember(local, _versions(system, root))


def remove(local: str) -> None:
  """Deletes a local file or directory, if it is there."""
  if os.path.isdir(local):
    shutil.rmtree(local)
  elif os.path.exists(local):
    os.remove(local)


@contextlib.contextmanager
def _alone(local: str) -> Iterator[None]:
  """One process at a time makes a copy."""
  os.makedirs(os.path.dirname(local), exist_ok=True)
  with open(local + _LOCK, 'w') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    yield


def _written_last(name: str) -> tuple[bool, str]:
  """Metadata goes last: as long as it is missing, nobody takes the dataset for complete."""
  return name.endswith('.json'), name


def _open(path: str) -> tuple[Any, str]:
  try:
    return fsspec.core.url_to_fs(path)
  except (ImportError, ValueError) as error:
    raise InputError(f'{path} cannot be opened ({error}); install the package it names, or set data.dir to a local '
                     'folder') from error


def _versions(system: Any, root: str) -> dict[str, str]:
  """What tells the contents of each file under a path, by its name there; of a file, its name is empty."""
  if not system.exists(root):
    return {}
  found = system.find(root, detail=True)
  versions = {name.removeprefix(root.rstrip('/')).lstrip('/'): tokenize(sorted(map(str, entry.items())))
              for name, entry in found.items()}
  return {name: version for name, version in versions.items() if _is_complete(name)}


def _copied(local: str) -> dict[str, str]:
  """The versions that were copied; nothing if the copy is not whole."""
  try:
    with open(local + _NOTE) as file:
      versions = json.load(file)
  except (OSError, ValueError):
    return {}
  return versions if versions.keys() <= _local_names(local) else {}


def _remember(local: str, versions: Mapping[str, str]) -> None:
  with open(local + _NOTE, 'w') as file:
    json.dump(versions, file)


def _local_names(local: str) -> set[str]:
  root = pathlib.Path(local)
  if root.is_file():
    return {''}
  names = {file.relative_to(root).as_posix() for file in root.rglob('*') if file.is_file()}
  return set(filter(_is_complete, names))


def _is_complete(name: str) -> bool:
  return not any(part.startswith(INCOMPLETE) for part in name.split('/'))


def _child(root: str, name: str) -> str:
  return f'{root}/{name}' if name else root
