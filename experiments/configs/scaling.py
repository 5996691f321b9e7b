"""Three sizes of one model on the same rows, those of the quickstart: the paper's figure 8, small.

    gato-jax prepare
    for size in small medium large; do
      gato-jax train --config=experiments/configs/scaling.py:$size --workdir=runs/scaling/$size
    done
    gato-jax scaling --workdir=runs/scaling --run=small=runs/scaling/small --run=medium=runs/scaling/medium \\
        --run=large=runs/scaling/large

The large one is the quickstart's model. Each is evaluated four times as it trains.
"""

from experiments.configs import quickstart

SIZES = {
    'small': dict(layers=2, width=32, heads=2, head_size=16, feed_forward=192),
    'medium': dict(layers=3, width=64, heads=2, head_size=32, feed_forward=384),
    'large': {},
}


def get_config(arg: str | None = None):
  """`arg` is a key of SIZES, large by default."""
  if arg and arg not in SIZES:
    raise ValueError(f'scaling has no size {arg!r}; it has {", ".join(SIZES)}')
  config = quickstart.get_config()
  config.name = 'scaling'
  config.model.update(SIZES[arg or 'large'])
  config.evaluation.every = 800
  return config
