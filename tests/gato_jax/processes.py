"""Starts tiny training runs as real processes on this machine, one or several that belong together."""

import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

from gato_jax.training.metrics import read_records

ROOT = pathlib.Path(__file__).parents[2]
MODULE = 'tests.gato_jax.training_run'


def free_port():
  with socket.socket() as listener:
    listener.bind(('127.0.0.1', 0))
    return listener.getsockname()[1]


def xla_flags(devices):
  """So many simulated devices, and what is set already, as by the whole suite."""
  return f'{os.environ.get("XLA_FLAGS", "")} --xla_force_host_platform_device_count={devices}'.strip()


class Process(subprocess.Popen):
  """Its output goes to a file: a pipe that nobody reads would stop it, and with it the others, once it holds 64 KB."""

  def __init__(self, command, environment):
    self._output = tempfile.TemporaryFile('w+', encoding='utf-8')
    super().__init__(command, env=environment, cwd=ROOT, stdout=self._output, stderr=subprocess.STDOUT)

  def output(self, timeout=None):
    """All of it, once the process has ended."""
    self.wait(timeout)
    self._output.seek(0)
    return self._output.read()


def start(workdir, *settings, processes=1, devices=1, own_settings=None, members=None):
  """One `Process` a process; `own_settings` are a process's own, `members` leaves others out."""
  address = f'127.0.0.1:{free_port()}'
  result = []
  for index in range(processes) if members is None else members:
    environment = {
        **os.environ, 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(ROOT),
        'XLA_FLAGS': xla_flags(devices)}
    if processes > 1:
      environment.update(JAX_COORDINATOR_ADDRESS=address, JAX_NUM_PROCESSES=str(processes), JAX_PROCESS_ID=str(index))
    command = [sys.executable, '-m', MODULE, str(workdir), *settings, *(own_settings or {}).get(index, ())]
    result.append(Process(command, environment))
  return result


def finish(processes, code=0, timeout=900):
  """Their outputs; all must have ended with this exit status."""
  outputs = [process.output(timeout) for process in processes]
  codes = [process.returncode for process in processes]
  assert codes == [code] * len(codes), f'{codes}\n' + '\n---\n'.join(output[-3000:] for output in outputs)
  return outputs


def wait_for_step(workdir, step, processes, timeout=240):
  """Until metrics.jsonl has a record of this step."""
  deadline = time.monotonic() + timeout
  while time.monotonic() < deadline and all(process.poll() is None for process in processes):
    if last_step(workdir) >= step:
      return
    time.sleep(0.02)
  raise AssertionError(f'step {step} was not reached: ' + '\n'.join(process.output() for process in processes))


def last_step(workdir):
  """That has a record; 0 where none has."""
  records = read_records(str(workdir))
  return records[-1]['step'] if records else 0


def losses(workdir):
  """(step, loss, gradient norm) of every record."""
  return [(record['step'], record['loss'], record['gradient_norm']) for record in read_records(str(workdir))]
