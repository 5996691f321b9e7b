"""Runs of several sizes on the same tokens: score and loss against tokens (the paper's figure 8)."""

from collections.abc import Mapping, Sequence
import json
import pathlib
from typing import Any

from matplotlib.figure import Figure
import numpy as np

from data_pipelines.errors import InputError
from gato_jax.atomic import write_atomically
from gato_jax.config import changed_keys, without_readers
from gato_jax.dry_run import parameter_count
from gato_jax.evaluation.plots import colours, save
from gato_jax.evaluation.report_files import FOLDER as EVALUATION_FOLDER
from gato_jax.evaluation.report_files import read_reports
from gato_jax.named_runs import named_runs
from gato_jax.training.checkpoint_reading import parameter_reader
from gato_jax.training.compatibility import config_of
from gato_jax.training.metrics import read_records

FOLDER = 'scaling'


def scaling(workdir: str, runs: Sequence[str]) -> dict[str, Any]:
  """Writes `scaling.json` and `figure_8.png` into `workdir/scaling`.

  Args:
    workdir: where they go.
    runs: `NAME=WORKDIR` of training runs, evaluated at some steps (`evaluation.every`, or `evaluate --follow`).

  Returns:
    By name `workdir`, `parameters`, `loss` and `score`: [tokens, value] pairs; a score is the mean over the domains of
    the normalised score.

  Raises:
    InputError: a run without a checkpoint, or runs that differ in what they are trained on.
  """
  named = named_runs('--run', runs)
  configs = {name: _config(path) for name, path in named.items()}
  check_same_rows(configs)
  result = {name: {'workdir': path, 'parameters': parameter_count(configs[name]), **_curves(path)}
            for name, path in named.items()}
  folder = pathlib.Path(workdir) / FOLDER
  folder.mkdir(parents=True, exist_ok=True)
  write_atomically(folder / 'scaling.json', json.dumps(result, indent=1))
  plot_figure_8(result, folder / 'figure_8.png')
  return result


def plot_figure_8(runs: Mapping[str, Mapping[str, Any]], path: pathlib.Path) -> None:
  """Training loss, and normalised score if it was measured, against tokens; one line a run."""
  panels = 1 + any(run['score'] for run in runs.values())
  figure = Figure(figsize=(5 * panels, 4), layout='constrained')
  loss, *scores = figure.subplots(1, panels, squeeze=False)[0]
  for (name, run), colour in zip(runs.items(), colours(), strict=False):
    label = f'{name}, {run["parameters"] / 1e6:,.2f}M'
    loss.plot(*np.transpose(run['loss']), color=colour, label=label)
    if run['score']:
      scores[0].plot(*np.transpose(run['score']), color=colour, marker='o', markersize=3.5)
  loss.set(xlabel='tokens', ylabel='nats a target', title='Training loss')
  loss.legend(frameon=False)
  for axes in scores:
    axes.set(xlabel='tokens', ylabel='mean over domains: 0 random, 100 expert', title='Normalised score')
  save(figure, path)


def check_same_rows(configs: Mapping[str, Any]) -> None:
  """Raises InputError unless the runs read the same rows."""
  rows = {name: without_readers({'data': config.data.to_dict(), 'seed': config.seed,
                                 'training': {'batch_size': config.training.batch_size}})
          for name, config in configs.items()}
  first = next(iter(rows))
  for name in rows:
    if changes := changed_keys(rows[first], rows[name]):
      raise InputError(f'--run={name} was trained on other rows than {first}; name runs of the same rows, or train one '
                       'anew: ' + '; '.join(changes))


def _config(workdir: str) -> Any:
  with parameter_reader(workdir) as reader:
    return config_of(reader.run)


def _curves(workdir: str) -> dict[str, list[list[float]]]:
  records = read_records(workdir)
  tokens = [record['tokens'] for record in records]
  reports = [report for report in read_reports(pathlib.Path(workdir) / EVALUATION_FOLDER)
             if report['summary']['mean_by_domain']]
  places = np.interp([report['step'] for report in reports], [record['step'] for record in records], tokens)
  means = [float(np.mean(list(report['summary']['mean_by_domain'].values()))) for report in reports]
  return {'loss': [[record['tokens'], record['loss']] for record in records if 'loss' in record],
          'score': [list(pair) for pair in zip(places.tolist(), means, strict=True)]}
