"""What the chips can do, from the vendors' data sheets; bandwidths of the networks between TPUs from the scaling book
(jax-ml.github.io/scaling-book)."""

import re
from typing import NamedTuple


class Chip(NamedTuple):
  """One accelerator, as JAX sees a device.

  Attributes:
    name: as topologies are named.
    kind: part of JAX's `device_kind`, with no digit after it: an L4 is no L40.
    flops: bfloat16 FLOP/s, dense.
    memory: bytes of HBM.
    memory_bandwidth: bytes/s.
    link: bytes/s of a fast link, one way. A TPU has one to each neighbour in its torus, a GPU one to its NVLink switch.
    outside: bytes/s a chip, one way, between slices or hosts: the data-centre network.
    torus: dimensions of the torus; 0: a switch within a host.
  """

  name: str
  kind: str
  flops: float
  memory: float
  memory_bandwidth: float
  link: float
  outside: float
  torus: int


GB = 1e9
CHIPS = (
    Chip('v4', 'TPU v4', 275e12, 32 * 2**30, 1228 * GB, 45 * GB, 6.25 * GB, 3),
    Chip('v5e', 'TPU v5 lite', 197e12, 16 * 2**30, 819 * GB, 45 * GB, 3.125 * GB, 2),
    Chip('v5e', 'TPU v5e', 197e12, 16 * 2**30, 819 * GB, 45 * GB, 3.125 * GB, 2),
    Chip('v5p', 'TPU v5', 459e12, 95 * 2**30, 2765 * GB, 90 * GB, 6.25 * GB, 3),
    Chip('v6e', 'TPU v6', 918e12, 32 * 2**30, 1640 * GB, 90 * GB, 12.5 * GB, 2),
    Chip('tpu7x', 'TPU7x', 1153e12, 96 * 2**30, 3690 * GB, 100 * GB, 12.5 * GB, 3),  # a device is half a chip
    Chip('h200', 'H200', 989e12, 141 * GB, 4800 * GB, 450 * GB, 50 * GB, 0),
    Chip('h100', 'H100', 989e12, 80 * GB, 3350 * GB, 450 * GB, 50 * GB, 0),
    Chip('a100', 'A100', 312e12, 80 * GB, 2039 * GB, 300 * GB, 25 * GB, 0),
    Chip('l4', 'L4', 121e12, 24 * GB, 300 * GB, 32 * GB, 3 * GB, 0),
)


def chip_of_kind(device_kind: str) -> Chip | None:
  """The first chip whose kind is part of JAX's name of a device."""
  return next((chip for chip in CHIPS if re.search(rf'{chip.kind}(?!\d)', device_kind)), None)


def chip_named(name: str) -> Chip | None:
  return next((chip for chip in CHIPS if chip.name == name), None)
