"""Rollouts as animated GIFs, which any browser and README shows, and an expert's rollout beside them."""

from collections.abc import Sequence
import pathlib

import imageio.v3 as imageio
import numpy as np

from data_pipelines.environments.collection import collect_episode
from data_pipelines.environments.registry import make, make_expert
from gato_jax.evaluation.simulators import Drawn

MAX_FRAMES = 120
MAX_HEIGHT = 256  # pixels
FRAME_MILLISECONDS = 50


def frame_interval(max_steps: int) -> int:
  """Environment steps between two frames, so that the longest episode has about MAX_FRAMES of them."""
  return -(-max_steps // MAX_FRAMES)


def reduced(frames: Sequence[np.ndarray]) -> list[np.ndarray]:
  """Frames of uint8 [height, width, 3], larger ones reduced by a whole factor to at most MAX_HEIGHT."""
  factor = -(-frames[0].shape[0] // MAX_HEIGHT)
  return [frame[::factor, ::factor] for frame in frames]


def write_gif(frames: Sequence[np.ndarray], path: pathlib.Path) -> None:
  """Writes the frames, `reduced`."""
  path.parent.mkdir(parents=True, exist_ok=True)
  imageio.imwrite(path, reduced(frames), duration=FRAME_MILLISECONDS, loop=0)


def expert_frames(task: str, seed: int) -> list[np.ndarray]:
  """The task's expert in the episode that `seed` determines; empty where the task cannot be drawn.

  Raises:
    InputError: the simulator is not installed, or the task has no expert.
    ExpertFailure: the expert failed.
  """
  environment = make(task)
  try:
    drawn = Drawn(environment, frame_interval(environment.spec.max_steps))
    collect_episode(drawn, make_expert(environment), seed, noise=False)
    return drawn.frames
  finally:
    environment.close()
