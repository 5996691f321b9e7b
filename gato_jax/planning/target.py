"""The machine that a run is planned for: `v5p:4x4x4`, `h100:64`."""

import math
import re
from typing import Any, NamedTuple

from data_pipelines.errors import InputError
from gato_jax.hardware import CHIPS, Chip, chip_named

_GPUS_PER_HOST = 8
_FLAT_RING = 16  # chips of a two-dimensional torus are wired to rings of so many
_CUBE = 4  # three-dimensional ones are of cubes with this side; only where there are whole cubes, there are rings


class Target(NamedTuple):
  """Devices that need not be here.

  Attributes:
    name: as it was asked for.
    chip: what they are.
    shape: of one slice: the torus, or the number of GPUs.
    slices: of that shape.
  """

  name: str
  chip: Chip
  shape: tuple[int, ...]
  slices: int

  @property
  def device_count(self) -> int:
    return math.prod(self.shape) * self.slices * self.devices_per_chip

  @property
  def devices_per_chip(self) -> int:
    return 2 if self.chip.name == 'tpu7x' else 1

  @property
  def is_tpu(self) -> bool:
    return self.chip.torus > 0

  @property
  def platform(self) -> str:
    return 'tpu' if self.is_tpu else 'gpu'

  @property
  def rings(self) -> tuple[bool, ...]:
    """Of each dimension of the torus, whether its ends are wired to each other."""
    if self.chip.torus == 2:
      return tuple(side % _FLAT_RING == 0 for side in self.shape)
    return (all(side % _CUBE == 0 for side in self.shape),) * len(self.shape)

  @property
  def slice_devices(self) -> int:
    return self.device_count // self.slices

  @property
  def fast_devices(self) -> int:
    """Successive devices of a mesh with a fast network of their own: a slice, or the GPUs of a host."""
    return self.slice_devices if self.is_tpu else _GPUS_PER_HOST

  def bandwidth(self, size: int) -> float:
    """Bytes/s that a device sends within a slice or host, in groups of so many devices.

    A group is taken to lie along the longest dimensions of the torus. Along a ring it has two links; along a part of
    one, or where the ends are not wired to each other, one.
    """
    if not self.is_tpu:
      return self.chip.link
    links, left = 0, math.ceil(size / self.devices_per_chip)
    for side, ring in sorted(zip(self.shape, self.rings, strict=True), reverse=True):
      if left > 1:
        links += 2 if ring and left >= side else 1
        left = math.ceil(left / side)
    return self.chip.link * max(links, 1)


def parse_target(topology: str, slices: int = 1) -> Target:
  """Raises InputError for a topology that is not `CHIP:SHAPE` with a chip that is known."""
  name, _, shape = topology.lower().partition(':')
  chip = chip_named(name)
  names = ', '.join(dict.fromkeys(chip.name for chip in CHIPS))
  if chip is None:
    raise InputError(f'--topology={topology}: no chip {name!r}; there are {names}')
  dimensions = chip.torus or 1
  if not re.fullmatch(r'[1-9]\d*(x[1-9]\d*)*', shape) or shape.count('x') + 1 != dimensions or slices < 1:
    example = 'x'.join(['4'] * dimensions)
    raise InputError(f'--topology={topology} --slices={slices}: {name} takes {dimensions} sizes, such as '
                     f'{name}:{example}, and at least one slice')
  return Target(f'{slices} x {topology}' if slices > 1 else topology, chip, tuple(map(int, shape.split('x'))), slices)


def tpu_devices(target: Target) -> list[Any]:
  """Devices to compile for, from libtpu, without a TPU.

  Raises:
    InputError: libtpu is not installed, or knows no such topology.
  """
  from jax.experimental import topologies

  arguments = {'chip_config_name': 'megacore'} if target.chip.name == 'v4' else {}
  arguments['wrap'] = (*target.rings, False)[:3]  # else it compiles for a slice that has no rings
  if target.slices > 1:
    arguments['num_slices'] = target.slices
  name = f'{target.chip.name}:{"x".join(map(str, target.shape))}'
  try:
    import libtpu  # noqa: F401
  except ImportError as error:
    raise InputError("planning for a TPU needs its compiler: pip install 'gato_jax[tpu]'") from error
  try:
    return topologies.get_topology_desc(topology_name=name, platform='tpu', **arguments).devices
  except Exception as error:
    raise InputError(f'libtpu has no topology {name}: {error}') from error
