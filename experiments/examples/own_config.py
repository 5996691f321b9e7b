"""Learns the task of `own_environment.py` from its expert, and nothing else; `docs/tutorial.md` walks through it.

    gato-jax quickstart --config=experiments/examples/own_config.py --workdir=runs/own
"""

import pathlib

from gato_jax.config import default_config, mixture_entry

ENVIRONMENT = pathlib.Path(__file__).with_name('own_environment.py')


def get_config():
  config = default_config()
  config.name = 'own'
  config.data.environments = (str(ENVIRONMENT),)
  with config.unlocked():  # a new key is otherwise an error
    config.data.mixture.own = mixture_entry(
        1.0, tasks=('pendulum',), episodes=150, noise=0.8, window_timesteps=1, hide_actions=1.0)
  config.data.update(sequence_length=128, patches_per_row=0)
  config.data.vocabulary.update(text_size=1024)
  config.model.update(layers=2, width=64, heads=2, head_size=32, feed_forward=384, value_features=64,
                      patch_channels=32, stochastic_depth=0.0)
  config.training.update(steps=1200, batch_size=8, bin_smoothing=3.0, log_every=100, checkpoint_every=600)
  config.training.optimizer.update(name='muon', clip_norm=1.0)
  config.training.schedule.update(peak=5e-3, final_share=0.02, warmup_steps=100)
  config.evaluation.update(episodes=20)
  return config
