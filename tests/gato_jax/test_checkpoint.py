"""Checkpoints: round trip, other meshes, other models, damage, full disks."""

import os
import pathlib
import shutil
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.errors import InputError
from gato_jax.config import default_config
from gato_jax.training.checkpoint import UNREADABLE_FOLDER, Checkpoints, _reason
from gato_jax.training.checkpoint_place import FOLDER
from gato_jax.training.checkpoint_reading import read_checkpoint
from gato_jax.training.compatibility import config_of
from gato_jax.training.optimizer import make_optimizer
from gato_jax.training.state import TrainState
from tests.gato_jax.processes import xla_flags

RUN = {'vocabulary': {'text_size': 300, 'tokenizer_digest': 'abc'}, 'data_state': 7, 'note': [1, 0.1, None]}
ROOT = pathlib.Path(__file__).parents[2]


def make_state(seed=0, width=4):
  rng = np.random.default_rng(seed)
  parameters = {
      'table': jnp.asarray(rng.normal(size=(16, width)), jnp.float32),
      'blocks': {'kernel': jnp.asarray(rng.normal(size=(2, width, 8)), jnp.float32)}}
  optimizer_state = make_optimizer(default_config().training).init(parameters)
  optimizer_state = jax.tree.map(lambda leaf: leaf + jnp.asarray(rng.integers(1, 9), leaf.dtype), optimizer_state)
  return TrainState(parameters, optimizer_state, *(jnp.asarray(number, jnp.int32) for number in (3, 1, 0)))


def abstract(state):
  return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state)


def assert_equal(one, other):
  jax.tree.map(np.testing.assert_array_equal, one, other)


def save(workdir, *steps, keep=2):
  checkpoints = Checkpoints(str(workdir), keep)
  for step in steps:
    checkpoints.save(step, make_state(step), {**RUN, 'data_state': step})
  checkpoints.close()


def restore(workdir, wanted=None, vocabulary=RUN['vocabulary']):
  checkpoints = Checkpoints(str(workdir), 2)
  try:
    return checkpoints.restore(abstract(wanted or make_state()), vocabulary)
  finally:
    checkpoints.close()


def test_round_trip(tmp_path):
  assert restore(tmp_path) is None
  save(tmp_path, 3)
  restored = restore(tmp_path)
  assert_equal(restored.state, make_state(3))
  assert jax.tree.structure(restored.state) == jax.tree.structure(make_state(3))
  assert restored.step == 3 and restored.run == {**RUN, 'data_state': 3}


def test_buffers_may_be_given_away_while_saving(tmp_path):
  checkpoints = Checkpoints(str(tmp_path), 1)
  state = make_state(1, width=40_000)
  wanted = jax.tree.map(np.array, state)
  checkpoints.save(1, state, RUN)
  spoil = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf + 1, tree), donate_argnums=0)
  for _ in range(5):
    state = spoil(state)
  jax.block_until_ready(state)
  checkpoints.wait()
  assert_equal(checkpoints.restore(abstract(state), RUN['vocabulary']).state, wanted)
  checkpoints.close()


def test_keeps_the_newest(tmp_path):
  save(tmp_path, 2, 4, 6, keep=2)
  assert sorted(path.name for path in (tmp_path / FOLDER).iterdir()) == ['4', '6']
  assert restore(tmp_path).step == 6


def test_keeps_those_of_round_steps_and_the_best_as_well(tmp_path):
  checkpoints = Checkpoints(str(tmp_path), 1, keep_every=4, keep_best=1)
  for step, loss in enumerate((5.0, 1.0, None, 3.0, float('nan'), 2.0, 4.0), start=1):
    checkpoints.save(step, make_state(step), RUN, loss)
  checkpoints.close()
  assert sorted(int(path.name) for path in (tmp_path / FOLDER).iterdir()) == [2, 4, 7]


def test_a_step_is_saved_once(tmp_path):
  save(tmp_path, 2, 2)
  save(tmp_path, 2)
  assert restore(tmp_path).run['data_state'] == 2


