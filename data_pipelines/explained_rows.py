"""Rows of a mixture, and windows of single episodes, with the origin of each of their tokens: for people to look at."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from data_pipelines.datasets.episodes import EpisodeSource
from data_pipelines.loader import open_cache, open_indexes
from data_pipelines.provenance import Origin, origins
from data_pipelines.sequences.index import EpisodeIndex
from data_pipelines.sequences.plan import PIECE, PackingPlan, Role
from data_pipelines.sequences.rows import PackedBatch, lay_out
from data_pipelines.sequences.tokenizer import SequenceTokenizer


class ExplainedRow(NamedTuple):
  """One row of L positions.

  Attributes:
    row: as a training step reads it, without the axis of the batch.
    origins: of its tokens, in order; padding has none.
  """

  row: PackedBatch
  origins: Sequence[Origin]


class RowReader:
  """Lays out rows of the packing plan, as `make_loader` does, and windows of single episodes.

  Attributes:
    sources: the datasets of the mixture.
    indexes: what of each is trained on.
    shares: of the positions, float64, by dataset.
    tokenizer: for all of them.

  Raises:
    InputError: what `PackingPlan` and `open_index` find wrong.
  """

  def __init__(self, data_config: Any, sources: Sequence[EpisodeSource], tokenizer: SequenceTokenizer, seed: int):
    self.sources = sources
    self.tokenizer = tokenizer
    self.indexes, _ = open_indexes(data_config, sources, tokenizer)
    self._plan = PackingPlan(data_config, sources, self.indexes, seed)
    self.shares = self._plan.shares
    self._cache = open_cache(data_config, sources, self.indexes, tokenizer, data_config.cache_megabytes)
    self._size = data_config.sequence_length, data_config.patches_per_row

  def packed(self, number: int) -> ExplainedRow:
    """A row of the packing plan."""
    return self._explained(self._plan.row(number), *self._size)

  def alone(self, source: int, timesteps: int) -> ExplainedRow:
    """The first timesteps of an episode of a dataset, as many as L positions hold, each of which may be a patch.

    It is an episode without noise, if there is one.
    """
    index, length = self.indexes[source], self._size[0]
    clean = np.flatnonzero(~index.of_episodes(self.sources[source].noisy))
    episode = int(clean[0]) if len(clean) else 0
    stop = min(timesteps, int(index.lengths[episode]), self._fitting(index, episode))
    stop = _outside_pictures(index, episode, stop)
    piece = (source, index.number(episode), 0, stop, 1, Role.WINDOW, False)
    return self._explained(np.array([piece], PIECE), length, length)

  def _fitting(self, index: EpisodeIndex, episode: int) -> int:
    """How many of an episode's first timesteps L positions hold."""
    length = self._size[0]
    if not len(index.step_tokens):
      return length
    first = int(index.step_starts[episode])
    ends = range(first + 1, first + min(length, int(index.lengths[episode])) + 1)
    return sum(int(index.token_starts[end] - index.token_starts[first]) <= length for end in ends)

  def _explained(self, pieces: np.ndarray, length: int, patches: int) -> ExplainedRow:
    row = lay_out(pieces, self._cache, length, patches, self.tokenizer.vocabulary.padding_id)
    return ExplainedRow(row, origins(pieces, row, self.sources, self.tokenizer))


def _outside_pictures(index: EpisodeIndex, episode: int, stop: int) -> int:
  """Where a page can be cut instead of at `stop`: before the picture there, or behind it if it is the first thing."""
  patches = int(index.step_patches[episode])
  for start in (index.picture_starts - index.step_starts[episode]).tolist():
    if start < stop < start + patches:
      return start or patches
  return stop
