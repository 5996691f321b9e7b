"""One pre-norm decoder block: attention, then a gated feed-forward (paper section 2.3, table 5)."""

from collections.abc import Callable
from typing import Any, NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp

from gato_jax.model import positions
from gato_jax.model.attention import Relative
from gato_jax.model.linear import normal, project, residual_gain
from gato_jax.sharding import constrain, parameter

# (q, k, v, relative) -> (output [B, L, H, K], whatever the attention wants to hand on, such as a cache)
Attend = Callable[[jax.Array, jax.Array, jax.Array, Relative | None], tuple[jax.Array, Any]]


class Places(NamedTuple):
  """What attention knows of positions; one of the fields, or none.

  Attributes:
    rotary: cosines and sines [B, L, 1, K/2].
    distances_JxD: sinusoid code of the distances 0..J-1.
    codes: the layer's projection of it, made before, in the form in which `attend` wants it.
  """

  rotary: tuple[jax.Array, jax.Array] | None = None
  distances_JxD: jax.Array | None = None
  codes: jax.Array | None = None


class Noise(NamedTuple):
  """What a layer drops in training.

  Attributes:
    keep_2xB: factor of each branch and row: 0 where stochastic depth drops it, else 1 / (1 - rate); None keeps all.
    keys_2xB: PRNG keys of each branch's dropout; None: without.
    dropout: its rate.
  """

  keep_2xB: jax.Array | None = None
  keys_2xB: jax.Array | None = None
  dropout: float = 0.0

  def apply(self, branch_BxLxD: jax.Array, branch: int) -> jax.Array:
    if self.keep_2xB is not None:
      branch_BxLxD = branch_BxLxD * self.keep_2xB[branch, :, None, None].astype(branch_BxLxD.dtype)
    return branch_BxLxD if self.keys_2xB is None else drop(branch_BxLxD, self.keys_2xB[branch], self.dropout)


NO_NOISE = Noise()


def drop(x_BxLxD: jax.Array, keys_B: jax.Array, rate: float) -> jax.Array:
  """Dropout, of each row by a key of its own."""
  keep_BxLxD = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x_BxLxD.shape[1:]))(keys_B)
  return jnp.where(keep_BxLxD, x_BxLxD / (1 - rate), 0).astype(x_BxLxD.dtype)


class SelfAttention(nnx.Module):
  """Multi-head attention; with `positions = transformer_xl`, the relative attention of Dai et al. (2019).

  No projection has a bias: the paper's parameter counts leave room for either, and the layer norm before has one. The
  Transformer-XL variant has its two biases u and v and one more D x D projection, which the counts do ask for.
  """

  def __init__(self, config: Any, dtype: jnp.dtype, rngs: nnx.Rngs):
    width, heads, size = config.width, config.heads, config.head_size
    self.dtype = dtype
    for name in ('query', 'key', 'value'):
      setattr(self, name, parameter(normal(width), rngs, (width, heads, size), ('width', 'heads', None)))
    self.output = parameter(
        normal(heads * size, residual_gain(config.layers)), rngs, (heads, size, width), ('heads', None, 'width'))
    self.relative = config.positions == 'transformer_xl'
    if self.relative:
      self.distance = parameter(normal(width), rngs, (width, heads, size), ('width', 'heads', None))
      zeros = jax.nn.initializers.zeros
      self.content_bias = parameter(zeros, rngs, (heads, size), ('heads', None))
      self.distance_bias = parameter(zeros, rngs, (heads, size), ('heads', None))

  def __call__(self, x_BxLxD: jax.Array, attend: Attend, places: Places) -> tuple[jax.Array, Any]:
    q, k, v = (self._heads(x_BxLxD, kernel) for kernel in (self.query, self.key, self.value))
    if places.rotary is not None:
      q, k = positions.rotate(q, *places.rotary), positions.rotate(k, *places.rotary)
    relative = None
    if self.relative:
      codes = self.distance_codes(places.distances_JxD) if places.codes is None else places.codes
      relative = Relative(q + self.distance_bias.astype(self.dtype), codes)
      q = q + self.content_bias.astype(self.dtype)
    y_BxLxHxK, carried = attend(q, k, v, relative)
    return project(y_BxLxHxK, self.output, self.dtype, inputs=2), carried

  def distance_codes(self, distances_JxD: jax.Array) -> jax.Array:
    """[J, H, K], what relative scores are made of."""
    return project(distances_JxD.astype(self.dtype), self.distance, self.dtype)

  def _heads(self, x_BxLxD: jax.Array, kernel: nnx.Param) -> jax.Array:
    return constrain(project(x_BxLxD, kernel, self.dtype), 'batch', None, 'heads', None)


class FeedForward(nnx.Module):
  """GEGLU. F counts gate and value together: D -> 2 x F/2 -> D, the reading that fits the paper's parameter counts."""

  def __init__(self, config: Any, dtype: jnp.dtype, rngs: nnx.Rngs):
    width, half = config.width, config.feed_forward // 2
    self.dtype = dtype
    self.gate = parameter(normal(width), rngs, (width, half), ('width', 'feed_forward'))
    self.value = parameter(normal(width), rngs, (width, half), ('width', 'feed_forward'))
    self.output = parameter(normal(half, residual_gain(config.layers)), rngs, (half, width), ('feed_forward', 'width'))

  def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
    gate_BxLxF, value_BxLxF = (self._hidden(x_BxLxD, kernel) for kernel in (self.gate, self.value))
    return project(jax.nn.gelu(gate_BxLxF) * value_BxLxF, self.output, self.dtype)

  def _hidden(self, x_BxLxD: jax.Array, kernel: nnx.Param) -> jax.Array:
    return constrain(project(x_BxLxD, kernel, self.dtype), 'batch', None, 'feed_forward')


class Block(nnx.Module):
  """x + attention(norm(x)), then x + feed_forward(norm(x)).

  Stochastic depth drops a branch for a whole row, dropout some of what it adds.
  """

  def __init__(self, config: Any, dtype: jnp.dtype, rngs: nnx.Rngs):
    self.attention_norm = nnx.LayerNorm(config.width, dtype=dtype, rngs=rngs)
    self.attention = SelfAttention(config, dtype, rngs)
    self.feed_forward_norm = nnx.LayerNorm(config.width, dtype=dtype, rngs=rngs)
    self.feed_forward = FeedForward(config, dtype, rngs)

  def __call__(
      self, x_BxLxD: jax.Array, attend: Attend, places: Places, noise: Noise = NO_NOISE) -> tuple[jax.Array, Any]:
    """Runs the block.

    Args:
      x_BxLxD: the residual stream.
      attend: who looks at whom.
      places: positions, as attention wants them.
      noise: what is dropped.

    Returns:
      The residual stream and what `attend` handed on.
    """
    branch, carried = self.attention(self.attention_norm(x_BxLxD), attend, places)
    x_BxLxD = x_BxLxD + noise.apply(branch, 0)
    branch = self.feed_forward(self.feed_forward_norm(x_BxLxD))
    return x_BxLxD + noise.apply(branch, 1), carried
