"""Batches that processes make are those that threads make; processes start, fail and end as a run needs it."""

from concurrent.futures import ThreadPoolExecutor
import copy
import dataclasses
import multiprocessing
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
import types

import numpy as np
import pytest

from data_pipelines import loader, reading
from data_pipelines.errors import InputError
from data_pipelines.loader import make_loader
from data_pipelines.reading import Rows
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
from tests.living import is_alive

SHARED = pathlib.Path('/dev/shm')
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


@pytest.mark.parametrize(('processes', 'batch'), [(3, 8), (2, 24)])
def test_processes_change_nothing(processes, batch):
  theirs, ours = make(0, batch_size=batch), make(processes, batch_size=batch)
  for step in range(11):
    assert ours.get_state() == step
    assert_same(next(ours), next(theirs))
  assert ours.report() == theirs.report()
  ours.close()
  assert not multiprocessing.active_children()


def test_going_on_with_other_processes_and_hosts_is_exact(batches):
  loader = make(2)
  loader.set_state(7)  # the second half of a chunk, which is the last process's
  for step in range(7, 11):
    assert_same(next(loader), batches[step])
  state = loader.get_state()
  assert state == 11
  loader.close()
  half = make(1, local_rows=range(BATCH // 2, BATCH))
  half.set_state(state)
  for step in range(11, 14):
    assert_same(next(half), batches[step], slice(BATCH // 2, None))
  half.set_state(2)
  assert_same(next(half), batches[2], slice(BATCH // 2, None))
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


@pytest.mark.parametrize(('error', 'raised', 'processes'), [
    (InputError, InputError, 2), (Unpicklable, RuntimeError, 1)])
def test_errors_of_processes_reach_the_caller(error, raised, processes):
  import gato_jax.config  # noqa: F401 - here it is loaded, there it is not
  loader = make(processes, failing_sources(error))
  with pytest.raises(raised, match='gato_jax False, devices False') as caught:
    next(loader)
  assert (type(caught.value) is raised) and (error.__name__ in str(caught.value)) == (error is Unpicklable)
  assert not multiprocessing.active_children()
  with pytest.raises(raised) as again:  # the readers are not at the same place any more
    next(loader)
  assert again.value is caught.value
  loader.close()


def test_signals_that_stop_a_run_stop_no_process_and_one_that_dies_is_an_error():
  before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
  loader = make(2)
  signalled = set()
  with ThreadPoolExecutor(1) as pool:
    first = pool.submit(next, loader)
    while not first.done():  # as some launchers do to all there are, from their first moment on
      for child in multiprocessing.active_children():
        os.kill(child.pid, signal.SIGTERM)
        os.kill(child.pid, signal.SIGINT)
        signalled.add(child.pid)
      time.sleep(0.02)
    first.result()
  assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
  children = multiprocessing.active_children()
  assert {child.pid for child in children} == signalled and len(signalled) == 2
  for _ in range(20):
    next(loader)
  os.kill(children[1].pid, signal.SIGKILL)
  for _ in range(2):
    with pytest.raises(RuntimeError, match='one of the 2 processes of data.read_processes died .*exit code -9'):
      for _ in range(100):
        next(loader)
  loader.close()
  assert not multiprocessing.active_children()


def test_rows_are_copied_like_anything_else():
  threads, handler = threading.active_count(), signal.getsignal(signal.SIGTERM)
  plan = PackingPlan(data_config(), SOURCES, [open_index(source, tokenizer()) for source in SOURCES], seed=3)
  copied = copy.deepcopy(Rows(plan, EpisodeCache(SOURCES, tokenizer(), megabytes=1), (256, 96, 0), 8, range(8), 16))
  assert type(copied) is Rows and copied[3].tokens.shape == (256,)
  inside = pickle.loads(pickle.dumps(reading._ProcessRows(**vars(copied))))
  assert type(inside) is reading._ProcessRows and inside[3].tokens.shape == (256,)
  assert (threading.active_count(), signal.getsignal(signal.SIGTERM)) == (threads, handler)


PROGRAM = """
import multiprocessing, sys, time
sys.path.insert(0, {root!r})
from tests.data_pipelines.test_reading import make
print('begun', flush=True)  # no `if __name__ == '__main__'`: what is started with it must not begin again
loader = make(1)
next(loader)
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
{then}
"""


AT_WORK = 'while True: next(loader)'


@pytest.mark.skipif(not SHARED.exists() or not pathlib.Path('/proc/self').exists(), reason='looks there')
@pytest.mark.parametrize(('then', 'number'), [
    ('raise SystemExit(3)', None), (AT_WORK, signal.SIGTERM), (AT_WORK, signal.SIGKILL)])
def test_processes_end_with_the_program(tmp_path, then, number):
  before = set(SHARED.iterdir())
  file = tmp_path / 'program.py'
  file.write_text(textwrap.dedent(PROGRAM.format(root=str(ROOT), then=then)))
  quiet = {'stdout': subprocess.PIPE, 'stderr': subprocess.DEVNULL, 'text': True}
  with subprocess.Popen([sys.executable, file], **quiet) as program:
    assert program.stdout.readline() == 'begun\n'
    pids = list(map(int, program.stdout.readline().split()))
    assert len(pids) == 1
    if number:
      assert all(map(is_alive, pids))
      program.send_signal(number)
    assert program.wait() == (-number if number else 3)
    deadline = time.monotonic() + 30
    while any(map(is_alive, pids)):
      assert time.monotonic() < deadline
      time.sleep(0.1)
  left = set(SHARED.iterdir()) - before
  while left := left & set(SHARED.iterdir()):  # Python's resource tracker ends, and clears up, a moment later
    assert time.monotonic() < deadline
    time.sleep(0.1)


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
