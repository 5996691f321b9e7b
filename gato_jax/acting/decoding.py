"""The compiled part of acting: reading prompts and observations into the cache, and choosing actions."""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from data_pipelines.sequences.tokens import ACTION_POSITION
from data_pipelines.tokenization.images import PATCH_SIZE
from gato_jax.acting.sampling import sample
from gato_jax.model.cache import Cache, TokenInputs


class Decoding(NamedTuple):
  """How action tokens are chosen; fixed at compile time.

  Attributes:
    actions: A, tokens of an action.
    start: first id that may be chosen.
    stop: one past the last.
    temperature: 0 is greedy.
    hidden_id: training hid the action tokens behind this id, so all are predicted in one pass; None: one by one.
    remembered: later timesteps see this one, so its last action token has to be read too.
  """

  actions: int
  start: int
  stop: int
  temperature: float
  hidden_id: int | None
  remembered: bool

  @property
  def reads(self) -> int:
    """Action tokens that are read into the cache."""
    return self.actions if self.remembered or self.hidden_id is not None else self.actions - 1


class Engine:
  """What a model acts with. Policies of all tasks share it, so that equal shapes are compiled once.

  What a decoder is made of is no matter here: `engine.engine_of` has one of a model, `export.runner` one of programs.

  Attributes:
    restore: from the state to the decoder: an object with `extend`, `logits` and `init_cache`, see `model.decoder`.
    state: pytree of the decoder's parameters; that of the same model at another step may take its place.
  """

  def __init__(self, restore: Callable[[Any], Any], state: Any):
    self.restore, self.state = restore, state
    self.init_cache = restore(state).init_cache
    self._begin = jax.jit(functools.partial(begin, restore), donate_argnums=1)
    self._decode = jax.jit(functools.partial(decode, restore), static_argnums=0, donate_argnums=2)

  def begin(self, *arguments: Any) -> Cache:
    """`begin` below, from its `cache` on, which is updated in place."""
    return self._begin(self.state, *arguments)

  def decode(self, decoding: Decoding, *arguments: Any) -> tuple[jax.Array, Cache]:
    """`decode` below, from its `cache` on, which is updated in place."""
    return self._decode(decoding, self.state, *arguments)


@jax.jit
def row_keys(seeds_B: jax.Array) -> jax.Array:
  """One PRNG key a row, from uint32 seeds."""
  return jax.vmap(jax.random.key)(seeds_B)


def begin(restore, state, cache: Cache, row, inputs: TokenInputs) -> Cache:
  """Empties one row of the cache and reads a prompt into it, which is kept for good if the cache has prompts.

  Args:
    restore: from the state to the decoder.
    state: its parameters.
    cache: of all rows.
    row: which one.
    inputs: the prompt, one row; of length 0 without one.
  """
  one = cache.row(row)
  nothing = jnp.zeros(1, jnp.int32)
  one = one._replace(lengths=nothing, starts=nothing)
  if cache.prompts is not None:
    tokens = inputs.valid.sum(axis=1, dtype=jnp.int32)
    one = one._replace(starts=tokens, prompts=tokens)
  if inputs.tokens.shape[1]:
    one = restore(state).extend(inputs, one)[1]
  return cache.with_row(row, one)


def decode(restore, decoding: Decoding, state, cache: Cache, starts_B, inputs: TokenInputs, keys_B, times_B):
  """Reads one observation a row and chooses its action.

  Args:
    restore: from the state to the decoder.
    decoding: how to choose.
    state: the decoder's parameters.
    cache: what was read before.
    starts_B: the first token behind the prompt that each row still remembers.
    inputs: observation and separator; with hidden actions, A places of padding behind the longest. A row without
      valid tokens rests: nothing is read and its ids mean nothing.
    keys_B: the rows' randomness.
    times_B: the rows' timesteps, make their randomness another.

  Returns:
    int32 [B, A] ids, and the cache.
  """
  decoder = restore(state)
  keys_B = jax.vmap(jax.random.fold_in)(keys_B, times_B)
  decode_actions = _one_by_one if decoding.hidden_id is None else _at_once
  return decode_actions(decoder, decoding, cache._replace(starts=starts_B), inputs, keys_B)


def single_token(ids_B: jax.Array, local_position: int, valid_B: jax.Array | bool = True) -> TokenInputs:
  """One new token a row."""
  rows = len(ids_B)
  return TokenInputs(
      ids_B[:, None], jnp.full((rows, 1), local_position, jnp.int32), jnp.broadcast_to(valid_B, rows)[:, None],
      jnp.zeros((rows, 0, PATCH_SIZE, PATCH_SIZE, 3), jnp.uint8), jnp.zeros((rows, 0), jnp.int32),
      jnp.zeros((rows, 0, 2, 2), jnp.uint8))


def _at_once(decoder, decoding, cache, inputs, keys_B):
  """Puts A hidden action tokens behind the separator: the place before each predicts it (paper appendix G)."""
  ends_B = inputs.valid.sum(axis=1)
  places_S, actions_A = jnp.arange(inputs.tokens.shape[1]), jnp.arange(decoding.actions)
  after_BxS = places_S - ends_B[:, None]
  hidden_BxS = (ends_B[:, None] > 0) & (after_BxS >= 0) & (after_BxS < decoding.actions)
  inputs = inputs._replace(
      tokens=jnp.where(hidden_BxS, decoding.hidden_id, inputs.tokens),
      local_positions=jnp.where(hidden_BxS, ACTION_POSITION, inputs.local_positions),
      valid=inputs.valid | hidden_BxS)
  x_BxSxD, cache = decoder.extend(inputs, cache)
  x_BxAxD = jnp.take_along_axis(x_BxSxD, (ends_B[:, None] - 1 + actions_A)[..., None], axis=1)
  logits_BxAxV = decoder.logits(x_BxAxD, decoding.start, decoding.stop)
  choose = jax.vmap(functools.partial(_choose, decoding, keys_B), (1, 0), 1)
  return choose(logits_BxAxV, actions_A), cache


def _one_by_one(decoder, decoding, cache, inputs, keys_B):
  """Each action token is read before the next is chosen."""
  ends_B = inputs.valid.sum(axis=1)
  x_BxSxD, cache = decoder.extend(inputs, cache)
  x_BxD = jnp.take_along_axis(x_BxSxD, ends_B[:, None, None] - 1, axis=1)[:, 0]

  def step(action, carry):
    ids_BxA, x_BxD, cache = carry
    ids_B = _choose(decoding, keys_B, decoder.logits(x_BxD, decoding.start, decoding.stop), action)
    x_Bx1xD, cache = decoder.extend(single_token(ids_B, ACTION_POSITION, ends_B > 0), cache)
    return ids_BxA.at[:, action].set(ids_B), x_Bx1xD[:, 0], cache

  ids_BxA = jnp.zeros((len(ends_B), decoding.actions), jnp.int32)
  ids_BxA, x_BxD, cache = jax.lax.fori_loop(0, decoding.reads, step, (ids_BxA, x_BxD, cache))
  if decoding.reads < decoding.actions:
    logits_BxV = decoder.logits(x_BxD, decoding.start, decoding.stop)
    ids_BxA = ids_BxA.at[:, -1].set(_choose(decoding, keys_B, logits_BxV, decoding.reads))
  return ids_BxA, cache


def _choose(decoding, keys_B, logits_BxV, action):
  keys_B = jax.vmap(jax.random.fold_in, (0, None))(keys_B, action)
  return decoding.start + sample(logits_BxV, keys_B, temperature=decoding.temperature)
