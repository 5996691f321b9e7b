"""Three sizes of one model on the same rows: the paper's figure 8, small.

    gato-jax prepare --config=experiments/configs/scaling.py
    for size in small medium large; do
      gato-jax train --config=experiments/configs/scaling.py:$size --workdir=runs/scaling/$size
    done
    gato-jax scaling --workdir=runs/scaling --run=small=runs/scaling/small --run=medium=runs/scaling/medium \\
        --run=large=runs/scaling/large

The mixture is the quickstart's control tasks but for the long episodes of the DM Control Suite.
"""

from experiments.configs import quickstart

SIZES = {
    'small': dict(layers=2, width=32, heads=2, head_size=16, feed_forward=192),
    'medium': dict(layers=3, width=64, heads=2, head_size=32, feed_forward=384),
    'large': dict(layers=4, width=128, heads=4, head_size=32, feed_forward=768),
}


def get_config(arg: str | None = None):
  """`arg` is a key of SIZES, large by default."""
  if arg and arg not in SIZES:
    raise ValueError(f'scaling has no size {arg!r}; it has {", ".join(SIZES)}')
  config = quickstart.get_config()
  config.name = 'scaling'
  for name in ('dm_control', 'easy_vqa', 'digits', 'python_docs'):
    config.data.mixture[name].weight = 0.0
  config.model.update(SIZES[arg or 'large'])
  config.training.update(steps=600, log_every=25, checkpoint_every=200)
  config.evaluation.update(episodes=4, every=200)
  return config
