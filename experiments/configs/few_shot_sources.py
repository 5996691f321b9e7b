"""What `few_shot.py` starts from beside the quickstart's weights: parts of its mixture, for the lines of figure 9.

    for part in metaworld no_control; do
      gato-jax prepare --config=experiments/configs/few_shot_sources.py:$part
      gato-jax train --config=experiments/configs/few_shot_sources.py:$part --workdir=runs/few_shot_sources/$part
    done

The quickstart's steps, all on the part: it is seen more often than within the whole.
"""

from experiments.configs import quickstart

PARTS = {
    'metaworld': ('metaworld',),  # the domain of the held-out task
    'no_control': ('easy_vqa', 'digits', 'python_docs'),
}


def get_config(arg: str | None = None):
  """`arg` is a key of PARTS."""
  if arg not in PARTS:
    raise ValueError(f'few_shot_sources has no part {arg!r}; it has {", ".join(PARTS)}')
  config = quickstart.get_config()
  config.name = f'few_shot_sources_{arg}'
  with config.unlocked():
    config.data.mixture = {name: entry for name, entry in quickstart.mixture().items() if name in PARTS[arg]}
  return config
