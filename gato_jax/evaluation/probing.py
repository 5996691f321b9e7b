"""Parts of training's episodes, laid out as training showed them, to look into a model with."""

from collections.abc import Iterator, Sequence
import dataclasses
import functools
from typing import NamedTuple

import ml_collections
import numpy as np

from data_pipelines.datasets.prepare import open_sources
from data_pipelines.datasets.sources import RecordSource
from data_pipelines.errors import InputError
from data_pipelines.sequences.plan import dataset_of
from data_pipelines.sequences.tokenized_episode import TokenizedEpisode
from data_pipelines.sequences.tokens import Tokens
from gato_jax.acting.inputs import LENGTH_MULTIPLE, lay_out, round_up
from gato_jax.model.cache import TokenInputs
from gato_jax.model.probe import Probe
from gato_jax.training.restore import Trained, load_trained

ROWS = 32  # looked at at once


@dataclasses.dataclass(frozen=True)
class Subject:
  """A trained model and the data it was trained on.

  Attributes:
    trained: its `config.data.dir` is where the data lies now.
    sources: of the mixture, in its order.
    heldout: what of pictures and text was kept from training.
  """

  trained: Trained
  sources: Sequence[RecordSource]
  heldout: Sequence[RecordSource]

  @functools.cached_property
  def probe(self) -> Probe:
    return Probe(self.trained.model)


def open_subject(workdir: str, data_dirs: Sequence[str]) -> Subject:
  """The workdir's newest weights, and the data where it is found first.

  Raises:
    InputError: the workdir has no checkpoint, or none of the directories has the mixture's datasets.
  """
  trained = load_trained(workdir)
  problems = []
  for data_dir in dict.fromkeys(data_dirs):
    config = ml_collections.ConfigDict(trained.config.to_dict())
    config.data.dir = data_dir
    try:
      sources = (open_sources(config.data, split) for split in ('train', 'heldout'))
      return Subject(trained._replace(config=config), *sources)
    except InputError as error:
      problems.append(error)
  raise problems[0]


class Room(NamedTuple):
  """What a window may have at most; 0 timesteps: as many as there are."""

  tokens: int
  patches: int
  timesteps: int = 0

  def stop(self, episode: TokenizedEpisode, start: int) -> int:
    """One past the last timestep of the longest window from `start` on; `start` if not one timestep fits."""
    return start + self._fit(np.r_[0, episode.step_ends[start:] - _begin(episode, start)], episode.step_patches)

  def start(self, episode: TokenizedEpisode, stop: int) -> int:
    """The first timestep of the longest window that ends before `stop`; `stop` if not one timestep fits."""
    ends = np.r_[0, episode.step_ends[:stop]]
    return stop - self._fit((ends[-1] - ends)[::-1], episode.step_patches)

  def _fit(self, tokens: np.ndarray, step_patches: int) -> int:
    """Timesteps that fit, of which 0, 1, 2, ... have so many tokens."""
    timesteps = int(np.searchsorted(tokens, self.tokens, 'right')) - 1
    if step_patches:
      timesteps = min(timesteps, self.patches // step_patches)
    return min(timesteps, self.timesteps) if self.timesteps else timesteps


def room(config: ml_collections.ConfigDict, source: RecordSource, tokens: int = 0) -> Room:
  """What training allowed the source's windows, or less: `tokens`."""
  data = config.data
  timesteps = data.mixture[dataset_of(source.name)].window_timesteps if source.kind == 'control' else 0
  return Room(min(tokens or data.sequence_length, data.sequence_length), data.patches_per_row, timesteps)


def hides_actions(config: ml_collections.ConfigDict, source: RecordSource) -> bool:
  """Whether most of the source's windows in training had the actions hidden."""
  return source.kind == 'control' and config.data.mixture[dataset_of(source.name)].hide_actions > 0.5


def batches(windows: Sequence[Tokens]) -> Iterator[TokenInputs]:
  """Windows of any lengths, ROWS at a time and all of one shape; the last rows may be the first one again."""
  length = round_up(max(map(len, windows)), LENGTH_MULTIPLE)
  slots = max(len(window.patches) for window in windows)
  for first in range(0, len(windows), ROWS):
    rows = list(windows[first:first + ROWS])
    rows += [rows[0]] * (ROWS - len(rows))
    yield lay_out(rows, length, slots)


def _begin(episode: TokenizedEpisode, step: int) -> int:
  return int(episode.step_ends[step - 1]) if step else 0
