"""What the speed of training is measured on: `layers x width`, rows of 1024, a vocabulary of 33,024.

    gato-jax benchmark train_step --config=experiments/configs/speed.py:4x256     # docs/performance.md has the numbers
    gato-jax benchmark train_step --config=experiments/configs/speed.py:6x512

The feed-forward's matrices have about 8 D x D parameters, as those of a plain decoder with a layer of 4 D, which it is
compared with.
"""

from gato_jax.config import default_config

ROWS = {256: 4, 512: 2}


def get_config(arg: str | None = None):
  """`arg` is such as 4x256."""
  layers, width = (int(size) for size in (arg or '4x256').split('x'))
  config = default_config()
  config.name = 'speed'
  config.data.patches_per_row = 0
  config.data.vocabulary.text_size = 31_996  # and 1,024 bins, and 4
  config.model.update(
      layers=layers, width=width, heads=8, head_size=width // 8, feed_forward=round(width * 16 / 3 / 64) * 64,
      stochastic_depth=0.0)
  config.training.batch_size = ROWS.get(width, 1)
  return config
