"""Many processes, as on many hosts: real ones on this machine, over JAX's distributed runtime."""

import json
import os
import shutil
import signal
import time

import numpy as np
import pytest

from gato_jax.group import FAILED, LOST
from gato_jax.training.checkpoint import UNREADABLE_FOLDER
from gato_jax.training.checkpoint_place import FOLDER
from gato_jax.training.watchdog import STUCK
from tests.gato_jax.processes import finish, losses, start, wait_for_step

pytestmark = pytest.mark.slow
LAYOUTS = ((1, 8), (2, 4), (4, 2))  # processes, devices of each


def digests(prefix, processes):
  """'step/row' -> digest, of all processes."""
  parts = [json.loads(open(f'{prefix}.{index}.json', encoding='utf-8').read()) for index in range(processes)]
  return {key: value for part in parts for key, value in part.items()}, [len(part) for part in parts]


@pytest.fixture(scope='module')
def thirty_steps(tmp_path_factory):
  """The same run on each of LAYOUTS, with the real loader: workdirs by number of processes."""
  workdirs = {}
  for processes, devices in LAYOUTS:
    workdirs[processes] = tmp_path_factory.mktemp(f'processes_{processes}')
    finish(start(workdirs[processes], 'data=mixture', 'steps=30', 'checkpoint_every=15', 'digests='
                 f'{workdirs[processes]}/digests', processes=processes, devices=devices))
  return workdirs


def test_the_losses_do_not_depend_on_the_processes(thirty_steps):
  one = losses(thirty_steps[1])
  assert [step for step, *_ in one] == list(range(1, 31)) and one[-1][1] < one[0][1]
  for processes in (2, 4):
    other = losses(thirty_steps[processes])
    np.testing.assert_allclose([loss for _, loss, _ in other], [loss for _, loss, _ in one], rtol=1e-5)


