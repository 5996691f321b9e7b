"""What the explorer shows of a mixture: packed rows, and a window of one episode for each thing it explains."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from data_pipelines.datasets.episodes import ControlEpisode, EpisodeSource
from data_pipelines.explained_rows import ExplainedRow, RowReader
from data_pipelines.provenance import Origin
from gato_jax.model.gato import Gato
from gato_jax.pages.predictions import Predictions, predict
from gato_jax.pages.token_data import TokenData

_TIMESTEPS = 6  # of an episode


class Example(NamedTuple):
  """A row with what a page knows of it.

  Attributes:
    number: of the row in the page's `TokenData`.
    explained: the row.
    source: the dataset of its first token.
    predictions: None without a model.
  """

  number: int
  explained: ExplainedRow
  source: EpisodeSource
  predictions: Predictions | None

  @property
  def origins(self) -> Sequence[Origin]:
    return self.explained.origins

  @property
  def ids(self) -> np.ndarray:
    return self.explained.row.tokens[:len(self.origins)]

  def episode(self):
    """The episode of its first token."""
    return self.source[self.origins[0].episode]

  def picture(self) -> np.ndarray | None:
    """The picture that its first patches are of, uint8 [height, width, 3]."""
    patch = next((origin for origin in self.origins if origin.kind == 'picture patch'), None)
    if not patch:
      return None
    episode = self.episode()
    if isinstance(episode, ControlEpisode):
      return np.asarray(episode.observation[patch.item][patch.timestep:patch.timestep + 1])[0]
    return np.asarray(episode.images[:1])[0] if hasattr(episode, 'images') else episode.image

  def timestep(self, number: int) -> tuple[int, int, int, int]:
    """Where its observation begins, its separator stands, its action begins, and it ends."""
    places = [i for i, origin in enumerate(self.origins) if origin.timestep == number]
    separator = next(i for i in places if self.origins[i].kind == 'separator')
    return places[0], separator, separator + 1, places[-1] + 1


class Examples(NamedTuple):
  """Attributes: the `data` of all, packed `rows`, and by what they are an example of, windows `alone`."""

  data: TokenData
  rows: Sequence[Example]
  alone: dict[str, Example]


def collect(reader: RowReader, rows: int, model: Gato | None = None) -> Examples:
  """The first `rows` rows of the mixture and the examples, with the model's predictions if there is one."""
  chosen = choose(reader.sources)
  explained = [reader.packed(number) for number in range(rows)]
  explained += [reader.alone(source, timesteps) for source, timesteps in chosen.values()]
  predictions = predict(model, [each.row for each in explained]) if model else [None] * len(explained)
  data = TokenData(reader.tokenizer, [source.name for source in reader.sources])
  made = [Example(data.add(each, prediction), each, reader.sources[each.origins[0].source], prediction)
          for each, prediction in zip(explained, predictions, strict=True)]
  return Examples(data, made[:rows], dict(zip(chosen, made[rows:], strict=True)))


def choose(sources: Sequence[EpisodeSource]) -> dict[str, tuple[int, int]]:
  """Which dataset shows what, and how many timesteps of it; what the mixture does not have is not there.

  Returns:
    `text`, `picture`, `discrete` and `continuous` actions, and `control`: the task with most kinds of values.
  """
  control = [i for i, source in enumerate(sources) if source.kind == 'control']
  found = {
      'text': _first([i for kind in ('text', 'pages', 'vqa', 'caption') for i in _of_kind(sources, kind)]),
      'picture': _first([*(i for kind in ('vqa', 'caption') for i in _of_kind(sources, kind)),
                         *(i for i in control if 'image' in _kinds(sources[i]))]),
      'discrete': _first([i for i in control if sources[i].task.action.kind == 'discrete']),
      'continuous': _first([i for i in control if sources[i].task.action.kind == 'continuous'
                            and 'continuous' in _kinds(sources[i])]),
      'control': max(control, key=lambda i: len(_kinds(sources[i])), default=None)}
  of_text = ('text', 'pages')
  return {what: (i, 48 if sources[i].kind in of_text else _TIMESTEPS) for what, i in found.items() if i is not None}


def _of_kind(sources: Sequence[EpisodeSource], kind: str) -> list[int]:
  return [i for i, source in enumerate(sources) if source.kind == kind]


def _kinds(source: EpisodeSource) -> set[str]:
  return {spec.kind for spec in source.task.observation.values()}


def _first(found: list[int]) -> int | None:
  return found[0] if found else None
