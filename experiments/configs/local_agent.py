"""One agent for 128 tasks of seven suites, pictures and text: what 1.5 hours of two cores teach of the local mixture.

    gato-jax quickstart --config=experiments/configs/local_agent.py --workdir=runs/local_agent

Training takes an hour and a half of two cores if left alone (0.42 s a step). Measured as it was soaked
(tests/gato_jax/soak.py: killed twice, stopped twice, other work on the machine), scores normalised to 0 random, 100
expert, after so many steps; 2 episodes a task, in the last column 50 (35 minutes):

                                    3000   6000   9000  12000   50 ep.
    tasks at half of expert or above 53.1   65.6   75.8   74.2   81.2  % of 128
    babyai (44)                      63.2   78.7   83.1   82.0   85.2
    metaworld (45)                   47.8   68.0   81.6   84.8   86.3
    modular_rl (7)                   49.6   38.4   68.1   77.5   80.0
    classic_control (7)              56.1   49.2   59.0   64.7   72.3
    fetch (3)                        31.9   66.0   66.0   66.0   73.6
    dm_control (11)                  26.9   37.5   40.2   48.9   55.4
    dm_control_random_small (11)     21.2   30.7   28.4   36.5   48.8
    questions (commonest: 40.0)      63.5   79.5   80.0   82.0  %
    captions                         96.5   97.0   99.0   98.0  %
    text (unigram: 3.792)           2.908  2.646  2.396  2.295  bits a byte

The quickstart's settings, for eight times as many tasks. Left out of `local_mixture.py` are the suites whose pictures
cost most to play (Atari, pixels of a simulator), Sokoban, the large changes of bodies, and those levels of BabyAI
that ask an agent to remember more than the timestep it sees.
"""

from data_pipelines.environments.registry import mixture_tasks
from experiments.configs import quickstart
from gato_jax.config import mixture_entry

REMEMBERING = ('FindObj', 'GoToObjMaze', 'GoToOpen', 'GoToSeq', 'KeyCorridor', 'BossLevel', 'MiniBoss', 'MoveTwoAcross',
               'Order', 'Synth', 'Unlock', 'BlockedUnlock', 'GoTo-v0', 'Open-v0', 'Pickup-v0', 'Blue')


def get_config(arg: str | None = None):
  """`arg` is the share of the quickstart's episodes to make, 1 by default."""
  config = quickstart.get_config()
  config.name = 'local_agent'
  with config.unlocked():
    config.data.mixture = mixture(float(arg or 1))
  config.data.sequence_length = 256
  config.data.patches_per_row = 64
  config.model.update(width=192, heads=6, feed_forward=1152)
  config.training.update(steps=12_000, log_every=200, checkpoint_every=1000)
  config.training.schedule.update(peak=4e-3, warmup_steps=400)
  config.evaluation.episodes = 50
  return config


def mixture(share: float):
  """Weights are shares of positions."""
  def suite(weight, tasks, episodes, noise=0.85, task_weights=()):
    return mixture_entry(weight, tasks=tasks, task_weights=task_weights, episodes=max(2, int(share * episodes)),
                         noise=noise, window_timesteps=1, hide_actions=1.0)

  return {
      'classic_control': suite(0.06, mixture_tasks('classic_control'), 100),
      'dm_control': suite(0.24, mixture_tasks('dm_control'), 100),
      'dm_control_random_small': suite(0.12, mixture_tasks('dm_control_random_small'), 60),
      'modular_rl': suite(0.1, mixture_tasks('modular_rl'), 60),
      'metaworld': suite(0.2, mixture_tasks('metaworld'), 60),
      'babyai': suite(0.16, levels(), 150, noise=0.3),
      'fetch': suite(0.04, tuple(task for task in mixture_tasks('fetch') if not task.endswith('-pixels')), 100),
      'easy_vqa': mixture_entry(0.04),
      'digits': mixture_entry(0.01),
      'python_docs': mixture_entry(0.03),
  }


def levels() -> tuple[str, ...]:
  """BabyAI's levels that can be played by what is in sight."""
  return tuple(task for task in mixture_tasks('babyai') if not any(name in task for name in REMEMBERING))
