"""Reading tokens a few at a time gives what reading them at once gives, whatever has been forgotten meanwhile."""

import functools

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gato_jax.model.cache import TokenInputs
from gato_jax.model.decoder import Decoder
from gato_jax.model.embeddings import value_code
from gato_jax.model.positions import rotary_angles, rotate
from tests.gato_jax import numpy_gato
from tests.gato_jax.model_cases import POSITIONS, VOCABULARY, forward, packed_batch, random_model, tiny_config

LENGTHS = (11, 6, 9)  # tokens of the three rows


def one_segment_batch(seed=0):
  return packed_batch(segments=tuple((length,) for length in LENGTHS), seed=seed)


def chunk(batch, starts, counts, size, front=False):
  """The tokens [start, start + count) of each row, padded to `size` behind or in front, with their patches."""
  rows = len(starts)
  fields = {name: np.zeros((rows, size), np.int32) for name in ('tokens', 'local_positions')}
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

  def __init__(self, graph, state, capacity=12, prompts=None):
    decoder = Decoder(nnx.merge(graph, state))
    graph, state = nnx.split(decoder)
    self.cache = decoder.init_cache(3, capacity, prompts is not None)
    if prompts is not None:
      self.cache = self.cache._replace(prompts=np.asarray(prompts), starts=np.asarray(prompts))
    self._extend = functools.partial(jax.jit(lambda s, *a: nnx.merge(graph, s).extend(*a)), state)
    self.hidden = [[], [], []]

  def read(self, inputs, starts=None):
    cache = self.cache if starts is None else self.cache._replace(starts=np.asarray(starts))
    x, self.cache = self._extend(inputs, cache)
    for row in range(3):
      self.hidden[row].extend(np.asarray(x[row])[inputs.valid[row]])
    return x


def assert_reads_like(reader, expected):
  for states, row, length in zip(reader.hidden, expected, LENGTHS, strict=True):
    np.testing.assert_allclose(np.stack(states), row[:length], atol=2e-5)
  np.testing.assert_array_equal(reader.cache.lengths, LENGTHS)


@pytest.mark.parametrize('positions', POSITIONS)
def test_ragged_chunks_and_single_tokens_equal_one_pass(positions):
  graph, state = random_model(positions=positions)
  batch = one_segment_batch()
  expected = forward(graph)(state, batch)
  reader = Reader(graph, state)
  reader.read(chunk(batch, (0, 0, 0), (4, 1, 3), 5))
  reader.read(chunk(batch, (4, 1, 3), (2, 0, 5), 5, front=True))  # padding in front, one row without a token
  for step in range(5):
    starts = np.array([6, 1, 8]) + step
    counts = [int(start < length) for start, length in zip(starts, LENGTHS, strict=True)]
    reader.read(chunk(batch, np.minimum(starts, 11), counts, 5))
  assert_reads_like(reader, expected)


EPISODE = (  # of each row: tokens of the prompt, then of each timestep
    (4, (3, 2, 3, 4, 1, 3, 2, 4, 3)),
    (0, (2, 5, 5, 1, 4, 5, 3, 2, 2)),
    (6, (2, 2, 2, 3, 3, 1, 2, 4, 2)),
)
CAPACITY = 11


def forgetting(prompt, timesteps):
  """The first remembered token of each timestep: as many of the newest timesteps as fit behind the prompt."""
  ends = prompt + np.cumsum((0, *timesteps))
  return [min(start for start in ends[:t + 1] if prompt + ends[t + 1] - start <= CAPACITY)
          for t in range(len(timesteps))]


def sight(prompt, timesteps):
  """What each token of the whole episode looks at: the slow twin of the ring."""
  starts = np.repeat([prompt, *forgetting(prompt, timesteps)], [prompt, *timesteps])

  def seen(i):
    if i >= len(starts):
      return [(i, 0)]
    start = starts[i]
    return [(j, i - j - (start - prompt if j < prompt else 0)) for j in range(i + 1) if j < prompt or j >= start]

  return seen


