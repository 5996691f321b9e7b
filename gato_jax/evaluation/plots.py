"""The pictures of an evaluation: loss by dataset, score by task, and the paper's figure 5. Drawn without a display."""

from collections.abc import Iterator, Mapping, Sequence
import itertools
import pathlib
from typing import Any

import matplotlib
from matplotlib.figure import Figure
import numpy as np

from data_pipelines.sequences.plan import dataset_of
from gato_jax.evaluation.scores import TaskScore, domains, tasks_at_or_above

SMOOTHING = 9  # points of the loss curves averaged


def plot_loss(records: Sequence[Mapping[str, Any]], path: pathlib.Path) -> None:
  """One curve a dataset from training's records; a dataset's tasks are averaged."""
  figure = Figure(figsize=(8, 4.5), layout='constrained')
  axes = figure.subplots()
  for (dataset, (steps, losses)), colour in zip(losses_by_dataset(records).items(), colours(), strict=False):
    axes.plot(steps, losses, color=colour, alpha=0.2, linewidth=0.8)
    axes.plot(steps, rolling_mean(losses), color=colour, label=dataset)
  axes.set(xlabel='update', ylabel='nats a target', title='Training loss by dataset')
  if axes.lines:
    axes.legend(frameon=False, ncols=2)
  save(figure, path)


def plot_scores(tasks: Mapping[str, TaskScore], path: pathlib.Path) -> None:
  """One bar a task: 0 is random, 100 its expert; a dashed line at half of the expert."""
  figure = Figure(figsize=(8, 1.5 + 0.28 * len(tasks)), layout='constrained')
  axes = figure.subplots()
  colour_of = dict(zip(domains(tasks), colours(), strict=False))
  for place, task in enumerate(tasks.values()):
    axes.barh(place, task.normalised, color=colour_of[task.domain])
    axes.annotate(f'{task.normalised:.0f}', (max(task.normalised, 0), place), xytext=(3, 0),
                  textcoords='offset points', va='center', fontsize=8)
  axes.set_yticks(range(len(tasks)), list(tasks))
  axes.axvline(50, color='0.4', linestyle='--', linewidth=1)
  axes.axvline(100, color='0.4', linewidth=1)
  axes.invert_yaxis()
  axes.set(xlabel='normalised score: 0 random, 100 expert', title='Score by task')
  save(figure, path)


def plot_figure_5(tasks: Mapping[str, TaskScore], path: pathlib.Path) -> None:
  """Number of tasks at or above each share of the expert's score, stacked by domain (paper figure 5)."""
  thresholds = np.linspace(0, 100, 1001)
  counts = tasks_at_or_above(tasks, thresholds)
  figure = Figure(figsize=(7, 4.5), layout='constrained')
  axes = figure.subplots()
  if counts:
    axes.stackplot(thresholds, *counts.values(), labels=list(counts), step='pre',
                   colors=list(itertools.islice(colours(), len(counts))))
    figure.legend(frameon=False, loc='outside right upper')
  axes.axvline(50, color='0.2', linestyle='--', linewidth=1)
  axes.set(xlim=(0, 100), ylim=(0, max(1, len(tasks))), xlabel='share of expert score, %',
           ylabel='tasks at or above', title=f'{len(tasks)} tasks by share of expert score')
  axes.yaxis.get_major_locator().set_params(integer=True)
  save(figure, path)


def losses_by_dataset(records: Sequence[Mapping[str, Any]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Dataset -> (steps, losses). A dataset is left out of the records of steps that had none of its targets."""
  curves: dict[str, tuple[list[int], list[float]]] = {}
  for record in records:
    by_dataset: dict[str, list[float]] = {}
    for source, loss in record['loss_by_source'].items():
      by_dataset.setdefault(dataset_of(source), []).append(loss)
    for dataset, losses in by_dataset.items():
      steps, means = curves.setdefault(dataset, ([], []))
      steps.append(record['step'])
      means.append(float(np.mean(losses)))
  return {dataset: (np.asarray(steps), np.asarray(means)) for dataset, (steps, means) in sorted(curves.items())}


def rolling_mean(values: np.ndarray) -> np.ndarray:
  """The mean over SMOOTHING values around each; the ends count as often as they are missing."""
  width = min(SMOOTHING, len(values))
  padded = np.pad(values, (width // 2, width - 1 - width // 2), mode='edge')
  return np.convolve(padded, np.full(width, 1 / width), mode='valid')


def colours() -> Iterator[tuple[float, float, float]]:
  """Of lines that are told apart: 20, again and again."""
  return itertools.cycle(matplotlib.colormaps['tab20'].colors[::2] + matplotlib.colormaps['tab20'].colors[1::2])


def save(figure: Figure, path: pathlib.Path) -> None:
  """Writes a PNG, its axes open at the top and on the right."""
  for axes in figure.axes:
    axes.spines[['top', 'right']].set_visible(False)
  figure.savefig(path, dpi=150)
