"""Evaluates the checkpoints of a run as they come, in a process of its own."""

import math
import time

import ml_collections
from rich.console import Console

from data_pipelines.errors import InputError
from gato_jax.evaluation.evaluate import evaluate
from gato_jax.evaluation.rollouts import check_seed
from gato_jax.training.checkpoint_reading import DamagedCheckpoint, finished_steps
from gato_jax.training.compatibility import config_of
from gato_jax.training.restore import read_run

POLL = 10.0  # seconds


def follow(config: ml_collections.ConfigDict, workdir: str, poll: float = POLL) -> list[int]:
  """Evaluates each checkpoint once, the oldest first, until that of the last step of training has been.

  Started again, it goes on: what was finished is not played again. Training may delete a checkpoint meanwhile, as
  `training.keep_checkpoints` has it. One that is gone before its weights were read is left out, and said; later it is
  not needed any more. So is one that is damaged, unless training makes it anew.

  Args:
    config: see `evaluate`.
    workdir: of a run, which may not have begun.
    poll: seconds between looks at the checkpoints.

  Returns:
    The steps that were evaluated.

  Raises:
    InputError: see `evaluate`.
  """
  check_seed(config.evaluation.seed)
  console, seen, evaluated, last = Console(), set(), [], False
  console.print(f'following {workdir}', highlight=False)
  while not last:
    there = finished_steps(workdir)
    seen &= {*evaluated, *there}  # what was left out and is gone may be saved again
    new = [step for step in there if step not in seen]
    if not new:
      time.sleep(poll)
      continue
    seen.add(new[0])
    report = _evaluate(config, workdir, new[0], poll, console)
    if report:
      evaluated.append(new[0])
    last = new[0] >= _steps_of_training(workdir, new[0], report)
  return evaluated


def _steps_of_training(workdir: str, step: int, report: dict | None) -> float:
  """As the report has it, or else the checkpoint; endless where nobody knows."""
  if report:
    return report['config']['training']['steps']
  try:
    return config_of(read_run(workdir, step).run).training.steps
  except InputError:
    return math.inf


def _evaluate(config: ml_collections.ConfigDict, workdir: str, step: int, poll: float, console: Console) -> dict | None:
  """The report; None where the checkpoint is gone or damaged."""
  try:
    return evaluate(config, workdir, step, brief=True)
  except InputError as error:
    time.sleep(poll)  # a folder is not deleted in one go
    if step in finished_steps(workdir):
      if not isinstance(error, DamagedCheckpoint):
        raise
      console.print(f'step {step} is left out: {error}', markup=False, highlight=False)
      return None
  console.print(f'step {step}: training deleted this checkpoint before its weights were read, so it is left out; to '
                'have every one evaluated, raise training.keep_checkpoints or set training.keep_every', highlight=False)
  return None
