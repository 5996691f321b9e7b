"""Rows of the packing plan as batches, for one host of many."""

import collections
from collections.abc import Iterator, Sequence
import concurrent.futures
import logging
from typing import Any

import numpy as np

from data_pipelines.datasets.episodes import EpisodeSource
from data_pipelines.errors import InputError
from data_pipelines.reading import Chunks, Rows
from data_pipelines.sequences.filtering import drawn_episodes, good_episodes
from data_pipelines.sequences.index import EpisodeIndex, open_index
from data_pipelines.sequences.plan import PackingPlan, dataset_of
from data_pipelines.sequences.rows import EpisodeCache, PackedBatch
from data_pipelines.sequences.tokenizer import SequenceTokenizer


class Loader(Iterator[PackedBatch]):
  """Endless batches; see `make_loader`. To be closed: processes that read would end late and noisily, with Python."""

  def __init__(self, chunks: Chunks, chunk_batches: int, batch_rows: int, source_names: Sequence[str],
               shares: np.ndarray, filtered: Sequence[int]):
    self.source_names = tuple(source_names)
    self._wanted_shares = shares
    self._filtered = filtered
    self._batch_rows = batch_rows
    self._chunk_batches = chunk_batches
    self._chunks = chunks
    self._drawn = 0
    self._ahead: collections.deque[PackedBatch] = collections.deque()  # the rest of a chunk
    self._positions = np.zeros(len(source_names), np.int64)
    self._capacity = self._patches = self._slots = self._segments = self._rows = 0

  def __next__(self) -> PackedBatch:
    if not self._ahead:
      self._ahead.extend(self._split(next(self._chunks))[self._drawn % self._chunk_batches:])
    batch = self._ahead.popleft()
    self._drawn += 1
    self._count(batch)
    return batch

  def get_state(self) -> int:
    """Batches drawn so far, the same on every host."""
    return self._drawn

  def set_state(self, batches: int) -> None:
    """Goes on after so many batches, whatever number of hosts and processes drew them."""
    self._drawn = batches
    self._ahead.clear()
    self._chunks.go_to(batches // self._chunk_batches)

  def close(self) -> None:
    """Ends the threads and processes that read."""
    self._ahead.clear()
    self._chunks.close()

  def report(self) -> dict[str, Any]:
    """What this host's batches so far were filled with.

    Returns:
      position_fill and patch_fill, in [0, 1]; segments_per_row; and by dataset the share of the filled positions:
      `shares` as achieved, `wanted_shares` as the mixture has them, and `filtered`, how many episodes its
      `min_return_share` and `subset` leave out.
    """
    filled = int(self._positions.sum())
    shares = self._positions / max(filled, 1)
    return {
        'position_fill': filled / max(self._capacity, 1),
        'patch_fill': self._patches / max(self._slots, 1),
        'segments_per_row': self._segments / max(self._rows, 1),
        'shares': dict(zip(self.source_names, shares.tolist(), strict=True)),
        'wanted_shares': dict(zip(self.source_names, self._wanted_shares.tolist(), strict=True)),
        'filtered': dict(zip(self.source_names, self._filtered, strict=True)),
    }

  def _split(self, chunk: PackedBatch) -> list[PackedBatch]:
    arrays = [np.asarray(array) for array in chunk]  # not of Grain's class, which keeps the memory alive all the same
    starts = range(0, self._chunk_batches * self._batch_rows, self._batch_rows)
    return [PackedBatch(*(array[start:start + self._batch_rows] for array in arrays)) for start in starts]

  def _count(self, batch: PackedBatch) -> None:
    filled = batch.segment_ids > 0
    self._positions += np.bincount(batch.sources[filled], minlength=len(self.source_names))
    self._capacity += filled.size
    self._patches += int((batch.patch_positions < batch.tokens.shape[1]).sum())
    self._slots += batch.patch_positions.size
    self._segments += int(batch.segment_ids.max(axis=1).sum())
    self._rows += len(filled)


def make_loader(data_config: Any, sources: Sequence[EpisodeSource], tokenizer: SequenceTokenizer, *, seed: int,
                batch_size: int, local_rows: Sequence[int] | None = None) -> Loader:
  """Batches of the mixture.

  The global batch i is rows [i B, (i + 1) B) of the packing plan, whatever the number of hosts; a host reads only the
  rows of it that its devices need.

  Args:
    data_config: the config's `data` section.
    sources: the datasets of the mixture.
    tokenizer: for all of them.
    seed: of the packing plan.
    batch_size: B, rows over all hosts.
    local_rows: this host's places in the global batch, in [0, B); by default all of them.

  Raises:
    InputError: what `PackingPlan` and `open_index` find wrong.
  """
  processes = data_config.read_processes
  if processes < 0:
    raise InputError(f'data.read_processes is {processes}; it must be 0 (threads of this process read) or more')
  local_rows = range(batch_size) if local_rows is None else local_rows
  indexes, filtered = open_indexes(data_config, sources, tokenizer)
  plan = PackingPlan(data_config, sources, indexes, seed)
  cache = open_cache(data_config, sources, indexes, tokenizer, data_config.cache_megabytes / max(processes, 1))
  # Whoever needs one row of a block plans all of it, so what a process makes at a time has as many rows as a block at
  # least; where the batch size does not divide those, a block at a seam is planned twice.
  chunk_batches = -(-data_config.block_rows // batch_size) if processes else 1
  size = data_config.sequence_length, data_config.patches_per_row, tokenizer.vocabulary.padding_id
  rows = Rows(plan, cache, size, batch_size, local_rows, chunk_batches * len(local_rows))
  chunks = Chunks(rows, data_config.read_threads, processes)
  names = [source.name for source in sources]
  return Loader(chunks, chunk_batches, len(local_rows), names, plan.shares, filtered)


def open_cache(data_config: Any, sources: Sequence[EpisodeSource], indexes: Sequence[EpisodeIndex],
               tokenizer: SequenceTokenizer, megabytes: float) -> EpisodeCache:
  """The episodes that rows are laid out of; text from the tokens on disk, where an index has them."""
  documents = {number: index.documents for number, index in enumerate(indexes) if index.documents}
  return EpisodeCache(sources, tokenizer, megabytes, documents)


def open_indexes(data_config: Any, sources: Sequence[EpisodeSource],
                 tokenizer: SequenceTokenizer) -> tuple[list[EpisodeIndex], list[int]]:
  """What of each dataset is trained on, and how many of its episodes `min_return_share` and `subset` leave out.

  Raises:
    InputError: what `open_index`, `good_episodes` and `drawn_episodes` find wrong.
  """
  with concurrent.futures.ThreadPoolExecutor(max(data_config.read_threads, 1)) as pool:
    whole = list(pool.map(lambda source: open_index(source, tokenizer), sources))
  indexes = [_subset(data_config, source, _filtered(data_config, source, index))
             for source, index in zip(sources, whole, strict=True)]
  return indexes, [len(index.lengths) - len(kept.lengths) for index, kept in zip(whole, indexes, strict=True)]


def _filtered(data_config: Any, source: EpisodeSource, index: EpisodeIndex) -> EpisodeIndex:
  entry = data_config.mixture.get(dataset_of(source.name))
  if not entry or not entry.min_return_share:
    return index
  if source.kind != 'control':
    raise InputError(f'data.mixture.{source.name}.min_return_share is {entry.min_return_share}, but only episodes of '
                     'control have a return: leave it at 0')
  try:
    kept = good_episodes(index.scores, source.noisy, entry.min_return_share)
  except InputError as error:
    raise InputError(f'{source.name}: {error}') from error
  if not kept.all():
    logging.warning("%s: %d of %d episodes are left out, as their return is below %g of the expert's", source.name,
                    (~kept).sum(), len(kept), entry.min_return_share)
  return index.select(kept)


def _subset(data_config: Any, source: EpisodeSource, index: EpisodeIndex) -> EpisodeIndex:
  entry = data_config.mixture.get(dataset_of(source.name))
  if not getattr(entry, 'subset', 0):  # a run that is older than the key has none
    return index
  if source.kind != 'control':
    raise InputError(f'data.mixture.{source.name}.subset is {entry.subset}, but only episodes of control can be drawn')
  try:
    return index.select(drawn_episodes(index.scores, entry.subset, entry.subset_of_best, entry.subset_seed))
  except InputError as error:
    raise InputError(f'{source.name}: {error}') from error
