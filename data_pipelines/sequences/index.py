"""How long everything in a dataset is: all that packing needs to know, without reading an episode."""

from collections.abc import Sequence
import concurrent.futures
from concurrent.futures.process import BrokenProcessPool
import dataclasses
import functools
import glob
import hashlib
import json
import logging
import multiprocessing
import os
import tempfile
import threading
import zipfile

import numpy as np

from data_pipelines.datasets.episodes import Episode, EpisodeSource
from data_pipelines.datasets.staging import INCOMPLETE
from data_pipelines.errors import InputError
from data_pipelines.sequences.documents import DocumentTokens, DocumentWriter
from data_pipelines.sequences.tokenizer import SequenceTokenizer
from data_pipelines.tokenization.vocabulary import Vocabulary

_FEW_EPISODES = 1000  # starting processes takes longer than reading so many
_FORMAT = 4  # raise it when the index of the same episodes is another
_FILE = f'episode_index_v{_FORMAT}_{{}}.npz'
# NumPy parses the headers as Python, which raises SystemError now and then where threads of Python 3.11 do it at once.
_PARSING = threading.Lock()


@dataclasses.dataclass(frozen=True)
class EpisodeIndex:
  """Lengths of the E episodes of a dataset.

  A document's timesteps are its tokens, and so are a page's, of text and pictures; a picture with its text is one.

  Attributes:
    lengths: int64 [E], timesteps.
    step_tokens: int32, tokens of a timestep: [E] where all timesteps of an episode have as many, which takes no memory
      for timesteps; else of every timestep of every episode, one after the other. Empty for text
      and pages, where it is 1.
    step_patches: int32 [E], patches of one timestep, the same throughout an episode; of a page, those of a picture.
    scores: float32 [E], the undiscounted return, or success (0 or 1) where the task is scored by that; NaN for others.
    picture_starts: int64, for pages: the timesteps, numbered through the dataset, that its pictures begin at.
    selected: int64 [E], their numbers in the dataset if some of it are left out; None: it is all of it.
    documents: of text that lies on disk, its tokens.
  """

  lengths: np.ndarray
  step_tokens: np.ndarray
  step_patches: np.ndarray
  scores: np.ndarray
  picture_starts: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
  selected: np.ndarray | None = None
  documents: DocumentTokens | None = None

  @functools.cached_property
  def step_starts(self) -> np.ndarray:
    """int64 [E + 1]: timesteps are numbered through the dataset; where each episode's begin."""
    return np.concatenate([[0], np.cumsum(self.lengths)])

  @functools.cached_property
  def token_starts(self) -> 'np.ndarray | TokenStarts':
    """Tokens before each timestep of the dataset, and after the last. Not for text and pages."""
    if len(self.step_tokens) == len(self.lengths):
      return TokenStarts(self.step_starts, self.step_tokens)
    return np.concatenate([[0], np.cumsum(self.step_tokens, dtype=np.int64)])

  @property
  def timesteps(self) -> int:
    return int(self.step_starts[-1])

  @functools.cached_property
  def tokens(self) -> int:
    """Of all episodes together."""
    return int(self.token_starts[self.timesteps]) if len(self.step_tokens) else self.timesteps

  @property
  def patches(self) -> int:
    if len(self.picture_starts):
      return int(self.step_patches[np.searchsorted(self.step_starts, self.picture_starts, 'right') - 1].sum())
    return int(self.step_patches @ self.lengths)

  @property
  def largest_step(self) -> tuple[int, int]:
    """Tokens of the largest timestep, and the number of its episode in the dataset. Not for text and pages."""
    place = episode = int(self.step_tokens.argmax())
    if len(self.step_tokens) > len(self.lengths):
      episode = int(np.searchsorted(self.step_starts, place, 'right')) - 1
    return int(self.step_tokens[place]), self.number(episode)

  def number(self, episode: int) -> int:
    """The number in the dataset of an episode of the index."""
    return episode if self.selected is None else int(self.selected[episode])

  def of_episodes(self, column: np.ndarray) -> np.ndarray:
    """The part of a column of the dataset, one entry an episode, that the index holds."""
    return column if self.selected is None else column[self.selected]

  def select(self, kept: np.ndarray) -> 'EpisodeIndex':
    """The index of those episodes for which `kept`, bool [E], is true."""
    step_tokens = self.step_tokens
    if len(step_tokens):
      step_tokens = step_tokens[kept if len(step_tokens) == len(kept) else np.repeat(kept, self.lengths)]
    return EpisodeIndex(self.lengths[kept], step_tokens, self.step_patches[kept], self.scores[kept],
                        selected=np.flatnonzero(kept) if self.selected is None else self.selected[kept])


