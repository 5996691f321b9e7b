"""Runs whose batches are made by processes: they end with the run, however it ends."""

import os
import pathlib
import signal
import sys
import time

import pytest

from data_pipelines.datasets.prepare import prepare
from gato_jax.config import mixture_entry
from gato_jax.group import LOST
from tests.gato_jax.processes import ROOT, Process
from tests.gato_jax.training_cases import small_config

pytestmark = pytest.mark.skipif(not pathlib.Path('/proc/self/stat').exists(), reason='reads /proc')
CONFIG = """
import pathlib
from gato_jax.config import mixture_entry
from tests.gato_jax.training_cases import small_config

def get_config(arg=None):
  folder = pathlib.Path(__file__).parent
  mixture = {'python_docs': mixture_entry(1.0, episodes=20)}  # blocks of a batch, so that few are made ahead
  return small_config(folder, mixture, sequence_length=64, block_rows=2, read_processes=2)
"""


@pytest.fixture(scope='module')
def file(tmp_path_factory):
  folder = tmp_path_factory.mktemp('run')
  prepare(small_config(folder, {'python_docs': mixture_entry(1.0, episodes=20)}).data, workers=1)
  (folder / 'config.py').write_text(CONFIG)
  return folder / 'config.py'


@pytest.fixture
def run(file, tmp_path):
  """A run that has made a step, and the numbers of the processes that read."""
  script = pathlib.Path(sys.executable).with_name('gato-jax')
  command = [str(script)] if script.exists() else [sys.executable, '-m', 'gato_jax.cli']
  process = Process([*command, 'train', f'--config={file}', f'--workdir={tmp_path}', '--config.training.steps=1000000'],
                    {**os.environ, 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(ROOT)})
  try:
    metrics, deadline = tmp_path / 'metrics.jsonl', time.monotonic() + 120
    while not metrics.exists() or not metrics.stat().st_size:
      assert process.poll() is None and time.monotonic() < deadline
      time.sleep(0.1)
    numbers = readers(process)
    assert len(numbers) == 2
    yield process, numbers
  finally:
    process.kill()
    process.output(10)


def readers(process):
  numbers = []
  for stat in pathlib.Path('/proc').glob('[0-9]*/stat'):
    try:
      parent = stat.read_text().rpartition(')')[2].split()[1]
      if int(parent) == process.pid and b'spawn_main' in (stat.parent / 'cmdline').read_bytes():
        numbers.append(int(stat.parent.name))
    except (FileNotFoundError, ProcessLookupError):
      pass
  return numbers


def is_gone(number):
  return not pathlib.Path(f'/proc/{number}').exists()


def test_a_run_that_is_stopped_saves_and_leaves_no_process(run):
  process, numbers = run
  for number in (*numbers, process.pid):  # as SLURM sends it, to all there are
    os.kill(number, signal.SIGTERM)
  output = process.output(120)
  assert process.returncode == LOST and 'which is saved; the same command goes on' in output
  assert all(map(is_gone, numbers))


def test_a_run_whose_reader_dies_says_so_and_leaves_no_process(run):
  process, numbers = run
  os.kill(numbers[0], signal.SIGKILL)
  output = process.output(120)
  assert process.returncode == 1
  assert 'RuntimeError: one of the 2 processes of data.read_processes died' in output
  assert all(map(is_gone, numbers))
