"""What an action costs: `gato-jax benchmark acting --config=FILE`; needs no data and no trained weights.

Prints one JSON line. For the config's model in float32 and in bfloat16, one row, greedy, a context of
`data.sequence_length` tokens that is full, all on one CPU core where there is no accelerator:

  token: one more token into the cache, and the choice of the next among the ids of a continuous action.
  window: the same choice by a pass over the whole context without a cache.
  memory_read: all parameters once, in the model's type, from memory.

Each has `cpu_seconds_per_step` (all threads) and `wall_seconds_per_step`; `ratio_to_window` and `ratio_to_memory_read`
are the token's share of the others' time. The three take turns, and a ratio is the median of its turns.

`rollouts` are of one task, by number of environments and of processes that hold them (0: the policy's own), after the
first steps: `cpu_seconds_per_step` of an environment's step, policy and simulators together, and
`wall_environment_steps_per_second`. `policy_share` is the policy's part of those CPU seconds.
"""

from collections.abc import Callable
import concurrent.futures
import dataclasses
import functools
import json
import multiprocessing
import os
import time
from typing import Any

from flax import nnx
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from data_pipelines.environments.registry import make, task_spec
from data_pipelines.environments.specs import Environment
from data_pipelines.sequences.rows import PackedBatch
from data_pipelines.sequences.tokens import ACTION_POSITION
from data_pipelines.tokenization.vocabulary import Vocabulary
from experiments.benchmarks.tokenizer import made_up_tokenizer
from gato_jax.acting.decoding import single_token
from gato_jax.acting.engine import engine_of
from gato_jax.acting.policy import Policy
from gato_jax.evaluation.jobs import use_one_core
from gato_jax.evaluation.rollouts import play
from gato_jax.model.gato import Gato

DTYPES = ('float32', 'bfloat16')
TURNS = 15
TASK = 'dm_control/reacher-easy'
ROLLOUTS = ((1, 0), (2, 0), (8, 0), (8, 1), (8, 2), (32, 0), (32, 2))  # environments, worker processes
FIRST_STEPS, STEPS = 10, 60  # of an episode: not timed, and all


def main(config: ml_collections.ConfigDict, turns: int = TURNS, rollouts=ROLLOUTS, steps: int = STEPS) -> None:
  """Measures, each in a process of its own, and prints."""
  result = {'benchmark': 'acting', 'config': config.name, 'context': config.data.sequence_length}
  for dtype in DTYPES:
    result[dtype] = alone_on_a_core(measure_token, config, dtype, turns)
  result['rollouts'] = {'task': TASK, 'runs': [
      {'environments': environments, 'workers': workers,
       **alone_on_a_core(measure_rollouts, config, environments, workers, steps)}
      for environments, workers in rollouts]}
  print(json.dumps(result))


def measure_token(config: ml_collections.ConfigDict, dtype: str, turns: int) -> dict[str, Any]:
  """One cached token against the whole window and against one read of the parameters."""
  model = _model(config, dtype)
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


def measure_rollouts(config: ml_collections.ConfigDict, environments: int, workers: int, steps: int) -> dict[str, Any]:
  """Episodes of `steps` steps, as `gato_jax.evaluation.control` plays them."""
  tokenizer = made_up_tokenizer(config)
  entry = config.data.mixture.get('dm_control', {'window_timesteps': 0, 'hide_actions': 0.0})
  engine = engine_of(_model(config, config.model.dtype))
  policies = [
      _Watched(Policy(
          engine, tokenizer, task_spec(TASK), batch_size=-(-environments // 2),
          sequence_length=config.data.sequence_length, patches_per_row=config.data.patches_per_row,
          window_timesteps=entry['window_timesteps'], hide_actions=entry['hide_actions'], acting=config.acting))
      for _ in range(min(2, environments))]
  play(policies, TASK, functools.partial(_Short, steps), range(environments), workers=workers)
  first, last = policies[0].marks[FIRST_STEPS], policies[0].marks[-1]
  count = environments * (len(policies[0].marks) - 1 - FIRST_STEPS)
  cpu, wall, acting = (after - before for before, after in zip(first, last, strict=True))
  return {'cpu_seconds_per_step': round(cpu / count, 6), 'wall_environment_steps_per_second': round(count / wall, 1),
          'policy_share': round(len(policies) * acting / cpu, 3)}


class _Watched:
  """A policy, and of each call of `act`: CPU seconds of all processes and seconds on the clock when it came, and the
  CPU seconds that the calls before it took.
  """

  def __init__(self, policy: Policy):
    self._policy, self.batch_size, self.start = policy, policy.batch_size, policy.start
    self._acting = 0.0
    self.marks: list[tuple[float, float, float]] = []

  def act(self, observations):
    start = time.process_time()
    children = sum(_cpu_seconds(process.pid) for process in multiprocessing.active_children())
    self.marks.append((start + children, time.monotonic(), self._acting))
    actions = self._policy.act(observations)
    self._acting += time.process_time() - start
    return actions


class _Short:
  """The task's environment with episodes of so many steps."""

  def __init__(self, steps: int):
    self._environment: Environment = make(TASK)
    self.spec = self._environment.spec
    self._steps = steps

  def reset(self, seed: int):
    self._left = self._steps
    return self._environment.reset(seed)

  def step(self, action: np.ndarray):
    self._left -= 1
    result = self._environment.step(action)
    return dataclasses.replace(result, truncated=result.truncated or not self._left)

  def close(self) -> None:
    self._environment.close()


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


def _model(config: ml_collections.ConfigDict, dtype: str) -> Gato:
  settings = config.model.copy_and_resolve_references()
  settings.dtype = dtype
  return Gato(settings, _vocabulary(config), rngs=nnx.Rngs(0))


def _vocabulary(config: ml_collections.ConfigDict) -> Vocabulary:
  return Vocabulary(**config.data.vocabulary)


def _bytes(weights: Any) -> int:
  return sum(leaf.nbytes for leaf in jax.tree.leaves(weights))


def _cpu_seconds(pid: int) -> float:
  """Of another process, as Linux counts them."""
  try:
    with open(f'/proc/{pid}/stat') as file:
      fields = file.read().rpartition(')')[2].split()
  except OSError:
    return 0.0
  return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def alone_on_a_core(function: Callable[..., Any], *arguments: Any) -> Any:
  """Calls a function in a process of its own, on one CPU core where there is no accelerator."""
  context = multiprocessing.get_context('spawn')
  initializer = use_one_core if jax.default_backend() == 'cpu' else None
  with concurrent.futures.ProcessPoolExecutor(1, mp_context=context, initializer=initializer) as pool:
    return pool.submit(function, *arguments).result()
