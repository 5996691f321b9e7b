"""The mixture of the paper's Table 1, row by row, for the configs of the paper's models, gato_*.py.

A row is filled by an importer, named below with the public dataset or the folder of your own that stands for it; any
other row by the suites that are made here for it (the `row` of data_pipelines/datasets/catalogue.py), with the paper's
number of episodes, shared equally by the tasks there are, MOST_EPISODES at most each. Paths are looked for under
`corpora/`; set others with `--config.data.mixture.KEY.path=PATH`, and leave a row out with
`--config.data.mixture.KEY.weight=0`.

    gato-jax train --config=experiments/configs/gato_79m.py --dry_run     # what is there, what is missing
"""

from data_pipelines.datasets.catalogue import DATASETS
from data_pipelines.datasets.table_1 import ROWS
from data_pipelines.environments.registry import SUITES, mixture_tasks
from gato_jax.config import default_config, mixture_entry

MOST_EPISODES = 400_000  # of a task: demonstrations have fewer than a million environment seeds to draw from
MIN_RETURN_SHARE = 0.8

# Rows that no simulator here stands for, or of which there is more in public: importer and path. Names without a slash
# are of the TFDS catalogue.
IMPORTED = {
    'DM Lab': ('rlds', 'rlu_dmlab_explore_object_rewards_few'),
    'ALE Atari': ('rlds', 'rlu_atari'),
    'RGB Stacking real robot': ('rlds', 'corpora/rgb_stacking_real_robot'),
    'DM Manipulation Playground': ('rlds', 'robomimic_ph'),
    'Playroom': ('rlds', 'corpora/playroom'),
    'MassiveText': ('text_folder', 'corpora/massive_text'),
    'M3W': ('pages_folder', 'corpora/m3w'),
    'ALIGN': ('captions_folder', 'corpora/align'),
    'MS-COCO Captions': ('captions_folder', 'corpora/coco_captions'),
    'Conceptual Captions': ('captions_folder', 'corpora/conceptual_captions'),
    'LTIP': ('captions_folder', 'corpora/ltip'),
    'OKVQA': ('vqa_folder', 'corpora/okvqa'),
    'VQAv2': ('vqa_folder', 'corpora/vqa_v2'),
}


def paper_config(name: str, peak: float, **sizes: int):
  """A model of Table 5, with its sizes and its peak learning rate, on the full mixture."""
  config = default_config()
  config.name = name
  with config.unlocked():
    config.data.mixture = table_1_mixture()
  config.model.update(sizes)
  config.model.positions = 'transformer_xl'  # what the published parameter counts imply
  config.training.schedule.peak = peak
  return config


def table_1_mixture():
  """Every row under a key of its own, e.g. `dm_control_suite_pixels`; of a row with several datasets, one each."""
  mixture = {}
  for name, row in ROWS.items():
    key = key_of(name)
    if name in IMPORTED:
      dataset, path = IMPORTED[name]
      mixture[key] = mixture_entry(row.weight, dataset=dataset, path=path,
                                   min_return_share=MIN_RETURN_SHARE * (row.tasks > 0))
      continue
    made_here = {dataset: mixture_tasks(dataset) for dataset in SUITES
                 if dataset in DATASETS and DATASETS[dataset].row == name}
    episodes = min(round(1000 * row.episodes / sum(map(len, made_here.values()))), MOST_EPISODES)
    for dataset, tasks in made_here.items():
      mixture[key if len(made_here) == 1 else f'{key}_{dataset}'] = mixture_entry(
          row.weight / len(made_here), dataset=dataset, tasks=tasks, episodes=episodes,
          min_return_share=MIN_RETURN_SHARE)
  return mixture


def key_of(row: str) -> str:
  return row.lower().replace(' ', '_').replace('-', '_')
