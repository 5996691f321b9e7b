"""The paper's 1.18B model on its full Table 1 mixture: tables 1, 5 and 6, and appendix D.

    gato-jax train --config=experiments/configs/gato_1_18b.py --dry_run     # what is there, what is missing
    gato-jax prepare --config=experiments/configs/gato_1_18b.py
    gato-jax train --config=experiments/configs/gato_1_18b.py --workdir=runs/gato_1_18b

The paper trained its 1.18B model for about four days on a 16x16 slice of TPU v3.
"""

from experiments.configs.table_1_mixture import paper_config


def get_config():
  return paper_config('gato_1_18b', 1e-4, layers=24, width=2048, heads=16, head_size=128, feed_forward=8192)
