"""What a training run is made of on the device, and how it is created on a mesh."""

from collections.abc import Callable
from typing import Any, NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
import optax

from gato_jax.model.gato import Gato
from gato_jax.sharding import parameter_shardings


class TrainState(NamedTuple):
  """A pytree; the train step maps it to the next one.

  Attributes:
    parameters: nested dict of float32 arrays.
    optimizer_state: optax's.
    step: int32 scalar, batches consumed.
    skipped: int32 scalar, steps whose update was left out because of a non-finite loss or gradient.
    nonfinite_in_row: int32 scalar, how many of them were the last ones in a row.
  """

  parameters: Any
  optimizer_state: Any
  step: jax.Array
  skipped: jax.Array
  nonfinite_in_row: jax.Array


class ModelDefinition(NamedTuple):
  """A Gato without its numbers.

  Attributes:
    graph: nnx graph definition.
    abstract: nnx State of shapes and dtypes, with the logical axes of each parameter.
    initialize: seed -> parameters.
  """

  graph: nnx.GraphDef
  abstract: nnx.State
  initialize: Callable[[int], Any]

  def build(self, parameters) -> Gato:
    """The module with these parameters (arrays or tracers); `parameters` as `TrainState.parameters`."""
    state = jax.tree.map(lambda leaf: leaf, self.abstract)
    nnx.replace_by_pure_dict(state, parameters)
    return nnx.merge(self.graph, state)


def define_model(model_config, vocabulary) -> ModelDefinition:
  """The model of a config, abstract: nothing is allocated."""
  def initialize(seed):
    return nnx.to_pure_dict(nnx.split(Gato(model_config, vocabulary, rngs=nnx.Rngs(seed)))[1])

  graph, abstract = nnx.split(nnx.eval_shape(lambda: Gato(model_config, vocabulary, rngs=nnx.Rngs(0))))
  return ModelDefinition(graph, abstract, initialize)


def initial_state(definition: ModelDefinition, optimizer: optax.GradientTransformation, seed: int) -> TrainState:
  """The state before the first step; jit it with `out_shardings` to create it in place."""
  parameters = definition.initialize(seed)
  return TrainState(parameters, optimizer.init(parameters), *(jnp.zeros((), jnp.int32) for _ in range(3)))


def abstract_state(definition: ModelDefinition, optimizer: optax.GradientTransformation, mesh) -> TrainState:
  """Shapes, dtypes and shardings of the state on a mesh.

  An optimizer's moments are sharded as their parameters are, scalars are on every device.
  """
  everywhere = NamedSharding(mesh, PartitionSpec())
  shapes = jax.eval_shape(lambda: initial_state(definition, optimizer, 0))
  shardings = nnx.to_pure_dict(parameter_shardings(mesh, definition.abstract))

  def is_masked(leaf):  # where a parameter belongs to another optimizer of a pair
    return isinstance(leaf, optax.MaskedNode)

  optimizer_shardings = optax.tree.map_params(
      optimizer, lambda leaf, sharding: leaf if is_masked(leaf) else sharding, shapes.optimizer_state, shardings,
      transform_non_params=lambda _: everywhere, is_leaf=is_masked)
  state_shardings = TrainState(shardings, optimizer_shardings, everywhere, everywhere, everywhere)
  return jax.tree.map(
      lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes, state_shardings)
