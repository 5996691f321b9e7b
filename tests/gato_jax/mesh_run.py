"""Runs the tiny model on eight simulated devices and saves what came out: `mesh_run.py OUTPUT.npz`.

`test_sharding.py` starts it as a process of its own, with XLA_FLAGS set: JAX counts its devices once.
"""

import sys

from flax import nnx
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from data_pipelines.errors import InputError
from gato_jax.mesh import make_mesh
from gato_jax.sharding import batch_sharding, parameter_shardings
from tests.gato_jax.model_cases import packed_batch, random_model

MESHES = {'fsdp8': (1, -1, 1), 'fsdp4_tensor2': (1, 4, 2), 'replica2_fsdp2_tensor2': (2, 2, 2)}


def mesh_of(replica, fsdp, tensor):
  return make_mesh(ml_collections.ConfigDict({
      'preset': 'fsdp', 'replica': replica, 'fsdp': fsdp, 'tensor': tensor}))


def eight_rows():
  return packed_batch(segments=((5, 4), (7, 2), (9,), (12,)) * 2, seed=3)


def step(graph):
  def loss(state, batch, keys_B):
    x = nnx.merge(graph, state)(batch, keys_B)
    return jnp.sin(x).sum(), x

  return jax.value_and_grad(loss, has_aux=True)


def run(sizes):
  """Hidden states and a gradient on a mesh, and what was asked of its layout."""
  mesh = mesh_of(*sizes)
  graph, state = random_model(stochastic_depth=0.3, positions='transformer_xl', attention='chunked')
  shardings = parameter_shardings(mesh, state)
  keys_B = jax.random.split(jax.random.key(0), 8)
  with jax.set_mesh(mesh):
    state = jax.device_put(state, shardings)
    batch, keys_B = jax.device_put((eight_rows(), keys_B), batch_sharding(mesh))
    compiled = jax.jit(step(graph)).lower(state, batch, keys_B).compile()
    (_, x), gradients = compiled(state, batch, keys_B)
  table = gradients['embedding']['tokens']['table'].get_value()
  query = state['blocks']['attention']['query'].get_value()
  return {
      'hidden': np.asarray(x), 'gradient': np.asarray(table), 'mesh': np.array(list(mesh.shape.values())),
      'query_shard': np.array(query.addressable_shards[0].data.shape),
      # the residual stream of all eight rows on one device
      'whole_batch': np.array('f32[8,12,16]' in compiled.as_text()),
  }


def refusals():
  """Messages of meshes that do not fit."""
  messages = {}
  for name, sizes in {'too_many': (1, 3, 1), 'two_left_over': (-1, -1, 1), 'nothing': (-2, 8, 1)}.items():
    try:
      mesh_of(*sizes)
    except InputError as error:
      messages[name] = str(error)
  for name, changes in {'heads': {'heads': 3}, 'feed_forward': {'feed_forward': 6}, 'vocabulary': {
      'vocabulary_multiple': 1}, 'width': {'width': 18}}.items():
    sizes = (1, 4, 2) if name == 'width' else (1, 1, 8)
    try:
      parameter_shardings(mesh_of(*sizes), random_model(**{'heads': 8, 'feed_forward': 32} | changes)[1])
    except InputError as error:
      messages[name] = str(error)
  return messages


if __name__ == '__main__':
  arrays = {f'{name}/{key}': array for name, sizes in MESHES.items() for key, array in run(sizes).items()}
  np.savez(sys.argv[1], refusals=np.array(list(refusals().items())), **arrays)
