"""Checkpoints of a run: Orbax v1, saved in the background, restored into whatever mesh is there.

A checkpoint holds the arrays of the train state and, as JSON beside them, what else a run needs to go on: data state,
config, vocabulary, wall clock. Orbax writes into a temporary folder and renames it, so a save that is cut short leaves
no checkpoint; what is there but cannot be read is skipped, and said.

A directory may be a local path, one that all hosts share if there are several, or a `gs://` or `s3://` address.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import functools
import logging
import math
import sys
from typing import Any, NamedTuple

import jax
from orbax.checkpoint import v1 as ocp

from data_pipelines.errors import InputError
from gato_jax.group import Group, LostProcess
from gato_jax.training.checkpoint_place import FOLDER, absolute, checkpoint_folder, move
from gato_jax.training.compatibility import check_shapes, check_vocabulary
from gato_jax.training.s3 import teach_orbax
from gato_jax.training.state import TrainState

LOGGER = logging.getLogger(__name__)
TOKENIZER_FOLDER = 'tokenizer'  # beside the checkpoints, the same for all of them
UNREADABLE_FOLDER = 'unreadable_checkpoints'
_WORST = 1e30  # loss of a checkpoint without one
COUNTERS = ('step', 'skipped', 'nonfinite_in_row')
Wanted = Callable[[dict[str, Any]], dict[str, Any]]


class Restored(NamedTuple):
  """A checkpoint read back.

  Attributes:
    step: its number.
    items: `parameters`, `optimizer` and `counters`, or those of them that were asked for.
    run: the JSON saved with them.
  """

  step: int
  items: dict[str, Any]
  run: dict[str, Any]

  @property
  def state(self) -> TrainState:
    return TrainState(self.items['parameters'], self.items['optimizer'], **self.items['counters'])

  @property
  def saved(self) -> float:
    """When it was, seconds since the epoch: tells it from the same step of another run into the workdir."""
    return self.run.get('goodput', {}).get('at', 0.0)


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
          step, items, custom_metadata={'run': dict(run), 'shapes': _shapes(items)},
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
    restored, unreadable = _read_newest(self._checkpointer, self.steps, wanted, self._agree)
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
    kept = f'the last good checkpoint is step {self.steps[-1]}' if self.steps else 'there is no checkpoint yet'
    return InputError(
        f'the checkpoint of step {step} could not be saved in {self._directory}: {_first_line(error)}. Make room or '
        f'make the directory writable, then run the same command again; {kept}')


def read_checkpoint(workdir: str, wanted: Wanted, step: int | None = None) -> Restored:
  """Reads without touching anything; a run may be writing there.

  Args:
    workdir: the run's directory; it says where its checkpoints are if they are elsewhere.
    wanted: from a checkpoint's JSON to the abstract items to load; it raises InputError where they do not fit.
    step: which checkpoint; None for the newest that can be read.

  Raises:
    InputError: there is none, or none that can be read, or it is of another shape.
  """
  with _open_to_read(workdir) as checkpointer:
    steps = _steps(checkpointer, step)
    return _read_newest(checkpointer, steps, wanted, lambda problem, final: (problem, final))[0]


def finished_steps(workdir: str) -> list[int]:
  """Steps that have a finished checkpoint now, oldest first; none where nothing has been saved yet."""
  if not checkpoint_folder(workdir).exists():
    return []
  with _open_to_read(workdir) as checkpointer:
    return [checkpoint.step for checkpoint in checkpointer.checkpoints]


@contextlib.contextmanager
def parameter_reader(workdir: str, step: int | None = None) -> Iterator['ParameterReader']:
  """The parameters of a checkpoint, the newest by default, to be read a part at a time; raises InputError as above."""
  with _open_to_read(workdir) as checkpointer:
    yield ParameterReader(checkpointer, _steps(checkpointer, step)[-1])


class ParameterReader:
  """Reads some of a checkpoint's parameters; the others never come into memory.

  Attributes:
    step: of the checkpoint.
    run: the JSON saved with it.
  """

  def __init__(self, checkpointer: ocp.training.Checkpointer, step: int):
    self.step = step
    self._checkpointer = checkpointer
    try:
      self.run, _ = _json(checkpointer, step)
    except Exception as error:  # whatever the storage layer makes of missing or damaged files
      raise self._damaged(error) from error

  def read(self, abstract: Any) -> Any:
    """The arrays of a part of the parameters' tree, given by its ShapeDtypeStructs with shardings."""
    context = ocp.Context()
    context.pytree.loading.partial_load = True
    try:
      with context:
        return self._checkpointer.load_checkpointables(self.step, {'parameters': abstract})['parameters']
    except Exception as error:
      raise self._damaged(error) from error

  def _damaged(self, error: Exception) -> InputError:
    return InputError(f'checkpoint of step {self.step} in {self._checkpointer.directory} cannot be read '
                      f'({_first_line(error)}); name another with --step')


