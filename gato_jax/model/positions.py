"""Where a token is, as attention sees it: rotary angles, or Transformer-XL's relative distances."""

import jax
import jax.numpy as jnp
import numpy as np

_LONGEST_WAVE = 10_000.0  # of both papers (RoFormer; Transformer-XL after Vaswani et al.)


def rotary_angles(positions_BxL: jax.Array, head_size: int) -> tuple[jax.Array, jax.Array]:
  """Cosines and sines of the rotation at each position, float32 [B, L, 1, K/2].

  Angles are counted in 2^-32 turns, as integers that wrap around: so what two positions make of their distance is the
  same to the last bit after a million timesteps, where a float32 angle would have lost its fraction.
  """
  frequencies = _LONGEST_WAVE ** (-np.arange(head_size // 2) / (head_size // 2))
  steps = np.round(frequencies / (2 * np.pi) * 2.0**32).astype(np.uint32)
  turns = jax.lax.bitcast_convert_type(positions_BxL[:, :, None, None].astype(jnp.uint32) * steps, jnp.int32)
  angles = turns.astype(jnp.float32) * (2 * np.pi / 2.0**32)
  return jnp.cos(angles), jnp.sin(angles)


def rotate(x_BxLxHxK: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
  """Turns the pair of channels (i, i + K/2) by its angle, in float32."""
  first, second = jnp.split(x_BxLxHxK, 2, axis=-1)
  turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
  return turned.astype(x_BxLxHxK.dtype)


def distance_sinusoids(count: int, width: int) -> jax.Array:
  """Float32 [count, D]: the sinusoid code of the distances 0, 1, ..., count - 1; sines, then cosines."""
  frequencies = _LONGEST_WAVE ** (-jnp.arange(width // 2, dtype=jnp.float32) / (width // 2))
  angles = jnp.arange(count, dtype=jnp.float32)[:, None] * frequencies
  return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def scores_by_key(scores_BxHxQxJ: jax.Array) -> jax.Array:
  """Reorders scores by distance into scores by key, without a gather (Transformer-XL's relative shift).

  Args:
    scores_BxHxQxJ: the last axis is the distance J - 1, ..., 1, 0; the queries are the last Q of J positions.

  Returns:
    The last axis is the key 0, ..., J - 1. Entries of keys that lie after the query are meaningless.
  """
  b, h, q, j = scores_BxHxQxJ.shape
  padded = jnp.pad(scores_BxHxQxJ, ((0, 0), (0, 0), (0, 0), (1, 0)))
  return padded.reshape(b, h, j + 1, q)[:, :, 1:].reshape(b, h, q, j)
