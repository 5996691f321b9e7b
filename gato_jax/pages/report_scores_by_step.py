"""The report's scores by training step, where more than one step was evaluated."""

from collections.abc import Sequence
from typing import Any

from data_pipelines.errors import InputError
from gato_jax.evaluation.curves import Curve, control_curves, share_curves
from gato_jax.pages import charts
from gato_jax.pages.page import Markup, element, figure, join, paragraph, svg, table
from gato_jax.pages.report_run import Run


def progress(run: Run) -> Sequence[Any]:
  """Mean normalised score of each domain, and what is a share of all, by step."""
  if len(run.reports) < 2:
    raise InputError('only one step of this run was evaluated. `gato-jax evaluate --follow` evaluates every checkpoint '
                     'as it comes, `--config.evaluation.every=1000` has training do so')
  parts = [paragraph(f'{len(run.reports)} checkpoints of this run were evaluated, on '
                     f'{_episodes(run)} episodes a task.')]
  kinds = (('Mean normalised score by domain', control_curves(run.reports), 'normalised'),
           ('Share of tasks, questions and captions', share_curves(run.reports), '%'))
  return parts + [_figure(title, curves, unit) for title, curves, unit in kinds if curves]


def _episodes(run: Run) -> str:
  counts = sorted({task['episodes'] for report in run.reports for task in report['tasks'].values()})
  return ' or '.join(map(str, counts)) or 'no'


def _figure(title: str, curves: Sequence[Curve], unit: str) -> Markup:
  steps = sorted({int(step) for curve in curves for step in curve.steps})
  values = [float(value) for curve in curves for value in curve.values]
  axes = charts.Axes((steps[0], max(steps[-1], steps[0] + 1)), (min(0.0, *values), max(100.0, *values)))
  lines = [join(axes.line(curve.steps, curve.values, style=f'stroke:{charts.colour(number)}', stroke_width=2),
                *(charts.mark(number, axes.across(step), axes.down(value), 4,
                              element('title', f'{curve.name}, update {int(step)}: {value:.1f}'),
                              style=f'fill:{charts.colour(number)}')
                  for step, value in zip(curve.steps, curve.values, strict=True)))
           for number, curve in enumerate(curves)]
  text = '; '.join(f'{curve.name} from {curve.values[0]:.0f} to {curve.values[-1]:.0f}' for curve in curves)
  by_step = [{int(step): value for step, value in zip(curve.steps, curve.values, strict=True)} for curve in curves]
  rows = [[f'{step:,}', *(f'{values[step]:.1f}' if step in values else '–' for values in by_step)] for step in steps]
  drawing = svg(axes.width, axes.height, f'{title} by update', axes.grid('update', unit), *lines, description=text,
                class_='plot')
  return figure(element('div', drawing, charts.legend([curve.name for curve in curves]), class_='beside'),
                f'{title} by update.', numbers=table(f'{title} by update', ['update', *(each.name for each in curves)],
                                                     rows))
