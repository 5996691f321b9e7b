"""How long everything in a dataset is: all that packing needs to know, without reading an episode."""

import dataclasses
import functools
import hashlib
import json
import logging
import os
import tempfile
import zipfile

import numpy as np

from data_pipelines.datasets.episodes import EpisodeSource
from data_pipelines.sequences.tokenizer import SequenceTokenizer
from data_pipelines.tokenization.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True)
class EpisodeIndex:
  """Lengths of the E episodes of a dataset. A document's timesteps are its tokens; a picture with its text is one.

  Attributes:
    lengths: int64 [E], timesteps.
    step_tokens: int32, tokens of every timestep of every episode, one after the other; empty for text, where it is 1.
    step_patches: int32 [E], patches of one timestep, the same throughout an episode.
    returns: float32 [E], undiscounted; NaN where there is none.
  """

  lengths: np.ndarray
  step_tokens: np.ndarray
  step_patches: np.ndarray
  returns: np.ndarray

  @functools.cached_property
  def step_starts(self) -> np.ndarray:
    """int64 [E + 1]: timesteps are numbered through the dataset; where each episode's begin."""
    return np.concatenate([[0], np.cumsum(self.lengths)])

  @functools.cached_property
  def token_starts(self) -> np.ndarray:
    """int64 [timesteps + 1]: tokens before each timestep of the dataset. Not for text."""
    return np.concatenate([[0], np.cumsum(self.step_tokens, dtype=np.int64)])

  @property
  def timesteps(self) -> int:
    return int(self.step_starts[-1])


def open_index(source: EpisodeSource, tokenizer: SequenceTokenizer) -> EpisodeIndex:
  """The index of a dataset: from its directory, or made by reading every episode once, and then kept there.

  Raises:
    InputError: an episode cannot be tokenized; the message names dataset, episode and item.
  """
  path = os.path.join(source.directory, f'episode_index_{_digest(source, tokenizer)}.npz') if source.directory else ''
  if os.path.exists(path):
    try:
      with np.load(path) as arrays:
        return EpisodeIndex(**{field.name: arrays[field.name] for field in dataclasses.fields(EpisodeIndex)})
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
      logging.warning('%s is damaged (%s); it is made anew', path, error)
  index = _build(source, tokenizer)
  if path:
    _save(index, tokenizer.vocabulary, path)
  return index


def _build(source: EpisodeSource, tokenizer: SequenceTokenizer) -> EpisodeIndex:
  lengths, step_tokens, step_patches, returns = [], [np.zeros(0, np.int32)], [], []
  for i in range(len(source)):
    episode = source[i]
    tokenized = tokenizer.tokenize_episode(source, i, episode)
    lengths.append(tokenized.length)
    step_patches.append(tokenized.step_patches)
    returns.append(getattr(episode, 'episode_return', np.nan))
    if source.kind != 'text':
      step_tokens.append(np.diff(tokenized.step_ends, prepend=0).astype(np.int32))
  return EpisodeIndex(np.array(lengths, np.int64), np.concatenate(step_tokens), np.array(step_patches, np.int32),
                      np.array(returns, np.float32))


def _digest(source: EpisodeSource, tokenizer: SequenceTokenizer) -> str:
  """Names dataset and tokenizer; three episodes stand for the content, so that a rebuilt dataset is read anew."""
  digest = hashlib.sha256()
  task = source.task.to_json() if source.task else None
  digest.update(json.dumps([source.name, len(source), task, tokenizer.digest], sort_keys=True).encode())
  for i in sorted({0, len(source) // 2, len(source) - 1} if len(source) else ()):
    digest.update(tokenizer.tokenize(source, i).tokens.tobytes())
  return digest.hexdigest()[:16]


def _save(index: EpisodeIndex, vocabulary: Vocabulary, path: str) -> None:
  """Atomic, since several hosts may do it at once; a directory that cannot be written only costs the time."""
  try:
    with tempfile.NamedTemporaryFile(dir=os.path.dirname(path), suffix='.npz', delete=False) as file:
      np.savez_compressed(file, **dataclasses.asdict(index), vocabulary=json.dumps(vocabulary.to_json()))
    os.replace(file.name, path)
  except OSError as error:
    logging.warning('%s: the episode index could not be kept (%s); it is made anew each time', path, error)