def test_the_batches_do_not_depend_on_the_processes_and_each_reads_its_own_rows(thirty_steps):
  whole, _ = digests(thirty_steps[1] / 'digests', 1)
  assert len(whole) == 30 * 8
  for processes in (2, 4):
    parts, counts = digests(thirty_steps[processes] / 'digests', processes)
    assert parts == whole
    assert counts == [30 * 8 // processes] * processes


def test_saved_on_two_processes_and_restored_elsewhere(thirty_steps, tmp_path):
  """State equal to the bit, the next batches equal to the byte, losses that go on; also where a row is on two hosts."""
  whole, _ = digests(thirty_steps[1] / 'digests', 1)
  restored = set()
  for processes, devices, mesh in ((1, 1, '1,1,1'), (1, 8, '1,4,2'), (2, 4, '2,2,2'), (4, 2, '1,2,4')):
    here = tmp_path / mesh
    shutil.copytree(thirty_steps[2], here)
    shutil.rmtree(here / FOLDER / '30')  # go on from step 15
    outputs = finish(start(here, 'data=mixture', 'steps=30', 'checkpoint_every=15', f'mesh={mesh}', 'show=1',
                           f'digests={here}/digests', processes=processes, devices=devices))
    restored |= {line for output in outputs for line in output.splitlines() if line.startswith('restored')}
    parts, _ = digests(here / 'digests', processes)
    assert parts == {key: whole[key] for key in whole if int(key.split('/')[0]) >= 15}
    for got, want in zip(losses(here), losses(thirty_steps[2]), strict=True):
      np.testing.assert_allclose(got[1], want[1], rtol=1e-5)
  [line] = restored
  assert line.startswith('restored 15 ')


def test_sigterm_saves_and_nothing_is_repeated(tmp_path):
  settings = ('steps=400', 'checkpoint_every=1000', 'pause=0.05', 'log_every=1')
  running = start(tmp_path, *settings, processes=2, devices=2)
  wait_for_step(tmp_path, 3, running)
  running[1].send_signal(signal.SIGTERM)  # one host is told; all of them stop
  outputs = finish(running, LOST)
  assert all('which is saved; the same command goes on' in output for output in outputs)
  [step] = [int(path.name) for path in (tmp_path / FOLDER).iterdir()]
  assert losses(tmp_path)[-1][0] in (step - 1, step)
  again = start(tmp_path, f'steps={step + 3}', 'checkpoint_every=1000', processes=2, devices=2)
  assert f'going on from the checkpoint of step {step}' in finish(again)[0]
  assert [number for number, *_ in losses(tmp_path)] == list(range(1, step + 4))
  goodput = json.loads((tmp_path / 'goodput.json').read_text())['seconds']
  assert goodput['lost'] < 6 and goodput['down'] > 0 and goodput['step'] > 0  # a sign of life is up to 5 s old


def test_one_process_hears_sigterm_too(tmp_path):
  running = start(tmp_path, 'steps=400', 'checkpoint_every=1000', 'pause=0.05')
  wait_for_step(tmp_path, 2, running)
  running[0].send_signal(signal.SIGTERM)
  finish(running, LOST)
  assert len(list((tmp_path / FOLDER).iterdir())) == 1


def test_a_process_that_is_killed_ends_the_others_by_name(tmp_path):
  running = start(tmp_path, 'steps=4000', 'pause=0.05', processes=2, devices=2)
  wait_for_step(tmp_path, 2, running)
  running[1].kill()
  began = time.monotonic()
  output = running[0].output(timeout=120)
  assert time.monotonic() - began < 60
  assert running[0].returncode not in (0, FAILED)
  assert f'process 1 ({os.uname().nodename} pid {running[1].pid}) is gone' in output


def test_a_process_that_hangs_is_ended(tmp_path):
  running = start(tmp_path, 'steps=40', 'step_timeout=8', processes=2, devices=2, own_settings={1: ['stuck=3']})
  outputs = [process.output(timeout=200) for process in running]
  codes = [process.returncode for process in running]
  assert STUCK in codes and 0 not in codes and FAILED not in codes
  assert any('no step has ended for' in output and 'Thread' in output for output in outputs)


def test_different_configs_are_refused_on_all(tmp_path):
  outputs = finish(start(tmp_path, 'steps=3', processes=2, own_settings={1: ['seed=3']}), FAILED)
  for output in outputs:
    assert 'process 1 has another config than process 0' in output and 'seed: 0 -> 3' in output
    assert 'Traceback' not in output


def test_an_absent_process_is_named(tmp_path):
  [output] = finish(start(tmp_path, 'steps=3', 'start_timeout=4', processes=3, members=[0]), FAILED)
  assert '1 of 3 processes came within 4 s; absent: process 1, 2' in output and 'Traceback' not in output


def test_a_mesh_that_does_not_fit_is_said_on_all(tmp_path):
  outputs = finish(start(tmp_path, 'steps=3', 'mesh=1,3,1', processes=2, devices=2), FAILED)
  assert all('does not fit 4 devices' in output for output in outputs)


def test_a_full_disk_on_one_host_is_an_error_on_all(tmp_path):
  running = start(tmp_path, 'steps=40', 'checkpoint_every=4', processes=2, devices=2,
                  own_settings={1: ['file_limit=3000']})
  outputs = finish(running, FAILED)
  error = outputs[0][outputs[0].index('gato-jax: error'):]  # what the other says may not fit into its file of output
  assert 'process 1' in error and 'File too large' in error
  assert 'step 4 could not be saved' in error and 'there is no checkpoint yet' in error
  assert not any('Event loop is closed' in output for output in outputs)


def test_damage_is_skipped_by_all(thirty_steps, tmp_path):
  shutil.copytree(thirty_steps[2], tmp_path / 'run')
  for path in (tmp_path / 'run' / FOLDER / '30' / 'parameters').rglob('d/*'):
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
  outputs = finish(start(tmp_path / 'run', 'data=mixture', 'steps=16', processes=2, devices=4))
  assert 'going on from the checkpoint of step 15' in outputs[0]
  assert all('checkpoint of step 30' in output and 'cannot be read' in output for output in outputs)
  assert not any('Event loop is closed' in output for output in outputs)
  assert len(list((tmp_path / 'run' / UNREADABLE_FOLDER).iterdir())) == 1


def test_a_workdir_in_use_is_refused_on_all(tmp_path):
  running = start(tmp_path, 'steps=4000', 'pause=0.1', processes=1)
  wait_for_step(tmp_path, 1, running)
  outputs = finish(start(tmp_path, 'steps=4000', processes=2), FAILED)
  assert all('belongs to a run that is going on' in output for output in outputs)
  running[0].kill()
  running[0].wait()
