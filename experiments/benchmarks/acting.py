"""What an action costs: `gato-jax benchmark acting --config=FILE`; needs no data and no trained weights.

Prints one JSON line. For the config's model in float32 and in bfloat16, one row, greedy, a context of
`data.sequence_length` tokens that is full, all on one CPU core where there is no accelerator:

  token: one more token into the cache, and the choice of the next among the ids of a continuous action.
  window: the same choice by a pass over the whole context without a cache.
  memory_read: all parameters once, in the model's type, from memory.

Each has `cpu_seconds_per_step` (all threads) and `wall_seconds_per_step`; `ratio_to_window` and `ratio_to_memory_read`
are the token's share of the others' time. The three take turns, and a ratio is the median of its turns.
"""

from collections.abc import Callable
import functools
import json
import time
from typing import Any

from flax import nnx
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from data_pipelines.sequences.rows import PackedBatch
from data_pipelines.sequences.tokens import ACTION_POSITION
from experiments.benchmarks.measuring import alone_on_a_core, make_model
from gato_jax.acting.decoding import single_token
from gato_jax.acting.engine import engine_of
from gato_jax.model.gato import Gato

DTYPES = ('float32', 'bfloat16')
TURNS = 15


def main(config: ml_collections.ConfigDict, turns: int = TURNS) -> None:
  """Measures, each in a process of its own, and prints."""
  result = {'benchmark': 'acting', 'config': config.name, 'context': config.data.sequence_length}
  for dtype in DTYPES:
    result[dtype] = alone_on_a_core(measure_token, config, dtype, turns)
  print(json.dumps(result))


def measure_token(config: ml_collections.ConfigDict, dtype: str, turns: int) -> dict[str, Any]:
  """One cached token against the whole window and against one read of the parameters."""
  model = make_model(config, dtype)
  parameters = nnx.state(model)
  weights = jax.tree.map(lambda leaf: leaf.astype(dtype), parameters)
  token = _token(model, config)
  window = _window(model, config)
  costs = [timed(call) for call in (token, window, functools.partial(read_weights, weights))]
  measured = np.array([[cost() for cost in costs] for _ in range(turns)])  # [turns, 3, 2]
  token_cpu, window_cpu, read_cpu = measured[..., 0].T
  names = ('token', 'window', 'memory_read')
  medians = np.median(measured, axis=0)
  return {
      'parameters': sum(leaf.size for leaf in jax.tree.leaves(parameters)),
      **{name: {'cpu_seconds_per_step': round(cpu, 6), 'wall_seconds_per_step': round(wall, 6)}
         for name, (cpu, wall) in zip(names, medians.tolist(), strict=True)},
      'gigabytes_per_cpu_second': round(_bytes(weights) / float(medians[2, 0]) / 1e9, 2),
      'ratio_to_window': round(float(np.median(token_cpu / window_cpu)), 5),
      'ratio_to_memory_read': round(float(np.median(token_cpu / read_cpu)), 3)}


def _token(model: Gato, config: ml_collections.ConfigDict) -> Callable[[], Any]:
  """Calls that each read a token into the same cache, full from the first."""
  engine, vocabulary = engine_of(model), model.vocabulary
  start, stop = vocabulary.continuous_start, vocabulary.continuous_start + vocabulary.bins
  length = config.data.sequence_length

  @functools.partial(jax.jit, donate_argnums=1)
  def step(state, cache, ids_B):
    decoder = engine.restore(state)
    cache = cache._replace(starts=cache.lengths + 1 - length // 2)
    x_Bx1xD, cache = decoder.extend(single_token(ids_B, ACTION_POSITION), cache)
    return start + jnp.argmax(decoder.logits(x_Bx1xD[:, 0], start, stop), axis=-1), cache

  carried = [jnp.full(1, start, jnp.int32), engine.init_cache(1, length, prompts=True)]
  prompt = jnp.full(1, length // 2, jnp.int32)  # half of the context; the other half is a ring
  carried[1] = carried[1]._replace(prompts=prompt, lengths=prompt + length)

  def call():
    carried[:] = step(engine.state, carried[1], carried[0])
    return carried[0]

  return call


def _window(model: Gato, config: ml_collections.ConfigDict) -> Callable[[], Any]:
  """Calls that read as many tokens at once and choose what follows the last."""
  graphdef, state = nnx.split(model)
  vocabulary, length = model.vocabulary, config.data.sequence_length
  tokens = np.full((1, length), vocabulary.continuous_start, np.int32)
  ones = np.ones_like(tokens)
  batch = PackedBatch(
      tokens, tokens, ones.astype(np.float32), ones, np.arange(length, dtype=np.int32)[None], ones, ones,
      np.zeros((1, 0, 16, 16, 3), np.uint8), np.zeros((1, 0), np.int32), np.zeros((1, 0, 2, 2), np.uint8))

  @jax.jit
  def step(state, batch):
    model = nnx.merge(graphdef, state)
    return jnp.argmax(model.logits(model(batch)[:, -1]), axis=-1)

  return functools.partial(step, state, batch)


def read_weights(weights: Any) -> Any:
  """Every byte once, at the speed of memory; the result depends on all of them."""
  if jax.default_backend() != 'cpu':
    return _sum(weights)
  words = (np.asarray(leaf).reshape(-1).view(np.uint8) for leaf in jax.tree.leaves(weights))
  return [np.bitwise_xor.reduce(part[: part.size // 8 * 8].view(np.uint64)) for part in words]


@jax.jit
def _sum(weights: Any) -> jax.Array:
  return sum(leaf.sum(dtype=jnp.float32) for leaf in jax.tree.leaves(weights))


def timed(call: Callable[[], Any]) -> Callable[[], tuple[float, float]]:
  """CPU seconds and seconds of one call, the first of which has been made."""
  jax.block_until_ready(call())

  def cost():
    cpu, wall = time.process_time(), time.monotonic()
    jax.block_until_ready(call())
    return time.process_time() - cpu, time.monotonic() - wall

  return cost


def _bytes(weights: Any) -> int:
  return sum(leaf.nbytes for leaf in jax.tree.leaves(weights))
