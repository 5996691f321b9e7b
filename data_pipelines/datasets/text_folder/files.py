"""Reads a folder of texts."""

from collections.abc import Iterator
import hashlib
import json
import pathlib

from data_pipelines.errors import InputError

SUFFIXES = ('.txt', '.md', '.jsonl')


def text_files(folder: str) -> list[pathlib.Path]:
  """All text files under a folder, sorted.

  Raises:
    InputError: there is no such folder, or no text file in it.
  """
  root = pathlib.Path(folder)
  if not root.is_dir():
    raise InputError(f'data.mixture.text_folder.path: there is no folder {folder}')
  files = sorted(path for path in root.rglob('*') if path.suffix in SUFFIXES and path.is_file())
  if not files:
    raise InputError(f'data.mixture.text_folder.path: {folder} holds no {", ".join(SUFFIXES)} file')
  return files


def fingerprint(folder: str) -> str:
  """Changes when a text file is added, removed or written to."""
  digest = hashlib.sha256()
  for path in text_files(folder):
    state = path.stat()
    digest.update(f'{path.relative_to(folder)} {state.st_size} {state.st_mtime_ns}\n'.encode())
  return digest.hexdigest()


def documents(path: pathlib.Path) -> Iterator[tuple[str, str]]:
  """The documents of a file, each with the place it stands at: one, or one a line of JSON.

  Raises:
    InputError: the file is not UTF-8, or a line is not a JSON object with a `text`.
  """
  try:
    content = path.read_bytes().decode('utf-8')
  except UnicodeDecodeError as error:
    raise InputError(f'{path}: not UTF-8 at byte {error.start}; convert it, or move it out of the folder') from error
  if path.suffix != '.jsonl':
    yield str(path), content
    return
  for number, line in enumerate(content.split('\n'), start=1):
    if line.strip():
      yield f'{path}:{number}', _text_of_line(f'{path}:{number}', line)


def _text_of_line(place: str, line: str) -> str:
  try:
    text = json.loads(line)['text']
  except (json.JSONDecodeError, KeyError, TypeError) as error:
    raise InputError(f'{place}: not a JSON object with the key "text" ({error})') from error
  if not isinstance(text, str):
    raise InputError(f'{place}: "text" is {type(text).__name__}, not a string')
  return text
