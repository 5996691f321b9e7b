"""Runs as real processes: killed at random and started again, and on eight simulated devices."""

import random
import time

import numpy as np
import pytest

from gato_jax.training.checkpoint_place import FOLDER
from gato_jax.training.metrics import read_records
from tests.gato_jax.processes import finish, start

STEPS = 90


@pytest.fixture(scope='module', autouse=True)
def compile_cache(tmp_path_factory):
  """One of this file's own, of optimised programs: each is compiled once and then runs many steps."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('XLA_FLAGS', '--xla_backend_optimization_level=2')
    patch.setenv('JAX_COMPILATION_CACHE_DIR', str(tmp_path_factory.mktemp('compile_cache')))
    yield


def losses(workdir):
  return [(record['step'], record['loss'], record['loss_by_source'], record['gradient_norm'])
          for record in read_records(str(workdir))]


def kill_soon(processes, workdir, rng):
  """Waits until the process has written something new, then kills it at a random moment."""
  [process] = processes
  seen = len(read_records(str(workdir)))
  deadline = time.monotonic() + 240
  while len(read_records(str(workdir))) <= seen and process.poll() is None and time.monotonic() < deadline:
    time.sleep(0.01)
  time.sleep(rng.uniform(0, 0.6))
  process.kill()
  process.wait()


@pytest.mark.slow
def test_killed_runs_end_as_an_undisturbed_one(tmp_path):
  settings = (f'steps={STEPS}', 'log_every=4', 'checkpoint_every=3', 'pause=0.03')
  finish(start(tmp_path / 'undisturbed', *settings))
  rng, killed = random.Random(0), tmp_path / 'killed'
  for _ in range(3):
    kill_soon(start(killed, *settings), killed, rng)
    assert read_records(str(killed))[-1]['step'] < STEPS
  [output] = finish(start(killed, *settings))
  assert 'going on from the checkpoint of step' in output
  assert losses(killed) == losses(tmp_path / 'undisturbed')
  assert sorted(int(path.name) for path in (killed / FOLDER).iterdir()) == [STEPS - 3, STEPS]


@pytest.fixture(scope='module')
def one_device(tmp_path_factory):
  """The losses of twelve steps."""
  workdir = tmp_path_factory.mktemp('one')
  finish(start(workdir, 'steps=12'))
  return losses(workdir)


@pytest.mark.slow
@pytest.mark.parametrize('settings', [('mesh=1,4,2',), ('mesh=2,2,2', 'accumulation=2')])
def test_eight_devices_train_like_one(settings, one_device, tmp_path):
  finish(start(tmp_path, 'steps=12', *settings, devices=8))
  for got, want in zip(losses(tmp_path), one_device, strict=True):
    assert got[0] == want[0]
    np.testing.assert_allclose(got[1], want[1], rtol=1e-5)
    np.testing.assert_allclose(list(got[2].values()), list(want[2].values()), rtol=3e-5)
    np.testing.assert_allclose(got[3], want[3], rtol=1e-3)


@pytest.mark.slow
def test_a_run_goes_on_on_another_mesh(one_device, tmp_path):
  kill_soon(start(tmp_path, 'steps=12', 'checkpoint_every=2', 'pause=0.5'), tmp_path, random.Random(0))
  finish(start(tmp_path, 'steps=12', 'checkpoint_every=2', 'mesh=2,2,2', devices=8))
  for got, want in zip(losses(tmp_path), one_device, strict=True):
    np.testing.assert_allclose(got[1], want[1], rtol=1e-4)
