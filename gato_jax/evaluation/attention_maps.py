"""Where on its pictures the model looks when it acts or answers (paper figure 12)."""

from collections.abc import Iterator, Sequence
import dataclasses

import numpy as np

from data_pipelines.datasets.sources import RecordSource
from data_pipelines.errors import InputError
from data_pipelines.sequences.plan import dataset_of
from data_pipelines.sequences.tokenized_episode import TokenizedEpisode
from data_pipelines.sequences.tokens import ACTION_POSITION, Tokens
from data_pipelines.tokenization.images import INTERVAL_BINS, PATCH_SIZE
from gato_jax.evaluation import probing

STEPS = 4  # of an episode
SOURCES = 6
LAYERS = 4


@dataclasses.dataclass(frozen=True)
class AttentionMap:
  """One step and what the token looks at from which its first action, or the first token of its text, is predicted.

  Attributes:
    source: the dataset or task.
    episode: its number there.
    step: timestep in it; 0 of a picture with text.
    pictures: of the timestep, uint8 [height, width, 3] each, padded to whole patches.
    cells: for each picture the patches' places in it, float [p, 2, 2]: (row, column) by (from, to) in [0, 1].
    layers: which of the blocks, from 0.
    weights: for each picture, float32 [layers, H, p]: shares of all the attention of that head.
  """

  source: str
  episode: int
  step: int
  pictures: tuple[np.ndarray, ...]
  cells: tuple[np.ndarray, ...]
  layers: tuple[int, ...]
  weights: tuple[np.ndarray, ...]


def attention_maps(subject: probing.Subject) -> list[AttentionMap]:
  """Steps spread over one episode of each dataset with pictures.

  Raises:
    InputError: no dataset of the mixture has pictures.
  """
  drawn = [step for source in _with_pictures(subject.sources) for step in _steps(subject, source)]
  if not drawn:
    raise InputError('no dataset of the mixture has pictures that fit into a row')
  queries = np.array([step.query for step in drawn])
  layers = tuple(np.unique(np.linspace(0, subject.trained.model.layers - 1, LAYERS).astype(int)).tolist())
  maps = []
  for number, inputs in enumerate(probing.batches([step.window for step in drawn])):
    part = slice(number * probing.ROWS, (number + 1) * probing.ROWS)
    rows = np.resize(queries[part], probing.ROWS)
    weights_NxBxHxS = np.asarray(subject.probe.attention(inputs, rows))[list(layers)]
    maps += [step.map(layers, weights_NxBxHxS[:, row]) for row, step in enumerate(drawn[part])]
  return maps


def _with_pictures(sources: Sequence[RecordSource]) -> list[RecordSource]:
  """The first source with pictures of each dataset."""
  first: dict[str, RecordSource] = {}
  for source in sources:
    items = source.task.observation.values() if source.kind == 'control' else ()
    if source.kind in ('caption', 'vqa') or any(item.kind == 'image' for item in items):
      first.setdefault(dataset_of(source.name), source)
  return list(first.values())[:SOURCES]


@dataclasses.dataclass(frozen=True)
class _Step:
  """A window that ends with the step, and the place in it of the token that looks."""

  source: str
  episode: int
  step: int
  tokenized: TokenizedEpisode
  window: Tokens
  query: int

  def map(self, layers: tuple[int, ...], weights_NxHxS: np.ndarray) -> AttentionMap:
    places = self.window.patch_positions[-self.tokenized.step_patches:]
    intervals = self.tokenized.step_intervals / INTERVAL_BINS
    pictures, cells, weights, first = [], [], [], 0
    for images in self.tokenized.pictures:
      picture = np.asarray(images[self.step:self.step + 1])[0]
      rows, columns = (-(-side // PATCH_SIZE) for side in picture.shape[:2])
      part = slice(first, first := first + rows * columns)
      padding = (0, -picture.shape[0] % PATCH_SIZE), (0, -picture.shape[1] % PATCH_SIZE), (0, 0)
      pictures.append(np.pad(picture, padding))
      cells.append(intervals[part])
      weights.append(weights_NxHxS[..., places[part]])
    return AttentionMap(self.source, self.episode, self.step, tuple(pictures), tuple(cells), layers, tuple(weights))


def _steps(subject: probing.Subject, source: RecordSource) -> Iterator[_Step]:
  config = subject.trained.config
  limit, hide = probing.room(config, source), probing.hides_actions(config, source)
  for index in range(1 if source.kind == 'control' else min(STEPS, len(source))):
    episode = subject.trained.tokenizer.tokenize(source, index)
    if episode.step_patches < 2:  # nowhere else to look
      continue
    for step in np.unique(np.linspace(0, episode.length - 1, STEPS).astype(int)).tolist():
      start = limit.start(episode, step + 1)
      if start <= step:
        window = episode.window(start, step + 1, hide)
        begin = len(window) - _tokens(episode, step)
        yield _Step(source.name, index, step, episode, window, _query(window, begin, source.kind == 'control'))


def _tokens(episode: TokenizedEpisode, step: int) -> int:
  """Of one timestep."""
  return int(np.diff(episode.step_ends, prepend=0)[step])


def _query(window: Tokens, begin: int, control: bool) -> int:
  """The token before the first action, or the first text that is predicted, from place `begin` on."""
  wanted = window.local_positions == ACTION_POSITION if control else window.loss_mask
  return begin + int(np.argmax(wanted[begin:])) - 1
