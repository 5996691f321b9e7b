"""Plays episodes of one task with a batch of environments in lockstep."""

from collections import deque
from collections.abc import Callable, Sequence
import dataclasses
from typing import Protocol

import numpy as np

from data_pipelines.datasets.episodes import ControlEpisode
from data_pipelines.environments.specs import Environment, Observation
from data_pipelines.errors import InputError

ATTEMPTS = 3  # at one episode, before a simulator that crashes is given up


class Player(Protocol):
  """What plays: `gato_jax.acting.policy.Policy`, or a stand-in."""

  batch_size: int

  def reset(self, seeds: Sequence[int], prompts: Sequence[ControlEpisode] | None) -> None:
    """Starts one episode a row."""

  def act(self, observations: Sequence[Observation | None]) -> list[np.ndarray]:
    """One action a row; a row whose episode has ended has None for an observation."""


@dataclasses.dataclass(frozen=True)
class Rollouts:
  """What was played of one task.

  Attributes:
    task: its name.
    scores: one an episode, in the order of the seeds: the return, or 1 for success.
    lengths: steps an episode.
    crashes: how often a simulator raised and its episode was played again.
    frames: pictures of the first episode, if asked for and if the task can be drawn.
  """

  task: str
  scores: tuple[float, ...]
  lengths: tuple[int, ...]
  crashes: int = 0
  frames: tuple[np.ndarray, ...] = ()


def play(
    policy: Player,
    make: Callable[[], Environment],
    seeds: Sequence[int],
    prompts: Sequence[ControlEpisode] | None = None,
    *,
    frame_every: int = 0,
) -> Rollouts:
  """Plays one episode a seed; what happens in it depends on its seed and prompt alone, not on its neighbours.

  Args:
    policy: plays `policy.batch_size` episodes at a time.
    make: makes one environment; called at most once a row, and again for one that crashed.
    seeds: of the environment's reset and of the policy's sampling.
    prompts: a pool of demonstrations; episode i starts with prompt i modulo their number.
    frame_every: keep a picture of the first episode every so many steps; 0: none.

  Raises:
    InputError: the same episode failed ATTEMPTS times in the simulator.
  """
  rows = [_Row(make) for _ in range(min(policy.batch_size, len(seeds)))]
  task = rows[0].environment.spec.name
  pending = deque(range(len(seeds)))
  attempts = [0] * len(seeds)
  ended: dict[int, tuple[float, int]] = {}
  frames: tuple[np.ndarray, ...] = ()
  while pending:
    batch = [pending.popleft() for _ in range(min(len(rows), len(pending)))]
    for index, row in zip(batch, rows, strict=False):
      attempts[index] += 1
      row.reset(seeds[index], frame_every if index == 0 else 0)
    policy.reset([seeds[i] for i in batch], prompts and [prompts[i % len(prompts)] for i in batch])
    _play_batch(policy, rows[: len(batch)])
    for index, row in zip(batch, rows, strict=False):
      if row.error is None:
        ended[index] = row.score, row.length
        frames = frames or tuple(row.frames)
      elif attempts[index] < ATTEMPTS:
        pending.append(index)
      else:
        raise InputError(f'{task}: the episode of seed {seeds[index]} failed {ATTEMPTS} times, the last time with '
                         f'{row.error!r}') from row.error
  for row in rows:
    row.environment.close()
  scores, lengths = zip(*(ended[index] for index in range(len(seeds))), strict=True)
  return Rollouts(task, scores, lengths, sum(attempts) - len(seeds), frames)


def _play_batch(policy: Player, rows: Sequence['_Row']) -> None:
  while any(row.observation is not None for row in rows):
    actions = policy.act([row.observation for row in rows])
    for row, action in zip(rows, actions, strict=True):
      if row.observation is not None:
        row.step(action)


class _Row:
  """One environment of the batch and the episode that is being played in it.

  `observation` is None once the episode has ended, by the simulator's word or by its crash, which is then in `error`.
  """

  def __init__(self, make: Callable[[], Environment]):
    self._make = make
    self.environment = make()

  def reset(self, seed: int, frame_every: int) -> None:
    self.score, self.length = 0.0, 0
    self.frames: list[np.ndarray] = []
    self._frame_every = frame_every
    self.error: Exception | None = None
    self.observation = self._guarded(lambda: self.environment.reset(seed))
    self._draw()

  def step(self, action: np.ndarray) -> None:
    result = self._guarded(lambda: self.environment.step(action))
    if result is None:
      self.observation = None
      return
    by_success = self.environment.spec.score == 'success'
    self.length += 1
    self.score = float(result.success) if by_success else self.score + float(result.reward)
    ended = result.terminated or result.truncated
    self.observation = None if ended else result.observation
    if ended or self._frame_every and self.length % self._frame_every == 0:
      self._draw()

  def _draw(self) -> None:
    if self._frame_every and self.error is None:
      frame = self.environment.render()
      if frame is not None:
        self.frames.append(frame)

  def _guarded(self, call: Callable):
    """The simulator's answer; None if it crashed, with a new simulator in its place."""
    try:
      return call()
    except Exception as error:  # whatever a simulator raises: physics that diverged, a lost native handle
      self.error = error
      self.environment = self._make()
      return None
