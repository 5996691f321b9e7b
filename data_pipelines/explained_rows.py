"""Rows of a mixture, and windows of single episodes, with the origin of each of their tokens: for people to look at."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from data_pipelines.datasets.episodes import EpisodeSource
from data_pipelines.loader import open_indexes
from data_pipelines.provenance import Origin, origins
from data_pipelines.sequences.plan import PIECE, PackingPlan, Role
from data_pipelines.sequences.rows import EpisodeCache, PackedBatch, lay_out
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
  """Lays out rows of the packing plan, as `make_loader` does, and windows of episodes as rows of the same size.

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
    self._cache = EpisodeCache(sources, tokenizer, data_config.cache_megabytes)
    self._size = data_config.sequence_length, data_config.patches_per_row, tokenizer.vocabulary.padding_id

  def packed(self, number: int) -> ExplainedRow:
    """A row of the packing plan."""
    return self._explained(self._plan.row(number))

  def alone(self, source: int, timesteps: int) -> ExplainedRow:
    """The first timesteps of an episode of a dataset, as many as a row holds; of an episode without noise, if any."""
    index = self.indexes[source]
    clean = np.flatnonzero(~index.of_episodes(self.sources[source].noisy))
    episode = int(clean[0]) if len(clean) else 0
    stop = min(timesteps, int(index.lengths[episode]), self._fitting(source, episode))
    piece = (source, index.number(episode), 0, stop, 1, Role.WINDOW, False)
    return self._explained(np.array([piece], PIECE))

  def _fitting(self, source: int, episode: int) -> int:
    """How many of an episode's first timesteps a row holds."""
    index, (length, slots, _) = self.indexes[source], self._size
    if not len(index.step_tokens):
      return length
    first = int(index.step_starts[episode])
    steps = np.arange(1, min(length, int(index.lengths[episode])) + 1)
    tokens = np.array([int(index.token_starts[first + step] - index.token_starts[first]) for step in steps.tolist()])
    return int(((tokens <= length) & (steps * int(index.step_patches[episode]) <= slots)).sum())

  def _explained(self, pieces: np.ndarray) -> ExplainedRow:
    row = lay_out(pieces, self._cache, *self._size)
    return ExplainedRow(row, origins(pieces, row, self.sources, self.tokenizer))
