"""Lays the pieces of a row out as the arrays that a training step reads."""

import collections
from collections.abc import Mapping, Sequence
import threading
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from data_pipelines.datasets.episodes import EpisodeSource
from data_pipelines.errors import InputError
from data_pipelines.sequences.documents import DocumentTokens
from data_pipelines.sequences.tokenized_episode import TokenizedEpisode
from data_pipelines.sequences.tokenized_page import TokenizedPage
from data_pipelines.sequences.tokenizer import SequenceTokenizer
from data_pipelines.sequences.tokens import Tokens, concatenate
from data_pipelines.tokenization.images import PATCH_SIZE


class PackedBatch(NamedTuple):
  """B rows of L positions and P patch slots; NumPy on the host, jax arrays on the device; one row has no B.

  Attributes:
    tokens: int32 [B, L], vocabulary ids; padding_id where there is none.
    targets: int32 [B, L], the token to predict next; padding_id where the weight is 0.
    loss_weights: float32 [B, L], 1 where the next token is text or an action of the same segment, else 0.
    segment_ids: int32 [B, L], from 1; 0 is padding.
    positions: int32 [B, L], place within the segment.
    local_positions: int32 [B, L], place within the timestep's observation (`sequences.tokens`).
    sources: int16 [B, L], dataset, an index into the loader's `source_names`; 0 for padding.
    patches: uint8 [B, P, 16, 16, 3], raw pixels.
    patch_positions: int32 [B, P], where in L the patch goes; L: the slot is not used.
    patch_intervals: uint8 [B, P, 2, 2], quantised row and column interval of the patch.
  """

  tokens: np.ndarray
  targets: np.ndarray
  loss_weights: np.ndarray
  segment_ids: np.ndarray
  positions: np.ndarray
  local_positions: np.ndarray
  sources: np.ndarray
  patches: np.ndarray
  patch_positions: np.ndarray
  patch_intervals: np.ndarray


class EpisodeCache:
  """Tokenized parts of episodes, the least recently used of which are dropped; safe to use from several threads.

  Args:
    sources: the datasets.
    tokenizer: tokenizes them.
    megabytes: most memory to use.
    documents: by dataset, the tokens of text where they lie on disk; nothing of them is kept.
  """

  def __init__(self, sources: Sequence[EpisodeSource], tokenizer: SequenceTokenizer, megabytes: float,
               documents: Mapping[int, DocumentTokens] = MappingProxyType({})):
    self.sources = sources
    self._tokenizer = tokenizer
    self._megabytes = megabytes
    self._documents = documents
    self._room = int(megabytes * 2**20)
    self._parts: collections.OrderedDict[tuple[int, int, int], TokenizedEpisode | TokenizedPage] = (
        collections.OrderedDict())
    self._lock = threading.Lock()

  def __reduce__(self) -> tuple[Any, ...]:
    """As it was made, empty."""
    return EpisodeCache, (self.sources, self._tokenizer, self._megabytes, dict(self._documents))

  def window(self, source: int, episode: int, start: int, stop: int, hide_actions: bool = False) -> Tokens:
    """Timesteps [start, stop) of an episode of dataset `source`; as many parts of it as that takes are read."""
    if source in self._documents:
      return self._documents[source].window(episode, start, stop)
    size = self.sources[source].part_timesteps
    runs = []
    for number in range(start // size, -(-stop // size)):
      first = number * size
      part = self._part(source, episode, number)
      runs.append(part.window(max(start - first, 0), min(stop - first, size), hide_actions))
    return runs[0] if len(runs) == 1 else concatenate(runs)

  def _part(self, source: int, episode: int, number: int) -> TokenizedEpisode | TokenizedPage:
    key = source, episode, number
    with self._lock:
      part = self._parts.get(key)
      if part is not None:
        self._parts.move_to_end(key)
        return part
    part = self._tokenizer.tokenize(self.sources[source], episode, number)
    with self._lock:
      if key not in self._parts:
        self._parts[key] = part
        self._room -= part.nbytes
      while self._room < 0:
        self._room += self._parts.popitem(last=False)[1].nbytes
    return part


def lay_out(pieces: np.ndarray, cache: EpisodeCache, row_tokens: int, row_patches: int, padding_id: int) -> PackedBatch:
  """One row.

  Args:
    pieces: `PIECE` [n], from the packing plan.
    cache: has the episodes.
    row_tokens: L.
    row_patches: P.
    padding_id: fills what is left.

  Raises:
    InputError: an episode has not the length that its index says.
  """
  row = _empty_row(row_tokens, row_patches, padding_id)
  labels, is_target = np.full(row_tokens + 1, padding_id, np.int32), np.zeros(row_tokens + 1, bool)
  segment_ids = np.zeros(row_tokens + 1, np.int32)
  place = slot = begin = last_segment = 0
  for source, episode, start, stop, segment, _, hide_actions in pieces.tolist():
    run = cache.window(source, episode, start, stop, hide_actions)
    part, slots = slice(place, place + len(run)), slice(slot, slot + len(run.patches))
    if part.stop > row_tokens or slots.stop > row_patches:
      raise InputError(f'{cache.sources[source].name}, episode {episode} is longer than its index says; delete the '
                       'episode_index files in its directory')
    if segment != last_segment:
      begin, last_segment = place, segment
    row.tokens[part], labels[part], is_target[part] = run.tokens, run.labels, run.loss_mask
    segment_ids[part], row.sources[part] = segment, source
    row.positions[part] = np.arange(place - begin, part.stop - begin)
    row.local_positions[part] = run.local_positions
    if len(run.patches):
      row.patches[slots], row.patch_intervals[slots] = run.patches, run.patch_intervals
      row.patch_positions[slots] = run.patch_positions + place
    place, slot = part.stop, slots.stop
  row.segment_ids[:] = segment_ids[:-1]
  predicts = is_target[1:] & (segment_ids[1:] == segment_ids[:-1])
  row.loss_weights[:] = predicts
  row.targets[predicts] = labels[1:][predicts]
  return row


def row_bytes(row_tokens: int, row_patches: int) -> int:
  """Of the arrays of one row."""
  return sum(array.nbytes for array in _empty_row(row_tokens, row_patches, padding_id=0))


def _empty_row(row_tokens: int, row_patches: int, padding_id: int) -> PackedBatch:
  def zeros(dtype):
    return np.zeros(row_tokens, dtype)

  def padding():
    return np.full(row_tokens, padding_id, np.int32)

  return PackedBatch(
      tokens=padding(), targets=padding(), loss_weights=zeros(np.float32), segment_ids=zeros(np.int32),
      positions=zeros(np.int32), local_positions=zeros(np.int32), sources=zeros(np.int16),
      patches=np.zeros((row_patches, PATCH_SIZE, PATCH_SIZE, 3), np.uint8),
      patch_positions=np.full(row_patches, row_tokens, np.int32),
      patch_intervals=np.zeros((row_patches, 2, 2), np.uint8))
