"""The paper's 364M model on its full Table 1 mixture: tables 1, 5 and 6, and appendix D.

    gato-jax train --config=experiments/configs/gato_364m.py --dry_run     # what is there, what is missing
    gato-jax prepare --config=experiments/configs/gato_364m.py
    gato-jax train --config=experiments/configs/gato_364m.py --workdir=runs/gato_364m

The paper trained its 1.18B model for about four days on a 16x16 slice of TPU v3.
"""

from experiments.configs.table_1_mixture import paper_config


def get_config():
  return paper_config('gato_364m', 2e-4, layers=12, width=1536, heads=12, head_size=128, feed_forward=6144)
