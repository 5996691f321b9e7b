"""Rollouts as animated GIFs, which any browser and README shows."""

from collections.abc import Sequence
import pathlib

import imageio.v3 as imageio
import numpy as np

MAX_FRAMES = 120
MAX_HEIGHT = 256  # pixels
FRAME_MILLISECONDS = 50


def frame_interval(max_steps: int) -> int:
  """Environment steps between two frames, so that the longest episode has about MAX_FRAMES of them."""
  return -(-max_steps // MAX_FRAMES)


def write_gif(frames: Sequence[np.ndarray], path: pathlib.Path) -> None:
  """Writes uint8 [height, width, 3] frames, larger ones reduced by a whole factor to at most MAX_HEIGHT."""
  factor = -(-frames[0].shape[0] // MAX_HEIGHT)
  path.parent.mkdir(parents=True, exist_ok=True)
  imageio.imwrite(path, [frame[::factor, ::factor] for frame in frames], duration=FRAME_MILLISECONDS, loop=0)
