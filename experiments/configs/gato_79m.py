"""The paper's 79M model on its full Table 1 mixture: tables 1, 5 and 6, and appendix D.

    gato-jax train --config=experiments/configs/gato_79m.py --dry_run     # what is there, what is missing
    gato-jax prepare --config=experiments/configs/gato_79m.py
    gato-jax train --config=experiments/configs/gato_79m.py --workdir=runs/gato_79m

The paper trained its 1.18B model for about four days on a 16x16 slice of TPU v3.
"""

from experiments.configs.table_1_mixture import paper_config


def get_config():
  return paper_config('gato_79m', 1e-4, layers=8, width=768, heads=24, head_size=32, feed_forward=3072)
