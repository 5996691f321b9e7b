"""What a run left behind, read for its report page."""

from collections.abc import Callable
import json
import pathlib
from typing import Any, NamedTuple

import ml_collections

from data_pipelines.environments.registry import register
from data_pipelines.errors import InputError
from gato_jax.evaluation.probing import Subject, open_subject
from gato_jax.evaluation.report_files import FOLDER, REPORT, read_reports
from gato_jax.evaluation.scores import TaskScore
from gato_jax.training.metrics import read_records


class Run(NamedTuple):
  """What the sections are made from.

  Attributes:
    workdir: of the run.
    folder: its evaluation's.
    report: report.json.
    tasks: the scores in it.
    reports: of all steps that were evaluated, in their order.
    records: of the training.
    config: that of the evaluation, which has the training's model and mixture.
    subject: weights and data; raises InputError where there are none.
  """

  workdir: pathlib.Path
  folder: pathlib.Path
  report: dict[str, Any]
  tasks: dict[str, TaskScore]
  reports: list[dict[str, Any]]
  records: list[dict[str, Any]]
  config: ml_collections.ConfigDict
  subject: Callable[[], Subject]


def read_run(config: ml_collections.ConfigDict, workdir: str) -> Run:
  """Reads report.json and metrics.jsonl; weights and data are opened when they are first asked for.

  Raises:
    InputError: there is no report.json, or it cannot be read.
  """
  register(config.data.environments)
  folder = pathlib.Path(workdir) / FOLDER
  path = folder / REPORT
  if not path.exists():
    raise InputError(f'{path} is not there; `gato-jax evaluate --config=... --workdir={workdir}` makes it')
  try:
    report = json.loads(path.read_text(encoding='utf-8'))
    tasks = {name: TaskScore(**fields) for name, fields in report['tasks'].items()}
    ran = ml_collections.ConfigDict(report['config'])
    register(ran.data.environments)
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise InputError(f'{path} cannot be read ({error!r}); `gato-jax evaluate` writes it anew') from error
  return Run(pathlib.Path(workdir), folder, report, tasks, read_reports(folder), read_records(workdir), ran,
             _once(lambda: open_subject(workdir, [config.data.dir, ran.data.dir])))


def _once(call: Callable[[], Subject]) -> Callable[[], Subject]:
  """Its first answer, or its first error, again and again."""
  answers: list[Subject | InputError] = []

  def ask() -> Subject:
    if not answers:
      try:
        answers.append(call())
      except InputError as error:
        answers.append(error)
    if isinstance(answers[0], InputError):
      raise answers[0]
    return answers[0]

  return ask
