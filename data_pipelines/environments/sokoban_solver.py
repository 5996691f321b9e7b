"""The shortest solution of a Sokoban room, by A* over pushes with the pushes that are left at least as heuristic."""

from collections import deque
from collections.abc import Iterator, Sequence, Set
import heapq
import itertools
import math

from data_pipelines.environments.sokoban_rooms import PushBound, Room


class Unsolved(RuntimeError):
  """There is no solution, or none was found among as many states as may be looked at."""


def solve(room: Room, most_states: int) -> list[int]:
  """The fewest actions that bring every box to a target.

  A node is a state right after a push: where the boxes are, and the player.

  Args:
    room: any state.
    most_states: give up after so many nodes.

  Raises:
    Unsolved: there is no solution, or none so soon.
  """
  bound = PushBound(room)
  start = (room.boxes, room.player)
  came_from: dict[tuple, tuple] = {start: ()}
  costs = {start: 0}
  ties = itertools.count()  # the later node first
  waiting = [(bound(room.boxes), 0, start)]
  closed = set()
  while waiting and len(closed) < most_states:
    _, _, node = heapq.heappop(waiting)
    if node in closed:
      continue
    closed.add(node)
    if node[0] == room.targets:
      return _actions(came_from, node)
    for following, stretch in _pushes(room, *node):
      cost = costs[node] + len(stretch)
      if cost < costs.get(following, math.inf):
        costs[following] = cost
        came_from[following] = (node, stretch)
        estimate = cost + bound(following[0])
        if estimate < math.inf:
          heapq.heappush(waiting, (estimate, -next(ties), following))
  raise Unsolved(f'no solution among {len(closed)} states')


def _pushes(room: Room, boxes: frozenset[int], player: int) -> Iterator[tuple[tuple[frozenset[int], int], list[int]]]:
  """The nodes one push further, each with the walk and the push that lead there."""
  walks = _walks(room.floor - boxes, player, room.moves)
  for box in boxes:
    for action, step in enumerate(room.moves):
      if box - step in walks and box + step in room.floor and box + step not in boxes:
        pushed = boxes - {box} | {box + step}
        if not _jammed(room, pushed, box + step):
          yield (pushed, box), [*walks[box - step], action]


def _jammed(room: Room, boxes: frozenset[int], box: int) -> bool:
  """Whether a box is one of four in a square, boxes or walls, of which none can move again, and not all are home."""
  for across, down in itertools.product((-1, 1), (-room.size, room.size)):
    square = (box, box + across, box + down, box + across + down)
    if all(cell in boxes or cell not in room.floor for cell in square):
      if any(cell in boxes and cell not in room.targets for cell in square):
        return True
  return False


def _walks(free: Set[int], player: int, moves: Sequence[int]) -> dict[int, tuple[int, ...]]:
  """Cell -> the actions of a shortest walk there, for every cell that can be reached without a push."""
  walks, waiting = {player: ()}, deque([player])
  while waiting:
    cell = waiting.popleft()
    for action, step in enumerate(moves):
      if cell + step in free and cell + step not in walks:
        walks[cell + step] = (*walks[cell], action)
        waiting.append(cell + step)
  return walks


def _actions(came_from: dict[tuple, tuple], node: tuple) -> list[int]:
  """Walks and pushes from the start to a node."""
  stretches = []
  while came_from[node]:
    node, stretch = came_from[node]
    stretches.append(stretch)
  return [action for stretch in reversed(stretches) for action in stretch]
