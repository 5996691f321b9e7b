"""The training loop.

Its order is never changed: save if due, *then* next batch, step, write the metrics of the step before. So a checkpoint
of step n holds exactly what the first n batches made, and the host never waits for the step it has just dispatched.
"""

from collections.abc import Iterator
import logging
import pathlib
from typing import Any, Protocol

import jax
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np

from data_pipelines.datasets.prepare import open_sources, open_tokenizer
from data_pipelines.errors import InputError
from data_pipelines.loader import make_loader
from data_pipelines.sequences.rows import PackedBatch
from data_pipelines.sequences.tokenizer import SequenceTokenizer
from gato_jax.sharding import batch_sharding, make_mesh
from gato_jax.training.checkpoint import TOKENIZER_FOLDER, Checkpoints, config_of, describe_vocabulary
from gato_jax.training.flops import device_peak, step_flops
from gato_jax.training.loss import BATCH_AXES, LossSettings
from gato_jax.training.metrics import Meter, Writer
from gato_jax.training.optimizer import make_optimizer
from gato_jax.training.state import ModelDefinition, TrainState, abstract_state, define_model, initial_state
from gato_jax.training.step import TrainStep, make_train_function

LOGGER = logging.getLogger(__name__)


class BatchLoader(Protocol):
  """What the loop needs of a loader: an iterator whose state is one integer."""

  source_names: tuple[str, ...]

  def __iter__(self) -> Iterator[PackedBatch]: ...

  def __next__(self) -> PackedBatch: ...

  def get_state(self) -> int: ...

  def set_state(self, state: int) -> None: ...


def train(config, workdir: str) -> dict[str, Any]:
  """Trains on the config's mixture; goes on where it stopped if the workdir has a checkpoint.

  Args:
    config: a whole config, see gato_jax/config.py.
    workdir: gets checkpoints, metrics.jsonl, TensorBoard files and the tokenizer.

  Returns:
    The summary `Run.train` returns.

  Raises:
    InputError: datasets that are missing, a batch that does not fit the mesh, a checkpoint of another model or
      vocabulary, a full disk, or a loss that stays non-finite.
  """
  tokenizer = open_tokenizer(config.data)
  sources = open_sources(config.data, 'train')
  loader = make_loader(
      config.data, sources, tokenizer, seed=config.seed, batch_size=config.training.batch_size,
      shard_index=jax.process_index(), shard_count=jax.process_count())
  try:
    return Run(config, workdir, loader, tokenizer).train()
  finally:
    loader.close()


