"""The packing plan: which parts of which episodes make up row i, for any i (design.md)."""

import collections
from collections.abc import Sequence
import enum
import logging
import threading
from typing import Any

import numpy as np

from data_pipelines.datasets.catalogue import weighted_entries
from data_pipelines.datasets.episodes import EpisodeSource
from data_pipelines.errors import InputError
from data_pipelines.sequences.index import EpisodeIndex
from data_pipelines.sequences.packing import BlockPacker
from data_pipelines.sequences.pages import PageDrawer
from data_pipelines.sequences.windows import DocumentDrawer, Prompts, Segment, SegmentDrawer, WindowDrawer

_KEPT_BLOCKS = 4  # planned blocks kept: readers are close together


class Role(enum.IntEnum):
  WINDOW = 0
  PROMPT = 1


# A stretch of whole timesteps of one episode in a row. A prompt and its window are two pieces of one segment.
PIECE = np.dtype([('source', np.int16), ('episode', np.int32), ('start', np.int32), ('stop', np.int32),
                  ('segment', np.int32), ('role', np.uint8), ('hide_actions', np.bool_)])


class PackingPlan:
  """Random access to rows: `row(i)` depends on the config, the datasets' lengths, the seed and i, and on nothing else.

  A block of `block_rows` rows is drawn at a time. Datasets other than text are drawn to their share of its positions;
  text fills all that is left, which is its share, in stretches as long as the rows have room for.

  Args:
    data_config: the config's `data` section.
    sources: the datasets; `sources` in a batch counts through them.
    indexes: their lengths.
    seed: of everything drawn.

  Raises:
    InputError: mixture and datasets do not match, a setting of an entry is out of bounds, or a timestep is larger than
      a row.
  """

  def __init__(self, data_config: Any, sources: Sequence[EpisodeSource], indexes: Sequence[EpisodeIndex], seed: int):
    self._block_rows = data_config.block_rows
    self._size = data_config.sequence_length, data_config.patches_per_row
    self._seed = seed
    self.shares = mixture_shares(data_config.mixture, sources)
    for source, index in zip(sources, indexes, strict=True):
      _check_fits(data_config, source, index)
    self._indexes = indexes
    self._drawers = [self._drawer(data_config, i, *pair)
                     for i, pair in enumerate(zip(sources, indexes, strict=True))]
    _warn_of_scarce_slots(data_config, indexes, self.shares)
    text = [i for i, drawer in enumerate(self._drawers) if isinstance(drawer, DocumentDrawer) and self.shares[i] > 0]
    self._text = [self._drawers[i] for i in text]
    self._text_shares = self.shares[text]
    self._blocks: collections.OrderedDict[int, list[np.ndarray]] = collections.OrderedDict()
    self._lock = threading.Lock()

  def __getstate__(self) -> dict[str, Any]:
    """Without the blocks that are planned; a lock cannot be pickled."""
    return {**vars(self), '_blocks': collections.OrderedDict(), '_lock': None}

  def __setstate__(self, state: dict[str, Any]) -> None:
    vars(self).update(state, _lock=threading.Lock())

  def row(self, i: int) -> np.ndarray:
    """`PIECE` [pieces] of row i, in the order in which they lie in it."""
    block, place = divmod(i, self._block_rows)
    with self._lock:
      if block not in self._blocks:
        self._blocks[block] = self._plan_block(block)
        if len(self._blocks) > _KEPT_BLOCKS:
          self._blocks.popitem(last=False)
      self._blocks.move_to_end(block)
      return self._blocks[block][place]

  def _drawer(self, config: Any, number: int, source: EpisodeSource,
              index: EpisodeIndex) -> SegmentDrawer | DocumentDrawer:
    if source.kind == 'text':
      return DocumentDrawer(number, index)
    if source.kind == 'pages':
      return PageDrawer(number, index, *self._size)
    if source.kind != 'control':
      return WindowDrawer(number, index, *self._size)
    entry, prompt = config.mixture[dataset_of(source.name)], config.prompt
    _check_windows(dataset_of(source.name), entry)
    prompts = Prompts(np.flatnonzero(~index.of_episodes(source.noisy)), prompt.share, prompt.from_end,
                      int(prompt.max_share_of_row * config.sequence_length),
                      int(prompt.max_share_of_row * config.patches_per_row))
    _warn_of_unfit_prompts(source, index, prompts)
    return WindowDrawer(number, index, *self._size, entry.window_timesteps, prompts,
                        entry.hide_actions)

  def _plan_block(self, block: int) -> list[np.ndarray]:
    rng = np.random.default_rng([self._seed, block])
    packer = BlockPacker(self._block_rows, *self._size, rng)
    capacity = self._block_rows * self._size[0]
    drawn = [segment for drawer, share in zip(self._drawers, self.shares, strict=True)
             if isinstance(drawer, SegmentDrawer) for segment in drawer.draw(rng, share * capacity)]
    packer.place(_within(capacity, drawn, rng), self._drawers)
    if self._text:
      packer.fill_with_text(self._text, self._text_shares)
    else:
      packer.fill_with_windows(self._drawers, self.shares)
    return [self._pieces(packer.rows[i]) for i in rng.permutation(self._block_rows)]

  def _pieces(self, segments: Sequence[Segment]) -> np.ndarray:
    pieces = []
    for number, segment in enumerate(segments, start=1):
      index = self._indexes[segment.source]
      if segment.prompt_stop > segment.prompt_start:
        pieces.append((segment.source, index.number(segment.prompt_episode), segment.prompt_start,
                       segment.prompt_stop, number, Role.PROMPT, False))
      pieces.append((segment.source, index.number(segment.episode), segment.start, segment.stop, number, Role.WINDOW,
                     segment.hide_actions))
    return np.array(pieces, PIECE)


