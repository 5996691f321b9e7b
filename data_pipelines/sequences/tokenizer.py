"""Timesteps, documents and pictures as tokens: the same lines make training rows and what the agent sees at play."""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import json
import os
from typing import Any, NamedTuple

import numpy as np

from data_pipelines.datasets.episodes import (
    CaptionedImage,
    ControlEpisode,
    Episode,
    EpisodeSource,
    ImageQuestion,
    Page,
    TextDocument,
)
from data_pipelines.environments.specs import ArraySpec, Observation, TaskSpec
from data_pipelines.errors import InputError
from data_pipelines.sequences.tokenized_episode import TokenizedEpisode
from data_pipelines.sequences.tokenized_page import TokenizedPage
from data_pipelines.sequences.tokens import (
    ACTION_POSITION,
    DOCUMENT_POSITION,
    LAST_OBSERVATION_POSITION,
    SEPARATOR_POSITION,
    Tokens,
)
from data_pipelines.tokenization.images import patch_intervals, patchify
from data_pipelines.tokenization.text import TextTokenizer
from data_pipelines.tokenization.vocabulary import Vocabulary

_VOCABULARY_FILE = 'vocabulary.json'
_TEXT_FILE = 'text.model'
_NO_INTERVALS = np.zeros((0, 2, 2), np.uint8)


class _Columns(NamedTuple):
  """Tokens of T timesteps side by side, [T, m] each; rows shorter than m (text) have invalid places."""

  tokens: np.ndarray
  valid: np.ndarray
  is_target: np.ndarray


