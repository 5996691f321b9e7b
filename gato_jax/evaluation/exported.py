"""Plays the tasks of an exported folder, with nothing installed but what its programs need and the simulators.

  python -m gato_jax.evaluation.exported FOLDER [--tasks NAME ...] [--episodes N] [--out FILE]

It needs what `gato_jax.export.runner` needs. For the same seeds and the same number of environments and prompts (as
many as episodes, of which `gato-jax export` keeps 10 a task unless told otherwise) the scores are those of
`gato-jax evaluate`; pictures and text are not asked about, as their data is not in the folder.
"""

import argparse
from collections.abc import Mapping, Sequence
import dataclasses
import functools
import json
import pathlib
import sys
from typing import NamedTuple

from data_pipelines.environments.registry import SPECS, register
from data_pipelines.errors import InputError
from gato_jax.evaluation.jobs import Job, run_jobs
from gato_jax.evaluation.rollouts import Rollouts, check_seed, cost, environment_maker, group_sizes, play
from gato_jax.evaluation.scores import TaskScore, task_score
from gato_jax.export.tasks import KnownTask, read_tasks


class Settings(NamedTuple):
  """As in the config's section `evaluation`; `modules` are suites of the user's own."""

  episodes: int = 50
  seed: int = 1_000_000
  environments: int = 10
  workers: int = 2
  modules: tuple[str, ...] = ()


def evaluate_export(folder: str, settings: Settings, names: Sequence[str] = ()) -> dict[str, TaskScore]:
  """Plays the tasks, says of each what it scored, and returns the scores in the folder's order.

  Args:
    folder: what `gato-jax export` wrote.
    settings: how much to play.
    names: of the tasks; none: all that have an environment and reference scores.

  Raises:
    InputError: no such export or task, a seed among the demonstrations', or a simulator that is missing or keeps
      failing.
  """
  check_seed(settings.seed, '--seed')
  register(settings.modules)
  tasks = _playable(read_tasks(pathlib.Path(folder)), names)
  jobs = [Job(name, cost(task.spec), play_task, (folder, name, settings)) for name, task in tasks.items()]
  scores: dict[str, TaskScore] = {}
  for number, (name, rollouts, seconds) in enumerate(run_jobs(jobs, settings.workers), start=1):
    task = tasks[name]
    scores[name] = task_score(task.spec.domain, rollouts.scores, task.random, task.expert)
    print(f'[{number}/{len(jobs)}] {name}: {scores[name].score:.2f}, normalised {scores[name].normalised:.1f}, '
          f'{seconds:.0f} s', flush=True)
  return {name: scores[name] for name in tasks}


def play_task(folder: str, name: str, settings: Settings) -> Rollouts:
  """Plays a task's episodes, on seeds from `settings.seed` on."""
  agent = _load(folder)
  task = agent.tasks[name]
  policies = []
  for batch_size in group_sizes(min(settings.environments, settings.episodes)):
    make, spec, prompts = agent.rows(name, None, batch_size, settings.episodes)
    policies.append(make())
  seeds = range(settings.seed, settings.seed + settings.episodes)
  make_environment = environment_maker(spec.name, settings.modules, task.action_bounds)
  return play(policies, spec.name, make_environment, seeds, prompts)


def _playable(tasks: Mapping[str, KnownTask], names: Sequence[str]) -> dict[str, KnownTask]:
  if unknown := [name for name in names if name not in tasks]:
    raise InputError(f'no task {", ".join(unknown)} in the export; it has {", ".join(tasks)}')
  wanted = {name: tasks[name] for name in names or tasks}
  playable = {name: task for name, task in wanted.items() if task.spec.name in SPECS and task.expert is not None}
  if missing := [name for name in wanted if name not in playable]:
    print(f'not played, as they have no environment or no reference scores here: {", ".join(missing)}')
  return playable


@functools.lru_cache(maxsize=1)
def _load(folder: str):
  from gato_jax.export.runner import load  # imports jax, which a worker sets up first

  return load(folder)


def main(arguments: Sequence[str] | None = None) -> None:
  defaults = Settings()
  parser = argparse.ArgumentParser(prog='python -m gato_jax.evaluation.exported', description=__doc__.split('\n')[0])
  parser.add_argument('folder', help='what `gato-jax export` wrote')
  parser.add_argument('--tasks', nargs='+', default=(), metavar='NAME', help='only these; by default all')
  for name, what in (
      ('episodes', 'a task'), ('seed', 'the first'), ('environments', 'of a task, played at once'),
      ('workers', 'processes that play, on one CPU core each; 0: in this one, on its accelerator')):
    parser.add_argument(f'--{name}', type=int, default=getattr(defaults, name), help=f'{what} (default: %(default)s)')
  parser.add_argument('--modules', nargs='+', default=(), metavar='MODULE', help='suites of your own')
  parser.add_argument('--out', default='', metavar='FILE', help="JSON of the scores, as report.json has them")
  options = vars(parser.parse_args(arguments))
  folder, names, out = (options.pop(name) for name in ('folder', 'tasks', 'out'))
  try:
    scores = evaluate_export(folder, Settings(**options | {'modules': tuple(options['modules'])}), names)
  except InputError as error:
    sys.exit(f'error: {error}')
  if out:
    tasks = {name: dataclasses.asdict(score) for name, score in scores.items()}
    pathlib.Path(out).write_text(json.dumps({'tasks': tasks}, indent=1) + '\n')


if __name__ == '__main__':
  main()
