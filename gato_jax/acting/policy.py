"""Plays one control task with a batch of episodes at once (paper section 2.4)."""

from collections.abc import Sequence
from typing import NamedTuple

from flax import nnx
import ml_collections
import numpy as np

from data_pipelines.datasets.episodes import ControlEpisode
from data_pipelines.environments.specs import Observation, TaskSpec
from data_pipelines.errors import InputError
from data_pipelines.sequences.tokenizer import SequenceTokenizer
from data_pipelines.sequences.tokens import ACTION_POSITION, Tokens, concatenate, no_patches
from gato_jax.acting.decoding import Decoding, compiled, row_keys
from gato_jax.acting.inputs import LENGTH_MULTIPLE, lay_out, round_up
from gato_jax.model.cache import Cache
from gato_jax.model.gato import Gato


class Room(NamedTuple):
  """What a row of training holds: tokens, patches, and timesteps of a window (0: as many as fit)."""

  tokens: int
  patches: int
  timesteps: int


class Policy:
  """Batched, with a KV cache. A row's actions depend on its own episode, prompt and seed only.

  The context is what training's windows held: the prompt and up to `window_timesteps` timesteps, the present one among
  them (1: no history), as far as they fit into `sequence_length` tokens and `patches_per_row` patches. When there is no
  room for the next timestep, the older half of those that are held is forgotten and the others are read again behind
  the prompt, exactly as if the episode had begun with them.
  """

  def __init__(
      self,
      model: Gato,
      tokenizer: SequenceTokenizer,
      task: TaskSpec,
      *,
      batch_size: int,
      sequence_length: int,
      patches_per_row: int,
      window_timesteps: int,
      hide_actions: float,
      acting: ml_collections.ConfigDict,
  ):
    """Compiles nothing yet.

    Args:
      model: its weights are read, never written.
      tokenizer: the one the model was trained with.
      task: whose observations come in and whose actions go out.
      batch_size: B, episodes played at once; fewer may be.
      sequence_length: L, of training.
      patches_per_row: P, of training.
      window_timesteps: of training; 0 means as many as fit.
      hide_actions: share of training's windows that hid their actions. Where all did, they are hidden here too.
      acting: section `acting` of the config.
    """
    vocabulary = tokenizer.vocabulary
    ids = vocabulary.action_ids(task.action) if acting.restrict_logits else (0, vocabulary.size)
    hidden_id = vocabulary.hidden_action_id if hide_actions >= 1 else None
    self.batch_size = batch_size
    self._model = model
    self._state = nnx.state(model)
    self._compiled = compiled(model)
    self._tokenizer = tokenizer
    self._task = task
    self._room = Room(sequence_length, patches_per_row, window_timesteps)
    self._prompt_room = Room(*(int(acting.prompt_share_of_row * room) for room in self._room[:2]), 0)
    self._decoding = Decoding(task.action.size, *ids, acting.temperature, hidden_id, window_timesteps != 1)
    self._slots = 0  # tokens of one observation and its separator, the longest so far
    self._cache: Cache | None = None

  def reset(self, seeds: Sequence[int], prompts: Sequence[ControlEpisode] | None = None) -> None:
    """Starts one episode a row.

    Args:
      seeds: of the sampling, one a row; at most B.
      prompts: one demonstration a row, of which the first timesteps are read; None: no prompts.
    """
    padding = self.batch_size - len(seeds)
    if padding < 0:
      raise InputError(f'{self._task.name}: {len(seeds)} episodes for a policy of batch size {self.batch_size}')
    runs = [self._prompt(episode) for episode in prompts] if prompts else [_empty() for _ in seeds]
    self._rows = [_Context(run) for run in runs + runs[:1] * padding]
    self._keys_B = row_keys(np.asarray([*seeds, *[seeds[0]] * padding], np.uint32))
    self._time = 0
    self._cache = None

  def act(self, observations: Sequence[Observation | None]) -> list[np.ndarray]:
    """One timestep of every row.

    Args:
      observations: in the order of `reset`; None for a row whose episode has ended.

    Returns:
      An action a row, float32 or int32 as the task has it; meaningless for rows that have ended.
    """
    steps = self._tokenize(observations)
    lengths = self._make_room(steps)
    patch_slots = max(len(step.patches) for step in steps)
    inputs = lay_out(steps, lengths, self._slots + self._decoding.actions, patch_slots)
    ends_B = np.asarray([len(step) for step in steps], np.int32)
    ids_BxA, self._cache = self._compiled.decode(
        self._decoding, self._state, self._cache, lengths, inputs, ends_B, self._keys_B, self._time)
    ids_BxA = np.asarray(ids_BxA)
    self._time += 1
    for row, step, ids in zip(self._rows, steps, ids_BxA, strict=True):
      row.timesteps.append(concatenate([step, self._action_tokens(ids)]))
    vocabulary = self._tokenizer.vocabulary
    return [vocabulary.decode_action(self._task.action, ids) for ids in ids_BxA[: len(observations)]]

  def _tokenize(self, observations: Sequence[Observation | None]) -> list[Tokens]:
    """One run a row; rows without an observation repeat another row's."""
    runs = [self._tokenizer.observation(self._task, item) for item in observations if item is not None]
    live = iter(runs)
    steps = [runs[0] if item is None else next(live) for item in observations]
    return steps + runs[:1] * (self.batch_size - len(steps))

  def _make_room(self, steps: Sequence[Tokens]) -> np.ndarray:
    """Opens a cache or forgets old timesteps where needed; returns how many tokens each row goes on from, int32 [B]."""
    longest = max(len(step) for step in steps)
    stale = self._cache is None or longest > self._slots
    if stale:
      self._open(longest)
    lengths, unread = [], []
    for row, step in zip(self._rows, steps, strict=True):
      forgot = row.make_room(len(step) + self._decoding.actions, len(step.patches), self._room)
      if forgot is None:
        raise InputError(
            f'{self._task.name}: a timestep of {len(step) + self._decoding.actions} tokens and {len(step.patches)} '
            f'patches does not fit behind a prompt of {len(row.prompt)} tokens into data.sequence_length='
            f'{self._room.tokens} and data.patches_per_row={self._room.patches}; raise them or lower '
            'acting.prompt_share_of_row')
      reread = [row.prompt, *row.timesteps] if stale else row.timesteps if forgot else []
      run = concatenate(reread) if reread else _empty()
      unread.append(run)
      lengths.append(row.length - len(run))
    if any(len(run) for run in unread):
      self._read(lengths, unread)
    return np.asarray([row.length for row in self._rows], np.int32)

  def _open(self, longest: int) -> None:
    ragged = any(spec.kind == 'text' for spec in self._task.observation.values())
    self._slots = round_up(longest, LENGTH_MULTIPLE) if ragged else longest
    capacity = self._room.tokens
    if self._room.timesteps:
      prompt = max(len(row.prompt) for row in self._rows)
      timesteps = self._room.timesteps * (self._slots + self._decoding.actions)
      capacity = min(capacity, round_up(prompt, LENGTH_MULTIPLE) + timesteps)
    self._cache = self._model.init_cache(self.batch_size, capacity)

  def _read(self, lengths: Sequence[int], runs: Sequence[Tokens]) -> None:
    tokens = round_up(max(len(run) for run in runs), LENGTH_MULTIPLE)
    patches = max(len(run.patches) for run in runs)
    inputs = lay_out(runs, lengths, tokens, round_up(patches, LENGTH_MULTIPLE))
    self._cache = self._compiled.read(self._state, self._cache, np.asarray(lengths, np.int32), inputs)

  def _prompt(self, episode: ControlEpisode) -> Tokens:
    """As many whole timesteps from the start of a demonstration as fit into the prompt's share of a row."""
    context = _Context(_empty())
    for step in range(episode.length):
      run = self._tokenizer.timesteps(self._task, episode, step, step + 1)
      if not context.fits(len(run), len(run.patches), self._prompt_room):
        break
      context.timesteps.append(run)
    return concatenate([context.prompt, *context.timesteps])

  def _action_tokens(self, ids: np.ndarray) -> Tokens:
    """The action as later timesteps see it."""
    hidden_id = self._decoding.hidden_id
    tokens = ids if hidden_id is None else np.full_like(ids, hidden_id)
    patches, intervals = no_patches()
    return Tokens(
        tokens, ids, np.ones(len(ids), bool), np.full(len(ids), ACTION_POSITION, np.int32), patches,
        np.zeros(0, np.int32), intervals)


class _Context:
  """What one row has read: its prompt and the timesteps since."""

  def __init__(self, prompt: Tokens):
    self.prompt = prompt
    self.timesteps: list[Tokens] = []

  @property
  def length(self) -> int:
    return sum(len(run) for run in (self.prompt, *self.timesteps))

  def make_room(self, tokens: int, patches: int, room: Room) -> bool | None:
    """Forgets timesteps until one more fits. Returns whether any were forgotten; None if even that does not help."""
    forgot = False
    while not self.fits(tokens, patches, room):
      if not self.timesteps:
        return None
      self.timesteps = self.timesteps[(len(self.timesteps) + 1) // 2 :]
      forgot = True
    return forgot

  def fits(self, tokens: int, patches: int, room: Room) -> bool:
    patches += sum(len(run.patches) for run in (self.prompt, *self.timesteps))
    full = 0 < room.timesteps <= len(self.timesteps)
    return not full and self.length + tokens <= room.tokens and patches <= room.patches


def _empty() -> Tokens:
  patches, intervals = no_patches()
  none = np.zeros(0, np.int32)
  return Tokens(none, none, np.zeros(0, bool), none, patches, none, intervals)