@pytest.mark.parametrize('prompted', [True, False])
@pytest.mark.parametrize('positions', POSITIONS)
def test_a_ring_equals_a_pass_over_the_whole_episode_that_looks_at_what_is_remembered(positions, prompted):
  """Float64 NumPy, no cache, every token of an episode three times as long as the ring."""
  rows = EPISODE if prompted else tuple((0, (prompt, *steps) if prompt else (*steps, 1)) for prompt, steps in EPISODE)
  lengths = [prompt + sum(timesteps) for prompt, timesteps in rows]
  graph, state = random_model(positions=positions)
  batch = packed_batch(segments=tuple((length,) for length in lengths), length=max(lengths))
  config = tiny_config(positions=positions)
  parameters = nnx.to_pure_dict(state)
  code = value_code(tuple(VOCABULARY.bin_values().tolist()), config.value_features)
  table = numpy_gato.effective_table(parameters, VOCABULARY, code)
  expected = numpy_gato.hidden_states(parameters, batch, config, VOCABULARY, table, [sight(*row) for row in rows])
  prompts = [prompt for prompt, _ in rows]
  reader = Reader(graph, state, CAPACITY, prompts if prompted else None)
  if prompted:
    reader.read(chunk(batch, (0, 0, 0), prompts, 6))
  starts = np.array([forgetting(*row) for row in rows])
  counts = np.array([timesteps for _, timesteps in rows])
  read = np.array(prompts)
  for t in range(counts.shape[1]):
    reader.read(chunk(batch, read, counts[:, t], 6), starts[:, t])
    read = read + counts[:, t]
  assert (starts[:, -1] > prompts).all()
  for states, row, length in zip(reader.hidden, expected, lengths, strict=True):
    np.testing.assert_allclose(np.stack(states), row[:length], atol=1e-4)


def test_rotations_know_the_distance_after_ten_million_tokens():
  q, k = np.random.default_rng(0).normal(size=(2, 1, 1, 1, 64)).astype(np.float32)

  def score(position, distance):
    q_angles, k_angles = (rotary_angles(jnp.array([[place]]), 64) for place in (position, position - distance))
    return float((rotate(q, *q_angles) * rotate(k, *k_angles)).sum())

  turns = 500 / 10_000 ** (np.arange(32) / 32)
  pairs = (q[..., :32] + 1j * q[..., 32:]) * np.conj(k[..., :32] + 1j * k[..., 32:])
  expected = float((pairs * np.exp(1j * turns)).real.sum())
  for position in (500, 10_000_000, 2_000_000_000):
    np.testing.assert_allclose(score(position, 500), expected, atol=2e-4)


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


def test_a_bfloat16_decoder_on_a_cpu_is_the_model_to_its_precision():
  """Its kernels are transposed and multiplied row by row."""
  graph, state = random_model(dtype='bfloat16')
  batch = one_segment_batch()
  expected = np.asarray(forward(graph)(state, batch), np.float32)
  exact = np.asarray(forward(random_model(dtype='float32')[0])(state, batch))
  reader = Reader(graph, state)
  for step in range(11):
    reader.read(chunk(batch, [min(step, 10)] * 3, [int(step < length) for length in LENGTHS], 1))
  for states, row, exact_row, length in zip(reader.hidden, expected, exact, LENGTHS, strict=True):
    error = np.abs(np.stack(states).astype(np.float32) - exact_row[:length]).mean()
    assert error <= 1.2 * np.abs(row[:length] - exact_row[:length]).mean()


@pytest.mark.parametrize('positions', ['rope', 'transformer_xl'])
def test_one_row_of_a_cache_is_taken_out_and_put_back(positions):
  decoder = Decoder(nnx.merge(*random_model(positions=positions)))
  generator = np.random.default_rng(0)
  cache = jax.tree.map(
      lambda leaf: jnp.asarray(generator.integers(0, 9, leaf.shape), leaf.dtype), decoder.init_cache(3, 4, True))
  one = cache.row(jnp.int32(1))
  heads = decoder.heads
  for whole, part in zip(cache.keys + cache.values, one.keys + one.values, strict=True):
    np.testing.assert_array_equal(part, whole[heads:2 * heads])
  assert (one.lengths, one.starts, one.prompts) == (cache.lengths[1], cache.starts[1], cache.prompts[1])
  assert one.codes is cache.codes
  empty = cache._replace(**{name: jax.tree.map(jnp.zeros_like, getattr(cache, name))
                            for name in ('keys', 'values', 'lengths', 'starts', 'prompts')})
  put = empty.with_row(jnp.int32(1), one)
  for whole, old in zip(put.keys + put.values, cache.keys + cache.values, strict=True):
    np.testing.assert_array_equal(whole[heads:2 * heads], old[heads:2 * heads])
    assert not whole[:heads].any() and not whole[2 * heads:].any()
  np.testing.assert_array_equal(put.lengths, [0, cache.lengths[1], 0])
