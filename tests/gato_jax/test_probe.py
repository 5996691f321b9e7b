"""The probe sees what the model does."""

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gato_jax.model.cache import TokenInputs
from gato_jax.model.probe import Probe
from tests.gato_jax import model_cases


def rows(lengths=(9, 12), seed=0):
  """A packed batch of one segment a row, and the same as a probe takes it."""
  batch = model_cases.packed_batch(tuple((length,) for length in lengths), seed=seed)
  inputs = TokenInputs(batch.tokens, batch.local_positions, batch.segment_ids > 0, batch.patches,
                       batch.patch_positions, batch.patch_intervals)
  return batch, inputs


@pytest.mark.parametrize('positions', model_cases.POSITIONS)
def test_after_all_blocks_the_stream_is_the_models(positions):
  graph, state = model_cases.random_model(positions=positions)
  model = nnx.merge(graph, state)
  batch, inputs = rows()
  hidden = Probe(model).hidden(inputs, model.layers)
  valid = np.asarray(inputs.valid)
  np.testing.assert_allclose(np.asarray(model.final_norm(hidden))[valid],
                             np.asarray(model_cases.forward(graph)(state, batch))[valid], atol=2e-5)
  np.testing.assert_allclose(Probe(model).hidden(inputs, 0), model.embedding(inputs), atol=2e-5)


def test_weights_are_a_softmax_over_the_tokens_so_far():
  model = nnx.merge(*model_cases.random_model())
  _, inputs = rows()
  queries = np.array([4, 11], np.int32)
  weights = np.asarray(Probe(model).attention(inputs, queries))
  assert weights.shape == (2, 2, 2, 12)
  np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-6)
  for row, query in enumerate(queries):
    assert (weights[:, row, :, query + 1:] == 0).all() and (weights[:, row, :, :query + 1] > 0).all()


def test_first_layers_weights_agree_with_its_parameters():
  # Positions 'none': the scores are the dot products of the projected norms alone.
  model = nnx.merge(*model_cases.random_model(positions='none'))
  _, inputs = rows((12, 12))
  query = 10
  block = jax.tree.map(lambda leaf: leaf[0], nnx.state(model.blocks))
  x = np.asarray(model.embedding(inputs))[1].astype(np.float64)
  norm = block['attention_norm']
  x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
  x = x * np.asarray(norm['scale'][...]) + np.asarray(norm['bias'][...])
  q, k = (np.einsum('ld,dhk->hlk', x, np.asarray(block['attention'][name][...])) for name in ('query', 'key'))
  scores = np.einsum('hk,hlk->hl', q[:, query], k[:, :query + 1]) / np.sqrt(8)
  expected = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
  weights = Probe(model).attention(inputs, jnp.full(2, query))
  np.testing.assert_allclose(weights[0, 1, :, :query + 1], expected, atol=2e-5)
