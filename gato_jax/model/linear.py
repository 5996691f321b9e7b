"""Linear maps, small tables, and how they start."""

import math

from flax import nnx
import jax
import jax.numpy as jnp

from gato_jax.sharding import constrain


def project(x: jax.Array, kernel: nnx.Param, dtype: jnp.dtype, inputs: int = 1) -> jax.Array:
  """Contracts the last `inputs` axes of x with the first ones of the kernel, in `dtype`.

  Written as a product of two matrices: XLA's CPU compiler takes twice as long for the gradients of the same product
  with a batch and a sequence axis.
  """
  size = math.prod(kernel.shape[:inputs])
  matrix = kernel.astype(dtype).reshape(size, -1)
  return (x.reshape(-1, size) @ matrix).reshape(*x.shape[:x.ndim - inputs], *kernel.shape[inputs:])


def lookup(table: nnx.Param, indices: jax.Array) -> jax.Array:
  """Rows of a small table, gathered from all devices first: else XLA looks the whole batch up on each of them."""
  return constrain(table.get_value(), None, None)[indices]


def normal(fan_in: int, gain: float = 1.0) -> jax.nn.initializers.Initializer:
  """Normal with standard deviation gain / sqrt(fan_in): a unit input gives an output of standard deviation `gain`."""
  return jax.nn.initializers.normal(gain * fan_in**-0.5)


def residual_gain(layers: int) -> float:
  """1 / sqrt(2 N), GPT-2's: the sum over all 2 N branches starts alike whatever the depth."""
  return (2 * layers) ** -0.5
