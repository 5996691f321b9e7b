"""Changing one packed segment or the padding changes no output and no gradient of another."""

import jax
import numpy as np
import pytest

from tests.gato_jax.model_cases import VOCABULARY, forward, packed_batch, random_model, segment_loss


@pytest.mark.parametrize(('positions', 'attention'), [
    ('rope', 'chunked'), ('transformer_xl', 'chunked'), ('transformer_xl', 'dot_product'), ('none', 'reference')])
@pytest.mark.parametrize('kept', [1, 2])
def test_nothing_leaks_between_segments(positions, attention, kept):
  graph, state = random_model(positions=positions, attention=attention)
  one, other = packed_batch(seed=0), packed_batch(seed=1)
  own = one.segment_ids == kept
  # all that is not of the kept segment comes from the other batch: earlier and later segments, padding, pictures (those
  # of the first segment, and unused slots)
  own_slots = (np.arange(4) < 2) & (kept == 1)
  mixed = other._replace(
      tokens=np.where(own, one.tokens, other.tokens),
      local_positions=np.where(own, one.local_positions, other.local_positions),
      patches=np.where(own_slots[:, None, None, None], one.patches, other.patches),
      patch_intervals=np.where(own_slots[:, None, None], one.patch_intervals, other.patch_intervals))
  mixed.tokens[one.segment_ids == 0] = 3
  loss = segment_loss(graph, kept)
  (_, before), gradients = loss(state, one)
  (_, after), changed_gradients = loss(state, mixed)
  for gradient, changed in zip(jax.tree.leaves(gradients), jax.tree.leaves(changed_gradients), strict=True):
    np.testing.assert_array_equal(gradient, changed)
  np.testing.assert_array_equal(before[own], after[own])
  assert np.abs(before - after)[one.segment_ids == 3 - kept].max(axis=-1).min() > 0.01


def test_the_future_does_not_leak():
  graph, state = random_model()
  batch = packed_batch(segments=((12,),))
  changed = batch._replace(tokens=np.where(np.arange(12) < 7, batch.tokens, 5))
  run = forward(graph)
  before, after = run(state, batch), run(state, changed)
  np.testing.assert_array_equal(before[:, :7], after[:, :7])
  assert np.abs(before - after)[:, 7:].max() > 0.01


def test_padding_is_finite_and_has_no_gradient():
  graph, state = random_model(attention='chunked')
  batch = packed_batch(segments=((3,), (12,)))
  (_, hidden), gradients = segment_loss(graph)(state, batch)
  assert np.isfinite(hidden).all()
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
  table = gradients['embedding']['tokens']['table'].get_value()
  assert np.abs(table[VOCABULARY.padding_id]).max() == 0
  assert np.abs(table[batch.tokens[1, -1]]).max() > 0
