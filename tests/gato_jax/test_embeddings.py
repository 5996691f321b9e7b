"""Token table, value features, patches and their positions."""

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.tokenization.images import patch_intervals
from data_pipelines.tokenization.vocabulary import Vocabulary
from gato_jax.config import model_config
from gato_jax.model.block import Block, Places
from gato_jax.model.embeddings import TokenTable, value_code
from gato_jax.model.gato import Gato
from gato_jax.model.patches import PatchEncoder, interval_index
from tests.gato_jax.model_cases import VOCABULARY, packed_batch, random_model, tiny_config

# paper section 3.3: quantised ends of n equal intervals, and the indices used in evaluation
EVALUATION = {
    4: (16, 48, 80, 112), 5: (13, 39, 64, 90, 115), 6: (11, 32, 54, 75, 96, 118), 8: (8, 24, 40, 56, 72, 88, 104, 120)}


def random_embedding(**changes):
  return nnx.merge(*random_model(**changes)).embedding


@pytest.mark.parametrize('count', EVALUATION)
def test_evaluation_takes_the_rounded_mean(count):
  intervals = patch_intervals(16, 16 * count)[None]
  np.testing.assert_array_equal(interval_index(jnp.asarray(intervals), 128)[0, :, 1], EVALUATION[count])


def test_the_papers_example_patch():
  intervals = jnp.asarray([[[[32, 64], [51, 77]]]], jnp.uint8)  # figure 17: rows [0.25, 0.5], columns [0.4, 0.6]
  np.testing.assert_array_equal(interval_index(intervals, 128), [[[48, 64]]])


def test_training_draws_uniformly_from_the_half_open_interval():
  intervals = jnp.tile(jnp.asarray([[[96, 128], [51, 55]]], jnp.uint8), (500, 4, 1, 1))
  index = np.asarray(interval_index(intervals, 128, jax.random.split(jax.random.key(0), 500)))
  np.testing.assert_array_equal(np.unique(index[..., 0]), np.arange(96, 128))
  values, counts = np.unique(index[..., 1], return_counts=True)
  np.testing.assert_array_equal(values, np.arange(51, 55))
  np.testing.assert_allclose(counts / 2000, 0.25, atol=0.04)
  assert np.abs(np.corrcoef(index.reshape(500, -1).T) - np.eye(8)).max() < 0.2  # slots and axes are independent
  alone = interval_index(intervals[7:8], 128, jax.random.split(jax.random.key(0), 500)[7:8])
  np.testing.assert_array_equal(alone[0], index[7])


@pytest.mark.parametrize('keys', [None, 1])
def test_empty_and_last_intervals_stay_in_the_table(keys):
  intervals = jnp.asarray([[[[40, 40], [127, 128]], [[0, 0], [128, 128]]]], jnp.uint8)
  keys_B = None if keys is None else jax.random.split(jax.random.key(0), keys)
  np.testing.assert_array_equal(interval_index(intervals, 128, keys_B), [[[40, 127], [0, 127]]])


def test_patches_go_where_they_belong_and_unused_slots_nowhere():
  embedding, batch = random_embedding(), packed_batch()
  x = embedding(batch)
  vectors = embedding.patches(batch.patches) + embedding.patch_positions(batch.patch_intervals)
  for row in range(3):
    for slot, place in enumerate((0, 2)):
      expected = vectors[row, slot] + embedding.local[batch.local_positions[row, place]]
      np.testing.assert_allclose(x[row, place], expected, atol=1e-5)
  noise = batch._replace(patches=np.where(np.arange(4)[:, None, None, None] < 2, batch.patches, 255 - batch.patches))
  np.testing.assert_array_equal(embedding(noise), x)
  text = batch._replace(tokens=np.zeros_like(batch.tokens), patch_positions=np.full_like(batch.patch_positions, 12))
  no_slots = text._replace(**{name: getattr(text, name)[:, :0]
                              for name in ('patches', 'patch_positions', 'patch_intervals')})
  np.testing.assert_array_equal(embedding(text), embedding(no_slots))


def test_pixels_are_scaled_to_a_quarter():
  # with a stem that hands on the first pixel's channels and nothing else alive, the output is the pixels themselves
  encoder = random_embedding().patches
  parts = {'stem': np.zeros((3, 3, 3, 32)), 'second': np.zeros((3, 3, 32, 32)), 'output_bias': np.zeros(16)}
  parts['stem'][1, 1, :, :3] = np.eye(3)
  parts['output'] = np.zeros((512, 16))
  parts['output'][:3, :3] = np.eye(3)
  for name, value in parts.items():
    setattr(encoder, name, nnx.Param(jnp.asarray(value, jnp.float32)))
  patch = np.full((1, 16, 16, 3), (0, 255, 51), np.uint8)
  np.testing.assert_allclose(encoder(patch)[0, :3], [-0.25, 0.25, -0.15], atol=1e-6)


