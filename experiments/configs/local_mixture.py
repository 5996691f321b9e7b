"""Everything that can be made on one machine, in Table 1's proportions by family of domains.

    gato-jax prepare --config=experiments/configs/local_mixture.py       # under an hour on 2 cores
    gato-jax datasets --batch --config=experiments/configs/local_mixture.py --workdir=runs/local
    gato-jax train --config=experiments/configs/local_mixture.py --workdir=runs/local

Every suite of the registry but Procgen is in it with the tasks that it trains on, each in one view, and every source
that comes from a package; what is added to the catalogue is in it by itself. A family of Table 1 keeps its weight;
within it, rows that nothing here stands for leave theirs to the others. Each suite gets an equal share of
BUDGET_SECONDS, and so many episodes of each of its tasks as the catalogue's estimate of their cost allows. Tasks that
show pictures of a simulator are drawn without a display, which needs EGL or OSMesa (Debian: libegl1 or libosmesa6).

`local_mixture:0.1` makes a tenth of the episodes: 213 datasets in 4 min 32 s (4.1 minutes of CPU, other work running).
"""

from data_pipelines.datasets.catalogue import DATASETS
from data_pipelines.datasets.table_1 import family_weights
from data_pipelines.environments.registry import SUITES, mixture_tasks
from gato_jax.config import default_config, mixture_entry

BUDGET_SECONDS = 5400  # of one core, for all suites; text and pictures take a few more
MOST_EPISODES = 100
LEAST_EPISODES = 2
LEFT_OUT = ('procgen',)  # its wheel asks for an older NumPy; where it is installed, add it in a config of your own
STANDS_FOR = {'classic control': 'DM Control Suite'}  # rows that Table 1 has not


def get_config(arg: str | None = None):
  """`arg` is the share of the episodes to make, 1 by default."""
  config = default_config()
  config.name = 'local_mixture'
  with config.unlocked():
    config.data.mixture = mixture(float(arg or 1))
  config.data.sequence_length = 512
  config.data.patches_per_row = 192
  config.data.vocabulary.text_size = 4096
  config.model.update(layers=6, width=256, heads=8, head_size=32, feed_forward=1024)
  config.training.update(steps=20_000, batch_size=16)
  config.training.schedule.update(peak=1e-3, warmup_steps=500)
  return config


def mixture(share: float):
  local = {name: kind for name, kind in DATASETS.items() if not kind.path and name not in LEFT_OUT}
  weights = family_weights({name: STANDS_FOR.get(kind.row, kind.row) for name, kind in local.items()})
  return {name: mixture_entry(weights[name], **(_control(name, share) if name in SUITES else {})) for name in local}


def _control(dataset: str, share: float):
  """Tasks and episodes of a suite, its share of the budget used."""
  tasks = mixture_tasks(dataset)
  affordable = BUDGET_SECONDS / len(SUITES) / (len(tasks) * DATASETS[dataset].seconds)
  episodes = share * min(affordable, MOST_EPISODES)
  return dict(tasks=tasks, episodes=max(int(episodes), LEAST_EPISODES), min_return_share=0.8)
