"""Rows of the packing plan as Grain reads them: in threads of this process, or in processes of their own.

Of N processes, process p makes every N-th chunk of rows from the p-th on. Grain runs it and takes its arrays from
shared memory. What it leaves to be seen to: a process must not run the program's main module again, must live through
the signals that stop a run, since the run goes on until it is saved, and must not outlive it; its errors must be ones
that can be handed over; and many must start and end at the same time.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
import contextlib
import dataclasses
import multiprocessing
import multiprocessing.connection
import multiprocessing.resource_tracker
import operator
import os
import signal
import sys
import threading
import time
import traceback
from typing import Any

from absl import flags
import grain

from data_pipelines.errors import InputError
from data_pipelines.sequences.plan import PackingPlan
from data_pipelines.sequences.rows import EpisodeCache, PackedBatch, lay_out, row_bytes

_ROWS = 2**40  # as good as endless; the plan has a row for every number
_CHUNKS_AHEAD = 2  # for each reading thread
_STATE_KEY = 'global_next_index'  # of Grain's ElasticIterator: rows drawn
_SHARED = '/dev/shm'
_SHARED_CHUNKS = 4  # of one process: one is written, one waits to be fetched, one is fetched, one waits to be used
_DIED = 'Worker process was terminated unexpectedly'  # the text of Grain 0.2.18
_STOPPING = (signal.SIGINT, signal.SIGTERM)
_ORPHANED = threading.Event()
_LAST_CHUNK_SECONDS = 2.0  # to share one that has been made


@dataclasses.dataclass(frozen=True)
class Rows:
  """Grain's view of the plan: one host's rows of batch 0, of batch 1, and so on; or every `step`-th chunk of them.

  Attributes:
    plan: has the rows.
    cache: has the episodes.
    size: L, P, and the id that fills what is left.
    batch_size: rows over all hosts.
    local_rows: this host's places in the global batch.
    chunk_rows: rows of a chunk.
    first: chunk.
    step: from chunk to chunk.
  """

  plan: PackingPlan
  cache: EpisodeCache
  size: tuple[int, int, int]
  batch_size: int
  local_rows: Sequence[int]
  chunk_rows: int
  first: int = 0
  step: int = 1

  def __len__(self) -> int:
    return _ROWS

  def __getitem__(self, element: int) -> PackedBatch:
    chunk, place = divmod(element, self.chunk_rows)
    batch, place = divmod((self.first + chunk * self.step) * self.chunk_rows + place, len(self.local_rows))
    return lay_out(self.plan.row(batch * self.batch_size + self.local_rows[place]), self.cache, *self.size)


class _ProcessRows(Rows):
  """Rows for a process that Grain starts: what it has to do first happens when it unpickles them.

  Grain's worker_init_fn would be the place, but ElasticIterator does not pass one on.
  """

  def __setstate__(self, state: dict[str, Any]) -> None:
    vars(self).update(state)
    parent = multiprocessing.parent_process()
    if parent is not None:  # else they are copied where they were made
      threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()

  def __getitem__(self, element: int) -> PackedBatch:
    if _ORPHANED.is_set():
      os._exit(1)
    try:
      return super().__getitem__(element)
    except InputError:
      raise
    except Exception as error:  # of one that cannot be pickled nothing would arrive, and it would be waited for
      raise RuntimeError(''.join(traceback.format_exception(error))) from None


def _end_with(sentinel: int) -> None:
  """Ends this process when the one that started it has ended, however that came about.

  Not in the middle of making shared memory, which would stay for ever: before the next row, or where none is made.
  """
  multiprocessing.connection.wait([sentinel])
  _ORPHANED.set()
  time.sleep(_LAST_CHUNK_SECONDS)
  os._exit(1)


class Chunks(Iterator[PackedBatch]):
  """So many rows at a time, endlessly.

  Args:
    rows: all of this host's.
    threads: of this process that read, if there are no processes; 0: whoever asks for a chunk makes it.
    processes: that read, one thread each.

  Raises:
    InputError: there are more processes than the shared memory has room for.
  """

  def __init__(self, rows: Rows, threads: int, processes: int):
    self._chunk_rows = rows.chunk_rows
    self._processes = processes
    if processes:
      _require_shared_memory(processes, rows.chunk_rows * row_bytes(*rows.size[:2]))
      if not flags.FLAGS.is_parsed():  # Grain asks for flags of its own, which this program's command line has not
        flags.FLAGS.mark_as_parsed()
    count = max(processes, 1)
    self._readers = [_reader(dataclasses.replace(rows, first=first, step=count), threads, processes > 0)
                     for first in range(count)]
    self._turn = 0
    self._ahead: deque[PackedBatch] = deque()  # the first chunk of each process
    self._started = not processes
    self._error: Exception | None = None

  def __next__(self) -> PackedBatch:
    if self._error:
      raise self._error
    try:
      with self._told_of_death():
        return self._next()
    except Exception as error:  # the other readers may be further, so that nothing that follows would be right
      self._error = error
      self._close_readers()
      raise

  def _next(self) -> PackedBatch:
    if not self._started:
      self._start()
    if self._ahead:
      return self._ahead.popleft()
    self._turn += 1
    return next(self._readers[(self._turn - 1) % len(self._readers)])

  def go_to(self, chunk: int) -> None:
    """The next one is this, counted from 0."""
    self._error = None
    self._ahead.clear()
    self._turn = chunk
    self._started = not self._processes
    for first, reader in enumerate(self._readers):
      own = -(-(chunk - first) // len(self._readers))  # how many of its own come before
      reader.set_state({_STATE_KEY: own * self._chunk_rows})

  def close(self) -> None:
    """Ends the threads and processes."""
    self._close_readers()
    self._readers = []  # Grain complains about those that are there when Python ends

  def _close_readers(self) -> None:
    self._ahead.clear()
    with ThreadPoolExecutor(self._processes or 1) as pool:
      list(pool.map(operator.methodcaller('close'), self._readers))

  def _start(self) -> None:
    turns = range(self._turn, self._turn + len(self._readers))
    with _no_main_module(), _no_signals(), ThreadPoolExecutor(len(self._readers)) as pool:
      self._ahead.extend(pool.map(lambda turn: next(self._readers[turn % len(self._readers)]), turns))
    self._turn = turns.stop
    self._started = True

  @contextlib.contextmanager
  def _told_of_death(self) -> Iterator[None]:
    try:
      yield
    except RuntimeError as error:
      if _DIED not in str(error):
        raise
      raise RuntimeError(
          f'one of the {self._processes} processes of data.read_processes died ({error}). An exit code -N is signal N: '
          f'9 is often a want of memory, 7 a full {_SHARED}, lower data.read_processes or data.cache_megabytes; after '
          'another one run the same command again') from error


def _reader(rows: Rows, threads: int, in_process: bool) -> grain.DatasetIterator[PackedBatch]:
  if in_process:
    rows, threads = _ProcessRows(**vars(rows)), 0
  options = grain.MultiprocessingOptions(num_workers=1, per_worker_buffer_size=1) if in_process else None
  return iter(grain.experimental.ElasticIterator(
      grain.MapDataset.source(rows), rows.chunk_rows, grain.sharding.ShardOptions(shard_index=0, shard_count=1),
      read_options=grain.ReadOptions(num_threads=threads, prefetch_buffer_size=_CHUNKS_AHEAD * threads),
      multiprocessing_options=options))


def _require_shared_memory(processes: int, chunk_bytes: int) -> None:
  if not os.path.isdir(_SHARED):
    return
  space = os.statvfs(_SHARED)
  free, needed = space.f_bavail * space.f_frsize, (_SHARED_CHUNKS * processes + 1) * chunk_bytes
  if needed > free:
    raise InputError(f'data.read_processes is {processes}: in each process of the run their batches may take '
                     f'{needed / 2**20:.0f} MB of shared memory, but {_SHARED} has {free / 2**20:.0f} MB; lower it, or '
                     'give a container more (docker run --shm-size, or a volume in memory there)')


@contextlib.contextmanager
def _no_main_module() -> Iterator[None]:
  """Processes started meanwhile do not import what this program was started with: it takes time, or starts it again."""
  main = vars(sys.modules['__main__'])
  origin = {name: main[name] for name in ('__spec__', '__file__') if name in main}
  main.update(dict.fromkeys(origin))
  try:
    yield
  finally:
    main.update(origin)


@contextlib.contextmanager
def _no_signals() -> Iterator[None]:
  """Processes started meanwhile never hear of the signals that stop a run, which some launchers send to all there are.

  They inherit what is blocked here; a handler of their own would come after seconds of imports.
  """
  multiprocessing.resource_tracker.ensure_running()  # where it is started both signals are unblocked
  before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
  try:
    yield
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