class Run:
  """One training run: all that is made before the first step.

  Attributes:
    train_step: counts its own compilations in `train_step.traces`.
  """

  def __init__(self, config, workdir: str, loader: BatchLoader, tokenizer: SequenceTokenizer):
    self._config, self._workdir, self._loader = config, workdir, loader
    self._mesh = make_mesh(config.mesh)
    check_batch(config.training, self._mesh)
    self._tokenizer = tokenizer
    self._definition = define_model(config.model, tokenizer.vocabulary)
    self._optimizer = make_optimizer(config.training)
    self._abstract = abstract_state(self._definition, self._optimizer, self._mesh)
    self._batch_sharding = batch_sharding(self._mesh)
    settings = loss_settings(config.training, tokenizer.vocabulary, len(loader.source_names))
    state_shardings = jax.tree.map(lambda leaf: leaf.sharding, self._abstract)
    self.train_step = TrainStep(
        make_train_function(make_forward(self._definition), settings, config.training, config.seed),
        in_shardings=(state_shardings, self._batch_sharding),
        out_shardings=(state_shardings, NamedSharding(self._mesh, PartitionSpec())))

  def train(self) -> dict[str, Any]:
    """Trains to `training.steps`.

    Returns:
      Of the whole run: `steps`, `tokens`, `targets`, `seconds`, `packing_fill`, `tokens_per_second`, and of the last
      record `loss`, `loss_by_source`, `accuracy_by_source`.
    """
    checkpoints = Checkpoints(self._workdir, self._config.training.keep_checkpoints)
    try:
      with jax.set_mesh(self._mesh):
        state, step, saved_meter = self._restore_or_initialize(checkpoints)
        meter = self._make_meter(saved_meter)
        writer = Writer(self._workdir, step, self._config.training.steps)
        try:
          self._loop(state, step, checkpoints, meter, writer)
        finally:
          writer.close()
    finally:
      checkpoints.close()
    return meter.summary()

  def _loop(self, state: TrainState, step: int, checkpoints: Checkpoints, meter: Meter, writer: Writer) -> None:
    training = self._config.training
    first, pending = step, None
    while True:
      if step > first and (step % training.checkpoint_every == 0 or step >= training.steps):
        self._write(pending, meter, writer)  # so that the sums in the checkpoint are those of its step
        pending = None
        checkpoints.save(step, state, self._run_json(meter))
      if step >= training.steps:
        return
      checkpoints.check()
      batch = self._to_devices(next(self._loader))
      with jax.transfer_guard('disallow'), jax.profiler.StepTraceAnnotation('train', step_num=step):
        state, metrics = self.train_step(state, batch)
      step += 1
      self._write(pending, meter, writer)
      pending = (step, metrics)

  def _write(self, pending, meter: Meter, writer: Writer) -> None:
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
      writer.write(step, meter.record())

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

  def _restore_or_initialize(self, checkpoints: Checkpoints) -> tuple[TrainState, int, dict[str, Any] | None]:
    """The state, its step, and the meter's state where a checkpoint has one."""
    restored = checkpoints.restore(self._abstract, describe_vocabulary(self._tokenizer))
    if restored is None:
      self._tokenizer.save(pathlib.Path(self._workdir) / TOKENIZER_FOLDER)
      shardings = jax.tree.map(lambda leaf: leaf.sharding, self._abstract)
      initialize = jax.jit(
          lambda: initial_state(self._definition, self._optimizer, self._config.seed), out_shardings=shardings)
      return initialize(), 0, None
    print(f'going on from the checkpoint of step {restored.step}', flush=True)
    changes = changed_keys(config_of(restored.run).to_dict(), self._config.to_dict())
    if changes:
      print('the config is not the one of that checkpoint: ' + '; '.join(changes), flush=True)
    self._loader.set_state(restored.run['data_state'])
    return restored.state, restored.step, restored.run['meter']

  def _run_json(self, meter: Meter) -> dict[str, Any]:
    return {
        'data_state': self._loader.get_state(),
        'config': self._config.to_dict(),
        'vocabulary': describe_vocabulary(self._tokenizer),
        'meter': meter.to_json(),
    }

  def _to_devices(self, batch: PackedBatch) -> PackedBatch:
    """This process's rows to its devices, as its part of the global batch."""
    return jax.tree.map(lambda rows: jax.make_array_from_process_local_data(self._batch_sharding, rows), batch)

  def _make_meter(self, saved: dict[str, Any] | None) -> Meter:
    config = self._config
    rows, length = config.training.batch_size, config.data.sequence_length
    peak = device_peak()
    print(f'MFU is of a peak of {peak.flops / 1e9:,.0f} GFLOP/s: {peak.basis}', flush=True)
    size = self._tokenizer.vocabulary.size
    meter = Meter(
        self._loader.source_names, rows * length,
        lambda targets: step_flops(config.model, length, rows, targets, size), peak.flops)
    if saved is not None:
      meter.load_json(saved)
    return meter


def make_forward(definition: ModelDefinition):
  """(parameters, batch, keys_B) -> (hidden_BxLxD, table_VxD), pure."""
  def forward(parameters, batch, keys_B):
    model = definition.build(parameters)
    return model(batch, keys_B), model.embedding_table()

  return forward


def loss_settings(training_config, vocabulary, source_count: int) -> LossSettings:
  """The loss's compile-time part for a vocabulary."""
  return LossSettings(
      vocabulary_size=vocabulary.size, continuous_start=vocabulary.continuous_start, bins=vocabulary.bins,
      bin_smoothing=training_config.bin_smoothing, source_count=source_count)


def changed_keys(old: dict[str, Any], new: dict[str, Any], prefix: str = '') -> list[str]:
  """`key: old -> new` for every key of two nested dicts that differs."""
  changes = []
  for key in sorted({*old, *new}):
    before, after = old.get(key), new.get(key)
    if isinstance(before, dict) and isinstance(after, dict):
      changes += changed_keys(before, after, f'{prefix}{key}.')
    elif before != after:
      changes.append(f'{prefix}{key}: {before!r} -> {after!r}')
  return changes


def check_batch(training_config, mesh) -> None:
  """Raises InputError unless the rows divide by accumulation and by the mesh's batch axes."""
  shards = int(np.prod([mesh.shape[axis] for axis in BATCH_AXES]))
  rows, accumulation = training_config.batch_size, training_config.accumulation
  if accumulation < 1 or rows % (accumulation * shards):
    raise InputError(
        f'training.batch_size={rows} does not divide by training.accumulation={accumulation} times the {shards} parts '
        f'that the mesh {dict(mesh.shape)} cuts a batch into; make it a multiple of {accumulation * shards}')
