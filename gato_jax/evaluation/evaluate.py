"""Evaluates a training run: plays its tasks, asks its questions, writes the report."""

from collections.abc import Mapping
import pathlib
from typing import Any

import ml_collections
from rich.console import Console

from data_pipelines.datasets.catalogue import SEED_LIMIT, requests
from data_pipelines.environments.reference_scores import ReferenceScores, human_scores, reference_scores
from data_pipelines.environments.registry import task_spec
from data_pipelines.environments.specs import TaskSpec
from data_pipelines.errors import InputError
from gato_jax.evaluation import control
from gato_jax.evaluation.jobs import Done, Job, run_jobs
from gato_jax.evaluation.language import LanguageScores, score_language
from gato_jax.evaluation.plots import plot_figure_5, plot_loss, plot_scores
from gato_jax.evaluation.report import build_report, print_report, training_summary, write_report
from gato_jax.evaluation.rollouts import Rollouts, cost
from gato_jax.evaluation.scores import TaskScore, normalised_score, task_score
from gato_jax.training.metrics import read_records
from gato_jax.training.restore import load_trained

FOLDER = 'evaluation'
LANGUAGE = 'pictures and text'
LANGUAGE_COST = 20_000  # tokens, as a task's cost


def evaluate(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any]:
  """Writes report.json, plots and videos into `workdir/evaluation`, prints the tables, and returns the report.

  Args:
    config: which tasks (data.mixture, data.dir), how to act and what to evaluate; everything else is taken from the
      config that the run was trained with.
    workdir: of a training run with a checkpoint; its newest one is evaluated.

  Raises:
    InputError: no checkpoint, no data, a seed among the demonstrations', a simulator that keeps failing, or reference
      scores that leave no scale.
  """
  if config.evaluation.seed < SEED_LIMIT:
    raise InputError(f'evaluation.seed is {config.evaluation.seed}: demonstrations are made from the seeds below '
                     f'{SEED_LIMIT}; set it to at least that')
  trained = load_trained(workdir)
  config = _as_trained(config, trained.config)
  specs = _tasks(config)
  references = _references(specs)
  folder = pathlib.Path(workdir) / FOLDER
  folder.mkdir(parents=True, exist_ok=True)
  videos = {name: folder / f'{spec.domain}.gif' for name, spec in _one_a_domain(specs).items()}
  jobs = [
      Job(name, cost(spec), control.play_task, (workdir, trained.step, config, name, videos.get(name)))
      for name, spec in specs.items()
  ]
  jobs.append(Job(LANGUAGE, LANGUAGE_COST, _score_language, (workdir, trained.step, config)))
  console = Console()
  console.print(f'evaluating step {trained.step}: {len(specs)} tasks, {config.evaluation.episodes} episodes each')
  not_played = _without_simulator(config)
  if not_played:
    console.print(f'{len(not_played)} imported datasets without an environment are not played: {", ".join(not_played)}')
  tasks, language = _collect(jobs, config.evaluation.workers, specs, references, console)
  records = read_records(workdir)
  report = build_report(tasks, language, training_summary(records, trained.config), config)
  report['not_played'] = not_played
  write_report(report, folder / 'report.json')
  plot_loss(records, folder / 'loss.png')
  plot_scores(tasks, folder / 'scores.png')
  plot_figure_5(tasks, folder / 'figure_5.png')
  print_report(report, console)
  _print_files(folder, videos.values(), console)
  return report


def _collect(
    jobs: list[Job],
    workers: int,
    specs: Mapping[str, TaskSpec],
    references: Mapping[str, ReferenceScores],
    console: Console,
) -> tuple[dict[str, TaskScore], LanguageScores]:
  """Runs the jobs with a line for each that ends; the tasks' scores in the mixture's order."""
  scores: dict[str, TaskScore] = {}
  language = LanguageScores()
  for number, done in enumerate(run_jobs(jobs, workers), start=1):
    if done.name == LANGUAGE:
      language = done.result
      line = LANGUAGE
    else:
      spec, reference = specs[done.name], references[done.name]
      scores[done.name] = task_score(
          spec.domain, done.result.scores, reference.random, reference.expert, human_scores(spec.name))
      line = _task_line(done, scores[done.name])
    console.print(f'[{number}/{len(jobs)}] {line}, {done.seconds:.0f} s', markup=False, highlight=False)
  return {name: scores[name] for name in specs}, language


def _task_line(done: Done, score: TaskScore) -> str:
  rollouts: Rollouts = done.result
  crashes = f', {rollouts.crashes} simulator crashes played again' if rollouts.crashes else ''
  return f'{done.name}: {score.score:.2f}, normalised {score.normalised:.1f}{crashes}'


def _score_language(workdir: str, step: int, config: ml_collections.ConfigDict) -> LanguageScores:
  return score_language(control.load(workdir, step), config)


def _as_trained(config: ml_collections.ConfigDict, trained: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The run's config with the caller's tasks, place of the data, acting and evaluation.

  What a task's entry shows of the past and of its own actions stays what training showed, if training had the entry.
  """
  result = trained.copy_and_resolve_references()
  with result.unlocked():
    result.acting, result.evaluation = config.acting, config.evaluation
    result.data.dir, result.data.environments = config.data.dir, config.data.environments
    result.data.mixture = config.data.mixture.copy_and_resolve_references()
  for name, entry in result.data.mixture.items():
    if name in trained.data.mixture:
      seen = trained.data.mixture[name]
      entry.update(window_timesteps=seen.window_timesteps, hide_actions=seen.hide_actions)
  return result


def _tasks(config: ml_collections.ConfigDict) -> dict[str, TaskSpec]:
  """The control tasks that can be played by their names in the mixture."""
  control_requests = (request for request in requests(config.data) if request.type.kind == 'control')
  return {request.name: task_spec(request.task_name) for request in control_requests if request.task_name}


def _without_simulator(config: ml_collections.ConfigDict) -> list[str]:
  return [request.name for request in requests(config.data) if request.type.kind == 'control' and not request.task_name]


def _references(specs: Mapping[str, TaskSpec]) -> dict[str, ReferenceScores]:
  """Checked before anything is played."""
  references = {name: reference_scores(spec.name) for name, spec in specs.items()}
  for name, reference in references.items():
    try:
      normalised_score(0.0, reference.random, reference.expert)
    except InputError as error:
      raise InputError(f'{name}: {error}') from error
  return references


def _one_a_domain(specs: Mapping[str, TaskSpec]) -> dict[str, TaskSpec]:
  first = {}
  for name, spec in specs.items():
    first.setdefault(spec.domain, name)
  return {name: specs[name] for name in first.values()}


def _print_files(folder: pathlib.Path, videos, console: Console) -> None:
  console.print(f'{folder}: report.json, loss.png, scores.png, figure_5.png', highlight=False)
  for video in videos:
    drawn = 'first episode' if video.exists() else 'no video: this suite needs OpenGL (EGL or OSMesa) to draw'
    console.print(f'{video}: {drawn}', highlight=False)
