"""The training loop.

Its order is never changed: save if due, evaluate if due, *then* next batch, step, write the metrics of the step before.
So a checkpoint of step n holds exactly what the first n batches made, an evaluation that is killed costs no training,
and the host never waits for the step it has just dispatched.

Every process of a run goes through the same lines; process 0 writes the metrics.
"""

import collections
from collections.abc import Callable, Iterator
import contextlib
import logging
import pathlib
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from data_pipelines.datasets.prepare import open_sources
from data_pipelines.errors import InputError
from data_pipelines.loader import make_loader
from data_pipelines.sequences.plan import dataset_of
from data_pipelines.sequences.rows import PackedBatch
from data_pipelines.sequences.tokenizer import SequenceTokenizer
from gato_jax.config import changed_keys, without_readers
from gato_jax.group import Group, Preempted
from gato_jax.mesh import NO_MESH, make_mesh
from gato_jax.sharding import batch_sharding, local_rows
from gato_jax.training.checkpoint import Checkpoints
from gato_jax.training.checkpoint_place import TOKENIZER_FOLDER, note_place
from gato_jax.training.compatibility import config_of, describe_vocabulary
from gato_jax.training.flops import device_peak, step_flops
from gato_jax.training.goodput import Goodput, last_sign
from gato_jax.training.memory import memory_held
from gato_jax.training.metrics import Meter, Writer
from gato_jax.training.ownership import Ownership
from gato_jax.training.preemption import Preemption
from gato_jax.training.program import check_training, make_program
from gato_jax.training.restore import read_parameters, tokenizer_of
from gato_jax.training.state import TrainState, initial_state
from gato_jax.training.watchdog import Watchdog

LOGGER = logging.getLogger(__name__)


class Evaluation(NamedTuple):
  """What is done every so many steps, and after the last, before the next batch is drawn; not on the run's mesh.

  Attributes:
    every: steps.
    run: gets the step and the parameters, which are given away afterwards. Called on every process.
    saved: whether it reads the checkpoint of the step: then there is one, and a run that goes on from it evaluates it.
  """

  every: int
  run: Callable[[int, Any], None]
  saved: bool = False


class BatchLoader(Protocol):
  """What the loop needs of a loader: an iterator whose state is one integer."""

  source_names: tuple[str, ...]

  def __iter__(self) -> Iterator[PackedBatch]: ...

  def __next__(self) -> PackedBatch: ...

  def get_state(self) -> int: ...

  def set_state(self, state: int) -> None: ...


def train(config: Any, workdir: str, group: Group | None = None, evaluation: Evaluation | None = None,
          tokenizer: SequenceTokenizer | None = None) -> dict[str, Any]:
  """Trains on the config's mixture; goes on where it stopped if the workdir has a checkpoint.

  Args:
    config: a whole config, see gato_jax/config.py.
    workdir: gets checkpoints, metrics.jsonl, TensorBoard files and the tokenizer.
    group: the processes of the run; alone by default.
    evaluation: done as training goes on.
    tokenizer: by default that of the run it starts from (`training.init_from`), or the one made with the data.

  Returns:
    The summary `Run.train` returns.

  Raises:
    InputError: datasets that are missing, a batch that does not fit the mesh, a checkpoint of another model or
      vocabulary, a workdir that another run is using, a full disk, or a loss that stays non-finite.
    Preempted: the machine is wanted back; the state is saved.
    LostProcess: another process of the run is gone.
  """
  mesh = make_mesh(config.mesh)
  check_training(config.training, mesh)
  tokenizer = tokenizer or tokenizer_of(config)
  sources = open_sources(config.data, 'train')
  rows = config.training.batch_size
  loader = make_loader(
      config.data, sources, tokenizer, seed=config.seed, batch_size=rows,
      local_rows=local_rows(batch_sharding(mesh), rows))
  try:
    summary = Run(config, workdir, loader, tokenizer, group, evaluation).train()
    if jax.process_index() == 0:
      print(shares_line(loader.report()), flush=True)
    return summary
  finally:
    loader.close()


