"""Small files that are read while they are written, or outlive a process that is killed as it writes."""

import os
import pathlib


def write_atomically(path: str | os.PathLike, text: str) -> None:
  """Writes a text file beside its place and moves it there: who reads finds the old one or the new one, never a part.

  Raises:
    OSError: it cannot be written; what was there before still is.
  """
  path = pathlib.Path(path)
  temporary = path.with_name(f'{path.name}.{os.getpid()}')
  try:
    temporary.write_text(text, encoding='utf-8')
    temporary.replace(path)
  finally:
    temporary.unlink(missing_ok=True)
