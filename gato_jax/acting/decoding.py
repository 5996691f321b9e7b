"""The compiled part of acting: reading tokens into the cache, and choosing the tokens of an action."""

from collections.abc import Callable
import functools
from typing import NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp

from data_pipelines.sequences.tokens import ACTION_POSITION
from data_pipelines.tokenization.images import PATCH_SIZE
from gato_jax.acting.sampling import sample
from gato_jax.model.cache import TokenInputs
from gato_jax.model.gato import Gato


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


class Compiled(NamedTuple):
  """Functions of one model's parameters, `read` and `decode` below without the model's graph."""

  read: Callable
  decode: Callable


@functools.lru_cache(maxsize=1)
def compiled(model: Gato) -> Compiled:
  """The functions of one model, shared by the policies of all tasks so that equal shapes are compiled once.

  Both update the cache they are given in place: use only the one they return.
  """
  graphdef = nnx.graphdef(model)
  return Compiled(
      jax.jit(functools.partial(read, graphdef), donate_argnums=1),
      jax.jit(functools.partial(decode, graphdef), static_argnums=0, donate_argnums=2))


@jax.jit
def row_keys(seeds_B: jax.Array) -> jax.Array:
  """One PRNG key a row, from uint32 seeds."""
  return jax.vmap(jax.random.key)(seeds_B)


def read(graphdef, state, cache, lengths_B, inputs):
  """The cache after keeping the first `lengths_B` tokens of each row and reading the inputs behind them."""
  return nnx.merge(graphdef, state).extend(inputs, cache.truncate(lengths_B))[1]


def decode(graphdef, decoding: Decoding, state, cache, lengths_B, inputs: TokenInputs, ends_B, keys_B, time):
  """Reads one observation a row and chooses its action.

  Args:
    graphdef: the model's.
    decoding: how to choose.
    state: the model's parameters.
    cache: what was read before.
    lengths_B: tokens of the cache to go on from.
    inputs: observation and separator, with A places of padding behind the longest.
    ends_B: how many of a row's inputs are no padding.
    keys_B: the rows' randomness.
    time: of the timestep, makes its randomness another.

  Returns:
    int32 [B, A] ids, and the cache.
  """
  model = nnx.merge(graphdef, state)
  keys_B = jax.vmap(jax.random.fold_in, (0, None))(keys_B, time)
  decode_actions = _one_by_one if decoding.hidden_id is None else _at_once
  return decode_actions(model, decoding, cache.truncate(lengths_B), inputs, ends_B, keys_B)


def single_token(ids_B: jax.Array, positions_B: jax.Array, local_position: int) -> TokenInputs:
  """One new token a row."""
  rows = len(ids_B)
  return TokenInputs(
      ids_B[:, None], positions_B[:, None], jnp.full((rows, 1), local_position, jnp.int32), jnp.ones((rows, 1), bool),
      jnp.zeros((rows, 0, PATCH_SIZE, PATCH_SIZE, 3), jnp.uint8), jnp.zeros((rows, 0), jnp.int32),
      jnp.zeros((rows, 0, 2, 2), jnp.uint8))


def _at_once(model, decoding, cache, inputs, ends_B, keys_B):
  """Puts A hidden action tokens behind the separator: the place before each predicts it (paper appendix G)."""
  places_S, actions_A = jnp.arange(inputs.tokens.shape[1]), jnp.arange(decoding.actions)
  after_BxS = places_S - ends_B[:, None]
  hidden_BxS = (after_BxS >= 0) & (after_BxS < decoding.actions)
  inputs = inputs._replace(
      tokens=jnp.where(hidden_BxS, decoding.hidden_id, inputs.tokens),
      positions=jnp.where(hidden_BxS, inputs.positions[:, :1] + places_S, inputs.positions),
      local_positions=jnp.where(hidden_BxS, ACTION_POSITION, inputs.local_positions),
      valid=inputs.valid | hidden_BxS)
  x_BxSxD, cache = model.extend(inputs, cache)
  x_BxAxD = jnp.take_along_axis(x_BxSxD, (ends_B[:, None] - 1 + actions_A)[..., None], axis=1)
  choose = jax.vmap(functools.partial(_choose, model, decoding, keys_B), (1, 0), 1)
  return choose(x_BxAxD, actions_A), cache


def _one_by_one(model, decoding, cache, inputs, ends_B, keys_B):
  """Each action token is read before the next is chosen."""
  x_BxSxD, cache = model.extend(inputs, cache)
  x_BxD = jnp.take_along_axis(x_BxSxD, ends_B[:, None, None] - 1, axis=1)[:, 0]

  def step(action, carry):
    ids_BxA, x_BxD, cache = carry
    ids_BxA = ids_BxA.at[:, action].set(_choose(model, decoding, keys_B, x_BxD, action))
    x_Bx1xD, cache = model.extend(single_token(ids_BxA[:, action], cache.lengths, ACTION_POSITION), cache)
    return ids_BxA, x_Bx1xD[:, 0], cache

  ids_BxA = jnp.zeros((len(ends_B), decoding.actions), jnp.int32)
  reads = decoding.actions if decoding.remembered else decoding.actions - 1
  ids_BxA, x_BxD, cache = jax.lax.fori_loop(0, reads, step, (ids_BxA, x_BxD, cache))
  if not decoding.remembered:
    ids_BxA = ids_BxA.at[:, reads].set(_choose(model, decoding, keys_B, x_BxD, reads))
  return ids_BxA, cache


def _choose(model, decoding, keys_B, x_BxD, action):
  logits_BxV = model.logits(x_BxD)[:, decoding.start : decoding.stop]
  keys_B = jax.vmap(jax.random.fold_in, (0, None))(keys_B, action)
  return decoding.start + sample(logits_BxV, keys_B, temperature=decoding.temperature)
