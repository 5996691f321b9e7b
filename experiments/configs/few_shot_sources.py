"""What `few_shot.py:local_agent` starts from, beside the whole of `local_agent.py`: the paper's figure 9.

    for part in dm_control metaworld no_control; do
      gato-jax prepare --config=experiments/configs/few_shot_sources.py:$part
      gato-jax train --config=experiments/configs/few_shot_sources.py:$part --workdir=runs/few_shot_sources/$part
    done

As many steps of the same size each, so that a part of the mixture is seen more often than within the whole.
"""

from experiments.configs import local_agent

PARTS = {
    'dm_control': ('dm_control',),  # the domain of one held-out task
    'metaworld': ('metaworld',),  # and of the other
    'no_control': ('easy_vqa', 'digits', 'python_docs'),
}


def get_config(arg: str | None = None):
  """`arg` is a key of PARTS."""
  if arg not in PARTS:
    raise ValueError(f'few_shot_sources has no part {arg!r}; it has {", ".join(PARTS)}')
  config = local_agent.get_config()
  config.name = f'few_shot_sources_{arg}'
  with config.unlocked():
    config.data.mixture = {name: entry for name, entry in local_agent.mixture(1.0).items() if name in PARTS[arg]}
  return config
