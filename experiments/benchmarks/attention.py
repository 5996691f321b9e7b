"""The attentions against each other, forward and backward: `gato-jax benchmark attention --config=FILE`. No data.

One JSON line: CPU and wall seconds of one layer's attention by implementation (gato_jax/model/attention.py), for rows
of one segment (`whole_row`) and for rows of segments an eighth as long (`eighths`); `ratio_to_dense` is to `reference`.
"""

import functools
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.tokenization.vocabulary import Vocabulary
from experiments.benchmarks import measuring
from gato_jax.model.attention import IMPLEMENTATIONS

ROUNDS = 5


def main(config: Any, rounds: int = ROUNDS) -> None:
  """Measures and prints."""
  vocabulary, length = Vocabulary(**config.data.vocabulary.to_dict()), config.data.sequence_length
  kernels = {'splash': jax.default_backend() == 'tpu', 'auto': False}
  names = [name for name in IMPLEMENTATIONS if kernels.get(name, True)]
  generator = np.random.default_rng(0)
  shape = (config.training.batch_size, length, config.model.heads, config.model.head_size)
  arrays = [jnp.asarray(generator.normal(size=shape), jnp.float32) for _ in range(4)]
  result = {}
  for rows, segment in (('whole_row', length), ('eighths', length // 8)):
    segment_ids = jnp.asarray(measuring.packed_batch(config, vocabulary, 0.0, segment).segment_ids)
    steps = {name: functools.partial(_gradients(name), *arrays, segment_ids) for name in names}
    times = measuring.race(steps, rounds)
    result[rows] = {name: {'cpu_seconds': round(seconds.cpu, 4), 'wall_seconds': round(seconds.wall, 4),
                           'ratio_to_dense': round(seconds.cpu / times['reference'].cpu, 3)}
                    for name, seconds in times.items()}
  print(json.dumps({'benchmark': 'attention', **measuring.settings(config, vocabulary), **result}))


def _gradients(name: str):
  def run(q, k, v, out_gradient, segment_ids):
    out, backward = jax.vjp(lambda *inputs: IMPLEMENTATIONS[name](*inputs, segment_ids), q, k, v)
    return out, backward(out_gradient)

  return jax.jit(run)
