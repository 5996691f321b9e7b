"""Reading tokens a few at a time gives what reading them at once gives."""

import functools

from flax import nnx
import jax
import numpy as np
import pytest

from gato_jax.model.cache import TokenInputs
from tests.gato_jax.model_cases import POSITIONS, VOCABULARY, forward, packed_batch, random_model

LENGTHS = (11, 6, 9)  # tokens of the three rows


def one_segment_batch(seed=0):
  return packed_batch(segments=tuple((length,) for length in LENGTHS), seed=seed)


def chunk(batch, starts, counts, size, front=False):
  """The tokens [start, start + count) of each row, padded to `size` behind or in front, with their patches."""
  rows = len(starts)
  fields = {name: np.zeros((rows, size), np.int32) for name in ('tokens', 'positions', 'local_positions')}
  fields['tokens'][:] = VOCABULARY.padding_id
  valid = np.zeros((rows, size), bool)
  patch_positions = np.full(batch.patch_positions.shape, size, np.int32)
  for row, (start, number) in enumerate(zip(starts, counts, strict=True)):
    shift = size - number if front else 0
    valid[row, shift:shift + number] = True
    for name, field in fields.items():
      field[row, shift:shift + number] = getattr(batch, name)[row, start:start + number]
    for slot, place in enumerate(batch.patch_positions[row]):
      if start <= place < start + number:
        patch_positions[row, slot] = place - start + shift
  return TokenInputs(
      **fields, valid=valid, patches=batch.patches, patch_positions=patch_positions,
      patch_intervals=batch.patch_intervals)


class Reader:
  """Reads chunks into a cache and remembers each row's hidden states."""

  def __init__(self, graph, state, capacity=12):
    self.cache = nnx.merge(graph, state).init_cache(3, capacity)
    self._extend = functools.partial(jax.jit(lambda s, *a: nnx.merge(graph, s).extend(*a)), state)
    self.hidden = [[], [], []]

  def read(self, inputs):
    x, self.cache = self._extend(inputs, self.cache)
    for row in range(3):
      self.hidden[row].extend(np.asarray(x[row])[inputs.valid[row]])
    return x

  def truncate(self, lengths):
    self.cache = self.cache.truncate(lengths)
    self.hidden = [states[:length] for states, length in zip(self.hidden, np.broadcast_to(lengths, 3), strict=True)]


def assert_reads_like(reader, expected):
  for states, row, length in zip(reader.hidden, expected, LENGTHS, strict=True):
    np.testing.assert_allclose(np.stack(states), row[:length], atol=2e-5)
  np.testing.assert_array_equal(reader.cache.lengths, LENGTHS)


@pytest.mark.parametrize('positions', POSITIONS)
def test_ragged_chunks_rollback_and_single_tokens_equal_one_pass(positions):
  graph, state = random_model(positions=positions)
  batch, wrong = one_segment_batch(), one_segment_batch(seed=1)
  expected = forward(graph)(state, batch)
  reader = Reader(graph, state)
  reader.read(chunk(batch, (0, 0, 0), (4, 1, 3), 5))
  reader.read(chunk(batch, (4, 1, 3), (2, 0, 5), 5, front=True))  # padding in front, one row without a token
  reader.read(chunk(wrong, (6, 1, 8), (4, 5, 1), 5))  # a timestep that is forgotten again
  np.testing.assert_array_equal(reader.cache.lengths, (10, 6, 9))
  reader.truncate(np.array([6, 1, 8]))
  for step in range(5):
    starts = np.array([6, 1, 8]) + step
    counts = [int(start < length) for start, length in zip(starts, LENGTHS, strict=True)]
    reader.read(chunk(batch, np.minimum(starts, 11), counts, 5))
  assert_reads_like(reader, expected)


def test_rollback_to_one_length_for_all_rows():
  graph, state = random_model()
  batch, wrong = one_segment_batch(), one_segment_batch(seed=1)
  reader = Reader(graph, state)
  reader.read(chunk(batch, (0, 0, 0), (3, 3, 3), 3))
  reader.read(chunk(wrong, (3, 3, 3), (3, 0, 2), 3))
  reader.truncate(3)
  reader.read(chunk(batch, (3, 3, 3), (8, 3, 6), 8))
  assert_reads_like(reader, forward(graph)(state, batch))


def test_rows_and_spare_capacity_do_not_matter():
  graph, state = random_model(positions='transformer_xl')
  batch = one_segment_batch()
  tight, wide = Reader(graph, state, capacity=11), Reader(graph, state, capacity=40)
  for reader in (tight, wide):
    reader.read(chunk(batch, (0, 0, 0), LENGTHS, 11))
  for a, b in zip(tight.hidden, wide.hidden, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_row_that_overflows_is_nan_and_the_others_are_not():
  graph, state = random_model()
  reader = Reader(graph, state, capacity=8)
  x = reader.read(chunk(one_segment_batch(), (0, 0, 0), (8, 6, 9), 11))
  assert np.isfinite(x[:2]).all()
  assert np.isnan(x[2]).all()


def test_an_empty_row_is_finite():
  graph, state = random_model()
  x = Reader(graph, state).read(chunk(one_segment_batch(), (0, 0, 0), (0, 2, 0), 2))
  assert np.isfinite(x).all()
