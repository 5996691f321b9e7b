"""The mesh: how the devices of all processes lie along `replica`, `fsdp` and `tensor`."""

from collections.abc import Sequence
from typing import Any

import jax
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh
import numpy as np

from data_pipelines.errors import InputError

MESH_AXES = ('replica', 'fsdp', 'tensor')
BATCH_AXES = ('replica', 'fsdp')
NO_MESH = Mesh(np.empty((), object), ())  # to `jax.set_mesh` within a mesh, for what is on one device
_SLICES = 0  # in a preset: as many as there are slices

# Sizes of the axes; -1 takes the devices that the others leave.
PRESETS: dict[str, tuple[int, int, int]] = {
    'dp': (-1, 1, 1),  # every device has all parameters and some rows
    'fsdp': (1, -1, 1),  # parameters and rows are split over all devices
    'fsdp_tp': (1, -1, 4),  # and the work of a layer over the four chips of a host
    'hybrid': (_SLICES, -1, 1),  # fsdp within a slice, copies of the parameters between slices
}


def make_mesh(mesh_config: Any, devices: Sequence[Any] | None = None) -> Mesh:
  """Builds the mesh over all devices of all processes.

  Several TPU slices, or hosts in several fast networks, are laid out so that only `replica` crosses from one to
  another: that is the slow network, and gradients are all that passes between replicas.

  Args:
    mesh_config: `preset` and, where they are not 0, the sizes of the axes instead of the preset's.
    devices: all there are by default.

  Raises:
    InputError: no such preset, or sizes that do not multiply to the number of devices or do not fit the slices.
  """
  devices = jax.devices() if devices is None else devices
  slices = slice_count(devices)
  sizes = mesh_sizes(mesh_config, len(devices), slices)
  inner = (sizes[0] // slices, *sizes[1:])
  if slices > 1:
    array = mesh_utils.create_hybrid_device_mesh(inner, (slices, 1, 1), devices, allow_split_physical_axes=True)
  else:
    array = mesh_utils.create_device_mesh(inner, devices, allow_split_physical_axes=True)
  return Mesh(array, MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))


def make_abstract_mesh(mesh_config: Any, device_count: int, slices: int = 1) -> AbstractMesh:
  """The mesh of devices that are not here: enough for shapes and layouts. Raises InputError as `make_mesh` does."""
  sizes = mesh_sizes(mesh_config, device_count, slices)
  return AbstractMesh(sizes, MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))


def mesh_sizes(mesh_config: Any, device_count: int, slices: int = 1) -> tuple[int, ...]:
  """Sizes of `MESH_AXES` for so many devices in so many slices; raises InputError where there are none that fit."""
  if mesh_config.preset not in PRESETS:
    raise InputError(f'config.mesh.preset is {mesh_config.preset!r}: must be one of {", ".join(PRESETS)}')
  preset = [slices if size == _SLICES else size for size in PRESETS[mesh_config.preset]]
  given = [int(getattr(mesh_config, axis)) for axis in MESH_AXES]
  if -1 in given:  # the one that takes what is left is the given one
    preset = [max(size, 1) for size in preset]
  sizes = [size or default for size, default in zip(given, preset, strict=True)]
  asked = f'preset={mesh_config.preset}: ' + ', '.join(
      f'{axis}={size}' for axis, size in zip(MESH_AXES, sizes, strict=True))
  if sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
    raise InputError(f'config.mesh ({asked}): sizes must be positive, and at most one may be -1 (what is left).')
  if -1 in sizes:
    sizes[sizes.index(-1)] = max(device_count // -int(np.prod(sizes)), 1)
  if np.prod(sizes) != device_count:
    raise InputError(
        f'config.mesh ({asked}) does not fit {device_count} device{"s" * (device_count != 1)}: the sizes must multiply '
        f'to {device_count}. Set one of them to -1 to take what the others leave.')
  if sizes[0] % slices:
    raise InputError(
        f'config.mesh ({asked}) does not fit {slices} slices: only replica may cross the network between slices, so it '
        f'must be a multiple of {slices}. Set config.mesh.preset=hybrid.')
  return tuple(sizes)


def slice_count(devices: Sequence[Any]) -> int:
  """How many groups of devices with a fast network of their own there are."""
  return len({getattr(device, 'slice_index', 0) for device in devices})


def platform() -> str:
  """What is compiled for, `tpu`, `gpu` or `cpu`: the devices of `jax.set_mesh`, or JAX's default ones.

  They differ where a program is planned for a machine that is not here.
  """
  device = jax.sharding.get_abstract_mesh().abstract_device
  return device.platform if device is not None else jax.default_backend()
