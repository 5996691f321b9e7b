"""Scripted players of Atari games. They read the console's memory, which an agent does not see.

The addresses of what they read are those of the Atari Annotated RAM Interface (Anand et al. 2019) and OCAtari
(Delfosse et al. 2024). Positions are in the game's own units, about pixels, unless said otherwise.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from data_pipelines.environments.specs import Observation

NOOP, FIRE, UP, RIGHT, LEFT, DOWN, UP_RIGHT, UP_LEFT, DOWN_RIGHT, DOWN_LEFT = range(10)
MOVES = {(0, 0): NOOP, (0, -1): UP, (0, 1): DOWN, (1, 0): RIGHT, (-1, 0): LEFT, (1, -1): UP_RIGHT, (-1, -1): UP_LEFT,
         (1, 1): DOWN_RIGHT, (-1, 1): DOWN_LEFT}  # (right, down) -> action


class Console(Protocol):
  """What the scripts read: an `AtariEnvironment`."""

  ram: list[int]


class RamExpert:
  """A script as an `Expert`."""

  def __init__(self, console: Console):
    self._console = console
    self.reset()

  def reset(self) -> None:
    """Forgets the episode; most remember nothing."""

  def act(self, observation: Observation) -> np.ndarray:
    del observation
    return np.int32(self.choose(self._console.ram))

  def choose(self, ram: Sequence[int]) -> int:
    """The action, given the console's memory."""
    raise NotImplementedError


def towards(right: float, down: float, dead_zone: float) -> int:
  """The move that brings something nearer that is so far away; none along an axis within the dead zone."""
  return MOVES[int(np.sign(right)) * (abs(right) > dead_zone), int(np.sign(down)) * (abs(down) > dead_zone)]


def reflect(position: float, low: float, high: float) -> float:
  """Where a ball is that would be at `position` if it did not bounce off the walls."""
  offset = (position - low) % (2 * (high - low))
  return low + min(offset, 2 * (high - low) - offset)


class Cycle(RamExpert):
  """Repeats a few actions for ever."""

  actions: tuple[int, ...]

  def reset(self) -> None:
    self._step = -1

  def choose(self, ram: Sequence[int]) -> int:
    self._step += 1
    return self.actions[self._step % len(self.actions)]


class Freeway(Cycle):
  """Crosses without a look: a hit only throws the chicken back."""

  actions = (UP,)


class Krull(Cycle):
  """Throws and moves to the right, which wins most rooms."""

  actions = (FIRE, FIRE, RIGHT, RIGHT)


class Boxing(RamExpert):
  """Stays at arm's length from the opponent and punches."""

  REACH, LEVEL = 30, 10

  def reset(self) -> None:
    self._punched = False

  def choose(self, ram: Sequence[int]) -> int:
    right, down = ram[33] - ram[32], ram[35] - ram[34]
    self._punched = not self._punched
    if abs(right) <= self.REACH and abs(down) <= self.LEVEL:
      return FIRE if self._punched else NOOP
    return towards(right if abs(right) > self.REACH else 0, down if abs(down) > self.LEVEL else 0, 0)


class Breakout(RamExpert):
  """Goes where the ball will come down."""

  WALLS = 57, 199
  PADDLE_Y = 180
  PADDLE_MIDDLE = 8
  DEAD_ZONE = 5

  def reset(self) -> None:
    self._ball: tuple[int, int] | None = None

  def choose(self, ram: Sequence[int]) -> int:
    x, y, paddle = ram[99], ram[101], ram[72]
    last, self._ball = self._ball, (x, y)
    if not 0 < y <= 200:  # no ball: serve
      self._ball = None
      return FIRE
    goal = x
    if last and y > last[1]:
      fall = (self.PADDLE_Y - y) / (y - last[1])
      goal = reflect(x + (x - last[0]) * fall, *self.WALLS)
    return towards(goal - paddle - self.PADDLE_MIDDLE, 0, self.DEAD_ZONE)


class Pong(RamExpert):
  """Goes where the ball will come in, and hits it with the paddle's edge, which returns it steeply."""

  WALLS = 44, 204
  PADDLE_X = 186
  MIDDLE_Y = 124
  OFFSET = -8  # from the ball to the address of a paddle that meets it in the middle
  EDGE = 7
  DEAD_ZONE = 3

  def reset(self) -> None:
    self._ball: tuple[int, int] | None = None
    self._paddle: int | None = None

  def choose(self, ram: Sequence[int]) -> int:
    x, y, paddle = ram[49], ram[54], ram[51]
    drift = 0 if self._paddle is None else paddle - self._paddle  # once let go, it slides on by as much
    last, self._ball, self._paddle = self._ball, (x, y), paddle
    if y == 0:  # no ball
      self._ball = None
      return NOOP
    if not last or x == last[0]:
      return NOOP
    goal = self.MIDDLE_Y
    if x > last[0]:
      rise = y - last[1]
      goal = reflect(y + rise * (self.PADDLE_X - x) / (x - last[0]), *self.WALLS) + self.EDGE * np.sign(rise)
    miss = goal + self.OFFSET - paddle - drift
    return LEFT if miss > self.DEAD_ZONE else RIGHT if miss < -self.DEAD_ZONE else NOOP  # LEFT is down


class FishingDerby(RamExpert):
  """Hooks the fish of the fifth row, the deepest that the shark lets through, and reels them in behind its back."""

  ROW = 4
  SURFACE = 81
  SHARK_ZONE = 84, 102
  SHARK_REACH = 24

  def choose(self, ram: Sequence[int]) -> int:
    x, y = ram[23] + ram[34], self.SURFACE + 2.3 * ram[65]
    if ram[112]:  # a fish is on the hook
      below_shark = self.SHARK_ZONE[0] < y < self.SHARK_ZONE[1] and abs(ram[75] - x) < self.SHARK_REACH
      return DOWN if below_shark else FIRE
    return towards(ram[74 - self.ROW] - x, 101 + 16 * self.ROW - y, 3)


class Skiing(RamExpert):
  """Steers for the middle of the next gate, gently, as turns cost speed."""

  STRAIGHT = 8  # of 16 directions
  GATE, GATE_MIDDLE = 2, 12
  SKIER_Y = 38

  def reset(self) -> None:
    self._steered = False

  def choose(self, ram: Sequence[int]) -> int:
    gates = [(178 - ram[86 + i], ram[62 + i]) for i in range(8) if ram[70 + i] == self.GATE]
    ahead = [gate for gate in gates if gate[0] > self.SKIER_Y]
    aim = self.STRAIGHT
    if ahead:
      aim += int(np.clip(round(0.12 * (min(ahead)[1] + self.GATE_MIDDLE - ram[25])), -5, 5))
    if self._steered or aim == ram[15]:  # every other time: a turn takes effect late
      self._steered = False
      return NOOP
    self._steered = True
    return RIGHT if aim > ram[15] else LEFT


EXPERTS: Mapping[str, Callable[[Console], RamExpert]] = {  # the shortest games first
    'skiing': Skiing,
    'krull': Krull,
    'breakout': Breakout,
    'boxing': Boxing,
    'freeway': Freeway,
    'fishing_derby': FishingDerby,
    'pong': Pong,
}
