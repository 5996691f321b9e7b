"""The report's learning curves and goodput."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from data_pipelines.errors import InputError
from gato_jax.evaluation.plots import losses_by_dataset, rolling_mean
from gato_jax.pages import charts
from gato_jax.pages.page import Markup, element, figure, join, paragraph, svg, table
from gato_jax.pages.report_run import Run
from gato_jax.training.goodput import BUCKETS, read_seconds

_POINTS = 200  # of a curve


def curves(run: Run) -> Sequence[Any]:
  """One plot a dataset: a dataset's tasks are averaged."""
  losses = losses_by_dataset(run.records)
  if not losses:
    raise InputError(f'{run.workdir} has no metrics.jsonl with losses by dataset; `gato-jax train` writes it')
  last_step = run.records[-1]['step']
  plots = [element('div', element('h3', dataset), _curve(dataset, steps, values, last_step))
           for dataset, (steps, values) in losses.items()]
  rows = []
  for dataset, (steps, values) in losses.items():
    smooth = rolling_mean(values)
    rows.append([dataset, *(f'{value:.3f}' for value in (smooth[0], smooth[len(smooth) // 2], smooth[-1])),
                 f'{int(steps[-1]):,}'])
  numbers = table('Training loss by dataset, nats a target, smoothed',
                  ['dataset', 'at the start', 'halfway', 'at the end', 'last update'], rows)
  training = run.report['training']
  about = (f'{training["steps"]:,} updates, {training["tokens"]:,} tokens, {training["tokens_per_second"]:,.0f} tokens '
           f'a second, rows {training["packing_fill"]:.1%} full. ') if training['steps'] else ''
  return [paragraph(about, 'Loss on the training rows in nats a target: the thin line is each record, the thick one '
                    'their running mean. Datasets differ in how much can be known, so their curves end at different '
                    'heights.'),
          figure(element('div', *plots, class_='many'), 'Training loss by dataset.', numbers=numbers)]


def _curve(dataset: str, steps: np.ndarray, values: np.ndarray, last_step: int) -> Markup:
  every = -(-len(steps) // _POINTS)
  shown = slice((len(steps) - 1) % every, None, every)  # the last one always
  smooth = rolling_mean(values)
  axes = charts.Axes((0, last_step), (0, max(float(values.max()), 1e-3)), width=340, height=190, bottom=30, left=46)
  text = f'from {smooth[0]:.2f} down to {smooth[-1]:.2f}' if smooth[-1] < smooth[0] else (
      f'from {smooth[0]:.2f} to {smooth[-1]:.2f}')
  return svg(axes.width, axes.height, f'Training loss of {dataset}', axes.grid(x_ticks=3, y_ticks=4),
             axes.line(steps[shown], values[shown], class_='thin'),
             axes.line(steps[shown], smooth[shown], class_='thick'), description=text, class_='plot')


def goodput(run: Run) -> Sequence[Any]:
  """Where every second of the run went."""
  spent = read_seconds(run.workdir)
  total = max(sum(spent.values()), 1e-9)
  bars, left = [], 0.0
  for number, (bucket, value) in enumerate(spent.items()):
    width = 400 * value / total
    bars.append(element('rect', element('title', f'{bucket} {value / total:.1%}'), x=f'{left:.1f}', y=0,
                        width=f'{width:.1f}', height=44, style=f'fill:{charts.colour(number)}'))
    left += width
  shares = '; '.join(f'{bucket} {value / total:.1%}' for bucket, value in spent.items() if value > 0)
  rows = [[bucket, f'{value:,.1f}', f'{value / total:.1%}', BUCKETS.get(bucket, '')]
          for bucket, value in spent.items()]
  drawing = svg(400, 44, 'Time of the run by what it went into', *bars, description=shares, class_='plot')
  return [paragraph(f'{spent.get("step", 0) / total:.1%} of {_duration(total)} went into steps: the goodput.'),
          figure(join(drawing, charts.legend(list(spent))), 'The time of the run, interruptions included.',
                 numbers=table('Time of the run', ['bucket', 'seconds', 'share', 'what it is'], rows))]


def _duration(seconds: float) -> str:
  if seconds < 120:
    return f'{seconds:.0f} seconds'
  return f'{seconds / 60:.1f} minutes' if seconds < 7200 else f'{seconds / 3600:,.1f} hours'
