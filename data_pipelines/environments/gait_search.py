"""Searches for gaits with CMA-ES, which is the cross-entropy method with a step size and variances that adapt.

  python -m data_pipelines.environments.gait_search TASK [--seconds S | --generations N] [--seed N] [--steps N]
      [--start TASK]

stores the gait it found in `gaits/<domain>.json`, unless one that scored higher is there already. What is stored with
a gait (`generations`, `seed`, `steps`, and those of the gait it started from) makes it again.
"""

import argparse
from collections.abc import Sequence
import json
from pathlib import Path
import time

import numpy as np

from data_pipelines.environments.gaits import (
    FOLDER,
    Gait,
    GaitExpert,
    feature_count,
    features,
    stored_gait,
    stored_gaits,
)
from data_pipelines.environments.noise import random_action
from data_pipelines.environments.registry import SUITES, make
from data_pipelines.environments.simulation import SimulatedEnvironment, import_simulator
from data_pipelines.environments.specs import TaskSpec

FIRST_SEED = 3_000_000  # of neither demonstrations, evaluation nor reference scores
POPULATION = 24
TRIAL_EPISODES = 20  # that the final choice rests on
SCALE_STEPS = 500  # of random play, to learn how large each feature is
MAX_FREQUENCY = 0.1  # cycles a step


class Encoding:
  """Vectors of the search <-> gaits. A step of one standard deviation changes every action by about as much.

  Where a body has a mirror image, the vector holds one side's parameters; the other side's act on mirrored features
  and half a cycle later, so there is half as much to find.

  Args:
    spec: the task's.
    scale: float [F], how large each feature is.
    mirror: (features, actions): for each its place's counterpart on the other side; None without symmetry.
  """

  def __init__(self, spec: TaskSpec, scale: np.ndarray, mirror: tuple[Sequence[int], Sequence[int]] | None):
    self._scale = scale
    self._mirror = mirror
    self._actions = spec.action.size
    self._rows = [row for row in range(self._actions) if mirror is None or row <= mirror[1][row]]
    self._columns = feature_count(spec) + 3
    self.size = len(self._rows) * self._columns + 1

  def decode(self, vector: np.ndarray) -> Gait:
    table = vector[1:].reshape(len(self._rows), self._columns)
    bias, sine, cosine = (np.zeros(self._actions) for _ in range(3))
    feedback = np.zeros((self._actions, self._columns - 3))
    for row, values in zip(self._rows, table, strict=True):
      bias[row], sine[row], cosine[row] = values[:3]
      feedback[row] = values[3:] / self._scale
      if self._mirror is not None:
        places, actions = self._mirror
        other = actions[row]
        bias[other], sine[other], cosine[other] = values[0], -values[1], -values[2]
        feedback[other, places] = feedback[row]
    frequency = MAX_FREQUENCY / (1 + np.exp(-vector[0]))
    return Gait(frequency, bias, sine, cosine, feedback).rounded()

  def encode(self, gait: Gait) -> np.ndarray:
    rows = self._rows
    table = np.concatenate(
        [np.stack([gait.bias, gait.sine, gait.cosine], 1)[rows], gait.feedback[rows] * self._scale], axis=1)
    return np.append(-np.log(MAX_FREQUENCY / gait.frequency - 1), table.ravel())


