"""What playing costs by the number of environments: `gato-jax benchmark rollouts --config=FILE`; needs no data.

One JSON line. The config's model, with random weights, plays one task as evaluation does, in `environments` at once
that are in `workers` processes (0: in the policy's own). After the first steps, for each step of an environment:

  policy_cpu_seconds: in the policy.
  here_cpu_seconds: of all the policy's process: the policy, what passes between the processes, and the simulators
    where there are no workers.
  workers_cpu_seconds: of all the workers together.
  steps_per_second_own_cores: 1 / max(here, workers' / their number), what comes out if each process has a core that
    nothing else uses: model and simulators work at the same time where there are workers and two environments or more.
  steps_per_second: on the clock of this machine, whatever else it was doing.

`python -m experiments.benchmarks.rollouts LINE.json PICTURE.png` draws them.
"""

import dataclasses
import functools
import json
import multiprocessing
import os
import sys
import time
from typing import Any

import ml_collections
import numpy as np

from data_pipelines.environments.registry import make, task_spec
from data_pipelines.environments.specs import Environment
from experiments.benchmarks.measuring import alone_on_a_core, make_model
from experiments.benchmarks.tokenizer import made_up_tokenizer
from gato_jax.acting.engine import engine_of
from gato_jax.acting.policy import Policy
from gato_jax.evaluation.rollouts import play

TASK = 'dm_control/reacher-easy'
ENVIRONMENTS = (1, 2, 4, 8, 16, 32)
WORKERS = (0, 2)
FIRST_STEPS = 10  # of an episode, not timed: they compile
STEPS = 640  # of all environments together


def main(config: ml_collections.ConfigDict, environments=ENVIRONMENTS, workers=WORKERS, steps: int = STEPS) -> None:
  """Measures, in a process of its own, and prints; each number as it comes to standard error."""
  runs = alone_on_a_core(_sweep, config, environments, workers, steps)
  print(json.dumps({'benchmark': 'rollouts', 'config': config.name, 'task': TASK, 'runs': runs}))


def _sweep(config: ml_collections.ConfigDict, environments, workers, steps: int) -> list[dict[str, Any]]:
  runs = []
  for processes in workers:
    for count in (count for count in environments if processes <= count):
      runs.append({'environments': count, 'workers': processes,
                   **measure(config, count, processes, steps // count)})
      print(runs[-1], file=sys.stderr, flush=True)
  return runs


def measure(config: ml_collections.ConfigDict, environments: int, workers: int, steps: int) -> dict[str, Any]:
  """Episodes of `FIRST_STEPS` and `steps` steps, as `gato_jax.evaluation.control` plays them."""
  tokenizer = made_up_tokenizer(config)
  entry = config.data.mixture.get('dm_control', {'window_timesteps': 0, 'hide_actions': 0.0})
  engine = engine_of(make_model(config, config.model.dtype))
  policies = [
      _Watched(Policy(
          engine, tokenizer, task_spec(TASK), batch_size=-(-environments // 2),
          sequence_length=config.data.sequence_length, patches_per_row=config.data.patches_per_row,
          window_timesteps=entry['window_timesteps'], hide_actions=entry['hide_actions'], acting=config.acting))
      for _ in range(min(2, environments))]
  play(policies, TASK, functools.partial(_Short, FIRST_STEPS + steps), range(environments), workers=workers)
  first, last = policies[0].marks[FIRST_STEPS], policies[0].marks[-1]
  count = environments * (len(policies[0].marks) - 1 - FIRST_STEPS)
  here, others, wall, acting = ((after - before) / count for before, after in zip(first, last, strict=True))
  longest = max(here, others / workers) if workers and environments > 1 else here + others
  return {'policy_cpu_seconds': round(len(policies) * acting, 6), 'here_cpu_seconds': round(here, 6),
          'workers_cpu_seconds': round(others, 6), 'steps_per_second_own_cores': round(1 / longest, 1),
          'steps_per_second': round(1 / wall, 1)}


class _Watched:
  """A policy, and of each call of `act` when it came: CPU seconds of this process, of its children, seconds on the
  clock, and the CPU seconds that the calls before it took.
  """

  def __init__(self, policy: Policy):
    self._policy, self.batch_size, self.start = policy, policy.batch_size, policy.start
    self._acting = 0.0
    self.marks: list[tuple[float, float, float, float]] = []

  def act(self, observations):
    start = time.process_time()
    children = sum(_cpu_seconds(process.pid) for process in multiprocessing.active_children())
    self.marks.append((start, children, time.monotonic(), self._acting))
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


def _cpu_seconds(pid: int) -> float:
  """Of another process, as Linux counts them."""
  try:
    with open(f'/proc/{pid}/stat') as file:
      fields = file.read().rpartition(')')[2].split()
  except OSError:
    return 0.0
  return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def draw(result: dict[str, Any], path: str) -> None:
  """Cost and throughput by the number of environments, a line a number of workers."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(9, 3.4), layout='constrained')
  cost, speed = figure.subplots(1, 2)
  ticks = sorted({run['environments'] for run in result['runs']})
  for workers in dict.fromkeys(run['workers'] for run in result['runs']):
    runs = [run for run in result['runs'] if run['workers'] == workers]
    counts = [run['environments'] for run in runs]
    label = f'{workers or "no"} worker{"" if workers == 1 else "s"}'
    cost.plot(counts, [1000 * (run['here_cpu_seconds'] + run['workers_cpu_seconds']) for run in runs], marker='o',
              label=label)
    speed.plot(counts, [run['steps_per_second_own_cores'] for run in runs], marker='o', label=label)
  for axes, name in ((cost, 'CPU milliseconds a step'), (speed, 'steps a second, a core for each process')):
    axes.set_xscale('log', base=2)
    axes.set(xlabel='environments', ylabel=name, ylim=(0, None))
    axes.set_xticks(ticks, map(str, ticks))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    axes.spines[['top', 'right']].set_visible(False)
  figure.savefig(path, dpi=110)


def _drawn(source: str, picture: str) -> None:
  with open(source, encoding='utf-8') as file:
    draw(json.loads(file.read().strip().splitlines()[-1]), picture)


if __name__ == '__main__':
  _drawn(*sys.argv[1:])
