"""Three sizes of one model on the same rows: the paper's figure 8, small.

    gato-jax prepare --config=experiments/configs/scaling.py
    for size in small medium large; do
      gato-jax train --config=experiments/configs/scaling.py:$size --workdir=runs/scaling/$size
    done
    gato-jax scaling --workdir=runs/scaling --run=small=runs/scaling/small --run=medium=runs/scaling/medium \\
        --run=large=runs/scaling/large

Six of the quickstart's tasks, those whose episodes are short.
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
  kept = {name: config.data.mixture[name] for name in ('classic_control', 'metaworld')}
  kept['classic_control'].update(tasks=('CartPole-v1', 'Acrobot-v1'), task_weights=())
  with config.unlocked():
    config.data.mixture = kept
  config.model.update(SIZES[arg or 'large'])
  config.training.update(steps=300, log_every=20, checkpoint_every=100)
  config.training.schedule.update(warmup_steps=50)
  config.evaluation.update(episodes=4, environments=4, every=100)
  return config
