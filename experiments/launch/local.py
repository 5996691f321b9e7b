"""Processes on this machine, started again when they fail."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

from experiments.launch.job import Job
from gato_jax.distributed import EXPLICIT
from gato_jax.group import FAILED, LOST

_GRACE = 20.0  # seconds that the others have to end once one has
_PAUSE = 1.0  # before a start after a failure


def plan(job: Job) -> str:
  """What would run."""
  lines = [f'# {job.processes} processes on this machine; all are started again when one fails, at most '
           f'{job.max_restarts} times, unless the exit status is {FAILED}. Logs: {job.logs}']
  for index in range(job.processes):
    settings = ' '.join(f'{name}={value!r}' for name, value in environment(job, index, 'PORT').items())
    lines.append(f'{settings} {job.command_line}')
  return '\n'.join(lines)


def environment(job: Job, index: int, port: int | str) -> dict[str, str]:
  """What a process gets besides this process's own environment."""
  result = dict(job.environment)
  if job.processes > 1:
    result.update(zip(EXPLICIT, (f'127.0.0.1:{port}', str(job.processes), str(index)), strict=True))
  if job.devices:
    flags = os.environ.get('XLA_FLAGS', '')
    result['XLA_FLAGS'] = f'{flags} --xla_force_host_platform_device_count={job.devices}'.strip()
    result['JAX_PLATFORMS'] = 'cpu'
  return result


class Launcher:
  """Runs a job to its end.

  Attributes:
    processes: those of the present attempt.
    attempts: how often they were started.
  """

  def __init__(self, job: Job, command: list[str] | None = None, quiet: bool = False):
    """`command` replaces the job's, with the same environment; `quiet` leaves process 0's output to its log."""
    self._job, self._quiet = job, quiet
    self._command = command or [sys.executable, '-m', 'gato_jax.cli', *job.command[1:]]
    self.processes: list[subprocess.Popen] = []
    self.attempts = 0
    self._stopped = False

  def run(self) -> int:
    """The exit status: 0, 2 for what a restart cannot mend, 75 where this launcher was told to stop."""
    if threading.current_thread() is threading.main_thread():
      signal.signal(signal.SIGTERM, lambda *_: self.stop())
    for attempt in range(self._job.max_restarts + 1):
      self.attempts = attempt + 1
      codes = self._attempt(attempt)
      if not any(codes):
        return 0
      print(f'attempt {attempt}: exit statuses {codes}', file=sys.stderr, flush=True)
      if FAILED in codes:
        return FAILED
      time.sleep(_PAUSE)
      if self._stopped:
        return LOST
    return next(code for code in codes if code) % 256

  def stop(self) -> None:
    """Asks the processes to save and stop."""
    self._stopped = True
    for process in self.processes:
      process.terminate()

  def _attempt(self, attempt: int) -> list[int]:
    logs = pathlib.Path(self._job.logs)
    logs.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    self.processes = []
    for index in range(self._job.processes):
      path = logs / f'attempt_{attempt}_process_{index}.log'
      output = None if index == 0 and not self._quiet else path.open('w')
      self.processes.append(subprocess.Popen(
          self._command, env={**os.environ, **environment(self._job, index, port)}, stdout=output,
          stderr=subprocess.STDOUT if output else None))
      if output:
        output.close()
    return self._wait()

  def _wait(self) -> list[int]:
    """Until all have ended; once one has failed, the others get a while, and are killed."""
    deadline = None
    while any(process.poll() is None for process in self.processes):
      if deadline is None and any(process.poll() for process in self.processes):
        deadline = time.monotonic() + _GRACE
      if deadline is not None and time.monotonic() > deadline:
        for process in self.processes:
          process.kill()
      time.sleep(0.05)
    return [process.returncode for process in self.processes]


def _free_port() -> int:
  with socket.socket() as listener:
    listener.bind(('127.0.0.1', 0))
    return listener.getsockname()[1]
