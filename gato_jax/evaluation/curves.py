"""Scores by training step: the reports that the evaluations of a run's checkpoints left."""

from collections.abc import Sequence
import pathlib
from typing import Any, NamedTuple

from matplotlib.figure import Figure
import numpy as np

from gato_jax.evaluation.plots import colours, save


class Curve(NamedTuple):
  """One number by step.

  Attributes:
    name: of it.
    steps: where it was measured.
    values: percent.
  """

  name: str
  steps: np.ndarray
  values: np.ndarray


def control_curves(reports: Sequence[dict[str, Any]]) -> list[Curve]:
  """Mean normalised score of each domain."""
  domains = dict.fromkeys(domain for report in reports for domain in report['summary']['mean_by_domain'])
  return [_curve(domain, reports, lambda report, domain=domain: report['summary']['mean_by_domain'].get(domain))
          for domain in domains]


def share_curves(reports: Sequence[dict[str, Any]]) -> list[Curve]:
  """What is a share of all: tasks, questions, captions; those that were measured."""
  shares = {
      'tasks at half of the expert or above': lambda report: report['summary']['share_at_or_above_50'],
      'questions answered': lambda report: report['vqa']['accuracy'],
      'captions right': lambda report: report['captions']['accuracy'],
  }
  curves = [_curve(name, reports, value, 100.0) for name, value in shares.items()]
  return [curve for curve in curves if len(curve.steps)]


def _curve(name: str, reports: Sequence[dict[str, Any]], value, scale: float = 1.0) -> Curve:
  points = [(report['step'], scale * value(report)) for report in reports if value(report) is not None]
  return Curve(name, np.asarray([step for step, _ in points]), np.asarray([score for _, score in points]))


def plot_curves(reports: Sequence[dict[str, Any]], path: pathlib.Path) -> None:
  """Both sorts side by side."""
  figure = Figure(figsize=(10, 4), layout='constrained')
  left, right = figure.subplots(1, 2)
  for axes, curves, title in ((left, control_curves(reports), 'mean normalised score by domain'),
                              (right, share_curves(reports), 'share, %')):
    for curve, colour in zip(curves, colours(), strict=False):
      axes.plot(curve.steps, curve.values, color=colour, marker='o', markersize=3, label=curve.name)
    axes.set(xlabel='update', title=title)
    if curves:
      axes.legend(frameon=False, fontsize=8)
  right.set_ylim(0, 102)
  save(figure, path)
