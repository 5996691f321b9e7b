"""Random and expert scores of every task, which normalise an agent's score (paper section 4.1).

They are measured, and lie in `scores/<domain>.json` beside this module, or beside the user's own that defines the
domain. A variant of a task, as its spec says, shares the scores of that task. A task without an expert
has published ones instead, `scores/published.json`. To measure them again:

  python -m data_pipelines.environments.reference_scores [--domain NAME] [--tasks NAME ...] [--episodes N] [--workers N]
      [--environments MODULE ...]
"""

import argparse
from collections.abc import Mapping, Sequence
import concurrent.futures
import functools
import json
import multiprocessing
from pathlib import Path
from typing import NamedTuple
import zlib

import numpy as np

from data_pipelines.environments.collection import ExpertFailure, collect_episode
from data_pipelines.environments.noise import random_action
from data_pipelines.environments.registry import (
    SUITES,
    has_expert,
    make,
    make_expert,
    register,
    task_names,
    task_spec,
)
from data_pipelines.environments.simulation import SimulatedEnvironment
from data_pipelines.environments.specs import Expert, TaskSpec
from data_pipelines.errors import InputError

FIRST_SEED = 2_000_000  # of neither demonstrations nor evaluation
FOLDER = 'scores'
_HUMAN_DOMAINS = ('atari',)  # whose published `expert` is a human


class ReferenceScores(NamedTuple):
  """Mean scores, returns or success rates as the task's spec says, over so many episodes each.

  Published ones have no episodes here, but a source: who published them, and what they stand for. Their `expert` is
  what the field compares with: in Atari a human, in Procgen the most that can be had.
  """

  random: float
  expert: float
  episodes: int = 0
  source: str = ''


def scored_as(name: str) -> str:
  """The task whose scores are a task's: itself, or what it is a variant of; raises InputError if it is unknown."""
  return task_spec(name).variant_of or name


def reference_scores(name: str) -> ReferenceScores:
  """A task's stored scores, published ones if it has no expert that could be measured.

  Raises:
    InputError: the task is unknown or was never measured.
  """
  measured = scored_as(name)
  stored = _stored(task_spec(measured).domain) if has_expert(measured) else published_scores()
  if measured not in stored:
    raise InputError(f'{name} has no reference scores; measure them: '
                     f'python -m data_pipelines.environments.reference_scores --tasks {measured}')
  return stored[measured]


@functools.cache
def _stored(domain: str) -> dict[str, ReferenceScores]:
  file = _file(domain)
  scores = json.loads(file.read_text()) if file.is_file() else {}
  return {name: ReferenceScores(**fields) for name, fields in scores.items()}


def _file(domain: str) -> Path:
  suite = SUITES[domain]
  home = __file__ if suite.__name__.startswith(__package__) else suite.__file__
  return Path(home).with_name(FOLDER) / f'{domain}.json'


@functools.cache
def published_scores() -> Mapping[str, ReferenceScores]:
  """Task -> the scores that the field normalises by, of tasks with an expert too."""
  domains = json.loads((Path(__file__).with_name(FOLDER) / 'published.json').read_text())
  return {
      name: ReferenceScores(**fields, source=domain['source'])
      for domain in domains.values() for name, fields in domain['scores'].items()
  }


def human_scores(name: str) -> ReferenceScores | None:
  """A random agent's and a human's scores as published; None for a task, as most, of which nobody published any."""
  measured = scored_as(name)
  return published_scores().get(measured) if task_spec(measured).domain in _HUMAN_DOMAINS else None


def measure(name: str, episodes: int) -> ReferenceScores:
  """Plays `episodes` episodes with uniformly random actions and as many with the expert, on the same seeds.

  Where success is the score, an episode in which the expert fails outright is one without it.
  """
  environment = make(name)
  expert = make_expert(environment)
  seeds = range(FIRST_SEED, FIRST_SEED + episodes)
  random_scores = [_random_score(environment, seed) for seed in seeds]
  expert_scores = [_expert_score(environment, expert, seed) for seed in seeds]
  environment.close()
  return ReferenceScores(round(float(np.mean(random_scores)), 4), round(float(np.mean(expert_scores)), 4), episodes)


def _random_score(environment: SimulatedEnvironment, seed: int) -> float:
  rng = np.random.default_rng([seed, zlib.crc32(environment.spec.name.encode())])
  environment.reset(seed)
  episode_return = 0.0
  while True:
    result = environment.step(random_action(environment.spec.action, rng))
    episode_return += result.reward
    if result.terminated or result.truncated:
      return _score(environment.spec, episode_return, result.success)


def _expert_score(environment: SimulatedEnvironment, expert: Expert, seed: int) -> float:
  try:
    episode = collect_episode(environment, expert, seed, noise=False)
  except ExpertFailure:
    if environment.spec.score != 'success':
      raise
    return 0.0
  return _score(environment.spec, episode.episode_return, episode.success)


def _score(spec: TaskSpec, episode_return: float, success: bool) -> float:
  return float(success) if spec.score == 'success' else episode_return


def main(arguments: Sequence[str] | None = None) -> None:
  parser = argparse.ArgumentParser(prog='python -m data_pipelines.environments.reference_scores')
  parser.add_argument('--domain', help='all tasks of one suite; by default all there are')
  parser.add_argument('--tasks', nargs='+', metavar='NAME', help='only these tasks')
  parser.add_argument('--episodes', type=int, default=50)
  parser.add_argument('--workers', type=int, default=2)
  parser.add_argument('--environments', nargs='+', default=(), metavar='MODULE', help='suites of your own')
  options = parser.parse_args(arguments)
  register(options.environments)
  names = options.tasks or [name for name in task_names(options.domain) if has_expert(name)]
  names = list(dict.fromkeys(map(scored_as, names)))
  # A forked worker would share the simulators' OpenGL and signal state.
  context = multiprocessing.get_context('spawn')
  with concurrent.futures.ProcessPoolExecutor(
      options.workers, mp_context=context, initializer=register, initargs=(options.environments,)) as pool:
    measured = {pool.submit(measure, name, options.episodes): name for name in names}
    for count, future in enumerate(concurrent.futures.as_completed(measured), start=1):
      name = measured[future]
      scores = future.result()
      _store(name, scores)
      print(f'[{count}/{len(measured)}] {name}: random {scores.random:.4g}, expert {scores.expert:.4g}', flush=True)


def _store(name: str, scores: ReferenceScores) -> None:
  """Writes one task's scores into its domain's file, and leaves the other tasks' as they are."""
  domain = task_spec(name).domain
  path = _file(domain)
  stored = json.loads(path.read_text()) if path.exists() else {}
  stored[name] = {'random': scores.random, 'expert': scores.expert, 'episodes': scores.episodes}
  ordered = {name: stored[name] for name in task_names(domain) if name in stored}
  path.parent.mkdir(exist_ok=True)
  path.write_text(json.dumps(ordered, indent=2) + '\n')


if __name__ == '__main__':
  main()
