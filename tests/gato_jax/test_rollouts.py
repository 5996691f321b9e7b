"""Playing groups of environments, with stand-ins for the policy and the simulator."""

import functools
import os

import numpy as np
import pytest

from data_pipelines.environments.specs import ArraySpec, StepResult, TaskSpec
from data_pipelines.errors import InputError
from gato_jax.evaluation import rollouts
from gato_jax.evaluation.rollouts import ATTEMPTS
from gato_jax.evaluation.simulators import Reset, _Worker

TASK = 'suite/count'


class Counter:
  """An episode of seed s lasts 2 + s % 3 steps; each step pays what the action says.

  In the step after the first of the seeds in `plan` it crashes, so often; `folder` counts the crashes if processes die.
  """

  def __init__(self, plan=None, score='return', folder=None):
    observation = {'seed': ArraySpec('continuous', (1,))}
    self.spec = TaskSpec(TASK, 'suite', observation, ArraySpec('continuous', (1,)), 10, score)
    self.plan, self.folder = plan or {}, folder
    self.closed = False

  def reset(self, seed):
    self.seed, self.steps = seed, 0
    return self._observation()

  def step(self, action):
    if self.plan.get(self.seed, 0) > 0 and self.steps == 1:
      self.plan[self.seed] -= 1
      if self.folder is None:
        raise RuntimeError('physics diverged')
      crashes = [name for name in os.listdir(self.folder) if name.startswith(f'{self.seed}-')]
      if len(crashes) <= self.plan[self.seed]:
        (self.folder / f'{self.seed}-{len(crashes)}').touch()
        os._exit(139)
    self.steps += 1
    return StepResult(self._observation(), float(action[0]), self.steps == 2 + self.seed % 3, False, self.seed % 2 == 1)

  def render(self):
    return np.full((2, 2, 3), self.steps, np.uint8)

  def close(self):
    self.closed = True

  def _observation(self):
    return {'seed': np.array([self.seed], np.float32)}


class Player:
  """Pays a row's seed plus a hundredth of its prompt each step, and checks that it is asked about the right rows."""

  def __init__(self, batch_size):
    self.batch_size = batch_size
    self.rows = [None] * batch_size
    self.started = []

  def start(self, row, seed, prompt=None):
    self.rows[row] = seed, 0 if prompt is None else prompt
    self.started.append((row, seed))

  def act(self, observations):
    assert len(observations) == self.batch_size and any(item is not None for item in observations)
    for item, row in zip(observations, self.rows, strict=True):
      assert item is None or item['seed'] == row[0]
    return [np.array([row[0] + row[1] / 100]) if row else None for row in self.rows]


def environments(plan=None, **settings):
  made = []

  def make():
    made.append(Counter(plan, **settings))
    return made[-1]

  return make, made


def play(players, make, *arguments, **settings):
  return rollouts.play(players, TASK, make, *arguments, **settings)


def players(*sizes):
  return [Player(size) for size in sizes]


@pytest.mark.parametrize('sizes', [(1,), (3,), (2, 2), (3, 1, 2), (5, 5)])
def test_scores_and_lengths_belong_to_the_seeds_whatever_the_groups(sizes):
  make, made = environments()
  result = play(players(*sizes), make, range(100, 107), [1, 2, 3])
  seeds, prompts = np.arange(100, 107), np.array([1, 2, 3, 1, 2, 3, 1])
  np.testing.assert_array_equal(result.lengths, 2 + seeds % 3)
  np.testing.assert_allclose(result.scores, (2 + seeds % 3) * (seeds + prompts / 100))
  assert result.crashes == 0
  assert len(made) == min(sum(sizes), 7)
  assert all(environment.closed for environment in made)


def test_a_row_takes_the_next_episode_when_its_own_has_ended():
  make, _ = environments()
  player = Player(2)
  play([player], make, [99, 101, 102, 103, 104])  # 2, 4, 2, 3 and 4 steps
  assert player.started == [(0, 99), (1, 101), (0, 102), (1, 103), (0, 104)]


