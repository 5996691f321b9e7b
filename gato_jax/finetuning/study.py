"""Fine-tuning on few episodes of held-out tasks, from several weights: the paper's figure 9 (appendix E)."""

from collections.abc import Mapping, Sequence
import itertools
import json
import pathlib
from typing import Any

import ml_collections
import numpy as np
import rich.box
from rich.console import Console
from rich.table import Table

from data_pipelines.environments.reference_scores import reference_scores
from gato_jax.atomic import write_atomically
from gato_jax.evaluation.jobs import Job, run_jobs
from gato_jax.evaluation.scores import normalised_score
from gato_jax.evaluation.tasks import request_named
from gato_jax.finetuning.checks import Source, check_study, open_sources
from gato_jax.finetuning.plot import plot_figure_9
from gato_jax.finetuning.run import Point, fine_tune, finished

FOLDER = 'finetuning'
REPORT_FILE = 'finetuning.json'
PLOT_FILE = 'figure_9.png'


def finetune(config: ml_collections.ConfigDict, workdir: str, sources: Sequence[str]) -> dict[str, Any]:
  """Fine-tunes on every number of `finetuning.episodes`, from every source, on every control task of the mixture.

  Writes `finetuning.json` and `figure_9.png` into `workdir/finetuning`. A run that is there already, with the same
  settings, is not made again.

  Args:
    config: the tasks and their demonstrations (data), how runs train (training, model) and play (acting, evaluation),
      and which runs there are (finetuning).
    workdir: where the study goes.
    sources: `NAME=WORKDIR`, to start from the newest weights of a run; or `NAME`, from random ones; or for each entry
      of the mixture `NAME@ENTRY=WORKDIR`.

  Returns:
    What is in `finetuning.json`: `sources`, by name and task the run and its step; `config`; and `tasks`, by name
    `random`, `expert` and `runs`, each with `source`, `episodes`, `repetition`, its `evaluations`, and of the highest
    smoothed one `step` (the last of those it is the mean of), `score` and `normalised`.

  Raises:
    InputError: what `check_study` finds wrong, or a run.
  """
  opened = open_sources(sources, config)
  started = check_study(config, opened)
  folder = pathlib.Path(workdir) / FOLDER
  points = _points(config, started)
  results = {point: result for point in points if (result := finished(config, point, str(folder)))}
  console = Console()
  console.print(f'{len(points)} runs of {config.training.steps} steps, {len(results)} of them made before')
  jobs = [Job(point.folder, 1, fine_tune, (config, point, str(folder))) for point in points if point not in results]
  by_folder = {point.folder: point for point in points}
  for number, done in enumerate(run_jobs(jobs, config.finetuning.workers), start=len(results) + 1):
    point = by_folder[done.name]
    results[point] = done.result
    score = _scored(point, done.result, config)
    console.print(f'[{number}/{len(points)}] {point.task}, {point.episodes} episodes, from {point.source}, repetition '
                  f'{point.repetition}: normalised {score["normalised"]:.1f} at step {score["step"]}, '
                  f'{done.seconds:.0f} s', markup=False, highlight=False)
  report = _report(config, started, {point: results[point] for point in points})
  folder.mkdir(parents=True, exist_ok=True)
  write_atomically(folder / REPORT_FILE, json.dumps(report, indent=1))
  plot_figure_9(report, folder / PLOT_FILE)
  for task in started:
    console.print(_table(task, report))
  console.print(f'{folder}: {REPORT_FILE}, {PLOT_FILE}', highlight=False)
  return report


def best_smoothed(means: Sequence[float], window: int) -> tuple[int, float]:
  """The highest mean of so many successive values (of all, if there are fewer), and the place of its last one."""
  window = min(window, len(means))
  smoothed = np.convolve(means, np.full(window, 1 / window), mode='valid')
  best = int(smoothed.argmax())
  return best + window - 1, float(smoothed[best])


def mean_scores(report: Mapping[str, Any], task: str, source: str) -> dict[int, float]:
  """Episodes -> normalised score, the mean over the repetitions."""
  runs = [run for run in report['tasks'][task]['runs'] if run['source'] == source]
  return {episodes: float(np.mean([run['normalised'] for run in runs if run['episodes'] == episodes]))
          for episodes in sorted({run['episodes'] for run in runs})}


def _points(config: ml_collections.ConfigDict, started: Mapping[str, Sequence[Source]]) -> list[Point]:
  settings = config.finetuning
  grid = itertools.product(range(settings.repetitions), sorted(settings.episodes), started.items())
  return [Point(task, source.name, source.workdir, source.step, episodes, repetition, source.saved)
          for repetition, episodes, (task, sources) in grid for source in sources]


def _scored(point: Point, result: Mapping[str, Any], config: ml_collections.ConfigDict) -> dict[str, Any]:
  reference = reference_scores(request_named(config, point.task).task_name)
  evaluations = result['evaluations']
  place, score = best_smoothed([np.mean(each['scores']) for each in evaluations], config.finetuning.smoothing)
  return {'step': evaluations[place]['step'], 'score': score,
          'normalised': normalised_score(score, reference.random, reference.expert)}


def _report(config: ml_collections.ConfigDict, started: Mapping[str, Sequence[Source]],
            results: Mapping[Point, Mapping[str, Any]]) -> dict[str, Any]:
  def of_task(task: str) -> dict[str, Any]:
    reference = reference_scores(request_named(config, task).task_name)
    runs = [{'source': point.source, 'episodes': point.episodes, 'repetition': point.repetition,
             **_scored(point, result, config), 'evaluations': result['evaluations']}
            for point, result in results.items() if point.task == task]
    return {'random': reference.random, 'expert': reference.expert, 'runs': runs}

  sources: dict[str, dict[str, Any]] = {}
  for task, of_it in started.items():
    for source in of_it:
      sources.setdefault(source.name, {})[task] = {'workdir': source.workdir, 'step': source.step}
  return {
      'sources': sources,
      'config': config.to_dict(),
      'tasks': {task: of_task(task) for task in started},
  }


def _table(task: str, report: Mapping[str, Any]) -> Table:
  table = Table(title=f'{task}: normalised score after fine-tuning', box=rich.box.SIMPLE, pad_edge=False)
  scores = {source: mean_scores(report, task, source) for source in report['sources']}
  for heading in ('episodes', *scores):
    table.add_column(heading, justify='right')
  for episodes in next(iter(scores.values())):
    table.add_row(str(episodes), *(f'{of_source[episodes]:.1f}' for of_source in scores.values()))
  return table
