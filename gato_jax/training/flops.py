"""Model FLOPs of a step, and the device peak they are divided by: MFU."""

import time
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gato_jax.hardware import chip_of_kind

MATMUL_SIZE = 1024


class Peak(NamedTuple):
  """What the devices of a run could do together at best.

  Attributes:
    flops: per second.
    basis: where the number is from, for people.
  """

  flops: float
  basis: str


def device_peak() -> Peak:
  """Peak of all devices together: from the table, or the speed of a float32 matmul measured here and now."""
  devices = jax.devices()
  kind = devices[0].device_kind
  chip = chip_of_kind(kind)
  if chip:
    return Peak(chip.flops * len(devices), f'{len(devices)} x {kind}, bfloat16, data sheet')
  # Simulated devices of a process share its cores.
  count = jax.process_count() if devices[0].platform == 'cpu' else len(devices)
  return Peak(_matmul_speed() * count, f'{count} x {kind}, float32 matmul of {MATMUL_SIZE}, measured')


def _matmul_speed(repeats: int = 5) -> float:
  matrix = jnp.ones((MATMUL_SIZE, MATMUL_SIZE), jnp.float32)
  multiply = jax.jit(jnp.matmul)
  multiply(matrix, matrix).block_until_ready()
  seconds = []
  for _ in range(repeats):
    start = time.perf_counter()
    multiply(matrix, matrix).block_until_ready()
    seconds.append(time.perf_counter() - start)
  return 2 * MATMUL_SIZE**3 / min(seconds)


def step_flops(model_config, sequence_length: int, rows: int, targets: float, vocabulary_size: int) -> float:
  """Forward and backward FLOPs that the model needs, whatever the implementation does on top.

  A multiplication and an addition are two; backward is twice forward. Counted are the attention projections and the
  feed-forward matrices at every position, attention over the causal half of the row, and the tied head at targets
  only. Embeddings, norms and the patch encoder are left out.

  Args:
    model_config: the config's `model` section.
    sequence_length: L.
    rows: B.
    targets: positions with a target in the batch.
    vocabulary_size: rows of the head.
  """
  heads_width = model_config.heads * model_config.head_size
  half = model_config.feed_forward // 2  # gate and value halves together are `feed_forward` wide
  matrices = model_config.width * (4 * heads_width + 3 * half)
  attention = 2 * heads_width * sequence_length / 2  # scores and values, half of the square
  forward = 2 * model_config.layers * (matrices + attention) * rows * sequence_length
  return 3 * (forward + 2 * model_config.width * vocabulary_size * targets)
