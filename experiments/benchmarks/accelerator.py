"""A train step on the accelerators that are here: `gato-jax benchmark accelerator --config=FILE`. Needs no data.

Prints one JSON line; the step is the one that training runs, on all devices, on rows of one segment that are brought
from the host each time:

  milliseconds_per_step: on the clock, the mean of STEPS that are dispatched one after the other.
  tokens_per_second: positions.
  mfu: FLOPs that the model needs (gato_jax/training/flops.py) by the devices' peak of the data sheet.
  peak_gib: most memory of the first device; 0 where it does not count.
"""

import json
import time
from typing import Any

import jax

from data_pipelines.tokenization.vocabulary import Vocabulary
from experiments.benchmarks import measuring
from experiments.benchmarks.train_step import TARGET_SHARE, own_step
from gato_jax.training.flops import device_peak, step_flops

STEPS = 10


def main(config: Any, steps: int = STEPS) -> None:
  """Measures and prints."""
  vocabulary = Vocabulary(**config.data.vocabulary.to_dict())
  length, rows = config.data.sequence_length, config.training.batch_size
  step = own_step(config, vocabulary)
  batch = measuring.packed_batch(config, vocabulary, TARGET_SHARE, length)
  for _ in range(2):
    jax.block_until_ready(step(batch))
  started = time.perf_counter()
  losses = [step(batch) for _ in range(steps)]
  jax.block_until_ready(losses)
  seconds = (time.perf_counter() - started) / steps
  flops = step_flops(config.model, length, rows, TARGET_SHARE * rows * length, vocabulary.size)
  memory = jax.local_devices()[0].memory_stats() or {}
  print(json.dumps({
      'benchmark': 'accelerator', **measuring.settings(config, vocabulary), 'devices': jax.device_count(),
      'remat': config.model.remat, 'positions': config.model.positions, 'target_share': TARGET_SHARE,
      'milliseconds_per_step': round(1e3 * seconds, 2), 'tokens_per_second': round(rows * length / seconds),
      'mfu': round(flops / seconds / device_peak().flops, 3),
      'peak_gib': round(memory.get('peak_bytes_in_use', 0) / 2**30, 2)}))
