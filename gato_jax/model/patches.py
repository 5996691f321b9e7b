"""Picture patches: a small ResNet, and their place in the picture (paper sections 2.2 and C.2, C.3)."""

from typing import Any

from flax import nnx
import jax
import jax.numpy as jnp

from gato_jax.model.linear import lookup, normal, project
from gato_jax.sharding import parameter

GROUPS = 32


class PatchEncoder(nnx.Module):
  """uint8 patch [16, 16, 3] -> vector [D]: one pre-activation residual unit between a stem and a linear map.

  3x3 stem to C channels, 16x16 -> 8x8; twice (group norm of 32 groups, GELU, 3x3 convolution), the first of them to
  4x4, around a skip of 2x2 means; the flattened 4x4xC map -> D. The paper gives norm, activation and ordering only; the
  sizes are ours, so small that the encoder costs less than a transformer block and fits the paper's parameter counts.

  The stem starts with a gain of 4, which undoes the paper's division of pixels by 4: with it both paths start alike.
  The linear map starts so that a patch's vector has the scale of a token's.
  """

  def __init__(self, config: Any, dtype: jnp.dtype, rngs: nnx.Rngs):
    channels, width = config.patch_channels, config.width
    self.dtype = dtype
    self.stem = _convolution(3, channels, rngs, gain=4.0)
    self.first_norm = nnx.GroupNorm(channels, GROUPS, dtype=dtype, rngs=rngs)
    self.first = _convolution(channels, channels, rngs)
    self.second_norm = nnx.GroupNorm(channels, GROUPS, dtype=dtype, rngs=rngs)
    self.second = _convolution(channels, channels, rngs)
    self.output = parameter(normal(16 * channels, width**-0.5), rngs, (16 * channels, width), (None, 'width'))
    self.output_bias = parameter(jax.nn.initializers.zeros, rngs, (width,), ('width',))

  def __call__(self, patches: jax.Array) -> jax.Array:
    """Encodes uint8 [..., 16, 16, 3] to [..., D]."""
    x = jnp.asarray(patches, self.dtype).reshape(-1, 16, 16, 3)
    x = (x / 127.5 - 1.0) / 4.0  # [-1, 1] / sqrt(16), paper section 2.1
    x = self._convolve(x, self.stem, stride=2)
    skip = x.reshape(-1, 4, 2, 4, 2, x.shape[-1]).mean(axis=(2, 4))
    x = self._convolve(jax.nn.gelu(self.first_norm(x)), self.first, stride=2)
    x = self._convolve(jax.nn.gelu(self.second_norm(x)), self.second, stride=1)
    x = (x + skip).reshape(*patches.shape[:-3], -1)
    return project(x, self.output, self.dtype) + self.output_bias.astype(self.dtype)

  def _convolve(self, x: jax.Array, kernel: nnx.Param, stride: int) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x, kernel.astype(self.dtype), (stride, stride), ((1, 1), (1, 1)), dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


class PatchPositions(nnx.Module):
  """Row and column tables of a patch's place in its picture."""

  def __init__(self, config: Any, rngs: nnx.Rngs):
    shape = (config.patch_position_bins, config.width)
    self.row = parameter(normal(config.width), rngs, shape, (None, 'width'))
    self.column = parameter(normal(config.width), rngs, shape, (None, 'width'))

  def __call__(self, intervals_BxPx2x2: jax.Array, keys_B: jax.Array | None = None) -> jax.Array:
    """Float32 [B, P, D], the sum of the row's and the column's vector; see `interval_index`."""
    index = interval_index(intervals_BxPx2x2, self.row.shape[0], keys_B)
    return lookup(self.row, index[..., 0]) + lookup(self.column, index[..., 1])


def interval_index(intervals_BxPx2x2: jax.Array, bins: int, keys_B: jax.Array | None = None) -> jax.Array:
  """Picks one index in each quantised interval (paper section C.3, figure 17).

  Args:
    intervals_BxPx2x2: (row, column) by (low, high), integers in 0..bins.
    bins: size of the position tables.
    keys_B: one PRNG key a row of the batch for a uniform index in [low, high), as in training; None for the interval's
      mean, half rounded up, as in evaluation.

  Returns:
    int32 [B, P, 2] in [0, bins). An interval narrower than a bin yields its lower end.
  """
  low, high = (intervals_BxPx2x2[..., i].astype(jnp.int32) for i in (0, 1))
  if keys_B is None:
    index = (low + high + 1) // 2
  else:
    uniform = jax.vmap(lambda key: jax.random.uniform(key, low.shape[1:]))(keys_B)
    index = low + jnp.floor(uniform * (high - low)).astype(jnp.int32)
  return jnp.minimum(index, jnp.maximum(high, low + 1) - 1).clip(0, bins - 1)


def _convolution(inputs: int, outputs: int, rngs: nnx.Rngs, gain: float = 1.0) -> nnx.Param:
  return parameter(normal(9 * inputs, gain), rngs, (3, 3, inputs, outputs), (None, None, None, None))
