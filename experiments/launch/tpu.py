"""What Google Cloud calls the slices of TPUs."""

import math
from typing import NamedTuple

from data_pipelines.errors import InputError
from gato_jax.planning.target import Target


class Names(NamedTuple):
  """Of a chip.

  Attributes:
    gke: node label `cloud.google.com/gke-tpu-accelerator`.
    vm: what an accelerator type starts with.
    counted: in an accelerator type, a chip counts as so many (its cores, for the older ones).
    runtime: software of a TPU VM.
  """

  gke: str
  vm: str
  counted: int
  runtime: str


NAMES = {
    'v4': Names('tpu-v4-podslice', 'v4', 2, 'tpu-ubuntu2204-base'),
    'v5e': Names('tpu-v5-lite-podslice', 'v5litepod', 1, 'v2-alpha-tpuv5-lite'),
    'v5p': Names('tpu-v5p-slice', 'v5p', 2, 'v2-alpha-tpuv5'),
    'v6e': Names('tpu-v6e-slice', 'v6e', 1, 'v2-alpha-tpuv6e'),
}
CHIPS_PER_HOST = 4


def names(target: Target) -> Names:
  """Raises InputError for what is not among `NAMES`."""
  if target.chip.name not in NAMES:
    raise InputError(f'{target.name}: this launcher knows {", ".join(NAMES)}')
  return NAMES[target.chip.name]


def accelerator_type(target: Target) -> str:
  """`v5litepod-256`, `v5p-128`."""
  known = names(target)
  return f'{known.vm}-{math.prod(target.shape) * known.counted}'


def topology(target: Target) -> str:
  return 'x'.join(map(str, target.shape))


def hosts(target: Target) -> int:
  """Of one slice."""
  return max(math.prod(target.shape) // CHIPS_PER_HOST, 1)
