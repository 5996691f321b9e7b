"""The paper's figure 9."""

from collections.abc import Mapping
import pathlib
from typing import Any

from matplotlib.figure import Figure
import numpy as np

from gato_jax.evaluation.plots import colours, save


def plot_figure_9(report: Mapping[str, Any], path: pathlib.Path) -> None:
  """Score against episodes, one panel a task, one line a source: the mean of its repetitions, which are the dots."""
  tasks = report['tasks']
  figure = Figure(figsize=(1.5 + 4.2 * len(tasks), 4), layout='constrained')
  panels = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
  for axes, (task, record) in zip(panels, tasks.items(), strict=True):
    for source, colour in zip(report['sources'], colours(), strict=False):
      runs = [run for run in record['runs'] if run['source'] == source]
      episodes = sorted({run['episodes'] for run in runs})
      means = [np.mean([run['normalised'] for run in runs if run['episodes'] == count]) for count in episodes]
      axes.plot(episodes, means, color=colour, label=source)
      axes.plot([run['episodes'] for run in runs], [run['normalised'] for run in runs], 'o', color=colour,
                markersize=3.5, alpha=0.6)
    axes.set_xscale('log')
    axes.set_xticks(episodes, [str(count) for count in episodes], minor=False)
    axes.minorticks_off()
    axes.axhline(100, color='0.4', linewidth=1)
    axes.set(title=task, xlabel='episodes to fine-tune on')
  panels[0].set_ylabel('normalised score: 0 random, 100 expert')
  panels[-1].legend(frameon=False, title='trained before on')
  save(figure, path)