class Run:
  """One training run: all that is made before the first step.

  Attributes:
    train_step: counts its own compilations in `train_step.traces`.
    goodput: where the time went.
  """

  def __init__(self, config, workdir: str, loader: BatchLoader, tokenizer: SequenceTokenizer,
               group: Group | None = None, evaluation: Evaluation | None = None):
    self._config, self._workdir, self._loader, self._tokenizer = config, workdir, loader, tokenizer
    self._evaluation = evaluation
    self._group = group or Group()
    self.goodput = Goodput()
    self._mesh = make_mesh(config.mesh)
    with jax.set_mesh(self._mesh):
      self._program = make_program(config, tokenizer.vocabulary, len(loader.source_names), self._mesh)
    self.train_step = self._program.train_step

  def train(self) -> dict[str, Any]:
    """Trains to `training.steps`.

    Returns:
      Of the whole run: `steps`, `tokens`, `targets`, `seconds`, `packing_fill`, `tokens_per_second`, and of the last
      record `loss`, `loss_by_source`, `accuracy_by_source`.

    Raises:
      InputError, Preempted, LostProcess: see `train`.
    """
    ownership, before = self._take_workdir()
    training = self._config.training
    try:
      checkpoints = Checkpoints(
          training.checkpoint_dir or self._workdir, training.keep_checkpoints, training.keep_every, training.keep_best,
          self._group, self._config.faults.agree_timeout)
      try:
        return self._train(checkpoints, before)
      except Preempted:
        raise
      except Exception as error:  # before anything here waits for the other processes
        self._group.fail(error)
        raise
      finally:
        checkpoints.close()
    finally:
      if ownership:
        self.goodput.write(self._workdir)
        ownership.close()

  def _train(self, checkpoints: Checkpoints, before: dict[str, Any] | None) -> dict[str, Any]:
    faults = self._config.faults
    with contextlib.ExitStack() as stack, jax.set_mesh(self._mesh):
      watchdog = stack.enter_context(contextlib.closing(Watchdog(faults.first_step_timeout, faults.step_timeout)))
      preemption = stack.enter_context(contextlib.closing(Preemption(self._group)))
      state, step, saved = self._restore_or_initialize(checkpoints)
      self.goodput.go_on(saved.get('goodput'), before)
      meter = self._make_meter(saved.get('meter'))
      writer = None
      if self._group.index == 0:
        writer = stack.enter_context(contextlib.closing(Writer(self._workdir, step, self._config.training.steps)))
      self._loop(state, step, checkpoints, meter, writer, watchdog, preemption)
    return meter.summary()

  def _loop(self, state: TrainState, step: int, checkpoints: Checkpoints, meter: Meter, writer: Writer | None,
            watchdog: Watchdog, preemption: Preemption) -> None:
    training, goodput = self._config.training, self.goodput
    first, pending = step, None
    while True:
      preempted = preemption.due(step)
      evaluating = self._evaluation_due(step, first)
      if step > first and (step % training.checkpoint_every == 0 or step >= training.steps or preempted
                           or evaluating and self._evaluation.saved):
        self._write(pending, meter, writer)  # so that the sums in the checkpoint are those of its step
        watchdog.progress()
        pending = None
        goodput.enter('save')
        checkpoints.save(step, state, self._run_json(meter), meter.last_loss)
      if preempted and (evaluating or step < training.steps):
        checkpoints.wait()
        raise Preempted(f'stopped at step {step} of {training.steps}, which is saved; the same command goes on')
      if evaluating:
        self._evaluate(step, state, checkpoints, watchdog)
      if step >= training.steps:
        return
      checkpoints.check()
      self._group.check()
      goodput.enter('data')
      batch = self._to_devices(next(self._loader))
      if step == first:
        self._compile(state, batch)
      goodput.enter('step')
      with jax.transfer_guard('disallow'), jax.profiler.StepTraceAnnotation('train', step_num=step):
        state, metrics = self.train_step(state, batch)
      step += 1
      self._write(pending, meter, writer)
      if pending:
        watchdog.progress()
      pending = (step, metrics)

  def _evaluation_due(self, step: int, first: int) -> bool:
    evaluation = self._evaluation
    if not evaluation or not step or step == first and not evaluation.saved:
      return False
    return step % evaluation.every == 0 or step == self._config.training.steps

  def _evaluate(self, step: int, state: TrainState, checkpoints: Checkpoints, watchdog: Watchdog) -> None:
    if self._evaluation.saved:
      checkpoints.wait()
    self.goodput.enter('evaluation')
    with watchdog.paused(), jax.set_mesh(NO_MESH):
      self._evaluation.run(step, state.parameters)
      self._group.gather('evaluated', None, self._config.faults.evaluation_timeout)

  def _write(self, pending, meter: Meter, writer: Writer | None) -> None:
    """Takes in the metrics of an earlier step, and writes a record where one is due."""
    if pending is None:
      return
    step, metrics = pending
    training = self._config.training
    metrics = jax.device_get(metrics)
    if metrics['nonfinite']:
      self._report_nonfinite(step, metrics)
    meter.add(metrics)
    if step % training.log_every == 0 or step == training.steps:
      record = meter.record()
      if writer:
        writer.write(step, record | memory_held())
        self.goodput.write(self._workdir)

  def _report_nonfinite(self, step: int, metrics: dict[str, np.ndarray]) -> None:
    weights = metrics['weight_by_source']
    losses = ', '.join(
        f'{name} {metrics["loss_by_source"][index] / weights[index]:.4g}'
        for index, name in enumerate(self._loader.source_names) if weights[index] > 0)
    in_row, limit = int(metrics['nonfinite_in_row']), self._config.training.nonfinite_limit
    LOGGER.warning('step %d: loss or gradient not finite, update skipped (%d in a row); %s', step, in_row, losses)
    if in_row >= limit:
      raise InputError(
          f'step {step}: loss or gradient was not finite {in_row} steps in a row (training.nonfinite_limit); losses by '
          f'dataset: {losses}. Lower training.schedule.peak, set training.optimizer.clip_norm, or look for bad data in '
          'the datasets whose loss is not finite')

  def _take_workdir(self) -> tuple[Ownership | None, dict[str, Any] | None]:
    """Process 0 takes the workdir for all; the record of the run before is known to all."""
    ownership, before, problem = None, None, ''
    if self._group.index == 0:
      try:
        ownership = Ownership(self._workdir)
        before = ownership.before or last_sign(self._workdir)
      except InputError as error:
        problem = str(error)
    before, problem = self._group.first('workdir', (before, problem), self._config.faults.agree_timeout)
    if problem:
      raise InputError(problem)
    return ownership, before

  def _restore_or_initialize(self, checkpoints: Checkpoints) -> tuple[TrainState, int, dict[str, Any]]:
    """The state, its step, and the JSON of its checkpoint."""
    self.goodput.enter('restore')
    restored = checkpoints.restore(self._program.abstract, describe_vocabulary(self._tokenizer))
    self.goodput.enter('start')
    folder = pathlib.Path(self._workdir) / TOKENIZER_FOLDER
    if self._group.index == 0:
      note_place(self._workdir, self._config.training.checkpoint_dir)
      if restored is None or not folder.exists():
        self._tokenizer.save(folder)
    if restored is None:
      initialize = jax.jit(
          lambda: initial_state(self._program.definition, self._program.optimizer, self._config.seed),
          out_shardings=self._program.state_shardings).lower().compile()
      self._group.gather('initial state', None, self._config.faults.agree_timeout)
      return self._initialized_from(initialize()), 0, {}
    self._say(f'going on from the checkpoint of step {restored.step}')
    changes = changed_keys(*(without_readers(each.to_dict()) for each in (config_of(restored.run), self._config)))
    if changes:
      self._say('the config is not the one of that checkpoint: ' + '; '.join(changes))
    self._loader.set_state(restored.run['data_state'])
    return restored.state, restored.step, restored.run

  def _initialized_from(self, state: TrainState) -> TrainState:
    """The state with the parameters of the run that the config names, if it names one."""
    workdir = self._config.training.init_from
    if not workdir:
      return state
    restored = read_parameters(workdir, self._program.abstract.parameters, self._tokenizer)
    self._say(f'starting from the weights of {workdir}, step {restored.step}')
    return state._replace(parameters=restored.items['parameters'])

  def _compile(self, state: TrainState, batch: PackedBatch) -> None:
    """Compiles, and waits for the others: a collective waits less long for a process than compilers may differ."""
    self.goodput.enter('compile')
    self.train_step.compile(state, batch)
    self._group.gather('compiled', None, self._config.faults.agree_timeout)

  def _say(self, text: str) -> None:
    if self._group.index == 0:
      print(text, flush=True)

  def _run_json(self, meter: Meter) -> dict[str, Any]:
    return {
        'data_state': self._loader.get_state(),
        'config': self._config.to_dict(),
        'vocabulary': describe_vocabulary(self._tokenizer),
        'meter': meter.to_json(),
        'goodput': self.goodput.to_json(),
    }

  def _to_devices(self, batch: PackedBatch) -> PackedBatch:
    """This process's rows to its devices, as its part of the global batch."""
    sharding, rows = self._program.batch_sharding, self._config.training.batch_size

    def place(local):
      return jax.make_array_from_process_local_data(sharding, local, (rows, *local.shape[1:]))

    return jax.tree.map(place, batch)

  def _make_meter(self, saved: dict[str, Any] | None) -> Meter:
    config = self._config
    rows, length = config.training.batch_size, config.data.sequence_length
    peak = device_peak()
    self._say(f'MFU is of a peak of {peak.flops / 1e9:,.0f} GFLOP/s: {peak.basis}')
    size = self._tokenizer.vocabulary.size
    meter = Meter(
        self._loader.source_names, rows * length,
        lambda targets: step_flops(config.model, length, rows, targets, size), peak.flops)
    if saved is not None:
      meter.load_json(saved)
    return meter


def shares_line(report: dict[str, Any]) -> str:
  """What share of the positions each entry of the mixture got since this process began, and what it should get."""
  got, wanted = collections.Counter(), collections.Counter()
  for by_source, by_entry in ((report['shares'], got), (report['wanted_shares'], wanted)):
    for name, share in by_source.items():
      by_entry[dataset_of(name)] += share
  return 'shares of positions: ' + ', '.join(f'{name} {got[name]:.1%} of {wanted[name]:.1%}' for name in wanted)
