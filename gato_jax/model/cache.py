"""Keys and values of the tokens read so far, so that acting computes each token once."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class TokenInputs(NamedTuple):
  """S new tokens for each of B rows.

  Attributes:
    tokens: int32 [B, S].
    positions: int32 [B, S], place within the segment, counted from the segment's first token.
    local_positions: int32 [B, S], place within the timestep.
    valid: bool [B, S]; False is padding, which may stand anywhere. Nobody attends to it and it takes no room.
    patches: uint8 [B, P, 16, 16, 3]; P may be 0.
    patch_positions: int32 [B, P], index in S the patch belongs to; S is an unused slot.
    patch_intervals: [B, P, 2, 2], quantised row and column interval of the patch (0..128).
  """

  tokens: jax.Array
  positions: jax.Array
  local_positions: jax.Array
  valid: jax.Array
  patches: jax.Array
  patch_positions: jax.Array
  patch_intervals: jax.Array


class Cache(NamedTuple):
  """What B independent rows have read.

  Attributes:
    keys: [N, B, capacity, H, K], rotated by their positions where positions are rotary.
    values: [N, B, capacity, H, K].
    lengths: int32 [B], tokens held by each row; slots from there on are free.
  """

  keys: jax.Array
  values: jax.Array
  lengths: jax.Array

  @property
  def capacity(self) -> int:
    return self.keys.shape[2]

  def truncate(self, lengths: jax.Array | int) -> 'Cache':
    """Forgets each row's tokens after its first `lengths` (one number, or int32 [B])."""
    return self._replace(lengths=jnp.minimum(self.lengths, lengths).astype(jnp.int32))

  def slots(self, valid_BxS: jax.Array) -> jax.Array:
    """Int32 [B, S]: the slot of each new token; a padding token gets that of the last valid token before it."""
    return self.lengths[:, None] + jnp.cumsum(valid_BxS, axis=1, dtype=jnp.int32) - 1


def write(
    stacked: jax.Array, layer: jax.Array, new_BxSxHxK: jax.Array, slots_BxS: jax.Array,
    valid_BxS: jax.Array) -> jax.Array:
  """Puts the keys or the values of new tokens into their slots of one layer."""
  slots_BxS = jnp.where(valid_BxS, slots_BxS, stacked.shape[2])
  rows_Bx1 = jnp.arange(stacked.shape[1])[:, None]
  return stacked.at[layer, rows_Bx1, slots_BxS].set(new_BxSxHxK.astype(stacked.dtype), mode='drop')
