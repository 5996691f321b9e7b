"""The whole model: against NumPy, its start, its randomness, what it refuses."""

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.errors import InputError
from gato_jax.model.block import drop
from gato_jax.model.embeddings import value_code
from gato_jax.model.gato import Gato
from tests.gato_jax import numpy_gato
from tests.gato_jax.model_cases import (
  POSITIONS,
  VOCABULARY,
  forward,
  packed_batch,
  random_model,
  segment_loss,
  tiny_config,
)


@pytest.mark.parametrize('positions', POSITIONS)
def test_agrees_with_numpy(positions):
  graph, state = random_model(positions=positions)
  batch = packed_batch()
  parameters = nnx.to_pure_dict(state)
  table = numpy_gato.effective_table(parameters, VOCABULARY, value_code(tuple(VOCABULARY.bin_values().tolist()), 6))
  expected = numpy_gato.hidden_states(parameters, batch, tiny_config(positions=positions), VOCABULARY, table)
  hidden = forward(graph)(state, batch)
  np.testing.assert_allclose(hidden, expected, atol=1e-5)
  model = nnx.merge(graph, state)
  logits = model.logits(hidden)
  assert logits.shape[-1] == VOCABULARY.size
  np.testing.assert_allclose(logits, (expected @ table.T)[..., :VOCABULARY.size], atol=3e-5)
  np.testing.assert_allclose(model.embedding_table(), table, atol=1e-6)


def test_logits_start_with_unit_variance_and_branches_small():
  config = tiny_config(width=128, heads=4, head_size=32, feed_forward=512, layers=4)

  @jax.jit
  def start(batch):
    model = Gato(config, VOCABULARY, rngs=nnx.Rngs(0))
    return model.logits(model(batch)), model.blocks.attention.output.get_value()

  logits, output = start(packed_batch(segments=((60,), (40, 20)), length=64))
  assert 0.85 < float(logits.std()) < 1.15
  np.testing.assert_allclose(output.std(axis=(1, 2, 3)), 128**-0.5 / 8**0.5, rtol=0.05)  # of each of the 4 layers
  assert len({float(layer[0, 0, 0]) for layer in output}) == 4


def test_remat_computes_again_and_changes_no_gradient():
  batch = packed_batch()
  gradients, products = {}, {}
  for remat in ('none', 'dots', 'full'):
    graph, state = random_model(remat=remat, layers=1)
    loss = segment_loss(graph)
    gradients[remat] = loss(state, batch)[1]
    products[remat] = str(jax.make_jaxpr(loss)(state, batch)).count('dot_general')
  assert products['none'] < products['dots'] < products['full']
  for remat in ('dots', 'full'):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), gradients['none'], gradients[remat])


def test_remat_has_a_loop_that_keeps_xla_from_undoing_it():
  batch = packed_batch()
  for remat in ('none', 'dots', 'full'):
    graph, state = random_model(remat=remat, layers=4)
    text = segment_loss(graph).lower(state, batch).compile().as_text()
    assert (' while(' in text) == (remat != 'none')


def test_bfloat16_is_close_and_parameters_stay_float32():
  batch = packed_batch()
  graph, state = random_model()
  rough, _ = random_model(dtype='bfloat16')
  hidden = forward(rough)(state, batch)
  assert hidden.dtype == jnp.bfloat16
  assert nnx.merge(rough, state).logits(hidden).dtype == jnp.float32
  np.testing.assert_allclose(hidden.astype(jnp.float32), forward(graph)(state, batch), atol=0.15)
  _, gradients = jax.eval_shape(segment_loss(rough), state, batch)
  assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {jnp.dtype('float32')}


