"""Sokoban: rooms can be solved, solutions are the shortest, and moves do what the game says."""

from collections import deque

import numpy as np
import pytest

from data_pipelines.environments import registry, sokoban
from data_pipelines.environments.collection import ExpertFailure, collect_episode
from data_pipelines.environments.sokoban_rooms import PushBound, Room, generate_room
from data_pipelines.environments.sokoban_solver import Unsolved, solve

UP, DOWN, LEFT, RIGHT = range(4)


def read_room(*lines):
  """A room from a drawing: # wall, . target, $ box, * box on target, @ player, + player on target."""
  cells = ''.join(lines)

  def where(symbols):
    return frozenset(cell for cell, symbol in enumerate(cells) if symbol in symbols)

  (player,) = where('@+')
  return Room(len(lines[0]), where(' .$*@+'), where('.*+'), where('$*'), player)


def shortest_by_breadth(room):
  """The length of the shortest solution, by trying everything."""
  seen, waiting = {room}, deque([(room, 0)])
  while waiting:
    state, steps = waiting.popleft()
    if state.solved:
      return steps
    for action in range(4):
      following = state.after(action)
      if following not in seen:
        seen.add(following)
        waiting.append((following, steps + 1))
  return None


def follow(room, actions):
  for action in actions:
    moved = room.after(action)
    assert moved != room  # a shortest solution wastes no step
    room = moved
  return room


def test_moves():
  room = read_room('######', '#@$ .#', '#  ###', '######')
  assert room.after(UP) == room  # a wall
  assert room.after(DOWN).player == room.player + 6 and room.after(DOWN).boxes == room.boxes
  pushed = room.after(RIGHT)
  assert pushed.player == room.player + 1 and pushed.boxes == {room.player + 2}
  assert not pushed.solved and pushed.after(RIGHT).solved
  assert pushed.after(RIGHT).after(RIGHT) == pushed.after(RIGHT)  # a box against the wall
  two = read_room('#######', '#@$$..#', '#######', '#######', '#######', '#######', '#######')
  assert two.after(RIGHT) == two  # a box against a box


@pytest.mark.parametrize(('size', 'boxes'), ((6, 1), (6, 2), (7, 2)))
def test_solutions_are_the_shortest(size, boxes):
  for seed in range(12):
    room = generate_room(size, boxes, np.random.default_rng(seed))
    actions = solve(room, 20_000)
    assert follow(room, actions).solved
    assert len(actions) == shortest_by_breadth(room)


@pytest.mark.parametrize('task', sokoban.ROOMS)
def test_rooms_are_as_asked_for(task):
  size, boxes = sokoban.ROOMS[task]
  rooms = [generate_room(size, boxes, np.random.default_rng(seed)) for seed in range(20)]
  for room in rooms:
    cells = np.zeros(size * size, bool)
    cells[list(room.floor)] = True
    border = np.ones((size, size), bool)
    border[1:-1, 1:-1] = False
    assert not (cells.reshape(size, size) & border).any()
    assert len(room.boxes) == len(room.targets) == boxes
    assert not room.boxes & room.targets and room.player not in room.boxes
    assert room.boxes | room.targets | {room.player} <= room.floor
    assert 2 * boxes <= PushBound(room)(room.boxes) < np.inf
  assert len(set(rooms)) == 20
  assert generate_room(size, boxes, np.random.default_rng(3)) == rooms[3]


def test_push_bound_is_exact_for_one_box_and_never_too_high():
  room = read_room('#######', '#@    #', '# $   #', '#     #', '#   . #', '#     #', '#######')
  assert PushBound(room)(room.boxes) == 4
  for seed in range(10):
    room = generate_room(7, 2, np.random.default_rng(seed))
    state, pushes = room, 0
    for action in solve(room, 20_000):
      moved = state.after(action)
      pushes += moved.boxes != state.boxes
      state = moved
    assert PushBound(room)(room.boxes) <= pushes


@pytest.mark.parametrize('lines', (
    ('######', '#@  .#', '#   $#', '#    #', '#$  .#', '######'),  # a box in a corner
    ('######', '#.   #', '# $$ #', '#@$$.#', '#..  #', '######'),  # four in a square
))
def test_solver_knows_what_is_lost(lines):
  room = read_room(*lines)
  assert shortest_by_breadth(room) is None
  with pytest.raises(Unsolved, match='no solution among'):
    solve(room, 20_000)


def test_solver_gives_up():
  with pytest.raises(Unsolved, match='no solution among 5 states'):
    solve(generate_room(8, 3, np.random.default_rng(0)), 5)


def test_rewards_and_end():
  environment = registry.make('sokoban/room7-boxes2')
  expert = registry.make_expert(environment)
  episode = collect_episode(environment, expert, 4, noise=False)
  # gym-sokoban: -0.1 a step, 1 for each box that comes to a target, -1 for each that leaves one, 10 at the end.
  assert episode.success
  assert episode.episode_return == pytest.approx(-0.1 * episode.length + 2 + 10, abs=1e-4)
  assert episode.reward[-1] == pytest.approx(10.9)


def test_picture_shows_every_cell():
  room = read_room('#######', '#@ $  #', '# .*  #', '#  $ .#', '#     #', '#     #', '#######')
  numbers = sokoban.cell_numbers(room)
  assert numbers.dtype == np.int32
  assert numbers[1].tolist() == [0, 5, 1, 4, 1, 1, 0] and numbers[2].tolist() == [0, 1, 2, 3, 1, 1, 0]
  on_target = sokoban.cell_numbers(Room(7, room.floor, room.targets, room.boxes, 16))
  assert on_target[2, 2] == sokoban.PLAYER_ON_TARGET
  tiles = sokoban.picture(on_target).reshape(7, 8, 7, 8, 3).swapaxes(1, 2).reshape(49, -1)
  looks = {number: {tile.tobytes() for tile in tiles[on_target.ravel() == number]} for number in range(7)}
  assert all(len(look) <= 1 for look in looks.values())  # one look a number
  assert len(set.union(*looks.values())) == len(np.unique(on_target))  # and another for another number


def test_expert_plans_again_when_something_else_was_done():
  environment = registry.make('sokoban/room8-boxes3-symbolic')
  expert = registry.make_expert(environment)
  observation = environment.reset(2)
  expert.reset()
  steps = 0
  while not environment.room.solved:
    action = expert.act(observation)
    left = len(solve(environment.room, 20_000))
    if steps == 1:  # a step that pushes nothing
      action = next(a for a in range(4) if a != action and environment.room.after(a).boxes == environment.room.boxes)
    observation = environment.step(np.int32(action)).observation
    if steps != 1:
      assert len(solve(environment.room, 20_000)) == left - 1
    steps += 1


def test_lost_room_is_an_expert_failure():
  environment = registry.make('sokoban/room7-boxes2')

  class Lost(sokoban.SolverExpert):
    def reset(self):
      environment.room = read_room('#######', '#$    #', '#  .$ #', '#   . #', '#  @  #', '#     #', '#######')
      super().reset()

  with pytest.raises(ExpertFailure, match='sokoban/room7-boxes2, seed 0: the expert raised Unsolved'):
    collect_episode(environment, Lost(environment), 0, noise=False)
