"""How long a robot waits for an action: `gato-jax benchmark serving --config=FILE`; needs no data, no trained weights.

Prints one JSON line, of a model of the config's size and an arm with 14 numbers to see and 4 to set, whose action takes
`passes` through the model, each of which needs its weights from memory:

  act: an action of a policy of one row, without a server, and reading all weights once, by turns on one CPU core: CPU
    milliseconds, and the action's ratio to as many reads as it takes passes.
  weights_read_milliseconds: the same on the clock, in the process of the server.
  sessions: of N that are served at once on loopback, each of which asks for its next action as soon as it has one:
    p50_milliseconds, p99_milliseconds: from a client's question to its answer.
    p50_ratio_to_bound: to as many reads of the weights as an action takes passes.
    actions_per_second: of all sessions together.
    late_share: of the answers, longer than the paper's period of 50 ms.
    mixed_up: sessions whose first actions are not those of the same session when it was alone; must be 0. An answer
      that does not come ends the benchmark.

The server is in this process, the clients are in another.
"""

from collections.abc import Sequence
import concurrent.futures
import functools
import json
import multiprocessing
import sys
import threading
import time
from typing import Any

from flax import nnx
import jax
import ml_collections
import numpy as np

from data_pipelines.environments.specs import ArraySpec, TaskSpec
from experiments.benchmarks.acting import read_weights, timed
from experiments.benchmarks.measuring import alone_on_a_core
from experiments.benchmarks.tokenizer import made_up_tokenizer
from gato_jax.acting.engine import engine_of
from gato_jax.agent import Agent
from gato_jax.export.tasks import KnownTask
from gato_jax.model.gato import Gato
from gato_jax.serving.client import Session
from gato_jax.serving.server import Limits, in_background

SESSIONS = (1, 8, 32)
ACTIONS = 40  # a session
ALONE = 5  # of them, in the session that is alone
TURNS = 15
BATCH = 8
PERIOD_MS = 50.0
TASK = TaskSpec(
    'benchmark/arm', 'benchmark', {'joints': ArraySpec('continuous', (14,))}, ArraySpec('continuous', (4,)), ACTIONS)


def main(config: ml_collections.ConfigDict, loads: Sequence[int] = SESSIONS, turns: int = TURNS) -> None:
  """Measures and prints."""
  act = alone_on_a_core(measure_act, config, turns)
  agent, parameters = make_agent(config)
  time_read = timed(functools.partial(read_weights, parameters))
  read = min(time_read()[1] for _ in range(turns))
  result = {}
  with in_background(agent, Limits(batch=BATCH)) as (address, _):
    context = multiprocessing.get_context('spawn')
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as clients:
      # The first compiles, too.
      alone = {seed: clients.submit(ask, address, [seed], ALONE).result()[0] for seed in range(max(loads))}
      for sessions in loads:
        began = time.monotonic()
        answers = clients.submit(ask, address, list(range(sessions)), ACTIONS).result()
        result[sessions] = summary(answers, alone, time.monotonic() - began, act['passes'] * 1000 * read)
        print(f'{sessions} sessions: {result[sessions]}', file=sys.stderr, flush=True)
  size = sum(leaf.size for leaf in jax.tree.leaves(parameters))
  print(json.dumps({
      'benchmark': 'serving', 'config': config.name, 'parameters': size,
      'batch': BATCH, 'act': act, 'weights_read_milliseconds': round(1000 * read, 2), 'sessions': result}))


def make_agent(config: ml_collections.ConfigDict) -> tuple[Agent, Any]:
  """An agent of the config's size that knows TASK, and the parameters of its model."""
  tokenizer = made_up_tokenizer(config)
  model = Gato(config.model, tokenizer.vocabulary, rngs=nnx.Rngs(0))
  return Agent(engine_of(model), tokenizer, config, {TASK.name: KnownTask(TASK)}, None, 0), nnx.state(model)


def measure_act(config: ml_collections.ConfigDict, turns: int) -> dict[str, float]:
  """An action without a server against reading the weights."""
  agent, parameters = make_agent(config)
  policy, observation = agent.policy(task=TASK.name), {'joints': np.zeros(14, np.float32)}
  times = [timed(functools.partial(policy.act, observation)), timed(functools.partial(read_weights, parameters))]
  act, read = np.array([[time()[0] for time in times] for _ in range(turns)]).T
  passes = 1 + TASK.action.size  # the observation, and each token of the action, which the next timestep sees
  return {
      'passes': passes, 'cpu_milliseconds': round(1000 * float(np.median(act)), 1),
      'weights_read_cpu_milliseconds': round(1000 * float(np.median(read)), 1),
      'ratio_to_bound': round(float(np.median(act / read)) / passes, 2)}


def ask(address: str, seeds: Sequence[int], count: int) -> list[list[tuple[float, list[float]]]]:
  """Of a session a seed, all at once: (seconds, action) of each answer."""
  ready = threading.Barrier(len(seeds))

  def session(seed: int) -> list[tuple[float, list[float]]]:
    rng, answers = np.random.default_rng(seed), []
    with Session(address, TASK.name, seed=seed, timeout=600) as server:
      ready.wait(600)
      for _ in range(count):
        began = time.monotonic()
        action = server.act({'joints': rng.uniform(-1, 1, 14).astype(np.float32)})
        answers.append((time.monotonic() - began, action.tolist()))
    return answers

  with concurrent.futures.ThreadPoolExecutor(len(seeds)) as pool:
    return list(pool.map(session, seeds))


def summary(answers: Sequence[Sequence[tuple[float, list[float]]]], alone: dict[int, list[tuple[float, list[float]]]],
            seconds: float, bound_milliseconds: float) -> dict[str, float]:
  """The numbers of one load."""
  milliseconds = [1000 * took for session in answers for took, _ in session]
  wrong = [[action for _, action in session][:len(alone[seed])] != [action for _, action in alone[seed]]
           for seed, session in enumerate(answers)]
  p50, p99 = np.percentile(milliseconds, (50, 99))
  return {
      'p50_milliseconds': round(p50, 1), 'p99_milliseconds': round(p99, 1),
      'p50_ratio_to_bound': round(p50 / bound_milliseconds, 2),
      'actions_per_second': round(len(milliseconds) / seconds, 1),
      'late_share': round(float(np.mean(np.array(milliseconds) > PERIOD_MS)), 3),
      'mixed_up': sum(wrong),
  }