def test_table_rows_are_rounded_up_and_tied():
  graph, state = random_model(vocabulary_multiple=64)
  model = nnx.merge(graph, state)
  assert model.embedding_table().shape == (64, 16)
  hidden = jnp.ones((2, 3, 16))
  logits = model.logits(hidden)
  assert logits.shape == (2, 3, VOCABULARY.size) and VOCABULARY.size == 60
  np.testing.assert_allclose(logits[0, 0], model.embedding_table().sum(axis=1)[:60], atol=1e-5)


def test_value_features_start_neighbouring_bins_alike():
  vocabulary = Vocabulary(text_size=32, bins=1024, discrete_size=8)
  table = TokenTable(tiny_config(width=64, value_features=64), vocabulary, nnx.Rngs(0))
  rows = np.array(table())[32:1056]
  rows /= np.linalg.norm(rows, axis=1, keepdims=True)
  likeness = [np.mean((rows[:-d] * rows[d:]).sum(axis=1)) for d in (1, 8, 400)]
  assert likeness[0] > 0.9 and likeness[0] > likeness[1] + 0.1 > likeness[2] + 0.2
  assert np.abs(table.table.get_value()[32:1056]).max() == 0  # what the plain rows add is learned
  plain = TokenTable(tiny_config(width=64, value_features=0), vocabulary, nnx.Rngs(0))
  np.testing.assert_array_equal(plain(), plain.table.get_value())
  np.testing.assert_allclose(np.asarray(table())[:32].std(), 64**-0.5, rtol=0.1)
  np.testing.assert_allclose(np.asarray(table())[32:1056].std(), 64**-0.5, rtol=0.2)


def test_value_code_is_a_constant_of_unit_rows():
  values = tuple(np.linspace(-1, 1, 101))
  code = value_code(values, 64)
  np.testing.assert_allclose((code**2).sum(axis=1), 1.0, atol=0.3)
  value_code.cache_clear()
  np.testing.assert_array_equal(value_code(values, 64), code)


def test_value_features_learn_through_input_and_output():
  graph, state = random_model()
  token = VOCABULARY.continuous_start + 3

  @jax.jit
  def gradient(state, batch, target):
    def loss(state):
      model = nnx.merge(graph, state)
      return model.logits(model(batch))[..., target].sum()
    return jax.grad(loss)(state)['embedding']['tokens']['value_map'].get_value()

  batch = packed_batch(slots=0)
  text = batch._replace(tokens=np.full_like(batch.tokens, 5))
  assert np.abs(gradient(state, text, 7)).max() == 0  # neither read nor predicted
  assert np.abs(gradient(state, text, token)).max() > 0
  assert np.abs(gradient(state, text._replace(tokens=np.full_like(batch.tokens, token)), 7)).max() > 0


@pytest.mark.parametrize(('shape', 'share', 'layers'), [
    ({}, 0.5, 1),  # 79M: of one block
    (dict(width=2048, heads=16, head_size=128, feed_forward=8192), 0.05, 24),  # 1.18B: of all blocks
])
def test_encoding_a_patch_costs_little_beside_the_blocks(shape, share, layers):
  """FLOPs as XLA counts them, scores left out."""
  config = model_config()
  config.update(dtype='float32', attention='chunked', **shape)
  encoder = nnx.eval_shape(lambda: PatchEncoder(config, jnp.dtype('float32'), nnx.Rngs(0)))
  block = nnx.eval_shape(lambda: Block(config, jnp.dtype('float32'), nnx.Rngs(0)))

  def flops(module, *shapes):
    graph, state = nnx.split(module)
    run = jax.jit(lambda state, x: nnx.merge(graph, state)(x, *shapes[1:]))
    return run.lower(state, shapes[0]).cost_analysis()['flops']

  patch = flops(encoder, jax.ShapeDtypeStruct((64, 16, 16, 3), jnp.uint8)) / 64
  without_scores = lambda q, k, v, relative: (v, None)  # noqa: E731
  token = flops(block, jax.ShapeDtypeStruct((1, 64, config.width), jnp.float32), without_scores, Places()) / 64
  assert 0 < patch < share * layers * token


def test_gato_is_built_abstractly_without_memory():
  config = model_config()
  config.update(layers=24, width=2048, heads=16, head_size=128, feed_forward=8192)
  model = nnx.eval_shape(lambda: Gato(config, VOCABULARY, rngs=nnx.Rngs(0)))
  assert isinstance(model.blocks.attention.query.get_value(), jax.ShapeDtypeStruct)
