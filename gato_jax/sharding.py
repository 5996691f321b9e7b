"""The one table that says how named array axes lie on the mesh.

Parameters name their axes where they are created (`parameter`), activations where they are constrained (`constrain`);
nothing else in the model knows of devices.
"""

from typing import Any

from flax import nnx
import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np

from data_pipelines.errors import InputError
from gato_jax.mesh import BATCH_AXES

# Logical axis -> mesh axes; an axis that is not here is on every device. `width` is the model width of parameters:
# activations are split over `batch` and keep their width whole.
LOGICAL_RULES: dict[str, tuple[str, ...]] = {
    'batch': BATCH_AXES,
    'width': ('fsdp',),
    'vocabulary': ('tensor',),
    'heads': ('tensor',),
    'feed_forward': ('tensor',),
}


def partition_spec(*logical_axes: str | None) -> PartitionSpec:
  """Looks logical axes up in `LOGICAL_RULES`; None is an axis that is not split."""
  return PartitionSpec(*(LOGICAL_RULES.get(axis) for axis in logical_axes))


def constrain(x: jax.Array, *logical_axes: str | None) -> jax.Array:
  """Asks for a layout of an activation on the mesh of `jax.set_mesh`; without a mesh, does nothing."""
  if jax.sharding.get_abstract_mesh().empty:
    return x
  return jax.lax.with_sharding_constraint(x, partition_spec(*logical_axes))


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Of arrays whose first axis is the batch: rows over `replica` and `fsdp`."""
  return NamedSharding(mesh, partition_spec('batch'))


def local_rows(sharding: NamedSharding, rows: int) -> tuple[int, ...]:
  """The rows of a batch of so many that the devices of this process need, in order."""
  slices = sharding.addressable_devices_indices_map((rows,)).values()
  return tuple(sorted({row for (places,) in slices for row in range(*places.indices(rows))}))


def parameter(
    initializer: jax.nn.initializers.Initializer, rngs: nnx.Rngs, shape: tuple[int, ...],
    logical_axes: tuple[str | None, ...]) -> nnx.Param:
  """A float32 parameter that carries the names of its axes.

  The names are metadata of our own (`logical_axes`), not flax's `out_sharding`, which would be read as mesh axes and
  applied at once wherever a mesh is set.
  """
  if len(shape) != len(logical_axes):
    raise ValueError(f'shape {shape} and logical axes {logical_axes} differ in length')
  return nnx.Param(initializer(rngs.params(), shape), logical_axes=logical_axes)


def parameter_shardings(mesh: Mesh, abstract_state: Any) -> Any:
  """Shardings for every array of a tree with the model's parameters in it.

  Args:
    mesh: from `make_mesh` or `make_abstract_mesh`.
    abstract_state: `nnx.State`, or any pytree that holds parameters with their metadata, such as the optimizer's
      moments. Arrays without axis names are put on every device.

  Returns:
    The same tree with a `NamedSharding` in place of each array.

  Raises:
    InputError: if an axis does not divide by the mesh axes it is split over.
  """

  def sharding(path, leaf):
    if not isinstance(leaf, nnx.Variable):
      return NamedSharding(mesh, PartitionSpec())
    axes = leaf.get_metadata('logical_axes', ())
    _check_divisible(mesh, jax.tree_util.keystr(path), leaf.get_value().shape, axes)
    return leaf.replace(NamedSharding(mesh, partition_spec(*axes)))

  return jax.tree.map_with_path(sharding, abstract_state, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))


def _check_divisible(mesh: Mesh, name: str, shape: tuple[int, ...], logical_axes: tuple[str | None, ...]) -> None:
  for size, axis in zip(shape, logical_axes, strict=False):
    mesh_axes = LOGICAL_RULES.get(axis, ())
    shards = int(np.prod([mesh.shape[mesh_axis] for mesh_axis in mesh_axes]))
    if size % shards:
      raise InputError(
          f'{name}: its {axis} axis of {size} does not divide by {shards} (config.mesh: {" x ".join(mesh_axes)}). '
          f'Change the mesh, or the model so that {axis} is a multiple of {shards}.')