@pytest.mark.parametrize(('workers', 'sizes', 'plan'), [(3, (2, 2), {104: 1}), (8, (4, 4), {})])
def test_workers_change_nothing(workers, sizes, plan):
  """Not even who plays what where."""

  def run(workers):
    group = players(*sizes)
    make = functools.partial(Counter, dict(plan))
    result = play(group, make, range(100, 111), [1, 2], workers=workers, frame_every=3)
    return result, [player.started for player in group]

  (expected, started), (result, started_with_workers) = run(0), run(workers)
  assert (result.scores, result.lengths, result.crashes) == (expected.scores, expected.lengths, expected.crashes)
  assert result.crashes == len(plan)
  assert started == started_with_workers
  np.testing.assert_array_equal(result.frames, expected.frames)


def test_a_process_that_dies_costs_its_episodes_which_are_played_again(tmp_path):
  make = functools.partial(Counter, {101: 2}, folder=tmp_path)
  result = play(players(2, 2), make, range(100, 106), workers=2)
  np.testing.assert_allclose(result.scores, [(2 + seed % 3) * seed for seed in range(100, 106)])
  assert 2 <= result.crashes <= 4  # its own twice, and those that were in the same process
  assert len(os.listdir(tmp_path)) == 2


def test_a_process_that_keeps_dying_is_an_error(tmp_path):
  make = functools.partial(Counter, {101: 9}, folder=tmp_path)
  with pytest.raises(InputError, match='suite/count: the episode of seed 101 failed 3 times.*exit status 139'):
    play(players(1, 1), make, [100, 101], workers=2)


class DiesAtOnce(_Worker):
  """Its second process is dead before it is asked anything; the third one lives."""

  starts = 0

  def _start(self):
    super()._start()
    self.starts += 1
    if self.starts == 2:
      self._process.kill()
      self._process.join()


def test_a_process_that_dies_before_it_is_asked_again_costs_no_more(tmp_path):
  worker = DiesAtOnce(functools.partial(Counter, {101: 1}, folder=tmp_path))
  worker.send({0: Reset(101)})
  worker.receive()
  step = np.ones(1)
  for commands in ({0: step}, {0: step}, {1: Reset(102)}):  # it dies in the second step, with two questions open
    worker.send(commands)
  worker.receive()
  assert 'exit status 139' in worker.receive()[0].outcome.error
  assert 'exit status -9' in worker.receive()[1].outcome.error
  worker.send({1: Reset(102)})
  assert worker.receive()[1].observation['seed'] == 102
  worker.stop()


def _cannot_be_made():
  raise InputError('suite/count needs the extra suites')


@pytest.mark.parametrize('workers', [0, 1])
def test_an_environment_that_cannot_be_made_is_the_callers_error(workers):
  with pytest.raises(InputError, match='needs the extra suites'):
    play(players(1), _cannot_be_made, [100], workers=workers)


def test_no_prompts_are_no_prompt():
  make, _ = environments()
  assert play(players(1), make, [101], []) == play(players(1), make, [101], None)


def test_nothing_to_play_is_an_error():
  assert [rollouts.group_sizes(count) for count in (1, 2, 5)] == [[1], [1, 1], [3, 3]]
  with pytest.raises(InputError, match='evaluation.episodes and evaluation.environments must be at least 1'):
    rollouts.group_sizes(0)


def test_success_counts_once():
  make, _ = environments(score='success')
  assert play(players(2), make, [1, 2, 3, 4]).scores == (1.0, 0.0, 1.0, 0.0)


def test_a_crash_costs_one_episode_which_is_played_again_in_a_new_simulator():
  make, made = environments({101: 1, 103: 2})
  result = play(players(2), make, range(100, 104))
  assert result.crashes == 3
  assert len(made) == 2 + 3 and all(environment.closed for environment in made)
  np.testing.assert_allclose(result.scores, [(2 + seed % 3) * seed for seed in range(100, 104)])


def test_a_simulator_that_keeps_crashing_is_an_error_naming_task_and_seed():
  make, _ = environments({101: ATTEMPTS})
  with pytest.raises(InputError, match='suite/count: the episode of seed 101 failed 3 times.*physics diverged'):
    play(players(2), make, range(100, 104))


def test_frames_are_the_first_episodes():
  make, _ = environments()
  frames = play(players(2), make, [101, 102], frame_every=3).frames
  assert [frame[0, 0, 0] for frame in frames] == [0, 3, 4]  # the start, every third step, the end
  assert play(players(2), make, [101, 102]).frames == ()
