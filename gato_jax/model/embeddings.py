"""The token table, tied with the output, and the sum that enters the first block (paper section 2.2)."""

import functools
from typing import Any

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.tokenization.vocabulary import Vocabulary
from gato_jax.model.linear import lookup, normal
from gato_jax.model.patches import PatchEncoder, PatchPositions
from gato_jax.sharding import constrain, parameter


class TokenTable(nnx.Module):
  """One vector an id, used to read a token and to predict it.

  It starts with standard deviation 1 / sqrt(D): the final norm gives vectors of length sqrt(D), so logits start with
  unit variance. Inputs are not scaled up by sqrt(D): beside a tied output that would make each token predict itself.

  With K value features the rows of the continuous bins are a learned linear map of a fixed smooth code of the bin's
  value, plus the plain table's row, which starts at 0: neighbouring bins start out alike.
  """

  def __init__(self, config: Any, vocabulary: Vocabulary, rngs: nnx.Rngs):
    rows = table_rows(config, vocabulary)
    self.vocabulary = vocabulary
    self.features = config.value_features
    self.bins = slice(vocabulary.continuous_start, vocabulary.continuous_start + vocabulary.bins)
    table = normal(config.width)
    if self.features:
      self.value_map = parameter(normal(config.width), rngs, (self.features, config.width), (None, 'width'))
      table = _zero_rows(table, self.bins)
    self.table = parameter(table, rngs, (rows, config.width), ('vocabulary', 'width'))

  def __call__(self) -> jax.Array:
    """The effective table, float32 [V, D]; V is the vocabulary rounded up to `vocabulary_multiple`."""
    table = self.table.get_value()
    if self.features:
      code = value_code(tuple(self.vocabulary.bin_values().tolist()), self.features)
      table = table.at[self.bins].add(code @ self.value_map)
    return constrain(table, 'vocabulary', None)


def table_rows(config: Any, vocabulary: Vocabulary) -> int:
  """Rows of the table of a model of `config.model`: ids, and padding up to `vocabulary_multiple`."""
  return -(-vocabulary.size // config.vocabulary_multiple) * config.vocabulary_multiple


@functools.lru_cache
def value_code(values: tuple[float, ...], features: int) -> np.ndarray:
  """Random Fourier features of numbers in [-1, 1], float32 [bins, K], rows of about unit length.

  Frequencies are normal at five scales, a factor of four apart: the slowest tells the sign, the fastest tells bins
  apart that are 1 / 64 from each other. Frequencies and phases are constants of the model.
  """
  generator = np.random.default_rng(0)
  scales = 0.25 * 4.0 ** (np.arange(features) % 5)
  frequencies = generator.normal(size=features) * scales
  phases = generator.uniform(0, 2 * np.pi, size=features)
  angles = 2 * np.pi * np.asarray(values)[:, None] * frequencies + phases
  return (np.cos(angles) * np.sqrt(2 / features)).astype(np.float32)


class Embedding(nnx.Module):
  """Token or patch, plus its place within the timestep: the residual stream before the first block.

  All its tables start with standard deviation 1 / sqrt(D), as the token table does.
  """

  def __init__(self, config: Any, vocabulary: Vocabulary, dtype: jnp.dtype, rngs: nnx.Rngs):
    self.dtype = dtype
    self.patch_id = vocabulary.patch_id
    self.tokens = TokenTable(config, vocabulary, rngs)
    self.local = parameter(normal(config.width), rngs, (config.local_positions, config.width), (None, 'width'))
    self.patches = PatchEncoder(config, dtype, rngs)
    self.patch_positions = PatchPositions(config, rngs)

  def __call__(self, inputs: Any, keys_B: jax.Array | None = None) -> jax.Array:
    """Embeds a `PackedBatch` or `TokenInputs`.

    Args:
      inputs: what is read of it: tokens, local_positions, patches, patch_positions, patch_intervals.
      keys_B: one PRNG key a row for the patches' random positions; None for evaluation.

    Returns:
      [B, L, D] in the compute dtype. A patch has no token vector: it is the encoder's output plus its row's and its
      column's vector.
    """
    is_token = (inputs.tokens != self.patch_id)[..., None]
    x_BxLxD = jnp.where(is_token, self.tokens()[inputs.tokens], 0.0)
    x_BxLxD += lookup(self.local, inputs.local_positions)
    x_BxLxD = constrain(x_BxLxD.astype(self.dtype), 'batch', None, None)
    if not inputs.patches.shape[1]:
      return x_BxLxD
    patches = self.patches(inputs.patches) + self.patch_positions(inputs.patch_intervals, keys_B).astype(self.dtype)
    put = jax.vmap(lambda x_LxD, places_P, patches_PxD: x_LxD.at[places_P].add(patches_PxD, mode='drop'))
    return put(x_BxLxD, inputs.patch_positions, patches)


def _zero_rows(initializer: jax.nn.initializers.Initializer, rows: slice) -> jax.nn.initializers.Initializer:
  return lambda key, shape: initializer(key, shape).at[rows].set(0.0)
