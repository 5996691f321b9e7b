"""What a train step's cost follows: `gato-jax benchmark sweep --config=FILE`. Needs no data.

One JSON line: CPU and wall seconds a step by the share of positions with a target (in rows of one segment) and by the
length of the segments (at a quarter of targets). `python -m experiments.benchmarks.sweep LINE.json PICTURE.png` draws
them.
"""

from collections.abc import Sequence
import json
import sys
from typing import Any

from data_pipelines.tokenization.vocabulary import Vocabulary
from experiments.benchmarks import measuring
from experiments.benchmarks.train_step import own_step

TARGET_SHARES = (0.1, 0.25, 0.5, 1.0)
SEGMENT_LENGTHS = (64, 128, 256, 512, 1024)
TARGET_SHARE = 0.25  # where the segments' length varies
ROUNDS = 3


def main(config: Any, rounds: int = ROUNDS) -> None:
  """Measures and prints."""
  vocabulary = Vocabulary(**config.data.vocabulary.to_dict())
  length = config.data.sequence_length
  points = {('target_share', share): (share, length) for share in TARGET_SHARES}
  points |= {('segment_length', segment): (TARGET_SHARE, segment) for segment in SEGMENT_LENGTHS if segment <= length}
  batches = {point: measuring.packed_batch(config, vocabulary, *settings) for point, settings in points.items()}
  step = own_step(config, vocabulary)
  times = measuring.race({point: lambda batch=batch: step(batch) for point, batch in batches.items()}, rounds)
  by_cause = {cause: [{cause: value, 'cpu_seconds_per_step': round(seconds.cpu, 3),
                       'wall_seconds_per_step': round(seconds.wall, 3)}
                      for (name, value), seconds in times.items() if name == cause]
              for cause in ('target_share', 'segment_length')}
  print(json.dumps({'benchmark': 'sweep', **measuring.settings(config, vocabulary), **by_cause}))


def draw(result: dict[str, Any], path: str) -> None:
  """A picture of two curves."""
  import matplotlib
  matplotlib.use('Agg')
  from matplotlib import pyplot

  figure, axes = pyplot.subplots(1, 2, figsize=(8, 3), sharey=True, layout='constrained')
  labels = {'target_share': 'positions with a target', 'segment_length': 'length of the segments'}
  for axis, (cause, label) in zip(axes, labels.items(), strict=True):
    values = [point[cause] for point in result[cause]]
    axis.plot(values, [point['cpu_seconds_per_step'] for point in result[cause]], marker='o')
    axis.set(xlabel=label, xticks=values, ylim=(0, None))
    axis.grid(alpha=0.3)
  axes[1].set_xscale('log', base=2)
  axes[0].set_xticks(axes[0].get_xticks(), [f'{value:.0%}' for value in axes[0].get_xticks()])
  axes[1].set_xticks(axes[1].get_xticks(), [f'{value:.0f}' for value in axes[1].get_xticks()])
  axes[0].set_ylabel('CPU seconds a step')
  pyplot.savefig(path, dpi=90)
  pyplot.close(figure)


def _drawn(arguments: Sequence[str]) -> None:
  source, picture = arguments
  with open(source, encoding='utf-8') as file:
    draw(json.loads(file.read().strip().splitlines()[-1]), picture)


if __name__ == '__main__':
  _drawn(sys.argv[1:])
