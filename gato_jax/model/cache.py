"""Keys and values of the tokens read so far, so that acting computes each token once, however long an episode is."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class TokenInputs(NamedTuple):
  """S new tokens for each of B rows.

  Attributes:
    tokens: int32 [B, S].
    local_positions: int32 [B, S], place within the timestep.
    valid: bool [B, S]; False is padding, which may stand anywhere. Nobody attends to it and it takes no room.
    patches: uint8 [B, P, 16, 16, 3]; P may be 0.
    patch_positions: int32 [B, P], index in S the patch belongs to; S is an unused slot.
    patch_intervals: [B, P, 2, 2], quantised row and column interval of the patch (0..128).
  """

  tokens: jax.Array
  local_positions: jax.Array
  valid: jax.Array
  patches: jax.Array
  patch_positions: jax.Array
  patch_intervals: jax.Array


class Sight(NamedTuple):
  """What S new tokens of each row see of the C slots, once they are written.

  Attributes:
    slots_BxS: where the new tokens go; C for padding.
    positions_BxS: their place within the row, counted from its first token; what is forgotten counts too.
    visible_BxSxC: who looks at whom.
    distances_BxSxC: tokens between them that are not forgotten; meaningless where not visible.
    prompt_BxC: slots of the prompt; None: there are no prompts.
    forgotten_B: tokens between the prompt and the first remembered one.
  """

  slots_BxS: jax.Array
  positions_BxS: jax.Array
  visible_BxSxC: jax.Array
  distances_BxSxC: jax.Array
  prompt_BxC: jax.Array | None
  forgotten_B: jax.Array


class Cache(NamedTuple):
  """What B independent rows remember: a row's first `prompts` tokens, and its tokens from number `starts` on.

  The prompt keeps its slots; the others follow as a ring, where a new token takes the slot of a forgotten one. So a
  row reads on for ever at the same cost. A token sees what its row remembered when it was read, and what it saw stays
  in its own keys and values: a layer's memory reaches one window further back than the layer's below, as in
  Transformer-XL. To a later token the prompt is as far away as if the forgotten tokens had never been.

  Attributes:
    keys: of each layer, [B x H, K, C], rotated by their positions where positions are rotary. This order of the axes
      lets a CPU read them at the speed of its memory, and with rows and heads as one axis XLA updates them in place
      even if there is a single row.
    values: of each layer, [B x H, K, C].
    codes: of each layer, [H, K, C], what Transformer-XL's positions make of the distances 0..C-1; None: not used.
    lengths: int32 [B], tokens read by each row.
    starts: int32 [B], the first token after the prompt that is remembered.
    prompts: int32 [B], tokens of the prompt, never more than `starts`; None: no row has one.
  """

  keys: tuple[jax.Array, ...]
  values: tuple[jax.Array, ...]
  codes: tuple[jax.Array, ...] | None
  lengths: jax.Array
  starts: jax.Array
  prompts: jax.Array | None

  @property
  def capacity(self) -> int:
    """C: tokens of the prompt and remembered ones that a row has room for."""
    return self.keys[0].shape[-1]

  def row(self, row: jax.Array) -> 'Cache':
    """A cache of one row only."""
    def part(leaf):
      size = len(leaf) // len(self.lengths)
      return jax.lax.dynamic_slice_in_dim(leaf, row * size, size)

    return jax.tree.map(part, self._replace(codes=None))._replace(codes=self.codes)

  def with_row(self, row: jax.Array, one: 'Cache') -> 'Cache':
    """This cache with what `one` has of a row."""
    def put(leaf, new):
      return jax.lax.dynamic_update_slice_in_dim(leaf, new, row * len(new), 0)

    parts = jax.tree.map(put, self._replace(codes=None), one._replace(codes=None))
    return parts._replace(codes=self.codes)

  def fits(self) -> jax.Array:
    """Bool [B]: whether what a row should remember has not been overwritten."""
    return self.lengths - self._forgotten() <= self.capacity

  def see(self, valid_BxS: jax.Array) -> Sight:
    """Places S more tokens, of which the valid ones count."""
    positions_BxS = self.lengths[:, None] + jnp.cumsum(valid_BxS, axis=1, dtype=jnp.int32) - 1
    slots_BxS, slots_C = self._slot(positions_BxS), jnp.arange(self.capacity)
    last_Bx1 = positions_BxS[:, -1:]
    prompts_Bx1 = self._prompts()[:, None]
    held_BxC = last_Bx1 - (last_Bx1 - slots_C) % (self.capacity - prompts_Bx1)  # the newest token of a slot
    prompt_BxC = slots_C < prompts_Bx1
    held_BxC = jnp.where(prompt_BxC, slots_C, held_BxC)
    remembered_BxC = prompt_BxC | (held_BxC >= self.starts[:, None])
    distances_BxSxC = positions_BxS[..., None] - held_BxC[:, None]
    return Sight(
        jnp.where(valid_BxS, slots_BxS, self.capacity), positions_BxS,
        remembered_BxC[:, None] & (distances_BxSxC >= 0),
        distances_BxSxC - jnp.where(prompt_BxC, self._forgotten()[:, None], 0)[:, None],
        None if self.prompts is None else prompt_BxC, self._forgotten())

  def _slot(self, positions_BxS: jax.Array) -> jax.Array:
    prompts_Bx1 = self._prompts()[:, None]
    ring_BxS = prompts_Bx1 + (positions_BxS - prompts_Bx1) % (self.capacity - prompts_Bx1)
    return jnp.where(positions_BxS < prompts_Bx1, positions_BxS, ring_BxS)

  def _prompts(self) -> jax.Array:
    return jnp.zeros_like(self.lengths) if self.prompts is None else self.prompts

  def _forgotten(self) -> jax.Array:
    return self.starts - self._prompts()


def write(cached_GxKxC: jax.Array, new_BxSxHxK: jax.Array, slots_BxS: jax.Array) -> jax.Array:
  """Puts the keys or the values of new tokens into their slots of one layer, G = B x H; C is nowhere."""
  rows, tokens, heads, size = new_BxSxHxK.shape
  new = new_BxSxHxK.astype(cached_GxKxC.dtype)
  if rows == tokens == 1:  # two thirds of the scatter's time on a CPU
    place = (0, 0, slots_BxS[0, 0])
    old = jax.lax.dynamic_slice(cached_GxKxC, place, (heads, size, 1))
    new = jnp.where(place[2] < cached_GxKxC.shape[2], new.reshape(heads, size, 1), old)
    return jax.lax.dynamic_update_slice(cached_GxKxC, new, place)
  heads_Bx1xH = (jnp.arange(rows)[:, None] * heads + jnp.arange(heads))[:, None]
  return cached_GxKxC.at[heads_Bx1xH, :, slots_BxS[..., None]].set(new, mode='drop')
