"""Linear maps, small tables, and how they start."""

import math

from flax import nnx
import jax
import jax.numpy as jnp

from gato_jax.sharding import constrain

_ROWS_APART = 16  # that many vectors times a bfloat16 matrix take less time one by one than its conversion


def project(x: jax.Array, kernel: nnx.Param, dtype: jnp.dtype, inputs: int = 1) -> jax.Array:
  """Contracts the last `inputs` axes of x with the first ones of the kernel, in `dtype`.

  Written as a product of two matrices: XLA's CPU compiler takes twice as long for the gradients of the same product
  with a batch and a sequence axis.
  """
  if isinstance(kernel, Transposed):
    return kernel.multiply(x, dtype, inputs)
  size = math.prod(kernel.shape[:inputs])
  matrix = kernel.astype(dtype).reshape(size, -1)
  return (x.reshape(-1, size) @ matrix).reshape(*x.shape[:x.ndim - inputs], *kernel.shape[inputs:])


class Transposed(nnx.Param):
  """A bfloat16 kernel as a matrix [outputs, inputs] for CPUs, with its axes of outputs in `output_shape`.

  XLA's CPU compiler converts a whole bfloat16 matrix before it multiplies, at a thirtieth of the speed of memory. Only
  the product of one vector with a matrix in this order becomes one loop, which reads at nearly that speed.
  """

  @classmethod
  def of(cls, kernel: nnx.Param, inputs: int = 1) -> 'Transposed':
    """The kernel, whose first `inputs` axes are contracted."""
    size = math.prod(kernel.shape[:inputs])
    return cls(kernel.get_value().reshape(size, -1).T, output_shape=kernel.shape[inputs:])

  def multiply(self, x: jax.Array, dtype: jnp.dtype, inputs: int) -> jax.Array:
    """`project` with this kernel."""
    matrix = self.get_value()
    # Gathered, and so written out as one vector: as a view of heads x their size it would slow the loop down by three.
    rows = jnp.take(x.reshape(-1, matrix.shape[1]), jnp.arange(matrix.shape[1]), axis=1, mode='clip')

    def product(rows):
      return rows.astype(jnp.float32) @ matrix.astype(jnp.float32).T

    if 1 < len(rows) <= _ROWS_APART:
      result = jax.lax.map(lambda row: product(row[None])[0], rows)
    else:
      result = product(rows)
    return result.astype(dtype).reshape(*x.shape[:x.ndim - inputs], *self.output_shape)


def lookup(table: nnx.Param, indices: jax.Array) -> jax.Array:
  """Rows of a small table, gathered from all devices first: else XLA looks the whole batch up on each of them."""
  return constrain(table.get_value(), None, None)[indices]


def normal(fan_in: int, gain: float = 1.0) -> jax.nn.initializers.Initializer:
  """Normal with standard deviation gain / sqrt(fan_in): a unit input gives an output of standard deviation `gain`."""
  return jax.nn.initializers.normal(gain * fan_in**-0.5)


def residual_gain(layers: int) -> float:
  """1 / sqrt(2 N), GPT-2's: the sum over all 2 N branches starts alike whatever the depth."""
  return (2 * layers) ** -0.5
