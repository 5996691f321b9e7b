"""The tokens of text, kept on disk: a window of a document costs no more than its own length."""

import contextlib
import dataclasses
import logging
import os
import tempfile

import numpy as np

from data_pipelines.datasets.staging import INCOMPLETE
from data_pipelines.errors import InputError
from data_pipelines.sequences.tokens import Tokens, text_run


@dataclasses.dataclass(frozen=True)
class DocumentTokens:
  """The ids of all documents of a dataset, one after the other in a file without a header.

  They are read, not mapped: pages that are mapped count as memory of the process for as long as it lives.

  Attributes:
    path: the file.
    text_size: subwords that there are; ids are of the smallest type that holds them.
    starts: int64 [E + 1], the place at which each document begins, and where the last one ends.
  """

  path: str
  text_size: int
  starts: np.ndarray

  @property
  def dtype(self) -> np.dtype:
    return _dtype(self.text_size)

  @property
  def complete(self) -> bool:
    """Whether the file can be read and is as long as it should be."""
    readable = os.access(self.path, os.R_OK)
    return readable and os.path.getsize(self.path) == int(self.starts[-1]) * self.dtype.itemsize

  def window(self, episode: int, start: int, stop: int) -> Tokens:
    """Tokens [start, stop) of a document."""
    place = (int(self.starts[episode]) + start) * self.dtype.itemsize
    ids = np.fromfile(self.path, self.dtype, stop - start, offset=place)
    if len(ids) != stop - start:
      raise InputError(f'{self.path} has become shorter; delete it, and start again')
    return text_run(ids.astype(np.int32))


class DocumentWriter(contextlib.AbstractContextManager):
  """Writes the file of a `DocumentTokens`, which appears when all is written, as several hosts may do it at once.

  Where it cannot be written, nothing is, and a warning says so.

  Args:
    path: of the file.
    text_size: subwords that there are.
  """

  def __init__(self, path: str, text_size: int):
    self._path = path
    self._dtype = _dtype(text_size)
    self._file = None

  def __enter__(self) -> 'DocumentWriter':
    with self._harmless():
      self._file = tempfile.NamedTemporaryFile(  # noqa: SIM115
          dir=os.path.dirname(self._path), prefix=INCOMPLETE, delete=False)
    return self

  def add(self, ids: np.ndarray) -> None:
    """The ids of the next document."""
    if self._file:
      with self._harmless():
        self._file.write(ids.astype(self._dtype).tobytes())

  def __exit__(self, failure: type[BaseException] | None, *_) -> None:
    if self._file:
      with self._harmless():
        self._file.close()
        if failure:
          os.remove(self._file.name)
          return
        os.chmod(self._file.name, 0o644)  # for all who share the data
        os.replace(self._file.name, self._path)

  @contextlib.contextmanager
  def _harmless(self):
    try:
      yield
    except OSError as error:
      logging.warning('%s: the tokens of text could not be kept (%s); they are made anew each time', self._path, error)
      if self._file:
        with contextlib.suppress(OSError):
          os.remove(self._file.name)
      self._file = None


def _dtype(text_size: int) -> np.dtype:
  return np.min_scalar_type(text_size - 1)