def dataset_of(source_name: str) -> str:
  """The mixture's name for a dataset: `dm_control` for the source `dm_control/cartpole-swingup`."""
  return source_name.partition('/')[0]


def mixture_shares(mixture: Any, sources: Sequence[EpisodeSource]) -> np.ndarray:
  """Share of positions of each source, float64, summing to 1.

  Args:
    mixture: dataset -> entry; `task_weights` divides an entry's weight among its tasks, equally where it is empty.
      Entries of weight 0 have no source.
    sources: every dataset's tasks in the order of its entry.
  """
  of_dataset = collections.defaultdict(list)
  for i, source in enumerate(sources):
    of_dataset[dataset_of(source.name)].append(i)
  entries = weighted_entries(mixture)
  missing = sorted(set(entries) - set(of_dataset)), sorted(set(of_dataset) - set(entries))
  if any(missing):
    raise InputError(f'data.mixture: {missing[0]} have no dataset and {missing[1]} no weight; run `gato-jax prepare`')
  shares = np.zeros(len(sources))
  for dataset, members in of_dataset.items():
    weights = np.asarray(entries[dataset].task_weights or [1.0] * len(members), float)
    if len(weights) != len(members) or weights.min() < 0 or weights.sum() <= 0:
      raise InputError(f'data.mixture.{dataset}.task_weights is {entries[dataset].task_weights}: it needs '
                       f'{len(members)} numbers, one a task, at least 0 and one above it')
    shares[members] = entries[dataset].weight * weights / weights.sum()
  if not len(shares) or shares.min() < 0 or shares.sum() <= 0:
    raise InputError('data.mixture: weights must be at least 0, and one above it')
  return shares / shares.sum()


def _check_fits(config: Any, source: EpisodeSource, index: EpisodeIndex) -> None:
  if not index.timesteps:
    raise InputError(f'{source.name}: the dataset is empty; run `gato-jax prepare`, or take it out of data.mixture')
  most = int(index.step_patches.argmax())
  _require_room(config.patches_per_row, 'patches_per_row', 'patches', source, index.number(most),
                index.step_patches[most])
  if source.kind != 'text':
    # A page can be cut anywhere but in a picture.
    tokens, episode = (index.step_patches[most], index.number(most)) if source.kind == 'pages' else index.largest_step
    _require_room(config.sequence_length, 'sequence_length', 'positions', source, episode, tokens)


def _require_room(room: int, key: str, unit: str, source: EpisodeSource, episode: int, needed: int) -> None:
  if needed > room:
    raise InputError(f'{source.name}, episode {episode}: one timestep needs {needed} {unit}, a row has {room}; set '
                     f'data.{key} to {needed} at least')


def _check_windows(name: str, entry: Any) -> None:
  if entry.window_timesteps < 0:
    raise InputError(f'data.mixture.{name}.window_timesteps is {entry.window_timesteps}; it must be 0 (as long as the '
                     'row) or more')
  if not 0 <= entry.hide_actions <= 1:
    raise InputError(f'data.mixture.{name}.hide_actions is {entry.hide_actions}; it is a share, from 0 to 1')


def _warn_of_unfit_prompts(source: EpisodeSource, index: EpisodeIndex, prompts: Prompts) -> None:
  if index.step_tokens.min() > prompts.max_tokens or index.step_patches.min() > prompts.max_patches:
    logging.warning('%s: a timestep has %d tokens and %d patches, a prompt at most %d and %d: it is trained and played '
                    'without prompts. Raise data.prompt.max_share_of_row, data.patches_per_row or data.sequence_length',
                    source.name, index.step_tokens.min(), index.step_patches.min(), prompts.max_tokens,
                    prompts.max_patches)


def _warn_of_scarce_slots(config: Any, indexes: Sequence[EpisodeIndex], shares: np.ndarray) -> None:
  """Says so where the mixture holds more pictures than rows have slots for, and so cannot be met."""
  wanted = config.sequence_length * sum(
      share * index.patches / index.tokens for share, index in zip(shares, indexes, strict=True))
  if wanted > config.patches_per_row:
    logging.warning('the mixture wants %.0f picture patches a row but data.patches_per_row is %d; datasets with '
                    'pictures will fall short of their weight', wanted, config.patches_per_row)


def _within(capacity: int, segments: list[Segment], rng: np.random.Generator) -> list[Segment]:
  """Leaves out segments, whichever, as long as there are more than the block can hold."""
  if sum(segment.tokens for segment in segments) <= capacity:
    return segments
  kept, room = [], capacity
  for i in rng.permutation(len(segments)):
    if segments[i].tokens <= room:
      kept.append(segments[i])
      room -= segments[i].tokens
  return kept
