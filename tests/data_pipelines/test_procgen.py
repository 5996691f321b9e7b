"""Procgen: levels by seed; and the searches, on small games of our own whose best play is known."""

import collections
import importlib.util

import numpy as np
import pytest

from data_pipelines.environments import procgen, procgen_experts, registry
from data_pipelines.environments.collection import collect_episode
from data_pipelines.environments.procgen_experts import DOWN, LEFT, RIGHT, UP, MazeSolver, RolloutSearch
from data_pipelines.environments.reference_scores import published_scores

needs_procgen = pytest.mark.skipif(importlib.util.find_spec('procgen') is None, reason=procgen.REMEDY)

MAZE = ('#########',
        '#s..#...#',
        '#.#.#.#.#',
        '#.#...#.#',
        '#.#####.#',
        '#......g#',
        '#########')
STEPS = {LEFT: (0, -1), RIGHT: (0, 1), UP: (-1, 0), DOWN: (1, 0)}


class Copies:
  """Copies of a game whose state is a few bytes, with the face of gym3."""

  def __init__(self, count, start, rule):
    self.states, self.rule = [start] * count, rule
    self.outcome = np.zeros(count, np.float32), np.zeros(count, bool)

  def callmethod(self, name, *arguments):
    if name == 'get_state':
      return list(self.states)
    self.states = list(*arguments)

  def act(self, actions):
    self.states, rewards, ended = zip(*map(self.rule, self.states, actions.tolist()), strict=True)
    self.outcome = np.array(rewards, np.float32), np.array(ended)

  def observe(self):
    pictures = np.array([list(state.ljust(8)) for state in self.states], np.uint8)
    return self.outcome[0], {'rgb': pictures}, self.outcome[1]


class SmallGame:
  """A level as the experts see it."""

  def __init__(self, start, rule):
    self.start, self.rule, self.last_action = start, rule, None
    self.level = self.build(1, 0)

  def build(self, count, seed):
    return Copies(count, self.start, self.rule)

  def state(self):
    return self.level.states[0]

  def step(self, action):
    self.last_action = np.int32(action)
    self.level.act(np.array([action]))
    return float(self.level.outcome[0][0]), bool(self.level.outcome[1][0])

  def observation(self):
    return {'image': self.level.observe()[1]['rgb'][0]}


def maze_rule(state, action):
  row, column = state[0] + STEPS.get(action, (0, 0))[0], state[1] + STEPS.get(action, (0, 0))[1]
  if MAZE[row][column] == '#':
    row, column = state
  found = MAZE[row][column] == 'g'
  return bytes((row, column)), 10.0 * found, found


def distance_to_goal():
  """Steps from the start, by spreading from the goal."""
  goal = next((r, c) for r, row in enumerate(MAZE) for c, cell in enumerate(row) if cell == 'g')
  distance, queue = {goal: 0}, collections.deque([goal])
  while queue:
    place = queue.popleft()
    for step in STEPS.values():
      there = place[0] + step[0], place[1] + step[1]
      if MAZE[there[0]][there[1]] != '#' and there not in distance:
        distance[there] = distance[place] + 1
        queue.append(there)
  return distance[1, 1]


def test_maze_is_solved_in_as_few_steps_as_can_be():
  game = SmallGame(bytes((1, 1)), maze_rule)
  expert = MazeSolver(game)
  expert.reset()
  steps = 0
  while True:
    steps += 1
    reward, ended = game.step(expert.act(game.observation()))
    if ended:
      break
  assert reward == 10 and steps == distance_to_goal()


def test_maze_is_solved_again_where_another_action_was_executed():
  game = SmallGame(bytes((1, 1)), maze_rule)
  expert = MazeSolver(game)
  expert.reset()
  for step in range(40):
    wanted = int(expert.act(game.observation()))
    reward, ended = game.step(LEFT if step in (1, 3) else wanted)  # into the wall
    if ended:
      break
  assert reward == 10 and step + 1 == distance_to_goal() + 2


def pit_rule(state, action):
  """A walk on 0..20: a point to the right of 10 for every RIGHT, the end without one at 0."""
  place = state[0] + {RIGHT: 1, LEFT: -1}.get(action, 0)
  place = min(place, 20)
  return bytes((max(place, 0),)), float(place > 10 and action == RIGHT), place <= 0


def test_search_finds_rewards_and_keeps_off_death():
  game = SmallGame(bytes((3,)), pit_rule)
  expert = RolloutSearch(game)
  expert.reset()
  total = 0
  for _ in range(60):
    reward, ended = game.step(expert.act({}))
    total += reward
    assert not ended
  rng, at_random = np.random.default_rng(0), SmallGame(bytes((3,)), pit_rule)
  random_total = 0
  for _ in range(60):
    reward, ended = at_random.step(rng.integers(15))
    random_total += reward
    if ended:
      break
  assert total > 10 > random_total


def test_search_plans_anew_where_another_action_was_executed():
  game = SmallGame(bytes((3,)), pit_rule)
  expert = RolloutSearch(game)
  expert.reset()
  plans = []
  plan = expert._plan
  expert._plan = lambda rest: plans.append(list(rest)) or plan(rest)
  for step in range(6):
    wanted = int(expert.act({}))
    game.step((wanted + 1) % 15 if step == 1 else wanted)
  assert [bool(rest) for rest in plans] == [False, False]  # at the start, and after the disturbance


def test_specs_and_published_scores():
  assert len(procgen.SPECS) == 16 and len(procgen_experts.EXPERTS) >= 2
  published = published_scores()
  assert {name for name in published if name.startswith('procgen/')} == set(registry.task_names('procgen'))
  assert published['procgen/starpilot'][:2] == (1.5, 35)  # hard levels
  assert published['procgen/heist'][:2] == (3.5, 10)  # easy ones


@needs_procgen
@pytest.mark.parametrize('game', procgen.GAMES)
def test_every_seed_is_a_level(game):
  environment = registry.make(f'procgen/{game}')
  actions = np.random.default_rng(0).integers(15, size=12)

  def play(seed):
    images = [environment.reset(seed)['image']]
    for action in actions:
      result = environment.step(np.int32(action))
      images.append(result.observation['image'])
      if result.terminated:
        break
    return np.stack(images)

  first, other, again = play(5), play(6), play(5)
  np.testing.assert_array_equal(first, again)
  assert np.any(first[0] != other[0])
  environment.close()


@needs_procgen
def test_expert_solves_mazes_with_and_without_noise():
  environment = registry.make('procgen/maze')
  expert = registry.make_expert(environment)
  for seed in (1, 3):
    assert collect_episode(environment, expert, seed, noise=False).episode_return == 10
    assert collect_episode(environment, expert, seed, noise=True).episode_return == 10
  environment.close()
