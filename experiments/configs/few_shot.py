"""Fine-tuning on few episodes of held-out tasks: the paper's figure 9, small.
"""

from experiments.configs import quickstart
from gato_jax.config import mixture_entry


def get_config(arg: str | None = None):
  """Two tasks that Meta-World's ML45 split holds out, for the quickstart's model; training is the fine-tuning's."""
  if arg:
    raise ValueError(f'few_shot has no variant {arg!r}')
  config = quickstart.get_config()
  config.name = 'few_shot'
  with config.unlocked():
    config.data.mixture = {
        'metaworld': mixture_entry(
            1.0, tasks=('door-unlock-v3',), episodes=40, window_timesteps=1, hide_actions=1.0,
            noise=0.85)}
  config.model.dropout = 0.1
  config.training.update(steps=60, batch_size=4, log_every=15)
  config.training.optimizer.update(name='adamw', weight_decay=0.0)  # Adam
  config.training.schedule.update(initial=1e-3, peak=1e-3, final_share=1.0, warmup_steps=0)  # constant
  config.evaluation.update(episodes=4, environments=4)
  config.finetuning.update(episodes=(1, 5, 20), repetitions=2, evaluate_every=15, smoothing=2, workers=1)
  return config
