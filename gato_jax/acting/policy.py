"""Plays one control task with a batch of episodes at once (paper section 2.4)."""

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from data_pipelines.datasets.episodes import ControlEpisode
from data_pipelines.environments.specs import Observation, TaskSpec
from data_pipelines.errors import InputError
from data_pipelines.sequences.tokenizer import SequenceTokenizer
from data_pipelines.sequences.tokens import Tokens, concatenate, no_patches
from data_pipelines.tokenization.vocabulary import token_count
from gato_jax.acting.decoding import Decoding, Engine, row_keys
from gato_jax.acting.inputs import LENGTH_MULTIPLE, lay_out, round_up
from gato_jax.acting.prompts import place_of, prompt_steps
from gato_jax.model.cache import Cache


class Room(NamedTuple):
  """What a row of training holds: tokens, patches, and timesteps of a window (0: as many as fit)."""

  tokens: int
  patches: int
  timesteps: int


class Size(NamedTuple):
  """Of a run of tokens; patches are tokens too."""

  tokens: int
  patches: int


_NOTHING = Size(0, 0)


class Policy:
  """Batched, with a KV cache. A row's actions depend on its own episode, prompt and seed only.

  The context is what training's windows held: the prompt and up to `window_timesteps` timesteps, the present one among
  them (1: no history), as far as they fit into `sequence_length` tokens and `patches_per_row` patches. When there is no
  room for the next timestep, the oldest ones are forgotten, as few as need be; the prompt stays, unless
  `acting.keep_prompt` is off, and then its timesteps are the first to go. What is remembered is not read again: it saw
  what was remembered when it was read (`gato_jax.model.cache.Cache`).
  """

  def __init__(
      self,
      engine: Engine,
      tokenizer: SequenceTokenizer,
      task: TaskSpec,
      *,
      batch_size: int,
      sequence_length: int,
      patches_per_row: int,
      window_timesteps: int,
      hide_actions: float,
      acting: Any,
  ):
    """Compiles nothing yet.

    Args:
      engine: of the model.
      tokenizer: the one the model was trained with.
      task: whose observations come in and whose actions go out.
      batch_size: B, episodes played at once.
      sequence_length: L, of training.
      patches_per_row: P, of training.
      window_timesteps: of training; 0 means as many as fit.
      hide_actions: share of training's windows that hid their actions.
      acting: section `acting` of the config.

    Raises:
      InputError: `acting.parallel_action_tokens` asks for what training did not show, the vocabulary has no tokens for
        the task's discrete values, `acting.prompt_from` is not known, or `acting.temperature` is negative.
    """
    vocabulary = tokenizer.vocabulary
    for key, spec in {**task.observation, 'action': task.action}.items():
      if spec.kind == 'discrete' and spec.num_values > vocabulary.discrete_size:
        raise InputError(f'{task.name}: {key} has {spec.num_values} values; the vocabulary has tokens for '
                         f'{vocabulary.discrete_size} (data.vocabulary.discrete_size)')
    if not acting.temperature >= 0:
      raise InputError(f'acting.temperature is {acting.temperature}: must be 0 or positive')
    ids = vocabulary.action_ids(task.action) if acting.restrict_logits else (0, vocabulary.size)
    hidden_id = vocabulary.hidden_action_id if _in_parallel(acting, hide_actions, task) else None
    self.batch_size = batch_size
    self._engine = engine
    self._tokenizer = tokenizer
    self._task = task
    self._room = Room(sequence_length, patches_per_row, window_timesteps)
    self._prompt_room = Size(*(int(acting.prompt_share_of_row * room) for room in self._room[:2]))
    self._keep_prompt = acting.keep_prompt
    self._prompt_from = place_of(acting)
    self._decoding = Decoding(task.action.size, *ids, acting.temperature, hidden_id, window_timesteps != 1)
    self._padding = 0 if hidden_id is None else task.action.size
    self._slots = 0  # tokens of one observation and its separator, the longest so far
    self._rows = [_Context(_NOTHING) for _ in range(batch_size)]
    self._seeds_B = np.zeros(batch_size, np.uint32)
    self._times_B = np.zeros(batch_size, np.int32)
    self._cache: Cache | None = None

  def start(self, row: int, seed: int, prompt: ControlEpisode | None = None) -> None:
    """Starts an episode in a row, in the middle of the others' if need be.

    Args:
      row: in [0, B).
      seed: of the sampling.
      prompt: a demonstration, of which the first or the last timesteps are read (`acting.prompt_from`); None: no
        prompt. All rows have one or none has.
    """
    runs = [] if prompt is None else self._prompt(prompt)
    if self._cache is None:
      kept = prompt is not None and self._keep_prompt
      self._cache = self._engine.init_cache(self.batch_size, self._capacity(prompt is not None), kept)
    sizes = [Size(len(run), len(run.patches)) for run in runs]
    if self._cache.prompts is None:
      self._rows[row] = _Context(_NOTHING, sizes)
    else:
      self._rows[row] = _Context(Size(*map(sum, zip(_NOTHING, *sizes, strict=True))))
    run = concatenate(runs) if runs else _empty()
    inputs = lay_out([run], round_up(len(run), LENGTH_MULTIPLE), round_up(len(run.patches), LENGTH_MULTIPLE))
    self._cache = self._engine.begin(self._cache, row, inputs)
    self._seeds_B[row], self._times_B[row] = seed, 0

  def act(self, observations: Sequence[Observation | None]) -> list[np.ndarray]:
    """One timestep of every row.

    Args:
      observations: one a row; None for a row whose episode has ended.

    Returns:
      An action a row, float32 or int32 as the task has it; meaningless for rows without an observation.
    """
    steps = [_empty() if item is None else self._tokenizer.observation(self._task, item) for item in observations]
    starts_B = self._make_room(steps)
    patch_slots = max(len(step.patches) for step in steps)
    inputs = lay_out(steps, self._slots + self._padding, patch_slots)
    ids_BxA, self._cache = self._engine.decode(
        self._decoding, self._cache, starts_B, inputs, row_keys(self._seeds_B), self._times_B)
    self._times_B = self._times_B + np.asarray([len(step) > 0 for step in steps], np.int32)
    vocabulary = self._tokenizer.vocabulary
    return [vocabulary.decode_action(self._task.action, ids) for ids in np.asarray(ids_BxA)]

  def _capacity(self, prompted: bool) -> int:
    """Most tokens that a row remembers; an observation with text may have any number of them."""
    items = self._task.observation.values()
    if not self._room.timesteps or any(item.kind == 'text' for item in items):
      return self._room.tokens
    observation = sum(token_count(item, text=0) for item in items)
    timesteps = self._room.timesteps * (observation + 1 + self._decoding.actions)
    return min(self._room.tokens, prompted * self._prompt_room.tokens + timesteps)

  def _make_room(self, steps: Sequence[Tokens]) -> np.ndarray:
    """Forgets old timesteps where there is no room for the next; returns the first remembered tokens, int32 [B]."""
    sizes = [Size(len(step) + self._decoding.actions, len(step.patches)) for step in steps]
    for row, step, size in zip(self._rows, steps, sizes, strict=True):
      if len(step) and not _Context(row.prompt).fits(size, self._room):  # nothing has changed yet for the others
        raise InputError(
            f'{self._task.name}: a timestep of {size.tokens} tokens and {size.patches} patches does not fit behind a '
            f'prompt of {row.prompt.tokens} tokens into data.sequence_length={self._room.tokens} and '
            f'data.patches_per_row={self._room.patches}; raise them or lower acting.prompt_share_of_row')
    longest = max(len(step) for step in steps)
    if longest > self._slots:
      ragged = any(spec.kind == 'text' for spec in self._task.observation.values())
      most = self._room.tokens - self._decoding.actions
      self._slots = min(round_up(longest, LENGTH_MULTIPLE), most) if ragged else longest
    for row, step, size in zip(self._rows, steps, sizes, strict=True):
      if len(step):
        row.make_room(size, self._room)
    starts_B = np.asarray([row.start for row in self._rows], np.int32)
    for row, step in zip(self._rows, steps, strict=True):
      if len(step):
        row.add(Size(len(step) + self._decoding.reads, len(step.patches)))
    return starts_B

  def _prompt(self, episode: ControlEpisode) -> list[Tokens]:
    """As many whole timesteps from the start or the end of a demonstration as fit into the prompt's share of a row."""
    return prompt_steps(self._tokenizer, self._task, episode, *self._prompt_room, self._prompt_from)[1]


