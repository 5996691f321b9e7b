"""A tiny model and packed rows with everything in them, for the tests of the model."""

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.sequences.rows import PackedBatch
from data_pipelines.tokenization.vocabulary import Vocabulary
from gato_jax.config import model_config
from gato_jax.model.gato import Gato

VOCABULARY = Vocabulary(text_size=40, bins=16, discrete_size=8)
POSITIONS = ('rope', 'transformer_xl', 'none')


def tiny_config(**changes):
  config = model_config()
  config.update(
      layers=2, width=16, heads=2, head_size=8, feed_forward=32, patch_channels=32, vocabulary_multiple=8,
      value_features=6, dtype='float32', attention='reference')
  config.update(changes)
  return config


def random_model(seed=1, vocabulary=VOCABULARY, **changes):
  """Graph and state of a tiny model; no parameter is at a trivial start, and nothing is compiled to make them."""
  generator = np.random.default_rng(seed)
  graph, abstract = nnx.split(nnx.eval_shape(lambda: Gato(tiny_config(**changes), vocabulary, rngs=nnx.Rngs(0))))

  def noise(path, leaf):
    start = float(path[-1] == 'scale')
    return leaf.replace(jnp.asarray(start + 0.2 * generator.normal(size=leaf.shape), jnp.float32))

  return graph, nnx.map_state(noise, abstract)


def forward(graph):
  """The model as a compiled function of (state, batch, keys_B)."""
  return jax.jit(lambda state, batch, keys_B=None: nnx.merge(graph, state)(batch, keys_B))


def segment_loss(graph, segment=1):
  """(state, batch) -> ((loss, hidden states), gradients); the loss looks at one segment of each row."""

  def loss(state, batch):
    x = nnx.merge(graph, state)(batch)
    return jnp.where((batch.segment_ids == segment)[..., None], jnp.sin(x), 0.0).sum(), x

  return jax.jit(jax.value_and_grad(loss, has_aux=True))


def packed_batch(segments=((5, 4), (7, 2), (9,)), length=12, slots=4, seed=0):
  """Rows of segments of given lengths and padding behind them; two pictures of a patch in the first segment.

  The other patch slots of a row are unused but hold noise.
  """
  rows = len(segments)
  generator = np.random.default_rng(seed)
  tokens = generator.integers(0, VOCABULARY.size - 4, (rows, length)).astype(np.int32)
  segment_ids, positions = np.zeros((2, rows, length), np.int32)
  patch_positions = np.full((rows, slots), length, np.int32)
  for row, lengths in enumerate(segments):
    stops = np.cumsum(lengths)
    for segment, (size, stop) in enumerate(zip(lengths, stops, strict=True), start=1):
      segment_ids[row, stop - size:stop] = segment
      positions[row, stop - size:stop] = np.arange(size)
    tokens[row, stops[-1]:] = VOCABULARY.padding_id
    patch_positions[row, :2] = (0, 2) if slots else ()
    tokens[row, patch_positions[row, :2]] = VOCABULARY.patch_id
  low = generator.integers(0, 100, (rows, slots, 2, 1))
  return PackedBatch(
      tokens=tokens,
      targets=tokens,
      loss_weights=(segment_ids > 0).astype(np.float32),
      segment_ids=segment_ids,
      positions=positions,
      local_positions=generator.integers(0, 512, (rows, length)).astype(np.int32),
      sources=np.zeros((rows, length), np.int16),
      patches=generator.integers(0, 256, (rows, slots, 16, 16, 3)).astype(np.uint8),
      patch_positions=patch_positions,
      patch_intervals=np.concatenate([low, low + 25], axis=-1).astype(np.uint8))
