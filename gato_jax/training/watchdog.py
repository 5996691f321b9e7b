"""Ends a process that makes no progress, so that a launcher can start it again."""

from collections.abc import Iterator
import contextlib
import faulthandler
import math
import os
import sys
import threading
import time

STUCK = 124  # exit status


class Watchdog:
  """A thread that waits for signs of progress.

  A step that does not end in time, on any process, is the sign of a host, a network or a storage that hangs: nothing in
  the process will ever raise. So all stacks are written to standard error and the process ends.

  Args:
    first_timeout: seconds until the first sign; 0: there is no watchdog.
    timeout: seconds from one sign to the next; 0: as long as it takes.
  """

  def __init__(self, first_timeout: float, timeout: float):
    self._timeout = timeout or math.inf
    self._limit, self._since = first_timeout, time.monotonic()
    self._stop = threading.Event()
    if first_timeout:
      threading.Thread(target=self._watch, daemon=True, name='watchdog').start()

  def progress(self) -> None:
    """A step has ended."""
    self._since = time.monotonic()
    self._limit = self._timeout

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """What happens meanwhile is no step, and may take as long as it takes."""
    limit, self._limit = self._limit, math.inf
    try:
      yield
    finally:
      self._since = time.monotonic()
      self._limit = limit

  def close(self) -> None:
    self._stop.set()

  def _watch(self) -> None:
    while not self._stop.wait(min(1.0, self._limit / 10)):
      waited = time.monotonic() - self._since
      if waited > self._limit:
        print(f'gato-jax: error: no step has ended for {waited:.0f} s (config.faults); all stacks follow',
              file=sys.stderr, flush=True)
        faulthandler.dump_traceback(all_threads=True)
        os._exit(STUCK)