_COLUMNS = tuple(field.name for field in dataclasses.fields(EpisodeIndex)
                 if field.name not in ('selected', 'documents'))


class TokenStarts:
  """As an array of the tokens before each timestep, but computed from what an episode's timesteps have in common.

  Args:
    step_starts: int64 [E + 1], first timestep of each episode, and how many there are.
    step_tokens: int32 [E], tokens of each timestep of an episode.
  """

  def __init__(self, step_starts: np.ndarray, step_tokens: np.ndarray):
    self._steps = step_starts
    self._step_tokens = step_tokens.astype(np.int64)
    self._tokens = np.concatenate([[0], np.cumsum(np.diff(step_starts) * self._step_tokens)])

  def __getitem__(self, step: int | np.ndarray) -> np.ndarray:
    """int64, the shape of `step`."""
    episode = np.minimum(np.searchsorted(self._steps, step, 'right') - 1, len(self._step_tokens) - 1)
    return self._tokens[episode] + (step - self._steps[episode]) * self._step_tokens[episode]

  def searchsorted(self, tokens: int | np.ndarray, side: str = 'left', sorter: None = None) -> np.ndarray:
    """As of the array; `np.searchsorted` calls it."""
    del sorter
    episode = np.searchsorted(self._tokens, tokens, 'right') - 1
    episode = np.clip(episode, 0, len(self._step_tokens) - 1)
    into, each = tokens - self._tokens[episode], self._step_tokens[episode]
    steps = into // each + 1 if side == 'right' else -(-into // each)
    return np.clip(self._steps[episode] + steps, 0, self._steps[-1] + 1)


def open_index(source: EpisodeSource, tokenizer: SequenceTokenizer) -> EpisodeIndex:
  """The index of a dataset: from its directory, or made by reading every episode once, and then kept there.

  The tokens of text are kept beside it.

  Raises:
    InputError: an episode cannot be tokenized; the message names dataset, episode and item.
  """
  path = _path(source, tokenizer)
  if source.kind == 'text' and path:
    return _open_text_index(source, tokenizer, path)
  index = _load(path) if os.path.exists(path) else None
  if index is not None:
    return index
  index = _build(source, tokenizer)
  if path:
    _save(index, tokenizer.vocabulary, path)
  return index


def _open_text_index(source: EpisodeSource, tokenizer: SequenceTokenizer, path: str) -> EpisodeIndex:
  """`open_index` of text in a directory."""
  tokens_path, text_size = _tokens_path(path), tokenizer.text_tokenizer.size
  index = _load(path) if os.path.exists(path) else None
  if index is not None:
    documents = DocumentTokens(tokens_path, text_size, index.step_starts)
    if documents.complete:
      return dataclasses.replace(index, documents=documents)
  with DocumentWriter(tokens_path, text_size) as writer:
    index = _build(source, tokenizer, writer)
  _save(index, tokenizer.vocabulary, path)
  documents = DocumentTokens(tokens_path, text_size, index.step_starts)
  return dataclasses.replace(index, documents=documents if documents.complete else None)


def make_indexes(sources: Sequence[EpisodeSource], tokenizer: SequenceTokenizer, workers: int) -> None:
  """Makes the indexes that are missing, so that `open_index` finds them; many episodes are read by `workers` processes.

  Raises:
    InputError: as `open_index`, or a process died.
  """
  paths = {_path(source, tokenizer): source for source in sources}  # several entries may share a dataset
  missing = [source for path, source in paths.items() if not _is_kept(source, path)]
  if sum(map(len, missing)) < _FEW_EPISODES:
    for source in missing:
      open_index(source, tokenizer)
    return
  longest_first = sorted(missing, key=len, reverse=True)
  context = multiprocessing.get_context('spawn')
  try:
    with concurrent.futures.ProcessPoolExecutor(min(max(workers, 1), len(missing)), context) as pool:
      list(pool.map(functools.partial(_make_index, tokenizer=tokenizer), longest_first))
  except BrokenProcessPool as error:
    raise InputError('a process that indexed episodes died, perhaps for want of memory: lower data.workers and run '
                     'again') from error


