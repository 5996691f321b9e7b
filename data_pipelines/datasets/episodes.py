"""What every dataset, whatever its format on disk, looks like to the rest of the pipeline."""

from collections.abc import Mapping, Sequence
import dataclasses
import sys
from typing import Any, Literal, Protocol

import numpy as np

from data_pipelines.environments.specs import TaskSpec

SourceKind = Literal['control', 'text', 'caption', 'vqa', 'pages']
WHOLE = sys.maxsize  # `part_timesteps` of a source whose episodes are read whole


@dataclasses.dataclass(frozen=True)
class ControlEpisode:
  """One episode of T timesteps, in RLDS order: `action[t]` was taken at `observation[t]`.

  Attributes:
    observation: key -> array [T, ...] or list of T strings. Pictures may be a lazy sequence: indexing it with a slice
      decodes just those frames to uint8 [n, height, width, 3].
    action: executed actions, float32 [T, A] in [-1, 1] or int32 [T].
    expert_action: what the expert would have done at `observation[t]`; the training target.
    reward: float32 [T].
    episode_return: undiscounted sum of rewards.
    success: whether the task says the episode succeeded.
  """

  observation: Mapping[str, Any]
  action: np.ndarray
  expert_action: np.ndarray
  reward: np.ndarray
  episode_return: float
  success: bool

  @property
  def length(self) -> int:
    return len(self.action)


@dataclasses.dataclass(frozen=True)
class TextDocument:
  text: str


@dataclasses.dataclass(frozen=True)
class CaptionedImage:
  image: np.ndarray  # uint8 [height, width, 3]
  caption: str


@dataclasses.dataclass(frozen=True)
class ImageQuestion:
  image: np.ndarray  # uint8 [height, width, 3]
  question: str
  answer: str


@dataclasses.dataclass(frozen=True)
class Page:
  """Text and pictures in the order in which a page has them.

  Attributes:
    texts: its stretches of text; None stands for the next of the pictures.
    images: uint8 [pictures, height, width, 3], all of one size; may be a lazy sequence with that `shape`: indexing it
      with a slice decodes just those pictures.
  """

  texts: Sequence[str | None]
  images: Any


Episode = ControlEpisode | TextDocument | CaptionedImage | ImageQuestion | Page


class EpisodeSource(Protocol):
  """Random access to the episodes of one dataset split. Safe to read from several threads; picklable.

  Attributes:
    name: dataset name as the mixture has it, e.g. `dm_control/cartpole-swingup` or `easy_vqa`.
    kind: which of the episode classes it yields.
    task: the task's spec; None unless `kind` is `control`.
    directory: where it lies on disk; indexes are cached there.
    noisy: bool [episodes], whether noise was injected; such an episode is no prompt.
    part_timesteps: an episode can be read in parts of so many timesteps.
  """

  name: str
  kind: SourceKind
  task: TaskSpec | None
  directory: str
  part_timesteps: int

  @property
  def noisy(self) -> np.ndarray: ...

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> Episode: ...

  def part(self, index: int, number: int) -> Episode:
    """Part `number` of an episode: the timesteps from `number * part_timesteps` on, `part_timesteps` at most."""


Sources = Sequence[EpisodeSource]
