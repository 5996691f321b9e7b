"""Batches that processes make are those that threads make; processes start, fail and end as a run needs it."""

import dataclasses
import multiprocessing
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import textwrap
import time
import types

import numpy as np
import pytest

from data_pipelines import loader
from data_pipelines.errors import InputError
from data_pipelines.loader import make_loader
from data_pipelines.sequences.index import open_index
from data_pipelines.sequences.plan import PackingPlan
from data_pipelines.sequences.rows import EpisodeCache, PackedBatch
from tests.data_pipelines.token_cases import (
    CARTPOLE,
    MemorySource,
    control_source,
    data_config,
    mixed_sources,
    tokenizer,
)

ROOT = pathlib.Path(__file__).parents[2]
SOURCES = mixed_sources()
BATCH = 8  # half a block, so a process makes two at a time


def make(processes, sources=SOURCES, **settings):
  return make_loader(data_config(read_processes=processes), sources, tokenizer(),
                     **{'seed': 3, 'batch_size': BATCH, **settings})


def assert_same(ours: PackedBatch, theirs: PackedBatch, rows=slice(None)):
  for name, a, b in zip(PackedBatch._fields, ours, theirs, strict=True):
    np.testing.assert_array_equal(a, b[rows], err_msg=name)
    assert type(a) is np.ndarray and a.dtype == b.dtype


@pytest.fixture(scope='module')
def batches():
  loader = make(0)
  return [next(loader) for _ in range(14)]


@pytest.mark.parametrize(('processes', 'batch'), [(1, 8), (3, 8), (2, 24)])
def test_processes_change_nothing(processes, batch):
  theirs, ours = make(0, batch_size=batch), make(processes, batch_size=batch)
  for step in range(11):
    assert ours.get_state() == step
    assert_same(next(ours), next(theirs))
  assert ours.report() == theirs.report()
  ours.close()
  assert not multiprocessing.active_children()


def test_going_on_with_other_processes_and_hosts_is_exact(batches):
  loader = make(3)
  for step in range(3):
    assert_same(next(loader), batches[step])
  loader.set_state(5)  # the second half of a chunk, which is the last process's
  for step in range(5, 9):
    assert_same(next(loader), batches[step])
  state = loader.get_state()
  assert state == 9
  loader.close()
  half = make(2, local_rows=range(BATCH // 2, BATCH))
  half.set_state(state)
  for step in range(9, 14):
    assert_same(next(half), batches[step], slice(BATCH // 2, None))
  half.close()


class Failing(MemorySource):
  """Fails in the processes, and tells what is loaded there."""

  def __getitem__(self, index):
    if multiprocessing.parent_process():
      jax = sys.modules.get('jax._src.xla_bridge')
      raise self.error(f'gato_jax {"gato_jax" in sys.modules}, devices {bool(jax and jax.backends_are_initialized())}')
    return super().__getitem__(index)


class Unpicklable(Exception):
  def __init__(self, text):
    super().__init__(text)
    self.lock = types.SimpleNamespace(it=(each for each in text))


def failing_sources(error):
  result = []
  for source in SOURCES:
    result.append(Failing(**{field.name: getattr(source, field.name) for field in dataclasses.fields(source)}))
    result[-1].error = error
  return result


@pytest.mark.parametrize(('error', 'raised'), [(InputError, InputError), (Unpicklable, RuntimeError)])
def test_errors_of_processes_reach_the_caller(error, raised):
  import gato_jax.config  # noqa: F401 - here it is loaded, there it is not
  loader = make(2, failing_sources(error))
  with pytest.raises(raised, match='gato_jax False, devices False') as caught:
    next(loader)
  assert (type(caught.value) is raised) and (error.__name__ in str(caught.value)) == (error is Unpicklable)
  loader.close()
  assert not multiprocessing.active_children()


def test_a_process_that_dies_is_an_error():
  loader = make(2)
  next(loader)
  children = multiprocessing.active_children()
  assert len(children) == 2
  os.kill(children[0].pid, signal.SIGTERM)  # as some launchers do to all there are: it goes on
  for _ in range(20):
    next(loader)
  os.kill(children[1].pid, signal.SIGKILL)
  with pytest.raises(RuntimeError, match='one of the 2 processes of data.read_processes died .*exit code -9'):
    for _ in range(100):
      next(loader)
  loader.close()
  assert not multiprocessing.active_children()


PROGRAM = """
import multiprocessing, sys, time
sys.path.insert(0, {root!r})
from tests.data_pipelines.test_reading import make
print('begun', flush=True)  # no `if __name__ == '__main__'`: what is started with it must not begin again
loader = make(2)
next(loader)
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
{then}
"""


@pytest.mark.parametrize(('then', 'number'), [
    ('raise SystemExit(3)', None), ('time.sleep(600)', signal.SIGTERM), ('time.sleep(600)', signal.SIGKILL)])
def test_processes_end_with_the_program(tmp_path, then, number):
  file = tmp_path / 'program.py'
  file.write_text(textwrap.dedent(PROGRAM.format(root=str(ROOT), then=then)))
  quiet = {'stdout': subprocess.PIPE, 'stderr': subprocess.DEVNULL, 'text': True}
  with subprocess.Popen([sys.executable, file], **quiet) as program:
    assert program.stdout.readline() == 'begun\n'
    pids = list(map(int, program.stdout.readline().split()))
    assert len(pids) == 2
    if number:
      assert all(map(is_alive, pids))
      program.send_signal(number)
    assert program.wait() == (-number if number else 3)
    deadline = time.monotonic() + 30
    while any(map(is_alive, pids)):
      assert time.monotonic() < deadline
      time.sleep(0.1)


def is_alive(pid):
  try:
    return pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
  except FileNotFoundError:
    return False


def test_settings_that_cannot_be(monkeypatch):
  with pytest.raises(InputError, match='data.read_processes is -1'):
    make(-1)
  monkeypatch.setattr(os, 'statvfs', lambda path: types.SimpleNamespace(f_bavail=512, f_frsize=4096))
  # 4 chunks a process and one in use, of 16 rows of 256 positions, 26 bytes each, and 96 patches with 8 bytes besides.
  wanted = (5 * 4 + 1) * 16 * (256 * 26 + 96 * (768 + 8)) / 2**20
  with pytest.raises(InputError, match=f'data.read_processes is 5: .* may take {wanted:.0f} MB of .*, .* has 2 MB'):
    make(5)


@pytest.mark.parametrize(('processes', 'megabytes'), [(0, 64), (1, 64), (4, 16)])
def test_the_cache_of_a_host_is_divided(monkeypatch, processes, megabytes):
  given = []
  monkeypatch.setattr(loader, 'open_cache', lambda *arguments: given.append(arguments[-1]))
  make(processes)
  assert given == [megabytes]


def test_what_is_handed_to_a_process_is_small():
  source = control_source(CARTPOLE, 10, 40)
  cache = EpisodeCache([source], tokenizer(), megabytes=1)
  before = len(pickle.dumps(cache))
  window = cache.window(0, 4, 0, 9)
  assert len(pickle.dumps(cache)) == before
  np.testing.assert_array_equal(pickle.loads(pickle.dumps(cache)).window(0, 4, 0, 9).tokens, window.tokens)
  plan = PackingPlan(data_config(), SOURCES, [open_index(source, tokenizer()) for source in SOURCES], seed=3)
  before = len(pickle.dumps(plan))
  row = plan.row(17)
  assert len(pickle.dumps(plan)) == before
  np.testing.assert_array_equal(pickle.loads(pickle.dumps(plan)).row(17), row)