@pytest.mark.parametrize('settings', [{'stochastic_depth': 0.5}, {'dropout': 0.3}])
def test_training_randomness_follows_the_row_not_the_layout(settings):
  graph, state = random_model(**settings)
  batch, keys = packed_batch(), jax.random.split(jax.random.key(0), 3)
  run = forward(graph)
  x = run(state, batch, keys)
  order = np.array([2, 0, 1])
  shuffled = run(state, jax.tree.map(lambda field: field[order], batch), keys[order])
  np.testing.assert_allclose(shuffled, x[order], atol=1e-5)
  alone = run(state, jax.tree.map(lambda field: field[1:2], batch), keys[1:2])
  np.testing.assert_allclose(alone[0], x[1], atol=1e-5)
  other = run(state, batch, jax.random.split(jax.random.key(1), 3))
  assert np.abs(other - x).max() > 0.01


def test_stochastic_depth_keeps_each_branch_at_its_rate():
  model = nnx.merge(*random_model(stochastic_depth=0.25, layers=3))
  keep_Nx2xB = np.asarray(model._keep(jax.random.split(jax.random.key(0), 4000)))
  assert keep_Nx2xB.shape == (3, 2, 4000)
  np.testing.assert_allclose(np.unique(keep_Nx2xB), [0, 4 / 3], rtol=1e-6)
  np.testing.assert_allclose(keep_Nx2xB.mean(axis=-1), 1.0, atol=0.04)
  correlations = np.corrcoef(keep_Nx2xB.reshape(6, -1)) - np.eye(6)
  assert np.abs(correlations).max() < 0.06


def test_dropout_keeps_each_number_at_its_rate_by_a_mask_of_each_branch_and_row():
  ones, keys = jnp.ones((2, 40, 50)), jax.random.split(jax.random.key(0), 2)
  dropped = np.asarray(drop(ones, keys, 0.2))
  np.testing.assert_allclose(np.unique(dropped), [0, 1.25])
  np.testing.assert_allclose(dropped.mean(axis=(1, 2)), 1.0, atol=0.04)
  np.testing.assert_allclose((dropped[0] * dropped[1]).mean(), 1.0, atol=0.06)
  model = nnx.merge(*random_model(dropout=0.2, layers=3))
  first_B, others_Nx2xB = model._drop_keys(jax.random.split(jax.random.key(0), 5))
  assert others_Nx2xB.shape == (3, 2, 5)
  numbers = jax.random.key_data(jnp.concatenate([first_B, others_Nx2xB.ravel()]))
  assert len({tuple(number) for number in np.asarray(numbers).tolist()}) == 5 * 7


def test_dropout_leaves_evaluation_alone():
  graph, state = random_model(dropout=0.5)
  batch = packed_batch()
  np.testing.assert_array_equal(forward(graph)(state, batch), forward(random_model()[0])(state, batch))


def test_a_dropped_row_passes_through_unchanged():
  graph, state = random_model(stochastic_depth=0.999)
  batch, keys = packed_batch(slots=0), jax.random.split(jax.random.key(0), 3)
  model = nnx.merge(graph, state)
  embedded = jax.jit(lambda batch: model.final_norm(model.embedding(batch)))(batch)
  np.testing.assert_allclose(forward(graph)(state, batch, keys), embedded, atol=1e-6)


@pytest.mark.parametrize(('changes', 'message'), [
    ({'positions': 'absolute'}, 'rope, transformer_xl, none'),
    ({'remat': 'some'}, 'none, full, dots'),
    ({'attention': 'flash'}, 'auto, reference'),
    ({'dtype': 'float16'}, 'bfloat16'),
    ({'feed_forward': 33}, 'feed_forward is 33: must be even'),
    ({'head_size': 7}, 'head_size is 7: must be even'),
    ({'patch_channels': 48}, 'multiple of 32'),
    ({'stochastic_depth': 1.0}, r'\[0, 1\)'),
    ({'dropout': 1.0}, r'dropout is 1.0: must be in \[0, 1\)'),
    ({'local_positions': 100}, 'at least 512'),
    ({'patch_position_bins': 64}, 'at least 128'),
    ({'layers': 0}, 'layers is 0: must be positive'),
])
def test_a_model_that_cannot_be_built_is_an_input_error(changes, message):
  with pytest.raises(InputError, match=message):
    random_model(**changes)
