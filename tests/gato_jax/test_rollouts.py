"""The lockstep over environments, with stand-ins for the policy and the simulator."""

import numpy as np
import pytest

from data_pipelines.environments.specs import ArraySpec, StepResult, TaskSpec
from data_pipelines.errors import InputError
from gato_jax.evaluation.rollouts import ATTEMPTS, play


class Counter:
  """An episode of seed s lasts 2 + s % 3 steps; each step pays what the action says. Crashes as `plan` has it."""

  def __init__(self, plan, score='return'):
    observation = {'seed': ArraySpec('continuous', (1,))}
    self.spec = TaskSpec('suite/count', 'suite', observation, ArraySpec('continuous', (1,)), 10, score)
    self.plan = plan
    self.closed = False

  def reset(self, seed):
    self.seed, self.steps = seed, 0
    return self._observation()

  def step(self, action):
    if self.plan.get(self.seed, 0) > 0 and self.steps == 1:
      self.plan[self.seed] -= 1
      raise RuntimeError('physics diverged')
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
    self.batches = []

  def reset(self, seeds, prompts=None):
    assert len(seeds) <= self.batch_size
    self.seeds, self.prompts = list(seeds), prompts
    self.batches.append(self.seeds)

  def act(self, observations):
    assert [item is None or item['seed'] == seed for item, seed in zip(observations, self.seeds, strict=True)]
    bonus = self.prompts or [0] * len(self.seeds)
    return [np.array([seed + prompt / 100]) for seed, prompt in zip(self.seeds, bonus, strict=True)]


def environments(plan=None, **settings):
  made = []

  def make():
    made.append(Counter(plan if plan is not None else {}, **settings))
    return made[-1]

  return make, made


@pytest.mark.parametrize('batch_size', [1, 3, 8])
def test_scores_and_lengths_belong_to_the_seeds_whatever_the_batch(batch_size):
  make, made = environments()
  result = play(Player(batch_size), make, range(100, 107), [1, 2, 3])
  seeds, prompts = np.arange(100, 107), np.array([1, 2, 3, 1, 2, 3, 1])
  np.testing.assert_array_equal(result.lengths, 2 + seeds % 3)
  np.testing.assert_allclose(result.scores, (2 + seeds % 3) * (seeds + prompts / 100))
  assert result.crashes == 0
  assert len(made) == min(batch_size, 7)
  assert all(environment.closed for environment in made)


def test_success_counts_once():
  make, _ = environments(score='success')
  assert play(Player(2), make, [1, 2, 3, 4]).scores == (1.0, 0.0, 1.0, 0.0)


def test_a_crash_costs_one_episode_which_is_played_again_in_a_new_simulator():
  make, made = environments({101: 1, 103: 2})
  player = Player(2)
  result = play(player, make, range(100, 104))
  assert result.crashes == 3
  assert player.batches == [[100, 101], [102, 103], [101, 103], [103]]
  assert len(made) == 2 + 3
  np.testing.assert_allclose(result.scores, [(2 + seed % 3) * seed for seed in range(100, 104)])


def test_a_simulator_that_keeps_crashing_is_an_error_naming_task_and_seed():
  make, _ = environments({101: ATTEMPTS})
  with pytest.raises(InputError, match='suite/count: the episode of seed 101 failed 3 times.*physics diverged'):
    play(Player(2), make, range(100, 104))


def test_frames_are_the_first_episodes():
  make, _ = environments()
  frames = play(Player(2), make, [101, 102], frame_every=3).frames
  assert [frame[0, 0, 0] for frame in frames] == [0, 3, 4]  # the start, every third step, the end
  assert play(Player(2), make, [101, 102]).frames == ()
