"""Sokoban rooms that can be solved, made by playing backwards: a carved floor, and boxes pulled off their targets.

This is the scheme of gym-sokoban, whose own generator searches for seconds to minutes a room and draws from global
generators; here a room is a function of a generator's state, and takes milliseconds.

Cells are numbered row by row. The outermost cells are walls, so that a neighbour of a floor cell is always a cell.
"""

from collections import deque
from collections.abc import Iterable, Sequence, Set
import dataclasses
import itertools
import math

import numpy as np

WALK_STEPS_PER_CELL = 3.4  # of the walk that carves, for each cell of a side
TURN_PROBABILITY = 0.35
BRUSHES = (  # what a step of the walk carves, as rows and columns from where it is
    ((0, -1), (0, 0), (0, 1)),
    ((-1, 0), (0, 0), (1, 0)),
    ((0, -1), (0, 0), (1, 0)),
    ((0, -1), (0, 0), (1, -1), (1, 0)),
    ((0, 0), (0, 1), (1, 0)),
)
PULL_WALKS = 40  # the hardest room of so many random ways to pull is taken
PULLS = 60  # in each
SAME_BOX_PROBABILITY = 0.8  # that the box which was pulled last is pulled on
LEAST_PUSHES = 2  # a box, on average


@dataclasses.dataclass(frozen=True)
class Room:
  """A state of the game.

  Attributes:
    size: cells along a side, walls included.
    floor: the cells that are no walls.
    targets: where boxes belong; as many as there are boxes.
    boxes: where they are.
    player: where the player is.
  """

  size: int
  floor: frozenset[int]
  targets: frozenset[int]
  boxes: frozenset[int]
  player: int

  @property
  def moves(self) -> tuple[int, int, int, int]:
    """How the actions up, down, left and right change a cell's number."""
    return (-self.size, self.size, -1, 1)

  def after(self, action: int) -> 'Room':
    """The state after a move, which pushes a box that is in the way; the same if it cannot be pushed."""
    step = self.moves[action]
    ahead, beyond = self.player + step, self.player + 2 * step
    if ahead not in self.floor:
      return self
    if ahead not in self.boxes:
      return dataclasses.replace(self, player=ahead)
    if beyond not in self.floor or beyond in self.boxes:
      return self
    return dataclasses.replace(self, player=ahead, boxes=self.boxes - {ahead} | {beyond})

  @property
  def solved(self) -> bool:
    return self.boxes == self.targets


def generate_room(size: int, boxes: int, rng: np.random.Generator) -> Room:
  """A room with every box off the targets, which can be solved."""
  while True:
    floor = _carve(size, rng)
    if len(floor) < 2 * boxes + 2:
      continue
    *targets, player = rng.choice(sorted(floor), boxes + 1, replace=False).tolist()
    solved = Room(size, floor, frozenset(targets), frozenset(targets), player)
    apart = _pull_apart(solved, targets, rng)
    if apart is not None:
      return apart


def _carve(size: int, rng: np.random.Generator) -> frozenset[int]:
  """The connected floor that a random walk leaves behind."""
  directions = ((1, 0), (-1, 0), (0, 1), (0, -1))
  row, column = rng.integers(1, size - 1, 2).tolist()
  direction = directions[rng.integers(4)]
  floor = set()
  for _ in range(round(WALK_STEPS_PER_CELL * size)):
    if rng.random() < TURN_PROBABILITY:
      direction = directions[rng.integers(4)]
    row = min(max(row + direction[0], 1), size - 2)
    column = min(max(column + direction[1], 1), size - 2)
    brush = BRUSHES[rng.integers(len(BRUSHES))]
    floor.update((row + r, column + c) for r, c in brush)
  return frozenset(r * size + c for r, c in floor if 0 < r < size - 1 and 0 < c < size - 1)


def _pull_apart(solved: Room, targets: Sequence[int], rng: np.random.Generator) -> Room | None:
  """Walks backwards from the solved room to the state that takes the most pushes; None where none takes enough."""
  bound = PushBound(solved)
  best, most_pushes = None, LEAST_PUSHES * len(targets) - 1
  for _ in range(PULL_WALKS):
    places, player, last = list(targets), solved.player, -1
    for _ in range(PULLS):
      pulls = _pulls(solved, places, player)
      if not pulls:
        break
      again = [pull for pull in pulls if pull[0] == last]
      candidates = again if again and rng.random() < SAME_BOX_PROBABILITY else pulls
      last, step = candidates[rng.integers(len(candidates))]
      places[last] += step
      player = places[last] + step
      if solved.targets.isdisjoint(places) and bound(frozenset(places)) > most_pushes:
        best = dataclasses.replace(solved, boxes=frozenset(places), player=player)
        most_pushes = bound(best.boxes)
  return best


def _pulls(room: Room, places: Sequence[int], player: int) -> list[tuple[int, int]]:
  """All (number of a box, step) where the player can get at the box and draw it along by a step."""
  free = room.floor.difference(places)
  near = reachable(free, player, room.moves)
  return [(box, step) for box, place in enumerate(places) for step in room.moves
          if place + step in near and place + 2 * step in free]


def reachable(free: Set[int], player: int, moves: Sequence[int]) -> set[int]:
  """The free cells that the player can walk to."""
  seen, waiting = {player}, [player]
  while waiting:
    cell = waiting.pop()
    for step in moves:
      if cell + step in free and cell + step not in seen:
        seen.add(cell + step)
        waiting.append(cell + step)
  return seen


class PushBound:
  """How many pushes it takes at least to bring boxes to a room's targets: as many as if none were in another's way.

  Infinite where a box is lost: stuck in a corner, say.
  """

  def __init__(self, room: Room):
    self._distances = [_push_distances(room, target) for target in sorted(room.targets)]
    self._known: dict[frozenset[int], float] = {}

  def __call__(self, boxes: frozenset[int]) -> float:
    if boxes not in self._known:
      self._known[boxes] = min(map(self._pushes, itertools.permutations(boxes)))
    return self._known[boxes]

  def _pushes(self, places: Iterable[int]) -> float:
    """With a place for each target."""
    return sum(distances.get(place, math.inf) for distances, place in zip(self._distances, places, strict=True))


def _push_distances(room: Room, target: int) -> dict[int, int]:
  """Cell -> pushes from it to the target with no other box about; without the cells that it cannot be reached from."""
  distances, waiting = {target: 0}, deque([target])
  while waiting:
    cell = waiting.popleft()
    for step in room.moves:
      before, player = cell - step, cell - 2 * step
      if before in room.floor and player in room.floor and before not in distances:
        distances[before] = distances[cell] + 1
        waiting.append(before)
  return distances
