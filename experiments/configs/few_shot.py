"""Fine-tuning on few episodes of tasks that training has not seen: the paper's figure 9, small.

    gato-jax quickstart                                                   # the weights to start from
    gato-jax prepare --config=experiments/configs/few_shot.py
    gato-jax finetune --config=experiments/configs/few_shot.py --workdir=runs/few_shot --from=all=runs/quickstart \\
        --from=scratch

`few_shot.py:local_agent` starts from the weights of `local_agent.py`, on two tasks that the paper holds out; and
`few_shot.py:paper` has appendix E's settings, for its model of 364M. docs/evaluation.md has what was measured.
"""

from experiments.configs import gato_364m, local_agent, quickstart
from gato_jax.config import mixture_entry

BASES = {'': quickstart, 'local_agent': local_agent, 'paper': gato_364m}
CONTROL = dict(window_timesteps=1, hide_actions=1.0, noise=0.85)  # as in the mixtures of the small models


def get_config(arg: str | None = None):
  """`arg` is a key of BASES, the quickstart's by default. The section training is the fine-tuning's."""
  arg = arg or ''
  if arg not in BASES:
    raise ValueError(f'few_shot has no variant {arg!r}; use local_agent, paper, or nothing')
  config = BASES[arg].get_config()
  config.name = 'few_shot'
  with config.unlocked():
    config.data.mixture = {
        # Of Meta-World's five tasks that ML45 holds out.
        '': {'metaworld': mixture_entry(1.0, tasks=('door-unlock-v3',), episodes=40, **CONTROL)},
        'local_agent': figure_9_tasks(episodes=40, **CONTROL),
        'paper': figure_9_tasks(episodes=2000),
    }[arg]
  config.model.update(dropout=0.1, stochastic_depth=0.0)
  config.training.update(steps=10_000, batch_size=64)
  config.training.optimizer.update(name='adamw', weight_decay=0.0)  # Adam
  constant(config.training.schedule, 1e-5)
  config.evaluation.episodes = 10
  if arg != 'paper':
    constant(config.training.schedule, 1e-3)
    config.training.update(steps=60, batch_size=4, log_every=15)
    config.evaluation.update(episodes=4, environments=4)
    config.finetuning.update(episodes=(1, 5, 20), repetitions=3, evaluate_every=15, smoothing=2, workers=2)
  return config


def constant(schedule, rate: float) -> None:
  schedule.update(initial=rate, peak=rate, final_share=1.0, warmup_steps=0)


def figure_9_tasks(**settings):
  """Those of the figure that there are simulators and experts for here."""
  return {
      'dm_control': mixture_entry(1.0, tasks=('cartpole-swingup',), **settings),
      'metaworld': mixture_entry(1.0, tasks=('assembly-v3',), **settings),
  }