def test_another_model_lists_every_path(tmp_path):
  save(tmp_path, 1)
  wanted = make_state(width=5)
  wanted.parameters['blocks']['bias'] = jnp.zeros(2)
  with pytest.raises(InputError) as caught:
    restore(tmp_path, wanted)
  message = str(caught.value)
  assert 'parameters/table: saved [16, 4], wanted [16, 5]' in message
  assert 'parameters/blocks/kernel: saved [2, 4, 8], wanted [2, 5, 8]' in message
  assert 'parameters/blocks/bias: saved nothing, wanted [2]' in message
  assert 'mu/table: saved [16, 4], wanted [16, 5]' in message
  assert (tmp_path / FOLDER / '1').exists()


def test_another_vocabulary_lists_the_fields(tmp_path):
  save(tmp_path, 1)
  with pytest.raises(InputError, match='text_size: saved 300, wanted 301') as caught:
    restore(tmp_path, vocabulary={'text_size': 301, 'tokenizer_digest': 'abc'})
  assert 'tokenizer_digest' not in str(caught.value)


def remove_data(step):
  shutil.rmtree(step / 'parameters' / 'd')


def cut_data(step):
  for path in (step / 'parameters').rglob('d/*'):
    path.write_bytes(path.read_bytes()[:len(path.read_bytes()) // 2])


def remove_json(step):
  (step / '_CHECKPOINT_METADATA').unlink()


def empty_json(step):
  (step / '_CHECKPOINT_METADATA').write_text('{"custom')


def remove_item(step):
  shutil.rmtree(step / 'optimizer')


@pytest.mark.parametrize('damage', [remove_data, cut_data, remove_json, empty_json, remove_item])
def test_damaged_newest_is_skipped_and_said(tmp_path, damage, caplog):
  save(tmp_path, 1, 2)
  damage(tmp_path / FOLDER / '2')
  restored = restore(tmp_path)
  assert restored.step == 1
  assert_equal(restored.state, make_state(1))
  assert 'step 2' in caplog.text and 'cannot be read' in caplog.text
  save(tmp_path, 2)  # its place is free again
  assert restore(tmp_path).step == 2
  assert len(list((tmp_path / UNREADABLE_FOLDER).iterdir())) == 1


def test_nothing_readable_is_an_error_and_not_a_fresh_start(tmp_path):
  save(tmp_path, 1, 2)
  for step in (1, 2):
    remove_data(tmp_path / FOLDER / str(step))
  with pytest.raises(InputError, match=r'none of the checkpoints \[1, 2\]'):
    restore(tmp_path)


def test_directory_that_cannot_be_used(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(InputError, match='file/checkpoints cannot be used'):
    Checkpoints(str(tmp_path / 'file'), 2)


def test_half_written_save_is_no_checkpoint(tmp_path):
  save(tmp_path, 1, 2)
  (tmp_path / FOLDER / '2').rename(tmp_path / FOLDER / '2.orbax-checkpoint-tmp')
  assert restore(tmp_path).step == 1


def test_reading_leaves_everything_in_place(tmp_path):
  save(tmp_path, 1, 2)
  remove_data(tmp_path / FOLDER / '2')
  (tmp_path / FOLDER / '3.orbax-checkpoint-tmp').mkdir()
  shapes = abstract(make_state())
  read = read_checkpoint(str(tmp_path), lambda run: {'parameters': shapes.parameters})
  assert read.step == 1 and set(read.items) == {'parameters'}
  assert sorted(path.name for path in (tmp_path / FOLDER).iterdir()) == ['1', '2', '3.orbax-checkpoint-tmp']
  with pytest.raises(InputError, match='no checkpoint of step 5'):
    read_checkpoint(str(tmp_path), lambda run: {}, step=5)
  with pytest.raises(InputError, match='has no checkpoints'):
    read_checkpoint(str(tmp_path / 'elsewhere'), lambda run: {})


def test_config_survives_json(tmp_path):
  config = default_config()
  with config.unlocked():
    config.data.mixture.dm_control = {'tasks': ('a', 'b'), 'weight': 0.5}
  checkpoints = Checkpoints(str(tmp_path), 1)
  checkpoints.save(1, make_state(), {**RUN, 'config': config.to_dict()})
  restored = checkpoints.restore(abstract(make_state()), RUN['vocabulary'])
  checkpoints.close()
  assert config_of(restored.run).to_dict() == config.to_dict()


def run_script(script, *arguments, devices=1):
  environment = {
      **os.environ, 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(ROOT),
      'XLA_FLAGS': xla_flags(devices)}
  return subprocess.run([sys.executable, '-c', textwrap.dedent(script), *map(str, arguments)], env=environment,
                        capture_output=True, text=True, check=False)


RESHARD = '''
    import sys, jax
    from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
    from gato_jax.training.checkpoint import Checkpoints
    from tests.gato_jax.test_checkpoint import RUN, assert_equal, make_state
    mesh = jax.make_mesh((2, 2, 2), ('replica', 'fsdp', 'tensor'), axis_types=(AxisType.Auto,) * 3)
    state = make_state(1)

    def placed(leaf):
      spec = P(None, 'fsdp', 'tensor') if leaf.ndim == 3 else P('tensor', 'fsdp') if leaf.ndim == 2 else P()
      return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec))

    abstract = jax.tree.map(placed, state)
    checkpoints = Checkpoints(sys.argv[1], 3)
    restored = checkpoints.restore(abstract, RUN['vocabulary']).state
    assert jax.tree.all(jax.tree.map(lambda leaf, want: leaf.sharding == want.sharding, restored, abstract))
    assert_equal(restored, state)
    assert len(restored.parameters['table'].sharding.device_set) == 8
    checkpoints.save(2, restored, RUN)
    checkpoints.close()
    print('resharded')
'''


def test_one_device_to_eight_and_back(tmp_path):
  save(tmp_path, 1)
  result = run_script(RESHARD, tmp_path, devices=8)
  assert result.stdout.strip() == 'resharded', result.stderr[-3000:]
  restored = restore(tmp_path)
  assert restored.step == 2
  assert_equal(restored.state, make_state(1))


FULL_DISK = '''
    import resource, signal, sys, time
    from data_pipelines.errors import InputError
    from gato_jax.training.checkpoint import Checkpoints
    from tests.gato_jax.test_checkpoint import RUN, abstract, make_state
    checkpoints = Checkpoints(sys.argv[1], 2)
    checkpoints.save(1, make_state(1, width=500), RUN)
    checkpoints.wait()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    try:
      checkpoints.save(2, make_state(2, width=500), RUN)
      deadline = time.monotonic() + 30
      while time.monotonic() < deadline:
        checkpoints.check()
        time.sleep(0.05)
    except InputError as error:
      print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert checkpoints.restore(abstract(make_state(1, width=500)), RUN['vocabulary']).step == 1
    checkpoints.save(3, make_state(3, width=500), RUN)
    checkpoints.close()
    print('saved again', checkpoints.steps)
'''


def test_full_disk_is_said_and_the_last_good_one_stays(tmp_path):
  result = run_script(FULL_DISK, tmp_path)
  message, last = result.stdout.strip().splitlines()
  assert 'step 2 could not be saved' in message and 'File too large' in message
  assert 'last good checkpoint is step 1' in message and 'Make room' in message
  assert last == 'saved again [1, 3]', result.stderr[-3000:]
  assert 'Traceback' not in result.stderr


def test_what_the_system_said_is_the_reason_however_deep_it_lies():
  full = OSError(27, 'File too large')
  wrapped = RuntimeError('background save failed\nwith much more')
  wrapped.__cause__ = ValueError('an array')
  wrapped.__cause__.__context__ = full
  assert _reason(wrapped) == _reason(full) == '[Errno 27] File too large'
  assert _reason(RuntimeError('first line\nsecond')) == 'first line'
