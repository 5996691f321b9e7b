"""Builds datasets in worker processes: one job a control task or dataset, the slowest first."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
import importlib
import multiprocessing
import os
import pathlib
import queue
import shutil
import sys
import tempfile
import time
from typing import Any
import warnings

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from data_pipelines.datasets.catalogue import NOISY_AGENT, Request
from data_pipelines.datasets.staging import INCOMPLETE, local_path, push
from data_pipelines.environments import registry
from data_pipelines.errors import InputError

_POLL_SECONDS = 0.2
_queue: Any = None  # in a worker: what it tells about its progress


def build_all(requests: Sequence[Request], data_dir: str, workers: int, skip_share: float = 0.0) -> None:
  """Builds all datasets, over whatever lies in their directories, and prints a line about each.

  Raises:
    InputError: a dataset cannot be built. Those that are finished stay.
  """
  if not requests:
    return
  if workers < 1:
    raise InputError(f'data.workers is {workers}; it takes at least one process to build datasets')
  context = multiprocessing.get_context('spawn')  # a forked child would share simulators, threads and open files
  progress = context.Queue()
  pool = ProcessPoolExecutor(min(workers, len(requests)), context, initializer=_start_worker, initargs=(progress,))
  try:
    slowest_first = sorted(requests, key=lambda request: -request.seconds)
    _watch({pool.submit(_work, request, data_dir, skip_share): request for request in slowest_first}, progress)
  except BrokenProcessPool as error:
    message = 'a process that built datasets died, perhaps for want of memory: lower data.workers and run again'
    raise InputError(message) from error
  finally:
    pool.shutdown(cancel_futures=True)


def _watch(futures: Mapping[Future, Request], progress: multiprocessing.Queue) -> None:
  """Draws the progress bars until all is built; raises what a worker raised."""
  columns = TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
  waiting = dict(futures)
  with Progress(*columns, transient=True) as display:
    datasets = display.add_task('datasets', total=len(waiting))
    bars = {
        request: display.add_task(request.name, total=request.episodes if request.played else None, visible=False)
        for request in futures.values()
    }
    while waiting:
      for request, examples in _drain(progress):
        if request in bars:
          display.update(bars[request], advance=examples, visible=True)
      for future in [future for future in waiting if future.done()]:
        display.console.print(future.result(), highlight=False, soft_wrap=True)
        display.remove_task(bars.pop(waiting.pop(future)))
        display.advance(datasets)


def _drain(progress: multiprocessing.Queue) -> list[tuple[Request, int]]:
  """All that workers have told, after waiting a moment for the first of it."""
  told = []
  try:
    told.append(progress.get(timeout=_POLL_SECONDS))
    while True:
      told.append(progress.get_nowait())
  except queue.Empty:
    return told


def _start_worker(progress: multiprocessing.Queue) -> None:
  """Silences what simulators and TFDS print, as it would break the progress bars."""
  global _queue
  _queue = progress
  sys.stdout = sys.stderr = open(os.devnull, 'w')
  warnings.simplefilter('ignore')


def _work(request: Request, data_dir: str, skip_share: float) -> str:
  """Runs in a worker: builds one dataset and tells of every example."""
  _queue.put((request, 0))
  return build_dataset(request, data_dir, skip_share, progress=lambda: _queue.put((request, 1)))


def build_dataset(request: Request, data_dir: str, skip_share: float, progress: Callable[[], None] = int) -> str:
  """Builds one dataset in this process.

  Args:
    request: what to build.
    data_dir: where to.
    skip_share: of its examples may be bad.
    progress: called after each example.

  Returns:
    a line that says what there is now, and what was left out.

  Raises:
    InputError: it cannot be built.
  """
  registry.register(request.modules)
  start = time.monotonic()
  directory = pathlib.Path(local_path(request.directory(data_dir)))
  shutil.rmtree(directory, ignore_errors=True)
  for leftover in directory.parent.glob(f'{INCOMPLETE}*_{directory.name}'):  # of a build that was killed
    shutil.rmtree(leftover, ignore_errors=True)
  try:
    module = importlib.import_module(f'data_pipelines.datasets.{request.type.folder or request.dataset}.builder')
  except ModuleNotFoundError as error:
    raise InputError(f'{request.name} needs the package {error.name}: pip install "gato_jax[envs]"') from error
  builder = module.Builder(request, local_path(data_dir), progress=progress, skip_share=skip_share)
  with tempfile.TemporaryDirectory() as downloads:  # none, but TFDS makes the folder
    builder.download_and_prepare(download_dir=downloads)
  push(request.directory(data_dir))
  return _summary(request, directory, builder.info, time.monotonic() - start)


def _summary(request: Request, directory: pathlib.Path, info: Any, seconds: float) -> str:
  table = info.metadata.get('episodes')
  if table:
    noisy = table['agent'].count(NOISY_AGENT)
    what = f'{len(table["seed"])} episodes ({noisy} noisy), mean return {np.mean(table["return"]):.1f}'
  else:
    what = ', '.join(f'{split.num_examples} records {name}' for name, split in info.splits.items())
  dropped = info.metadata['dropped']
  last = f' (last: {dropped[-1]})' if dropped else ''
  size = sum(path.stat().st_size for path in directory.iterdir())
  notes = ''.join(f'\n  {note}' for note in info.metadata.get('notes', ()))  # of an import: what was guessed
  return f'{request.name}: {what}, {len(dropped)} dropped{last}, {size / 1e6:.1f} MB, {seconds:.0f} s{notes}'