class _Context:
  """How much one row remembers: its prompt and the newest timesteps."""

  def __init__(self, prompt: Size, timesteps: Sequence[Size] = ()):
    self.prompt = self._held = prompt
    self.start = prompt.tokens  # of the first remembered timestep, counted in tokens that were read
    self._timesteps: deque[Size] = deque()
    for size in timesteps:
      self.add(size)

  def add(self, size: Size) -> None:
    """Remembers one more timestep."""
    self._timesteps.append(size)
    self._held = Size(self._held.tokens + size.tokens, self._held.patches + size.patches)

  def make_room(self, size: Size, room: Room) -> None:
    """Forgets timesteps until one more fits."""
    while self._timesteps and not self.fits(size, room):
      forgotten = self._timesteps.popleft()
      self.start += forgotten.tokens
      self._held = Size(self._held.tokens - forgotten.tokens, self._held.patches - forgotten.patches)

  def fits(self, size: Size, room: Room) -> bool:
    """Whether one more timestep does."""
    full = 0 < room.timesteps <= len(self._timesteps)
    return (not full and self._held.tokens + size.tokens <= room.tokens
            and self._held.patches + size.patches <= room.patches)


def _in_parallel(acting: Any, hidden_share: float, task: TaskSpec) -> bool:
  """Whether all tokens of an action come out of one pass, without seeing one another."""
  choices = {'auto': hidden_share >= 1, 'yes': True, 'no': False}
  asked = acting.parallel_action_tokens
  if asked not in choices:
    raise InputError(f'acting.parallel_action_tokens is {asked!r}: must be one of {", ".join(choices)}')
  seen = {True: hidden_share > 0, False: hidden_share < 1}[choices[asked]]
  if not seen:
    raise InputError(
        f'acting.parallel_action_tokens is {asked!r}, but {task.name} was trained with hide_actions={hidden_share}, so '
        f'the model has never acted so; set it to auto, or train with hide_actions between 0 and 1')
  return choices[asked]


def _empty() -> Tokens:
  patches, intervals = no_patches()
  none = np.zeros(0, np.int32)
  return Tokens(none, none, np.zeros(0, bool), none, patches, none, intervals)
