"""Reading checkpoints: what a run goes on from, and what others read of it while it may be writing there."""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import functools
import logging
import sys
from typing import Any, NamedTuple

import jax
from orbax.checkpoint import v1 as ocp

from data_pipelines.errors import InputError
from gato_jax.training.checkpoint_place import FOLDER, checkpoint_folder
from gato_jax.training.compatibility import check_shapes
from gato_jax.training.s3 import teach_orbax
from gato_jax.training.state import TrainState

LOGGER = logging.getLogger(__name__)
Wanted = Callable[[dict[str, Any]], dict[str, Any]]


class DamagedCheckpoint(InputError):
  """Files of one checkpoint are missing or spoiled; another may be good."""


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


def read_checkpoint(workdir: str, wanted: Wanted, step: int | None = None) -> Restored:
  """Reads without touching anything; a run may be writing there.

  Args:
    workdir: the run's directory; it says where its checkpoints are if they are elsewhere.
    wanted: from a checkpoint's JSON to the abstract items to load; it raises InputError where they do not fit.
    step: which checkpoint; None for the newest that can be read.

  Raises:
    DamagedCheckpoint: that of the step that is asked for cannot be read.
    InputError: there is none, or none that can be read, or it is of another shape.
  """
  with _open_to_read(workdir) as checkpointer:
    steps = _steps(checkpointer, step)
    if step is not None:
      return _read_one(checkpointer, step, wanted)
    return read_newest(checkpointer, steps, wanted, lambda problem, final: (problem, final))[0]


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
      raise _damaged(checkpointer, step, first_line(error)) from error

  def read(self, abstract: Any) -> Any:
    """The arrays of a part of the parameters' tree, given by its ShapeDtypeStructs with shardings."""
    context = ocp.Context()
    context.pytree.loading.partial_load = True
    try:
      with context:
        return self._checkpointer.load_checkpointables(self.step, {'parameters': abstract})['parameters']
    except Exception as error:
      raise _damaged(self._checkpointer, self.step, first_line(error)) from error


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


def read_newest(checkpointer, steps: list[int], wanted: Wanted, agree) -> tuple[Restored | None, list[int]]:
  """The newest of `steps` that can be read, and the newer ones that cannot.

  Args:
    checkpointer: Orbax's.
    steps: oldest first.
    wanted: see `read_checkpoint`.
    agree: from what this process found wrong with a checkpoint to what all processes go by.
  """
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
    raise none_readable(steps, checkpointer.directory)
  return None, []


def none_readable(steps: list[int], directory: object) -> DamagedCheckpoint:
  """The error where all of a run's checkpoints are damaged."""
  return DamagedCheckpoint(f'none of the checkpoints {steps} in {directory} can be read; restore them from a copy, or '
                           'use another workdir to start afresh')


def _read_one(checkpointer, step: int, wanted: Wanted) -> Restored:
  restored, problem, final = _read(checkpointer, step, wanted)
  if final:
    raise InputError(problem)
  if restored is None:
    raise _damaged(checkpointer, step, problem)
  return restored


def _damaged(checkpointer: ocp.training.Checkpointer, step: int, problem: str) -> DamagedCheckpoint:
  others = [checkpoint.step for checkpoint in checkpointer.checkpoints if checkpoint.step != step]
  instead = f', or use another step: there are {others}' if others else '; there is no other'
  return DamagedCheckpoint(f'checkpoint of step {step} in {checkpointer.directory} is damaged ({problem}); restore it '
                           f'from a copy{instead}')


def _read(checkpointer, step: int, wanted: Wanted) -> tuple[Restored | None, str, bool]:
  """The checkpoint; else what is wrong with it, and whether an older one would be no better."""
  logging.getLogger('asyncio').addFilter(_is_news)
  ignore_late_operations()
  try:
    run, shapes = _json(checkpointer, step)
    items = wanted(run)
    saved = {path: shape for path, shape in shapes.items() if path.split('/')[0] in items}
    check_shapes(saved, shapes_of(items), f'{checkpointer.directory}, step {step},')
    return Restored(step, checkpointer.load_checkpointables(step, items) if items else {}, run), '', False
  except InputError as error:
    return None, str(error), True
  except Exception as error:  # whatever the storage layer makes of missing or damaged files
    return None, first_line(error), False


@functools.cache
def ignore_late_operations() -> None:
  """When an array cannot be read or written, Orbax closes its event loop; each operation that ends later would print a
  stack trace.
  """
  before = sys.unraisablehook
  sys.unraisablehook = lambda what: None if str(what.exc_value) == 'Event loop is closed' else before(what)


def _is_news(record: logging.LogRecord) -> bool:
  """False for the arrays of a damaged checkpoint after the first: asyncio would log a stack trace for each."""
  message = record.getMessage()
  return not ('never retrieved' in message and f'/{FOLDER}/' in message)


def _json(checkpointer, step: int) -> tuple[dict[str, Any], dict[str, list[int]]]:
  """The run's JSON and the shapes, which are kept apart from the arrays to tell damage from another model."""
  saved = checkpointer.checkpointables_metadata(step).custom_metadata
  if not saved:
    raise ValueError('its JSON is missing')
  return saved['run'], saved['shapes']


def shapes_of(items: Mapping[str, Any]) -> dict[str, list[int]]:
  """item/path -> shape, of every array."""
  leaves = jax.tree.leaves_with_path(items)
  return {jax.tree_util.keystr(path, simple=True, separator='/'): list(leaf.shape) for path, leaf in leaves}


def first_line(error: BaseException) -> str:
  """What the storage layer says, without the rest of it."""
  return next(iter(str(error).splitlines()), '') or type(error).__name__