def search(
    name: str, seconds: float, generations: int, seed: int, steps: int, start: Gait | None
) -> tuple[Gait, float, int]:
  """Looks for a gait for so many generations, or for so many seconds of processor time.

  Args:
    name: of a task with continuous observations and actions.
    seconds: of processor time, without the final trial.
    generations: if not 0, in place of `seconds`.
    seed: of the search.
    steps: an episode of the search is cut off after so many steps.
    start: where to start from; None: at rest.

  Returns:
    The gait, its mean return over `TRIAL_EPISODES` whole episodes that the search has not seen, and how many
    generations there were.
  """
  cmaes = import_simulator('cmaes', 'suites')
  environment = make(name)
  mirror = getattr(SUITES[environment.spec.domain], 'MIRRORS', {}).get(environment.spec.task)
  encoding = Encoding(environment.spec, _feature_scale(environment, seed), mirror)
  mean = np.zeros(encoding.size) if start is None else encoding.encode(start)
  optimizer = cmaes.SepCMA(mean=mean, sigma=0.3 if start is None else 0.1, seed=seed, population_size=POPULATION)
  generation, end = 0, time.process_time() + seconds
  while generation < generations if generations else time.process_time() < end:
    episode = FIRST_SEED + 100_000 * seed + generation
    vectors = [optimizer.ask() for _ in range(optimizer.population_size)]
    returns = [play(environment, encoding.decode(vector), episode, steps) for vector in vectors]
    optimizer.tell([(vector, -value) for vector, value in zip(vectors, returns, strict=True)])
    generation += 1
    if generation % 20 == 0:
      print(f'{name}: generation {generation}: best {max(returns):.4g}, mean {np.mean(returns):.4g}', flush=True)
  gait = encoding.decode(optimizer.mean)
  seeds = range(FIRST_SEED - TRIAL_EPISODES, FIRST_SEED)
  score = float(np.mean([play(environment, gait, seed, environment.spec.max_steps) for seed in seeds]))
  environment.close()
  return gait, score, generation


def play(environment: SimulatedEnvironment, gait: Gait, seed: int, steps: int) -> float:
  """The return of one episode, or of its first `steps` steps."""
  expert = GaitExpert(gait)
  observation = environment.reset(seed)
  total = 0.0
  for _ in range(steps):
    result = environment.step(expert.act(observation))
    total += result.reward
    observation = result.observation
    if result.terminated or result.truncated:
      break
  return total


def _feature_scale(environment: SimulatedEnvironment, seed: int) -> np.ndarray:
  """float [F], the root mean square of each feature under random play, but no less than a tenth."""
  rng = np.random.default_rng(seed)
  seen = []
  while len(seen) < SCALE_STEPS:
    seen.append(features(environment.reset(FIRST_SEED + len(seen))))
    for _ in range(100):
      result = environment.step(random_action(environment.spec.action, rng))
      seen.append(features(result.observation))
      if result.terminated or result.truncated:
        break
  # Many features together should move an action about as far as the bias alone does.
  return np.maximum(np.sqrt(np.mean(np.square(seen), axis=0)), 0.1) * np.sqrt(len(seen[0]) / 4)


def main(arguments: Sequence[str] | None = None) -> None:
  parser = argparse.ArgumentParser(prog='python -m data_pipelines.environments.gait_search')
  parser.add_argument('task', help='domain/task')
  parser.add_argument('--seconds', type=float, default=600, help='of processor time')
  parser.add_argument('--generations', type=int, default=0, help='in place of --seconds')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--steps', type=int, default=400, help="at which the search's episodes are cut off")
  parser.add_argument('--start', metavar='TASK', help='start from the gait stored for this task')
  options = parser.parse_args(arguments)
  start = stored_gait(options.start) if options.start else None
  gait, score, generations = search(
      options.task, options.seconds, options.generations, options.seed, options.steps, start)
  entry = {'score': round(score, 1), 'seed': options.seed, 'generations': generations, 'steps': options.steps,
           'start': _origin(options.start), 'gait': gait.to_json()}
  kept = _store(options.task, entry)
  print(f'{options.task}: {score:.4g}; {"stored" if kept else "the stored gait scores more and is kept"}')


def _origin(name: str | None) -> dict | None:
  """The task of the gait that a search started from, and the settings of that gait's own search."""
  if not name:
    return None
  domain, task = name.split('/')
  stored = stored_gaits(domain)[task]
  return {'task': name} | {key: stored[key] for key in ('seed', 'generations', 'steps', 'start')}


def _store(name: str, entry: dict) -> bool:
  """Writes the entry if it scores more than the one stored; says whether it did."""
  domain, task = name.split('/')
  path = Path(__file__).with_name(FOLDER) / f'{domain}.json'
  stored = json.loads(path.read_text()) if path.exists() else {}
  if task in stored and stored[task]['score'] >= entry['score']:
    return False
  path.parent.mkdir(exist_ok=True)
  lines = (f'{json.dumps(key)}: {json.dumps(value)}' for key, value in sorted((stored | {task: entry}).items()))
  path.write_text('{\n' + ',\n'.join(lines) + '\n}\n')  # a line a gait
  return True


if __name__ == '__main__':
  main()
