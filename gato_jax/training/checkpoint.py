"""Checkpoints of a run: Orbax v1, saved in the background, restored into whatever mesh is there.

A checkpoint holds the arrays of the train state and, as JSON beside them, what else a run needs to go on: data state,
config, vocabulary, wall clock. Orbax writes into a temporary folder and renames it, so a save that is cut short leaves
no checkpoint; what is there but cannot be read is skipped, and said.

A directory may be a local path, one that all hosts share if there are several, or a `gs://` or `s3://` address.
"""

from collections.abc import Mapping
import logging
import math
from typing import Any

from orbax.checkpoint import v1 as ocp

from data_pipelines.errors import InputError
from gato_jax.group import Group, LostProcess
from gato_jax.training.checkpoint_place import FOLDER, absolute, move
from gato_jax.training.checkpoint_reading import Restored, first_line, ignore_late_operations, read_newest, shapes_of
from gato_jax.training.compatibility import check_vocabulary
from gato_jax.training.s3 import teach_orbax
from gato_jax.training.state import TrainState

UNREADABLE_FOLDER = 'unreadable_checkpoints'
_WORST = 1e30  # loss of a checkpoint without one
COUNTERS = ('step', 'skipped', 'nonfinite_in_row')


class Checkpoints:
  """The checkpoints of one workdir. All processes of a run call every method, in the same order.

  Args:
    workdir: the directory below which they go: the run's, or what it has for `training.checkpoint_dir`.
    keep: how many to keep, the newest ones.
    keep_every: steps that divide by it are kept as well; 0: none of them.
    keep_best: so many with the lowest loss are kept as well.
    group: the processes of the run.
    timeout: seconds that they wait for each other when they restore.

  Raises:
    InputError: the directory cannot be made or written.
  """

  def __init__(self, workdir: str, keep: int, keep_every: int = 0, keep_best: int = 0, group: Group | None = None,
               timeout: float = 900.0):
    # Orbax logs a stack trace a thread when a save fails. The failure is raised here, once, with its remedy.
    logging.getLogger('absl').setLevel(logging.ERROR)
    logging.getLogger('absl').addFilter(self._note)
    ignore_late_operations()
    self._error: BaseException | None = None
    self._workdir = absolute(workdir)
    self._directory = self._workdir / FOLDER
    self._policy = _preservation_policy(keep, keep_every, keep_best)
    self._group, self._timeout = group or Group(), timeout
    self._checkpointer = self._open()
    self._saving: tuple[int, Any] | None = None

  @property
  def steps(self) -> list[int]:
    """Steps that have a finished checkpoint, oldest first."""
    return [checkpoint.step for checkpoint in self._checkpointer.checkpoints]

  def save(self, step: int, state: TrainState, run: Mapping[str, Any], loss: float | None = None) -> None:
    """Starts to save in the background; returns once the arrays have left the device.

    Args:
      step: its number; a step that has a checkpoint already is not saved again.
      state: the train state; its buffers may be given away afterwards.
      run: JSON, saved beside the arrays.
      loss: what `keep_best` goes by; the lower, the better.

    Raises:
      InputError: this save could not start, or the one before it failed.
    """
    self.wait()
    if step in self.steps:
      return
    try:
      items = _items(state)
      response = self._checkpointer.save_checkpointables_async(
          step, items, custom_metadata={'run': dict(run), 'shapes': shapes_of(items)},
          metrics={'loss': loss if loss is not None and math.isfinite(loss) else _WORST})
    except (OSError, ValueError) as error:
      raise self._failure(step, error) from error
    self._saving = (step, response)

  def check(self) -> None:
    """Raises InputError if the save in the background has failed; never waits."""
    if self._saving and (self._error or not self._checkpointer.is_saving_in_progress()):
      self.wait()

  def wait(self) -> None:
    """Waits for the save in the background, if any. Raises InputError if it failed."""
    if self._saving is None:
      return
    (step, response), self._saving = self._saving, None
    try:
      self._finish(response)
    except (InputError, LostProcess):
      raise  # of another process
    except Exception as error:  # Orbax passes on whatever its storage layer raised
      raise self._failure(step, error) from error

  def restore(self, abstract: TrainState, vocabulary: Mapping[str, Any]) -> Restored | None:
    """The newest checkpoint that can be read, in the shardings of `abstract`; None if there is none.

    Newer ones that cannot be read are moved aside, so that the run can save these steps again.

    Raises:
      InputError: the checkpoint is of another model or vocabulary; or there are some, and none can be read.
    """
    def wanted(run):
      check_vocabulary(run['vocabulary'], vocabulary)
      return _items(abstract)

    self.wait()
    self._agree_on_steps()
    restored, unreadable = read_newest(self._checkpointer, self.steps, wanted, self._agree)
    if unreadable and self._group.index == 0:
      self._move_aside(unreadable)
    if unreadable:
      self._group.gather('moved aside', None, self._timeout)
      self._checkpointer.reload()
    return restored

  def close(self) -> None:
    """Waits for the save in the background, unless a process has failed. Raises InputError if it failed."""
    logging.getLogger('absl').removeFilter(self._note)
    if self._group.failed:
      return
    try:
      self.wait()
    finally:
      self._checkpointer.close()

  def _open(self) -> ocp.training.Checkpointer:
    teach_orbax(self._directory)
    try:
      return ocp.training.Checkpointer(
          self._directory,
          save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
          preservation_policy=self._policy,
          cleanup_tmp_directories=True,
      )
    except OSError as error:
      raise InputError(f'{self._directory} cannot be used: {error}; name another directory with --workdir') from error

  def _note(self, record: logging.LogRecord) -> bool:
    """Takes failures of a background save from Orbax's log, and lets nothing through."""
    if record.exc_info and 'background save thread' in record.getMessage():
      self._error = record.exc_info[1]
    return False

  def _finish(self, response) -> None:
    """Waits for a save, but not with a process that has failed: there, Orbax would wait for it for 20 minutes."""
    while True:
      self._group.check()
      if self._error and self._group.count > 1:
        raise self._error
      try:
        response.result(timeout=0.1)
        return
      except TimeoutError:
        if not self._checkpointer.is_saving_in_progress():
          response.result()
          return

  def _agree_on_steps(self) -> None:
    everyone = self._group.gather('checkpoints', self.steps, self._timeout)
    for index, steps in enumerate(everyone):
      if steps != everyone[0]:
        raise InputError(
            f'process {index} sees the checkpoints {steps} in {self._directory}, process 0 sees {everyone[0]}; all '
            'hosts must share this directory')

  def _agree(self, problem: str, final: bool) -> tuple[str, bool]:
    """What the first process that has one says is wrong with a checkpoint, the same on all."""
    answers = self._group.gather('restore', [problem, final], self._timeout)
    return next(((problem, final) for problem, final in answers if problem), ('', False))

  def _move_aside(self, steps: list[int]) -> None:
    target = self._workdir / UNREADABLE_FOLDER
    target.mkdir(parents=True, exist_ok=True)
    if not target.exists():  # a bucket has no empty folders
      (target / 'README.txt').write_text('Checkpoints that could not be read.')
    for step in steps:
      move(self._directory / str(step), target / f'{step}-{len(list(target.iterdir()))}')

  def _failure(self, step: int, error: Exception) -> InputError:
    self._error = None
    if self._group.count == 1:
      self._checkpointer = self._open()  # the one that failed would raise the same error again and again
    good = [other for other in self.steps if other != step]  # where another process was through, it looks finished
    kept = f'the last good checkpoint is step {good[-1]}' if good else 'there is no checkpoint yet'
    return InputError(
        f'the checkpoint of step {step} could not be saved in {self._directory}: {_reason(error)}. Make room or '
        f'make the directory writable, then run the same command again; {kept}')


def _reason(error: BaseException) -> str:
  """What the system said, where that is what an error came from; else what the storage layer made of it."""
  cause = error
  while cause is not None and not (isinstance(cause, OSError) and cause.errno):
    cause = cause.__cause__ or cause.__context__
  return first_line(cause or error)


def _preservation_policy(keep: int, keep_every: int, keep_best: int):
  policies = ocp.training.preservation_policies
  wanted = [policies.LatestN(keep)]
  if keep_every:
    wanted.append(policies.EveryNSteps(keep_every))
  if keep_best:
    wanted.append(policies.BestN(get_metric_fn=lambda metrics: -metrics['loss'], n=keep_best))
  return policies.AnyPreservationPolicy(wanted)


def _items(state: TrainState) -> dict[str, Any]:
  counters = {name: getattr(state, name) for name in COUNTERS}
  return {'parameters': state.parameters, 'optimizer': state.optimizer_state, 'counters': counters}
