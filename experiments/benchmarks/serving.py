"""How long a robot waits for an action: `gato-jax benchmark serving --config=FILE`, after `prepare`.

Serves a model of the config's size, its weights as they start, to N sessions at once on loopback, each of which asks
for its next action as soon as it has one. Prints one JSON line, by N:

  p50_milliseconds, p99_milliseconds: from a client's question to its answer.
  actions_per_second: of all sessions together.
  late_share: of the answers, longer than the paper's period of 50 ms.
  mixed_up: sessions whose actions are not those of the same session when it was alone; must be 0. An answer that does
    not come ends the benchmark.

The server is in this process, the clients are in another.
"""

from collections.abc import Sequence
import concurrent.futures
import json
import multiprocessing
import threading
import time

from flax import nnx
import jax
import ml_collections
import numpy as np

from data_pipelines.datasets.prepare import open_tokenizer
from data_pipelines.environments.specs import ArraySpec, TaskSpec
from gato_jax.acting.engine import engine_of
from gato_jax.agent import Agent
from gato_jax.export.tasks import KnownTask
from gato_jax.model.gato import Gato
from gato_jax.serving.client import Session
from gato_jax.serving.server import Limits, in_background

SESSIONS = (1, 8, 32)
ACTIONS = 40  # a session
BATCH = 8
PERIOD_MS = 50.0
TASK = TaskSpec(
    'benchmark/arm', 'benchmark', {'joints': ArraySpec('continuous', (14,))}, ArraySpec('continuous', (4,)), ACTIONS)


def main(config: ml_collections.ConfigDict) -> None:
  """Measures and prints."""
  tokenizer = open_tokenizer(config.data)
  model = Gato(config.model, tokenizer.vocabulary, rngs=nnx.Rngs(0))
  agent = Agent(engine_of(model), tokenizer, config, {TASK.name: KnownTask(TASK)}, None, 0)
  result = {}
  with in_background(agent, Limits(batch=BATCH)) as (address, _):
    context = multiprocessing.get_context('spawn')
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as clients:
      # The first compiles, too.
      alone = {seed: clients.submit(ask, address, [seed]).result()[0] for seed in range(max(SESSIONS))}
      for sessions in SESSIONS:
        began = time.monotonic()
        answers = clients.submit(ask, address, list(range(sessions))).result()
        result[sessions] = summary(answers, alone, time.monotonic() - began)
  print(json.dumps({
      'benchmark': 'serving', 'config': config.name, 'parameters': _size(model), 'batch': BATCH, 'sessions': result}))


def ask(address: str, seeds: Sequence[int]) -> list[list[tuple[float, list[float]]]]:
  """Of a session a seed, all at once: (seconds, action) of each answer."""
  ready = threading.Barrier(len(seeds))

  def session(seed: int) -> list[tuple[float, list[float]]]:
    rng, answers = np.random.default_rng(seed), []
    with Session(address, TASK.name, seed=seed, timeout=600) as server:
      ready.wait(600)
      for _ in range(ACTIONS):
        began = time.monotonic()
        action = server.act({'joints': rng.uniform(-1, 1, 14).astype(np.float32)})
        answers.append((time.monotonic() - began, action.tolist()))
    return answers

  with concurrent.futures.ThreadPoolExecutor(len(seeds)) as pool:
    return list(pool.map(session, seeds))


def summary(answers: Sequence[Sequence[tuple[float, list[float]]]], alone: dict[int, list[tuple[float, list[float]]]],
            seconds: float) -> dict[str, float]:
  """The numbers of one load."""
  milliseconds = [1000 * took for session in answers for took, _ in session]
  wrong = [[action for _, action in session] != [action for _, action in alone[seed]]
           for seed, session in enumerate(answers)]
  p50, p99 = np.percentile(milliseconds, (50, 99))
  return {
      'p50_milliseconds': round(p50, 1), 'p99_milliseconds': round(p99, 1),
      'actions_per_second': round(len(milliseconds) / seconds, 1),
      'late_share': round(float(np.mean(np.array(milliseconds) > PERIOD_MS)), 3),
      'mixed_up': sum(wrong),
  }


def _size(model: Gato) -> int:
  return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model)))
