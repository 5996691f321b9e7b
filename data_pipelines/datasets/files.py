"""The user's own files, for the datasets that are read from a folder of them."""

from collections.abc import Callable, Iterator
import gzip
import hashlib
import json
import pathlib
from typing import Any, BinaryIO
import zlib

from data_pipelines.errors import InputError

UNREADABLE = (OSError, EOFError, zlib.error)  # what a broken disk raises, and a .gz file whose end is missing


def find_files(folder: str, suffixes: tuple[str, ...]) -> list[pathlib.Path]:
  """All files under a folder whose names end in one of the suffixes, sorted.

  Raises:
    InputError: there is no such folder, or no such file in it.
  """
  root = pathlib.Path(folder)
  if not root.is_dir():
    raise InputError(f'there is no folder {folder}; set `path` of the mixture entry to one')
  files = sorted(path for path in root.rglob('*') if path.name.lower().endswith(suffixes) and path.is_file())
  if not files:
    raise InputError(f'{folder} holds no {", ".join(suffixes)} file')
  return files


def fingerprint(folder: str) -> str:
  """Changes when a file under the folder is added, removed or written to."""
  digest = hashlib.sha256()
  for path in sorted(pathlib.Path(folder).rglob('*')):
    if path.is_file():
      state = path.stat()
      digest.update(f'{path.relative_to(folder)} {state.st_size} {state.st_mtime_ns}\n'.encode())
  return digest.hexdigest()


def within(folder: str, name: str) -> pathlib.Path:
  """The file of that name in a folder.

  Raises:
    InputError: it is not there, or elsewhere: a list of names from the net must not reach other files.
  """
  root = pathlib.Path(folder).resolve()
  try:
    path = (root / name).resolve()
    if path.is_relative_to(root) and path.is_file():
      return path
  except (OSError, ValueError):  # no name that a file can have: it is too long, or has a zero in it
    pass
  raise InputError(f'there is no {name!r:.200} in {folder}')


def open_binary(path: pathlib.Path) -> BinaryIO:
  """Opens a file to read, a .gz one as what it holds."""
  return gzip.open(path) if path.suffix == '.gz' else path.open('rb')


def json_lines(path: pathlib.Path, skip: Callable[[str], None]) -> Iterator[tuple[str, dict[str, Any]]]:
  """The objects of a file of JSON lines, each after the place it stands at. Other lines, unless empty, are skipped."""
  number = 0
  try:
    with open_binary(path) as file:
      for number, line in enumerate(file, start=1):
        if not line.strip():
          continue
        try:
          content = _json_object(line)
        except InputError as error:
          skip(f'{path}:{number}: {error}')
        else:
          yield f'{path}:{number}', content
  except UNREADABLE as error:
    skip(f'{path}, after line {number}: {error}')


def _json_object(line: bytes) -> dict[str, Any]:
  try:
    value = json.loads(line.decode())
  except UnicodeDecodeError as error:
    raise InputError(f'not UTF-8 at byte {error.start}') from error
  except (json.JSONDecodeError, RecursionError) as error:
    raise InputError(f'not JSON ({error})') from error
  if not isinstance(value, dict):
    raise InputError(f'a JSON {type(value).__name__}, not an object')
  return value


def read_json(path: pathlib.Path) -> Any:
  """The whole of a JSON file; raises InputError if it is none."""
  try:
    return json.loads(path.read_bytes())
  except (OSError, ValueError, RecursionError) as error:
    raise InputError(f'{path}: not a readable JSON file ({error})') from error
