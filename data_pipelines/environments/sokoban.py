"""Sokoban: push every box to a target. A new room an episode, in three sizes, and an expert that goes the shortest way.

A task shows the room as a picture of 8 x 8 pixels a cell; its `-symbolic` variant shows what is on each cell as a
number. The rewards are gym-sokoban's. An episode ends when the room is solved, which is its score.
"""

from collections.abc import Mapping
import functools

import numpy as np

from data_pipelines.environments.simulation import SimulatedEnvironment, Transition
from data_pipelines.environments.sokoban_rooms import Room, generate_room
from data_pipelines.environments.sokoban_solver import solve
from data_pipelines.environments.specs import ArraySpec, Observation, TaskSpec

DOMAIN = 'sokoban'
SYMBOLIC = '-symbolic'
ROOMS: Mapping[str, tuple[int, int]] = {  # cells a side, boxes; the last as in the paper
    'room7-boxes2': (7, 2),
    'room8-boxes3': (8, 3),
    'room10-boxes4': (10, 4),
}
MAX_STEPS = 120
STEP_REWARD, BOX_REWARD, SOLVED_REWARD = -0.1, 1.0, 10.0
MOST_STATES = 20_000  # about four seconds of search; one 10 x 10 room in fifty takes more
TILE_PIXELS = 8
RENDER_SCALE = 4
WALL, FLOOR, TARGET, BOX_ON_TARGET, BOX, PLAYER, PLAYER_ON_TARGET = range(7)  # gym-sokoban's numbers


def _spec(task: str, size: int) -> TaskSpec:
  picture = ArraySpec('image', (size * TILE_PIXELS, size * TILE_PIXELS, 3))
  view = ArraySpec('discrete', (size, size), 7) if task.endswith(SYMBOLIC) else picture
  action = ArraySpec('discrete', (), 4)  # up, down, left, right
  original = f'{DOMAIN}/{task.removesuffix(SYMBOLIC)}' if task.endswith(SYMBOLIC) else ''
  return TaskSpec(f'{DOMAIN}/{task}', DOMAIN, {'room': view}, action, MAX_STEPS, 'success', original)


SPECS: Mapping[str, TaskSpec] = {
    task + suffix: _spec(task + suffix, size) for suffix in ('', SYMBOLIC) for task, (size, _) in ROOMS.items()
}


class SokobanEnvironment(SimulatedEnvironment):
  """Rooms of one size.

  Attributes:
    room: the state of the game, which the expert reads; None before the first `reset`.
  """

  def __init__(self, spec: TaskSpec):
    super().__init__(spec)
    self._size, self._boxes = ROOMS[spec.task.removesuffix(SYMBOLIC)]
    self.room: Room | None = None

  def _reset(self, seed: int) -> Observation:
    self.room = generate_room(self._size, self._boxes, np.random.default_rng(seed))
    return self._observation()

  def _step(self, action: np.ndarray) -> Transition:
    before = self.room
    self.room = before.after(int(action))
    placed = len(self.room.boxes & self.room.targets) - len(before.boxes & before.targets)
    reward = STEP_REWARD + BOX_REWARD * placed + SOLVED_REWARD * self.room.solved
    return Transition(self._observation(), reward, self.room.solved, self.room.solved)

  def _observation(self) -> Observation:
    numbers = cell_numbers(self.room)
    return {'room': numbers if self.spec.observation['room'].kind == 'discrete' else picture(numbers)}

  def render(self) -> np.ndarray | None:
    return picture(cell_numbers(self.room)).repeat(RENDER_SCALE, axis=0).repeat(RENDER_SCALE, axis=1)

  def close(self) -> None:
    self.room = None


def cell_numbers(room: Room) -> np.ndarray:
  """What is on each cell, int32 [size, size]."""
  cells = np.full(room.size**2, WALL, np.int32)
  cells[list(room.floor)] = FLOOR
  cells[list(room.targets)] = TARGET
  cells[list(room.boxes - room.targets)] = BOX
  cells[list(room.boxes & room.targets)] = BOX_ON_TARGET
  cells[room.player] = PLAYER_ON_TARGET if room.player in room.targets else PLAYER
  return cells.reshape(room.size, room.size)


def picture(cells: np.ndarray) -> np.ndarray:
  """uint8 [8 size, 8 size, 3] of the numbers of the cells."""
  size = len(cells) * TILE_PIXELS
  return _tiles()[cells].swapaxes(1, 2).reshape(size, size, 3)


@functools.cache
def _tiles() -> np.ndarray:
  """A tile for each number a cell can have, uint8 [7, 8, 8, 3]."""
  offset = np.abs(np.arange(TILE_PIXELS) - (TILE_PIXELS - 1) / 2)
  down, across = np.meshgrid(offset, offset, indexing='ij')
  frame, block, diamond, disc = (np.maximum(down, across) > 3, np.maximum(down, across) < 3, down + across < 3,
                                 np.hypot(down, across) < 3)
  tiles = np.zeros((7, TILE_PIXELS, TILE_PIXELS, 3), np.uint8)
  tiles[:] = (40, 40, 48)
  tiles[WALL] = (120, 110, 100)
  tiles[WALL, frame] = (90, 80, 72)
  tiles[TARGET, diamond] = (220, 60, 60)
  tiles[BOX, block] = (190, 130, 50)
  tiles[BOX_ON_TARGET, block] = (90, 190, 80)
  tiles[PLAYER, disc] = (80, 140, 230)
  tiles[PLAYER_ON_TARGET, frame] = (220, 60, 60)
  tiles[PLAYER_ON_TARGET, disc] = (80, 140, 230)
  return tiles


class SolverExpert:
  """Follows the shortest solution, and looks for another when something else was done than it said."""

  def __init__(self, environment: SokobanEnvironment):
    self._environment = environment
    self._plan: list[int] = []
    self._expected: Room | None = None

  def reset(self) -> None:
    self._plan = []

  def act(self, observation: Observation) -> np.ndarray:
    """Raises Unsolved where a box is lost, or the search takes too long."""
    del observation  # the solver reads the room
    room = self._environment.room
    if not self._plan or room != self._expected:
      self._plan = solve(room, MOST_STATES)
    action = self._plan.pop(0)
    self._expected = room.after(action)
    return np.int32(action)


def make(spec: TaskSpec) -> SokobanEnvironment:
  return SokobanEnvironment(spec)


def make_expert(environment: SokobanEnvironment) -> SolverExpert:
  return SolverExpert(environment)