def _make_index(source: EpisodeSource, tokenizer: SequenceTokenizer) -> None:
  open_index(source, tokenizer)


def _is_kept(source: EpisodeSource, path: str) -> bool:
  files = [path, _tokens_path(path)] if source.kind == 'text' else [path]
  return all(map(os.path.exists, files))


def _path(source: EpisodeSource, tokenizer: SequenceTokenizer) -> str:
  """Where the index is kept; empty for a source without a directory."""
  return os.path.join(source.directory, _FILE.format(_digest(source, tokenizer))) if source.directory else ''


def _tokens_path(path: str) -> str:
  """Where the tokens of text are kept, beside the index."""
  return path.removesuffix('.npz') + '.tokens'


def latest_index(directory: str) -> EpisodeIndex | None:
  """The index last made of a dataset, with whatever tokenizer; None if there is none."""
  for path in sorted(glob.glob(os.path.join(directory, _FILE.format('*'))), key=os.path.getmtime, reverse=True):
    index = _load(path)
    if index is not None:
      return index
  return None


def _load(path: str) -> EpisodeIndex | None:
  try:
    with _PARSING, np.load(path) as arrays:
      return EpisodeIndex(**{column: arrays[column] for column in _COLUMNS})
  except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
    logging.warning('%s is damaged (%s); it is made anew', path, error)
    return None


def _build(source: EpisodeSource, tokenizer: SequenceTokenizer,
           documents: DocumentWriter | None = None) -> EpisodeIndex:
  lengths, step_tokens, step_patches, scores = [], [np.zeros(0, np.int32)], [], []
  picture_starts, timesteps = [np.zeros(0, np.int64)], 0
  for i in range(len(source)):
    episode = source[i]
    tokenized = tokenizer.tokenize_episode(source, i, episode)
    lengths.append(tokenized.length)
    step_patches.append(tokenized.step_patches)
    scores.append(_score(source, episode))
    if documents:
      documents.add(tokenized.tokens)
    if source.kind == 'pages':
      picture_starts.append(tokenized.picture_starts + timesteps)
    elif source.kind != 'text':
      tokens = np.diff(tokenized.step_ends, prepend=0).astype(np.int32)
      step_tokens.append(tokens[:1] if (tokens == tokens[0]).all() else tokens)
    timesteps += tokenized.length
  if any(len(tokens) > 1 for tokens in step_tokens):
    step_tokens[1:] = [np.broadcast_to(*pair) for pair in zip(step_tokens[1:], lengths, strict=True)]
  return EpisodeIndex(np.array(lengths, np.int64), np.concatenate(step_tokens), np.array(step_patches, np.int32),
                      np.array(scores, np.float32), np.concatenate(picture_starts))


def _score(source: EpisodeSource, episode: Episode) -> float:
  if source.kind != 'control':
    return np.nan
  return float(episode.success) if source.task.score == 'success' else episode.episode_return


def _digest(source: EpisodeSource, tokenizer: SequenceTokenizer) -> str:
  """Names dataset and tokenizer.

  Three episodes, of each the first part, stand for the content, so that a rebuilt dataset is read anew.
  """
  digest = hashlib.sha256()
  task = source.task.to_json() if source.task else None
  digest.update(json.dumps([len(source), task, tokenizer.digest], sort_keys=True).encode())
  for i in sorted({0, len(source) // 2, len(source) - 1} if len(source) else ()):
    digest.update(tokenizer.tokenize(source, i, part=0).tokens.tobytes())
  return digest.hexdigest()[:16]


def _save(index: EpisodeIndex, vocabulary: Vocabulary, path: str) -> None:
  """Atomic, since several hosts may do it at once; a directory that cannot be written only costs the time."""
  try:
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path), prefix=INCOMPLETE) as folder:
      columns = {column: getattr(index, column) for column in _COLUMNS}
      file = os.path.join(folder, 'index.npz')
      np.savez_compressed(file, **columns, vocabulary=json.dumps(vocabulary.to_json()))
      os.replace(file, path)
  except OSError as error:
    logging.warning('%s: the episode index could not be kept (%s); it is made anew each time', path, error)
