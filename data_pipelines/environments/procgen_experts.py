"""Procgen experts that search: they save and restore the state of the game, which holds its random numbers too."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from data_pipelines.environments.specs import Observation

LEFT, DOWN, UP, RIGHT = 1, 3, 5, 7
ACTIONS = 15
COPIES = 32  # of the game, which are searched in lockstep


class Level(Protocol):
  """What the experts need: a `ProcgenEnvironment`."""

  last_action: np.ndarray | None

  def state(self) -> bytes: ...

  def build(self, count: int, seed: int) -> Any: ...


Step = tuple[bytes, list[int], int]  # a state, the way to it and the next move


class MazeSolver:
  """Breadth-first search for the reward, and the way there. States that look alike count as one."""

  def __init__(self, level: Level):
    self._level = level
    self._copies = level.build(COPIES, 0)

  def reset(self) -> None:
    """The maze is solved at the first step."""
    self._state: bytes | None = None
    self._way: list[int] = []

  def act(self, observation: Observation) -> np.ndarray:
    """Goes on along the way; searches anew where another action than the last one was executed."""
    taken = self._level.last_action
    if not self._way or taken is None or int(taken) != self._next:
      self._way = self._search(observation['image'])
    self._next = self._way.pop(0)
    return np.int32(self._next)

  def _search(self, image: np.ndarray) -> list[int]:
    seen = {image.tobytes()}
    frontier: list[tuple[bytes, list[int]]] = [(self._level.state(), [])]
    while frontier:
      steps = [(state, way, move) for state, way in frontier for move in (LEFT, RIGHT, UP, DOWN)]
      frontier = []
      for start in range(0, len(steps), COPIES):
        batch = steps[start : start + COPIES]
        rewards, images, ended, states = self._expand(batch)
        for i, (_, way, move) in enumerate(batch):
          if rewards[i] > 0:
            return [*way, move]
          if not ended[i] and (key := images[i].tobytes()) not in seen:
            seen.add(key)
            frontier.append((states[i], [*way, move]))
    raise RuntimeError('no way to the reward')

  def _expand(self, batch: list[Step]) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[bytes]]:
    """Takes up to COPIES steps: rewards, pictures, ends and the states after them."""
    padded = batch + [batch[0]] * (COPIES - len(batch))
    self._copies.callmethod('set_state', [state for state, _, _ in padded])
    self._copies.act(np.array([move for _, _, move in padded], np.int32))
    rewards, observation, ended = self._copies.observe()
    return rewards, observation['rgb'], ended, self._copies.callmethod('get_state')


class RolloutSearch:
  """Plays COPIES random continuations of the game, and begins the best of them.

  A continuation holds each action for HOLD steps. The rest of the last best one is tried again, as it is and with
  changes. A continuation is worth its discounted rewards, less DEATH where the episode ends without one.
  """

  HORIZON, COMMIT, HOLD = 24, 4, 4
  DISCOUNT = 0.98
  DEATH = 5.0

  def __init__(self, level: Level):
    self._level = level
    self._copies = level.build(COPIES, 0)
    self.reset()

  def reset(self) -> None:
    """What is drawn is the same in every episode."""
    self._rng = np.random.default_rng(0)
    self._best: list[int] = []
    self._begun = 0

  def act(self, observation: Observation) -> np.ndarray:
    """Plans every COMMIT steps, and whenever another action than the planned one was executed."""
    del observation
    taken = self._level.last_action
    if self._begun and int(taken) != self._best[self._begun - 1]:
      self._best, self._begun = [], 0
    if not self._best or self._begun == self.COMMIT:
      self._best, self._begun = self._plan(self._best[self._begun :]), 0
    self._begun += 1
    return np.int32(self._best[self._begun - 1])

  def _plan(self, rest: list[int]) -> list[int]:
    plans = self._draw(rest)
    self._copies.callmethod('set_state', [self._level.state()] * COPIES)
    alive, value = np.ones(COPIES, bool), np.zeros(COPIES)
    for step in range(self.HORIZON):
      self._copies.act(plans[:, step])
      reward, _, ended = self._copies.observe()
      died = ended & (reward <= 0)
      value += alive * self.DISCOUNT**step * (reward - self.DEATH * died)
      alive &= ~ended
    return plans[np.argmax(value)].tolist()

  def _draw(self, rest: list[int]) -> np.ndarray:
    """int32 [COPIES, HORIZON] of actions."""
    held = self._rng.integers(ACTIONS, size=(COPIES, self.HORIZON // self.HOLD + 1)).repeat(self.HOLD, axis=1)
    phases = self._rng.integers(self.HOLD, size=COPIES)
    plans = np.stack([row[phase : phase + self.HORIZON] for row, phase in zip(held, phases, strict=True)])
    if rest:
      kept = COPIES // 3
      plans[:kept, : len(rest)] = rest
      for row in plans[1:kept]:
        start = self._rng.integers(self.HORIZON)
        row[start : start + self._rng.integers(1, 2 * self.HOLD)] = self._rng.integers(ACTIONS)
    return plans.astype(np.int32)


EXPERTS: Mapping[str, Callable[[Level], MazeSolver | RolloutSearch]] = {
    'maze': MazeSolver,
    'starpilot': RolloutSearch,
}
