"""The paper's figure 9, and how fast each run learned."""

from collections.abc import Mapping, Sequence
import pathlib
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np

from gato_jax.evaluation.plots import colours, save
from gato_jax.evaluation.scores import normalised_score


def plot_figure_9(report: Mapping[str, Any], path: pathlib.Path) -> None:
  """A column a task, a line a source: score against episodes, and below against steps.

  Above, the mean of the repetitions, which are the dots; below, that of all runs from the source, not smoothed.
  """
  tasks = report['tasks']
  figure = Figure(figsize=(1.5 + 4.2 * len(tasks), 7), layout='constrained')
  panels = figure.subplots(2, len(tasks), sharey=True, squeeze=False)
  for (by_episodes, by_steps), (task, record) in zip(panels.T, tasks.items(), strict=True):
    for source, colour in zip(report['sources'], colours(), strict=False):
      runs = [run for run in record['runs'] if run['source'] == source]
      _plot_episodes(by_episodes, runs, source, colour)
      _plot_steps(by_steps, runs, record, colour)
    by_episodes.set(title=task, xlabel='episodes to fine-tune on')
    by_steps.set(xlabel='steps, mean of all runs')
    for axes in (by_episodes, by_steps):
      axes.axhline(100, color='0.4', linewidth=1)
  for axes in panels[:, 0]:
    axes.set_ylabel('normalised score: 0 random, 100 expert')
  figure.legend(*panels[0, 0].get_legend_handles_labels(), loc='outside lower center', ncols=4, frameon=False,
                title='weights before')
  save(figure, path)


def _plot_episodes(axes: Axes, runs: Sequence[Mapping[str, Any]], source: str, colour: Any) -> None:
  episodes = sorted({run['episodes'] for run in runs})
  means = [np.mean([run['normalised'] for run in runs if run['episodes'] == count]) for count in episodes]
  axes.plot(episodes, means, color=colour, label=source)
  axes.plot([run['episodes'] for run in runs], [run['normalised'] for run in runs], 'o', color=colour, markersize=3.5,
            alpha=0.6)
  axes.set_xscale('log')
  axes.set_xticks(episodes, [str(count) for count in episodes])
  axes.minorticks_off()


def _plot_steps(axes: Axes, runs: Sequence[Mapping[str, Any]], record: Mapping[str, Any], colour: Any) -> None:
  steps = [evaluation['step'] for evaluation in runs[0]['evaluations']]
  scores = np.mean([[np.mean(evaluation['scores']) for evaluation in run['evaluations']] for run in runs], axis=0)
  axes.plot(steps, [normalised_score(score, record['random'], record['expert']) for score in scores], color=colour,
            marker='o', markersize=3.5)
