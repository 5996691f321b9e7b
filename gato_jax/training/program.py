"""What a run compiles: the train step of a config on a mesh. The planner compiles the same for a pod elsewhere."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np
import optax

from data_pipelines.errors import InputError
from data_pipelines.sequences.rows import PackedBatch
from gato_jax.mesh import BATCH_AXES
from gato_jax.sharding import batch_sharding
from gato_jax.training.loss import LossSettings
from gato_jax.training.optimizer import make_optimizer
from gato_jax.training.state import ModelDefinition, TrainState, abstract_state, define_model
from gato_jax.training.step import TrainStep, make_train_function


class Program(NamedTuple):
  """A run without its numbers.

  Attributes:
    definition: the model.
    optimizer: optax's.
    abstract: shapes, dtypes and shardings of the state.
    batch_sharding: of every array of a batch.
    train_step: counts its own compilations in `traces`.
  """

  definition: ModelDefinition
  optimizer: optax.GradientTransformation
  abstract: TrainState
  batch_sharding: NamedSharding
  train_step: TrainStep

  @property
  def state_shardings(self) -> TrainState:
    return jax.tree.map(lambda leaf: leaf.sharding, self.abstract)


def make_program(config: Any, vocabulary: Any, source_count: int, mesh: Mesh) -> Program:
  """The program of a whole config; to be called and run under `jax.set_mesh(mesh)`.

  Args:
    config: see gato_jax/config.py.
    vocabulary: the id layout.
    source_count: datasets in the mixture.
    mesh: from `make_mesh`.

  Raises:
    InputError: a batch or a model that does not fit the mesh.
  """
  check_training(config.training, mesh)
  definition = define_model(config.model, vocabulary)
  optimizer = make_optimizer(config.training)
  abstract = abstract_state(definition, optimizer, mesh)
  rows = batch_sharding(mesh)
  settings = loss_settings(config.training, vocabulary, source_count)
  shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
  train_step = TrainStep(
      make_train_function(make_forward(definition), settings, config.training, config.seed),
      in_shardings=(shardings, rows), out_shardings=(shardings, NamedSharding(mesh, PartitionSpec())))
  return Program(definition, optimizer, abstract, rows, train_step)


def abstract_batch(config: Any, sharding: NamedSharding | None) -> PackedBatch:
  """Shapes and dtypes of a batch, as the loader makes it."""
  rows, length, slots = config.training.batch_size, config.data.sequence_length, config.data.patches_per_row

  def array(dtype, *shape):
    return jax.ShapeDtypeStruct((rows, *shape), dtype, sharding=sharding)

  places = {name: array(jnp.int32, length)
            for name in ('tokens', 'targets', 'segment_ids', 'positions', 'local_positions')}
  return PackedBatch(
      **places, loss_weights=array(jnp.float32, length), sources=array(jnp.int16, length),
      patches=array(jnp.uint8, slots, 16, 16, 3), patch_positions=array(jnp.int32, slots),
      patch_intervals=array(jnp.uint8, slots, 2, 2))


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


def check_training(training_config, mesh) -> None:
  """Raises InputError for counts below 1, and unless rows divide by accumulation and by the mesh's batch axes."""
  for key in ('batch_size', 'accumulation', 'log_every', 'checkpoint_every', 'keep_checkpoints'):
    if training_config[key] < 1:
      raise InputError(f'training.{key} is {training_config[key]}: must be at least 1')
  shards = int(np.prod([mesh.shape[axis] for axis in BATCH_AXES]))
  rows, accumulation = training_config.batch_size, training_config.accumulation
  if rows % (accumulation * shards):
    raise InputError(
        f'training.batch_size={rows} does not divide by training.accumulation={accumulation} times the {shards} parts '
        f'that the mesh {dict(mesh.shape)} cuts a batch into; make it a multiple of {accumulation * shards}')
