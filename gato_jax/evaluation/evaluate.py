"""Evaluates a checkpoint of a training run: plays its tasks, asks its questions, writes the report."""

from collections.abc import Mapping
import pathlib
import shutil
from typing import Any

import ml_collections
from rich.console import Console

from data_pipelines.environments.specs import TaskSpec
from gato_jax.evaluation import tasks
from gato_jax.evaluation.curves import plot_curves
from gato_jax.evaluation.kept import Checkpoint, KeptResults
from gato_jax.evaluation.plots import plot_figure_5, plot_loss, plot_scores
from gato_jax.evaluation.report import build_report, print_report, summary_line, training_summary, write_report
from gato_jax.evaluation.report_files import FOLDER, REPORT, read_reports, step_folder
from gato_jax.evaluation.rollouts import check_seed
from gato_jax.evaluation.scoring import Scores, score_checkpoint
from gato_jax.training.checkpoint_place import checkpoint_folder
from gato_jax.training.checkpoint_reading import DamagedCheckpoint, finished_steps, none_readable
from gato_jax.training.compatibility import config_of
from gato_jax.training.metrics import read_records
from gato_jax.training.restore import read_run


def evaluate(config: ml_collections.ConfigDict, workdir: str, step: int | None = None, *, again: bool = False,
             brief: bool = False) -> dict[str, Any]:
  """Writes report.json, plots and videos into `workdir/evaluation`, prints the tables, and returns the report.

  The report and the results of each task are kept below `evaluation/steps/STEP` too: an evaluation that was interrupted
  goes on, and the reports of several steps make learning curves.

  Args:
    config: which tasks (data.mixture, data.dir), how to act and what to evaluate; everything else is taken from the
      config that the run was trained with.
    workdir: of a training run with a checkpoint.
    step: which checkpoint; by default the newest that can be read.
    again: plays what an earlier evaluation of this checkpoint has played.
    brief: one line instead of the tables, and no videos: for an evaluation of many.

  Raises:
    DamagedCheckpoint: that of the step that is asked for, or all there are.
    InputError: no checkpoint, no data, a seed among the demonstrations', a simulator that keeps failing, or reference
      scores that leave no scale.
  """
  check_seed(config.evaluation.seed)
  if step is not None:
    return _evaluate(_find(config, workdir, step), again, brief)
  steps = finished_steps(workdir)
  for newest in reversed(steps):
    try:
      return _evaluate(_find(config, workdir, newest), again, brief)
    except DamagedCheckpoint as error:  # of weights that is known only when those that play have read them
      Console().print(f'{error}. The one before it is evaluated instead', markup=False, highlight=False)
  if steps:
    raise none_readable(steps, checkpoint_folder(workdir))
  return _evaluate(_find(config, workdir, None), again, brief)  # it says what is missing


def _evaluate(checkpoint: Checkpoint, again: bool, brief: bool) -> dict[str, Any]:
  workdir, config = checkpoint.workdir, checkpoint.config
  played = tasks.playable(config)
  specs = tasks.task_specs(played)
  references = tasks.references(specs)
  folder = pathlib.Path(workdir) / FOLDER
  kept = KeptResults(step_folder(folder, checkpoint.step))
  if again:
    kept.clear()
  videos = {} if brief else {
      name: kept.folder / f'{domain}.gif' for domain, name in tasks.one_a_domain(specs).items()}
  console = Console()
  console.print(f'evaluating step {checkpoint.step}: {len(specs)} tasks, {config.evaluation.episodes} episodes each')
  not_played = tasks.without_simulator(config)
  if not_played:
    console.print(f'{len(not_played)} imported datasets without an environment are not played: {", ".join(not_played)}')
  scores = score_checkpoint(checkpoint, played, specs, references, kept, videos, console)
  records = [record for record in read_records(workdir) if record['step'] <= checkpoint.step]
  report = build_report(scores.tasks, scores.language, training_summary(records, config), config)
  report |= {'step': checkpoint.step, 'not_played': not_played, 'crashes': scores.crashes, 'reused': scores.reused}
  write_report(report, kept.folder / REPORT)
  write_report(report, folder / REPORT)
  _draw(folder, kept.folder, scores, specs, records)
  if brief:
    console.print(f'step {checkpoint.step}: {summary_line(report)}', markup=False, highlight=False)
  else:
    print_report(report, console)
    _print_files(folder, specs, console)
  return report


def _find(config: ml_collections.ConfigDict, workdir: str, step: int | None) -> Checkpoint:
  """The checkpoint, without its weights: workers read them."""
  found = read_run(workdir, step)
  return Checkpoint(workdir, found.step, found.saved, tasks.as_trained(config, config_of(found.run)))


def _draw(folder: pathlib.Path, of_step: pathlib.Path, scores: Scores, specs: Mapping[str, TaskSpec],
          records: list[dict[str, Any]]) -> None:
  """The plots, and the step's videos in place of those of the step before."""
  plot_loss(records, folder / 'loss.png')
  plot_scores(scores.tasks, folder / 'scores.png')
  plot_figure_5(scores.tasks, folder / 'figure_5.png')
  plot_curves(read_reports(folder), folder / 'curves.png')
  for domain in tasks.one_a_domain(specs):
    video = folder / f'{domain}.gif'
    video.unlink(missing_ok=True)
    if (of_step / video.name).exists():
      shutil.copyfile(of_step / video.name, video)


def _print_files(folder: pathlib.Path, specs: Mapping[str, TaskSpec], console: Console) -> None:
  console.print(f'{folder}: {REPORT}, loss.png, scores.png, figure_5.png, curves.png', highlight=False)
  for domain in tasks.one_a_domain(specs):
    video = folder / f'{domain}.gif'
    drawn = 'first episode' if video.exists() else 'no video: this suite needs OpenGL (EGL or OSMesa) to draw'
    console.print(f'{video}: {drawn}', highlight=False)
