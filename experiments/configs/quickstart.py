"""One small Gato on games, robots, pictures and text, on two CPU cores.

    make quickstart
"""

from gato_jax.config import default_config, mixture_entry


def get_config(arg: str | None = None):
  """The quickstart; `arg='tiny'` runs the same code end to end in about two minutes, too short to learn from."""
  config = default_config()
  config.name = 'quickstart'
  with config.unlocked():
    config.data.mixture = mixture()
  config.data.sequence_length = 128
  config.data.patches_per_row = 24
  config.data.prompt.max_share_of_row = 0.25
  config.data.vocabulary.text_size = 1024
  config.model.update(layers=4, width=128, heads=4, head_size=32, feed_forward=768, value_features=64)
  config.model.patch_channels = 32
  config.model.stochastic_depth = 0.0
  config.training.update(steps=3200, batch_size=8, bin_smoothing=3.0, log_every=50, checkpoint_every=500)
  config.training.optimizer.update(name='muon', clip_norm=1.0)
  config.training.schedule.update(peak=5e-3, final_share=0.02, warmup_steps=200)
  config.acting.prompt_share_of_row = 0.25
  config.evaluation.update(episodes=10, examples=200, text_characters=20_000)
  if arg == 'tiny':
    shrink(config)
  elif arg:
    raise ValueError(f'quickstart has no variant {arg!r}; use tiny, or nothing')
  return config


def mixture():
  """Weights are shares of positions."""
  control = dict(window_timesteps=1, hide_actions=1.0, noise=0.85)
  return {
      'classic_control': mixture_entry(
          0.2,
          tasks=('CartPole-v1', 'Acrobot-v1', 'MountainCar-v0', 'LunarLander-v3'),
          task_weights=(3, 1, 1, 6),
          episodes=100,
          **control,
      ),
      'dm_control': mixture_entry(
          0.42,
          tasks=('cartpole-swingup', 'pendulum-swingup', 'reacher-easy', 'point_mass-easy'),
          task_weights=(3, 3, 4, 1),
          episodes=160,
          **(control | dict(noise=0.9)),
      ),
      'metaworld': mixture_entry(
          0.12,
          tasks=('reach-v3', 'push-v3', 'drawer-open-v3', 'button-press-topdown-v3'),
          episodes=100,
          **control,
      ),
      'babyai': mixture_entry(
          0.12,
          tasks=('OpenRedDoor-v0', 'GoToRedBallNoDists-v0', 'GoToLocalS5N2-v0'),
          episodes=800,
          **(control | dict(noise=0.3)),
      ),
      'easy_vqa': mixture_entry(0.07),
      'digits': mixture_entry(0.02),
      'python_docs': mixture_entry(0.05),
  }


def shrink(config) -> None:
  """Few episodes, few steps, a model of 60,000 parameters."""
  for name in ('classic_control', 'dm_control', 'metaworld', 'babyai'):
    config.data.mixture[name].episodes = 4
  config.data.mixture.easy_vqa.episodes = 200
  config.model.update(layers=2, width=64, heads=2, feed_forward=256)
  config.training.update(steps=40, log_every=10, checkpoint_every=20)
  config.training.schedule.warmup_steps = 10
  config.evaluation.update(episodes=1, examples=20, text_characters=2000)