@dataclasses.dataclass(frozen=True)
class SequenceTokenizer:
  """Turns what a dataset or an environment yields into `Tokens`.

  Attributes:
    vocabulary: the id layout.
    text_tokenizer: of all text, whose ids are the first of the vocabulary.
    mask_question: of a picture question only the answer is a target (paper figure 2); else its question is one too.
  """

  vocabulary: Vocabulary
  text_tokenizer: TextTokenizer
  mask_question: bool = True

  def __post_init__(self):
    if self.text_tokenizer.size > self.vocabulary.text_size:
      raise InputError(f'the text tokenizer has {self.text_tokenizer.size} subwords but data.vocabulary.text_size is '
                       f'{self.vocabulary.text_size}; train it anew or raise text_size')

  @property
  def digest(self) -> str:
    """Names everything that the number of tokens of an episode depends on."""
    return hashlib.sha256(self.vocabulary.digest.encode() + self.text_tokenizer.model).hexdigest()[:16]

  def save(self, directory: str | os.PathLike) -> None:
    """Writes vocabulary.json and text.model."""
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, _VOCABULARY_FILE), 'w') as file:
      json.dump(self.vocabulary.to_json(), file, indent=2)
    self.text_tokenizer.save(os.path.join(directory, _TEXT_FILE))

  @classmethod
  def load(cls, directory: str | os.PathLike, mask_question: bool = True) -> 'SequenceTokenizer':
    """Reads what `save` wrote; InputError if it is not there or unreadable."""
    path = os.path.join(directory, _VOCABULARY_FILE)
    try:
      with open(path) as file:
        vocabulary = Vocabulary.from_json(json.load(file))
    except (OSError, ValueError, TypeError) as error:
      raise InputError(f'{path}: no readable vocabulary ({error}); run `gato-jax prepare`') from error
    return cls(vocabulary, TextTokenizer.load(os.path.join(directory, _TEXT_FILE)), mask_question)

  def observation(self, task: TaskSpec, observation: Observation) -> Tokens:
    """One timestep's observation items, sorted by key, and the separator: what precedes the action (paper section 2.1).

    Raises:
      InputError: an item is missing, or does not fit its spec.
    """
    single = {key: [value] if isinstance(value, str) else np.asarray(value)[None]
              for key, value in observation.items()}
    return self._assemble(task, single, self._observation_columns(task, single, 1), None).window(0, 1)

  def timesteps(self, task: TaskSpec, episode: ControlEpisode, start: int, stop: int,
                hide_actions: bool = False) -> Tokens:
    """Timesteps [start, stop) of an episode: observation, separator, action; `tokenize` and a window of it."""
    part = slice(start, stop)
    observation = {key: values[part] for key, values in episode.observation.items()}
    episode = dataclasses.replace(episode, observation=observation, action=episode.action[part],
                                  expert_action=episode.expert_action[part])
    return self._control(task, episode).window(0, episode.length, hide_actions)

  def document(self, text: str, end: bool = True) -> Tokens:
    """Stand-alone text, and the end token unless it is to be gone on with. All of it has `DOCUMENT_POSITION`."""
    episode = self._document(text, end)
    return episode.window(0, episode.length)

  def caption(self, image: np.ndarray, caption: str | None = None) -> Tokens:
    """A picture, its caption and the end token; without a caption, what a caption is generated after."""
    text = None if caption is None else self.text_tokenizer.encode(caption, end=True)
    return self._picture_text(image, text, 0).window(0, 1)

  def question(self, image: np.ndarray, question: str, answer: str | None = None) -> Tokens:
    """A picture, `Q: ... A:`, the answer and the end token; without an answer, what one is generated after."""
    return self._question(image, question, answer).window(0, 1)

  def page(self, page: Page) -> Tokens:
    """Text and pictures in the order of the page and the end token: text is predicted, pictures are not."""
    tokenized = self._page(page)
    return tokenized.window(0, tokenized.length)

  def tokenize(self, source: EpisodeSource, index: int, part: int | None = None) -> TokenizedEpisode | TokenizedPage:
    """Episode `index` of a dataset, or a part of it.

    Raises:
      InputError: the episode does not fit its task or has a value that is not finite; names dataset, episode and item.
    """
    episode = source[index] if part is None else source.part(index, part)
    return self.tokenize_episode(source, index, episode)

  def tokenize_episode(self, source: EpisodeSource, index: int, episode: Episode) -> TokenizedEpisode | TokenizedPage:
    """`tokenize` of an episode that has been read already."""
    try:
      return self._tokenize(source.task, episode)
    except InputError as error:
      raise InputError(f'{source.name}, episode {index}: {error}') from error

  def _tokenize(self, task: TaskSpec | None, episode: Episode) -> TokenizedEpisode | TokenizedPage:
    match episode:
      case ControlEpisode():
        return self._control(task, episode)
      case TextDocument(text):
        return self._document(text, end=True)
      case CaptionedImage(image, caption):
        return self._picture_text(image, self.text_tokenizer.encode(caption, end=True), 0)
      case ImageQuestion(image, question, answer):
        return self._question(image, question, answer)
      case Page():
        return self._page(episode)
    raise InputError(f'{type(episode).__name__} is no kind of episode')

  def _control(self, task: TaskSpec, episode: ControlEpisode) -> TokenizedEpisode:
    if not episode.length:
      raise InputError('it has no timesteps')
    observation = self._observation_columns(task, episode.observation, episode.length)
    actions = [self._action(task.action, which, action, episode.length)
               for which, action in (('action', episode.action), ('expert_action', episode.expert_action))]
    return self._assemble(task, episode.observation, observation, actions)

  def _action(self, spec: ArraySpec, which: str, action: np.ndarray, length: int) -> np.ndarray:
    """int32 [T, A]."""
    try:
      ids = self.vocabulary.encode_action(spec, action)
    except InputError as error:
      raise InputError(f'{which}: {error}') from error
    if ids.shape != (length, spec.size):
      raise InputError(f'{which} has shape {np.shape(action)}, want {(length, *spec.shape)}')
    return ids

  def _observation_columns(self, task: TaskSpec, observation: Mapping[str, Any], length: int) -> _Columns:
    if set(observation) != set(task.observation):
      raise InputError(f'observation has the keys {sorted(observation)}, task {task.name} has '
                       f'{sorted(task.observation)}')
    columns = []
    for key in sorted(observation):
      try:
        columns.append(self._item_columns(task.observation[key], observation[key], length))
      except InputError as error:
        raise InputError(f'observation {key!r}: {error}') from error
    return _Columns(*(np.concatenate(parts, axis=1) for parts in zip(*columns, strict=True)))

  def _item_columns(self, spec: ArraySpec, values: Any, length: int) -> _Columns:
    if len(values) != length:
      raise InputError(f'{len(values)} timesteps, want {length}')
    if spec.kind == 'text':
      return self._text_columns(values)
    if spec.kind == 'image':
      tokens = np.full((length, len(patch_intervals(*spec.shape[:2]))), self.vocabulary.patch_id, np.int32)
    else:
      tokens = self.vocabulary.encode_observation(spec, values)
    return _Columns(tokens, np.ones(tokens.shape, bool), np.zeros(tokens.shape, bool))

  def _text_columns(self, texts: Sequence[str]) -> _Columns:
    encoded = {text: self.text_tokenizer.encode(text) for text in set(texts)}
    tokens = np.zeros((len(texts), max(len(ids) for ids in encoded.values())), np.int32)
    valid = np.zeros(tokens.shape, bool)
    for step, text in enumerate(texts):
      ids = encoded[text]
      tokens[step, :len(ids)] = ids
      valid[step, :len(ids)] = True
    # Only non-text observations are exempt from the loss (paper section 2.3), so missions are targets.
    return _Columns(tokens, valid, valid)

  def _assemble(self, task: TaskSpec, observation: Mapping[str, Any], columns: _Columns,
                actions: Sequence[np.ndarray] | None) -> TokenizedEpisode:
    """Appends separator and actions (executed, expert's) and drops the invalid places."""
    length = len(columns.tokens)
    separator = np.full((length, 1), self.vocabulary.separator_id, np.int32)
    executed, expert = actions or (np.zeros((length, 0), np.int32),) * 2
    place = np.minimum(np.cumsum(columns.valid, axis=1, dtype=np.int32) - 1, LAST_OBSERVATION_POSITION)
    valid = _beside(columns.valid, np.ones_like(separator, bool), np.ones_like(executed, bool))
    intervals = [patch_intervals(*task.observation[key].shape[:2]) for key in _pictures(task)]
    return TokenizedEpisode(
        tokens=_beside(columns.tokens, separator, executed)[valid],
        labels=_beside(columns.tokens, separator, expert)[valid],
        loss_mask=_beside(columns.is_target, np.zeros_like(separator, bool), np.ones_like(executed, bool))[valid],
        local_positions=_beside(place, np.full_like(separator, SEPARATOR_POSITION),
                                np.full_like(executed, ACTION_POSITION))[valid],
        step_ends=np.cumsum(valid.sum(axis=1)),
        pictures=tuple(observation[key] for key in _pictures(task)),
        step_intervals=np.concatenate(intervals) if intervals else _NO_INTERVALS,
        patch_id=self.vocabulary.patch_id,
        hidden_action_id=self.vocabulary.hidden_action_id)

  def _document(self, text: str, end: bool) -> TokenizedEpisode:
    ids = self.text_tokenizer.encode(text, end)
    return TokenizedEpisode(
        ids, ids, np.ones(len(ids), bool), np.full(len(ids), DOCUMENT_POSITION, np.int32), np.arange(1, len(ids) + 1),
        (), _NO_INTERVALS, self.vocabulary.patch_id, self.vocabulary.hidden_action_id)

  def _question(self, image: np.ndarray, question: str, answer: str | None) -> TokenizedEpisode:
    asked = self.text_tokenizer.encode(f'Q: {question} A:')
    answered = np.zeros(0, np.int32) if answer is None else self.text_tokenizer.encode(f' {answer}', end=True)
    return self._picture_text(image, np.concatenate([asked, answered]), len(asked) if self.mask_question else 0)

  def _page(self, page: Page) -> TokenizedPage:
    """Pictures' patches are counted like an observation's; text has `DOCUMENT_POSITION` (paper section 2.1)."""
    intervals = patch_intervals(*page.images.shape[1:3]) if len(page.images) else _NO_INTERVALS
    picture = np.full(len(intervals), self.vocabulary.patch_id, np.int32)
    parts = [picture if text is None else self.text_tokenizer.encode(text) for text in page.texts]
    is_picture = np.array([text is None for text in page.texts], bool)
    if is_picture.sum() != len(page.images):
      raise InputError(f'a page with {len(page.images)} pictures has {is_picture.sum()} places for them')
    sizes = np.array([len(part) for part in parts], np.int64)
    place = np.minimum(np.arange(len(intervals), dtype=np.int32), LAST_OBSERVATION_POSITION)
    places = [place if text is None else np.full(len(part), DOCUMENT_POSITION, np.int32)
              for part, text in zip(parts, page.texts, strict=True)]
    return TokenizedPage(
        tokens=np.concatenate([*parts, [self.text_tokenizer.end_id]]).astype(np.int32),
        loss_mask=np.concatenate([np.repeat(~is_picture, sizes), [True]]),
        local_positions=np.concatenate([*places, [DOCUMENT_POSITION]]).astype(np.int32),
        picture_starts=(np.cumsum(sizes) - sizes)[is_picture],
        images=page.images,
        intervals=intervals)

  def _picture_text(self, image: np.ndarray, text: np.ndarray | None, untrained: int) -> TokenizedEpisode:
    """A picture, its patches counted like an observation's, then text, whose first `untrained` ids are no targets."""
    image = np.asarray(image)
    patches, intervals = patchify(image)
    text = np.zeros(0, np.int32) if text is None else text
    tokens = np.concatenate([np.full(len(patches), self.vocabulary.patch_id, np.int32), text])
    place = np.minimum(np.arange(len(patches), dtype=np.int32), LAST_OBSERVATION_POSITION)
    return TokenizedEpisode(
        tokens, tokens, np.arange(len(tokens)) >= len(patches) + untrained,
        np.concatenate([place, np.full(len(text), DOCUMENT_POSITION, np.int32)]), np.array([len(tokens)]),
        (image[None],), intervals, self.vocabulary.patch_id, self.vocabulary.hidden_action_id)


def _beside(*columns: np.ndarray) -> np.ndarray:
  return np.concatenate(columns, axis=1)


def _pictures(task: TaskSpec) -> list[str]:
  return [key for key in sorted(task.observation) if task.observation[key].kind == 'image']
