"""One device and eight simulated ones give the same numbers; meshes that do not fit are refused."""

import os
import pathlib
import subprocess
import sys

from flax import nnx
import jax
from jax.sharding import PartitionSpec
import numpy as np
import pytest

from gato_jax.config import default_config
from gato_jax.mesh import make_mesh
from gato_jax.sharding import batch_sharding, constrain, parameter, parameter_shardings
from tests.gato_jax import mesh_run
from tests.gato_jax.model_cases import random_model
from tests.gato_jax.processes import xla_flags

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope='module')
def eight_devices(tmp_path_factory):
  path = tmp_path_factory.mktemp('mesh') / 'run.npz'
  environment = os.environ | {
      'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': xla_flags(8)}
  command = [sys.executable, mesh_run.__file__, str(path)]
  process = subprocess.run(command, env=environment, timeout=300, capture_output=True, text=True, check=False)
  assert process.returncode == 0, process.stderr
  return dict(np.load(path)) | {'log': process.stderr}


@pytest.fixture(scope='module')
def one_device():
  graph, state = random_model(stochastic_depth=0.3, positions='transformer_xl', attention='chunked')
  keys_B = jax.random.split(jax.random.key(0), 8)
  (_, hidden), gradients = jax.jit(mesh_run.step(graph))(state, mesh_run.eight_rows(), keys_B)
  return hidden, gradients['embedding']['tokens']['table'].get_value()


@pytest.mark.parametrize('name', mesh_run.MESHES)
def test_eight_devices_agree_with_one(name, eight_devices, one_device):
  hidden, gradient = one_device
  np.testing.assert_allclose(eight_devices[f'{name}/hidden'], hidden, atol=2e-5)
  np.testing.assert_allclose(eight_devices[f'{name}/gradient'], gradient, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(('name', 'mesh', 'query_shard'), [
    ('fsdp8', (1, 8, 1), (2, 2, 2, 8)),  # layers, width / fsdp, heads / tensor, head size
    ('fsdp4_tensor2', (1, 4, 2), (2, 4, 1, 8)),
    ('replica2_fsdp2_tensor2', (2, 2, 2), (2, 8, 1, 8)),
])
def test_parameters_are_split_as_the_table_says(name, mesh, query_shard, eight_devices):
  assert tuple(eight_devices[f'{name}/mesh']) == mesh
  assert tuple(eight_devices[f'{name}/query_shard']) == query_shard


@pytest.mark.parametrize('name', mesh_run.MESHES)
def test_no_device_holds_the_whole_batch(name, eight_devices):
  assert not eight_devices[f'{name}/whole_batch']


def test_no_layout_is_left_to_replication(eight_devices):
  assert 'full rematerialization' not in eight_devices['log']


@pytest.mark.parametrize(('name', 'words'), [
    ('too_many', ('fsdp=3', '8 devices', '-1')),
    ('two_left_over', ('at most one',)),
    ('nothing', ('replica=-2', 'positive')),
    ('heads', ('attention', 'heads axis of 3', 'tensor')),
    ('feed_forward', ('feed_forward axis of 3', 'multiple of 8')),
    ('vocabulary', ('vocabulary axis of 60', 'tensor')),
    ('width', ('width axis of 18', 'fsdp')),
])
def test_what_does_not_fit_is_an_input_error(name, words, eight_devices):
  message = dict(eight_devices['refusals'])[name]
  assert all(word in message for word in words), message


def test_one_device_is_a_mesh_too():
  mesh = make_mesh(default_config().mesh)
  assert mesh.shape == {'replica': 1, 'fsdp': 1, 'tensor': 1}
  assert batch_sharding(mesh).spec == PartitionSpec(('replica', 'fsdp'))


def test_every_matrix_of_the_layers_is_split_both_ways():
  mesh = make_mesh(default_config().mesh)
  _, state = random_model(positions='transformer_xl')
  shardings = parameter_shardings(mesh, state)
  blocks = nnx.to_flat_state(shardings['blocks'])
  specs = {path: leaf.get_value().spec for path, leaf in blocks if path[-1] not in ('scale', 'bias')}
  assert len(specs) == 10  # query, key, value, output, distance, two biases; gate, value, output
  for path, spec in specs.items():
    assert spec[0] is None, path
    assert 'tensor' in spec, path
    assert path[-1].endswith('_bias') or 'fsdp' in spec, path
  assert jax.tree.structure(shardings) == jax.tree.structure(state)


def test_constrain_without_a_mesh_is_the_identity():
  x = np.zeros((3, 2))
  assert constrain(x, 'batch', None) is x


def test_a_parameter_needs_a_name_or_none_for_each_axis():
  with pytest.raises(ValueError, match='differ in length'):
    parameter(jax.nn.initializers.zeros, nnx.Rngs(0), (2, 3), ('width',))
