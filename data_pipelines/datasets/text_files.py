"""Documents from files of text, one at a time, so that a file may be larger than memory."""

from collections.abc import Iterator
import io
import pathlib
import re
from typing import Any

from data_pipelines.datasets.builder import Skip
from data_pipelines.datasets.files import UNREADABLE, json_lines, open_binary
from data_pipelines.datasets.imports.items import Damage
from data_pipelines.datasets.imports.parquet import rows, schema_of
from data_pipelines.errors import InputError

SUFFIXES = ('.txt', '.md', '.jsonl', '.parquet', '.txt.gz', '.md.gz', '.jsonl.gz')
# A longer document is kept in parts, cut at the ends of lines or paragraphs, so that reading a row of it does not mean
# reading a book.
LONGEST = 2**16  # characters
_UNDECODED = re.compile('[\udc80-\udcff]')  # what the error handler `surrogateescape` makes of bytes that are not UTF-8
_TO_PARAGRAPH = 2**13  # so many characters further a file may be read to cut it between paragraphs
_COLUMN = 'text'
_PARQUET_ROWS = 256  # read at once


def documents(path: pathlib.Path, skip: Skip) -> Iterator[str]:
  """The documents of a file: the whole of a .txt or .md, the `text` of each line of JSON or row of Parquet.

  Args:
    path: the file; its suffix says what it is.
    skip: is told of documents that cannot be read.

  Raises:
    InputError: a Parquet file that cannot be read at all, so that nobody knows how many documents it has.
  """
  name = path.name.removesuffix('.gz')
  if name.endswith('.jsonl'):
    yield from _of_json_lines(path, skip)
  elif name.endswith('.parquet'):
    yield from _of_parquet(path, skip)
  else:
    yield from whole(path, skip)


def whole(path: pathlib.Path, skip: Skip) -> Iterator[str]:
  """A file of text, in parts if it is long."""
  start = 0  # in bytes
  try:
    with io.TextIOWrapper(open_binary(path), 'utf-8', errors='surrogateescape', newline='') as file:
      while part := file.read(LONGEST):
        while line := file.readline(LONGEST):
          part += line
          if line.isspace() or len(part) > LONGEST + _TO_PARAGRAPH:
            break
        if bad := _UNDECODED.search(part):
          skip(f'{path}: not UTF-8 at byte {start + len(part[: bad.start()].encode(errors="surrogateescape"))}')
        else:
          yield part
        start += len(part.encode(errors='surrogateescape'))
      if not start:
        yield ''
  except UNREADABLE as error:
    skip(f'{path}: {error}')


def parts(text: str) -> Iterator[str]:
  """A text in pieces of at most `LONGEST` characters, cut at line ends, else between words, else anywhere."""
  start = 0
  while len(text) - start > LONGEST:
    stop = start + LONGEST
    cut = text.rfind('\n', start, stop) + 1 or text.rfind(' ', start, stop) + 1 or stop
    yield text[start:cut]
    start = cut
  yield text[start:]


def _of_json_lines(path: pathlib.Path, skip: Skip) -> Iterator[str]:
  for place, line in json_lines(path, skip):
    if _COLUMN not in line:
      skip(f'{place}: it has no key "{_COLUMN}"')
    else:
      yield from _checked(place, line[_COLUMN], skip)


def _of_parquet(path: pathlib.Path, skip: Skip) -> Iterator[str]:
  try:
    names = schema_of(path).names
  except InputError as error:
    raise InputError(f'{error}; move it out of the folder') from error
  if _COLUMN not in names:
    raise InputError(f'{path}: it has no column "{_COLUMN}" but {", ".join(names)}')
  for place, row in rows(path, [_COLUMN], _PARQUET_ROWS):
    if isinstance(row, Damage):
      skip(f'{place}: {row.problem}', row.episodes)
    else:
      yield from _checked(place, row[_COLUMN], skip)


def _checked(place: str, text: Any, skip: Skip) -> Iterator[str]:
  if not isinstance(text, str):
    skip(f'{place}: "{_COLUMN}" is {type(text).__name__}, not a string')
    return
  try:
    text.encode()
  except UnicodeEncodeError as error:  # JSON can spell half of a surrogate pair
    skip(f'{place}: not Unicode at character {error.start}')
  else:
    yield from parts(text)
