"""`gato-jax report`: one page of what a run left behind, and of what its weights do now."""

from collections.abc import Callable, Sequence
import pathlib
from typing import Any

import ml_collections

from data_pipelines.errors import InputError
from gato_jax.pages import (
    report_data,
    report_inside,
    report_scores,
    report_scores_by_step,
    report_seen,
    report_training,
)
from gato_jax.pages.page import Section, page, paragraph, writing
from gato_jax.pages.report_run import Run, read_run

LARGEST = 15_000_000  # bytes


def write_report_page(config: ml_collections.ConfigDict, workdir: str, out: str = '') -> pathlib.Path:
  """Writes the page and returns where it is: `out`, or `workdir/evaluation/report.html`.

  A section for which something is missing says what, and the page is made without it.

  Args:
    config: where the data is, `data.dir`, and the suites of one's own, `data.environments`; the rest is the run's.
    workdir: of a run that was evaluated.
    out: file to write.

  Raises:
    InputError: the run was not evaluated, its report cannot be read, or the page would be over 15 MB.
  """
  run = read_run(config, workdir)
  path = pathlib.Path(out) if out else run.folder / 'report.html'
  with writing(path):
    path.parent.mkdir(parents=True, exist_ok=True)
  text = report_page(run)
  if len(text.encode()) > LARGEST:
    raise InputError(f'the page has {len(text.encode()):,} bytes, over {LARGEST:,}: evaluate fewer domains at once')
  with writing(path):
    path.write_text(text, encoding='utf-8')
  return path


def report_page(run: Run) -> str:
  """The whole page."""
  sections = [
      ('scores', 'Scores', report_scores.figure_5),
      ('domains', 'Scores by domain', report_scores.by_domain),
      ('tasks', 'Scores by task', report_scores.by_task),
      ('rollouts', 'Rollouts', report_seen.rollouts),
      ('examples', 'Pictures and text', report_seen.examples),
      ('attention', 'Where it looks', report_inside.attention),
      ('map', 'A map of episodes', report_inside.episodes),
      ('progress', 'Scores as training went on', report_scores_by_step.progress),
      ('learning', 'Learning curves', report_training.curves),
      ('time', 'Where the time went', report_training.goodput),
      ('data', 'Data', report_data.data_table),
      ('config', 'Config', report_data.config),
  ]
  made = [Section(identifier, title, _content(build, run)) for identifier, title, build in sections]
  name = run.config.get('name') or run.workdir.name
  return page(f'{name}: what it can do', report_scores.lead(run), made, styles=['report.css'], scripts=['report.js'],
              footer=f'Written by gato-jax report from the run {run.workdir.name}.')


def _content(build: Callable[[Run], Sequence[Any]], run: Run) -> Sequence[Any]:
  """A section's elements; what is missing for it, in a sentence, if something is."""
  try:
    return build(run)
  except InputError as error:
    return [paragraph(f'Not shown: {error}.', class_='quiet missing')]
