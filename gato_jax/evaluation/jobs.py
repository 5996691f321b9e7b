"""Runs independent jobs in worker processes on one CPU core each. Imports no jax: a worker sets it up first."""

from collections.abc import Callable, Iterator, Sequence
import concurrent.futures
from concurrent.futures.process import BrokenProcessPool
import dataclasses
import multiprocessing
import os
import threading
import time
from typing import Any, NamedTuple

from data_pipelines.errors import InputError


@dataclasses.dataclass(frozen=True)
class Job:
  """One call. `cost` is its expected time, relative to the others': the longest start first."""

  name: str
  cost: float
  function: Callable[..., Any]
  arguments: tuple[Any, ...]


class Done(NamedTuple):
  """A job's result and how long it took."""

  name: str
  result: Any
  seconds: float


def run_jobs(jobs: Sequence[Job], workers: int) -> Iterator[Done]:
  """Runs the jobs and yields them as they end.

  Args:
    jobs: their functions and arguments must pickle.
    workers: processes. Each computes on one CPU core, so a result does not depend on how many there are. 0: in this
      process and on its accelerator, one job after the other.

  Raises:
    InputError: a worker died. What a job raises is raised here.
  """
  jobs = sorted(jobs, key=lambda job: -job.cost)
  if not workers:
    yield from map(_run, jobs)
    return
  context = multiprocessing.get_context('spawn')
  workers = max(1, min(workers, len(jobs)))
  with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context, initializer=begin_worker) as pool:
    futures = [pool.submit(_run, job) for job in jobs]
    try:
      for future in concurrent.futures.as_completed(futures):
        yield future.result()
    except BrokenProcessPool as error:
      raise InputError('a worker process died, for lack of memory or with its simulator; lower evaluation.workers or '
                       'evaluation.environments, or set evaluation.workers=0 to see it happen') from error
    finally:
      pool.shutdown(cancel_futures=True)


def _run(job: Job) -> Done:
  start = time.monotonic()
  result = job.function(*job.arguments)
  return Done(job.name, result, time.monotonic() - start)


def begin_worker() -> None:
  """What a process that computes does first."""
  end_with_parent()
  use_one_core()


def end_with_parent() -> None:
  """This process ends when the one that started it is gone; a worker of a pool would wait for a job for ever."""
  parent = multiprocessing.parent_process()

  def watch():
    parent.join()
    os._exit(1)

  if parent:
    threading.Thread(target=watch, daemon=True, name='end with parent').start()


def use_one_core() -> None:
  """Small models play fastest as one single-threaded process a core; and sums keep one order of their terms."""
  os.environ['XLA_FLAGS'] = os.environ.get('XLA_FLAGS', '') + ' --xla_cpu_multi_thread_eigen=false'
  os.environ['NPROC'] = '1'
  import jax

  from gato_jax.allocator import keep_freed_memory

  jax.config.update('jax_platforms', 'cpu')
  keep_freed_memory()