@contextlib.contextmanager
def _open_to_read(workdir: str) -> Iterator[ocp.training.Checkpointer]:
  directory = checkpoint_folder(workdir)
  if not directory.exists():
    raise InputError(f'{directory.parent} has no checkpoints; train into it first, or name a run with --workdir')
  teach_orbax(directory)
  with ocp.training.Checkpointer(directory) as checkpointer:
    yield checkpointer


def _steps(checkpointer: ocp.training.Checkpointer, step: int | None) -> list[int]:
  """The steps there are, or the one that is wanted."""
  steps = [checkpoint.step for checkpoint in checkpointer.checkpoints]
  if not steps:
    raise InputError(f'{checkpointer.directory} has no finished checkpoint; train into it first')
  if step is not None and step not in steps:
    raise InputError(f'{checkpointer.directory} has no checkpoint of step {step}; it has {steps}')
  return steps if step is None else [step]


def _read_newest(checkpointer, steps: list[int], wanted: Wanted, agree) -> tuple[Restored | None, list[int]]:
  """The newest of `steps` that can be read, and the newer ones that cannot.

  Args:
    checkpointer: Orbax's.
    steps: oldest first.
    wanted: see `read_checkpoint`.
    agree: from what this process found wrong with a checkpoint to what all processes go by.
  """
  logging.getLogger('asyncio').addFilter(_is_news)
  _ignore_late_reads()
  unreadable = []
  for step in reversed(steps):
    restored, problem, final = _read(checkpointer, step, wanted)
    problem, final = agree(problem, final)
    if final:
      raise InputError(problem)
    if not problem:
      return restored, unreadable
    LOGGER.warning('checkpoint of step %d in %s cannot be read (%s); trying the one before it',
                   step, checkpointer.directory, problem)
    unreadable.append(step)
  if unreadable:
    raise InputError(
        f'none of the checkpoints {steps} in {checkpointer.directory} can be read; restore them from a copy, or use '
        'another workdir to start afresh; what has --step can be given an older one')
  return None, []


def _read(checkpointer, step: int, wanted: Wanted) -> tuple[Restored | None, str, bool]:
  """The checkpoint; else what is wrong with it, and whether an older one would be no better."""
  try:
    run, shapes = _json(checkpointer, step)
    items = wanted(run)
    saved = {path: shape for path, shape in shapes.items() if path.split('/')[0] in items}
    check_shapes(saved, _shapes(items), f'{checkpointer.directory}, step {step},')
    return Restored(step, checkpointer.load_checkpointables(step, items) if items else {}, run), '', False
  except InputError as error:
    return None, str(error), True
  except Exception as error:  # whatever the storage layer makes of missing or damaged files
    return None, _first_line(error), False


@functools.cache
def _ignore_late_reads() -> None:
  """When an array cannot be read, Orbax closes its event loop; each read that ends later would print a stack trace."""
  before = sys.unraisablehook
  sys.unraisablehook = lambda what: None if str(what.exc_value) == 'Event loop is closed' else before(what)


def _is_news(record: logging.LogRecord) -> bool:
  """False for the arrays of a damaged checkpoint after the first: asyncio would log a stack trace for each."""
  message = record.getMessage()
  return not ('never retrieved' in message and f'/{FOLDER}/' in message)


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


def _json(checkpointer, step: int) -> tuple[dict[str, Any], dict[str, list[int]]]:
  """The run's JSON and the shapes, which are kept apart from the arrays to tell damage from another model."""
  saved = checkpointer.checkpointables_metadata(step).custom_metadata
  if not saved:
    raise ValueError('its JSON is missing')
  return saved['run'], saved['shapes']


def _shapes(items: Mapping[str, Any]) -> dict[str, list[int]]:
  """item/path -> shape, of every array."""
  leaves = jax.tree.leaves_with_path(items)
  return {jax.tree_util.keystr(path, simple=True, separator='/'): list(leaf.shape) for path, leaf in leaves}


def _first_line(error: Exception) -> str:
  return next(iter(str(error).splitlines()), '') or type(error).__name__
