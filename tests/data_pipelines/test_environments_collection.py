"""Demonstrations: the label is the expert's, the action the executed one, and a failing expert is reported."""

import importlib.util
import json
import threading
import time

import numpy as np
import pytest

from data_pipelines.environments import noise, reference_scores, registry
from data_pipelines.environments.collection import ExpertFailure, collect_episode
from data_pipelines.environments.simulation import SimulatedEnvironment, Transition
from data_pipelines.environments.specs import ArraySpec, TaskSpec
from data_pipelines.errors import InputError

INSTALLED = all(importlib.util.find_spec(module) for module in ('gymnasium', 'dm_control', 'metaworld', 'minigrid'))
needs_simulators = pytest.mark.skipif(not INSTALLED, reason='the extra `envs` is not installed')
ONE_A_SUITE = ('classic_control/LunarLander-v3', 'dm_control/pendulum-swingup', 'metaworld/button-press-topdown-v3',
               'babyai/GoToLocalS5N2-v0', 'sokoban/room7-boxes2')


class Line(SimulatedEnvironment):
  """A point that moves by its action; success at 5 or beyond."""

  demonstration_tail = 4

  def __init__(self, kind='continuous', score='success', max_steps=50):
    action = ArraySpec('continuous', (1,)) if kind == 'continuous' else ArraySpec('discrete', (), 3)
    observation = {'place': ArraySpec('continuous', (1,)), 'words': ArraySpec('text')}
    super().__init__(TaskSpec('test/line', 'test', observation, action, max_steps, score))

  def _reset(self, seed):
    self.place = 0.0
    return self._observation()

  def _step(self, action):
    self.place += float(np.sum(action))
    return Transition(self._observation(), 1.5, False, self.place >= 5)

  def _observation(self):
    return {'place': np.array([self.place], np.float32), 'words': f'at {self.place:.1f}'}

  def close(self):
    pass


class Forward:
  """Goes forward, more slowly the further it is."""

  def reset(self):
    self.seen = []

  def act(self, observation):
    self.seen.append(observation)
    return np.maximum(1 - observation['place'] / 10, -1).astype(np.float32)


@pytest.fixture
def line_noise(monkeypatch):
  def settings(**fields):
    defaults = dict(strength=(0.2, 0.2), burst_every=10, burst_steps=(2, 4), max_steps=30)
    monkeypatch.setitem(noise.BY_TASK, 'test/line', noise.NoiseSettings(**{**defaults, **fields}))

  settings()
  return settings


def test_episode_without_noise():
  expert = Forward()
  episode = collect_episode(Line(), expert, 0, noise=False)
  places = [0.0]
  while places[-1] < 5:
    places.append(places[-1] + 1 - places[-1] / 10)
  for _ in range(3):
    places.append(places[-1] + 1 - places[-1] / 10)
  np.testing.assert_allclose(episode.observation['place'][:, 0], places, rtol=1e-5)  # to success, and the tail of 4
  assert episode.observation['words'][1] == 'at 1.0'
  np.testing.assert_array_equal(episode.action, episode.expert_action)
  assert episode.action.dtype == np.float32 and episode.action.shape == (episode.length, 1)
  assert episode.reward.dtype == np.float32 and episode.episode_return == 1.5 * episode.length
  assert episode.success


def test_tail_does_not_pass_max_steps():
  episode = collect_episode(Line(max_steps=8), Forward(), 0, noise=False)
  assert episode.length == 8 and episode.success


def test_no_tail_where_the_score_is_the_return():
  assert collect_episode(Line(score='return', max_steps=20), Forward(), 0, noise=False).length == 20


def test_labels_are_the_experts_at_the_states_visited(line_noise):
  expert = Forward()
  episode = collect_episode(Line(), expert, 1, noise=True)
  place = episode.observation['place']
  np.testing.assert_array_equal(episode.expert_action, np.maximum(1 - place / 10, -1))
  np.testing.assert_allclose(np.diff(place, axis=0), episode.action[:-1], atol=1e-5)  # what was stored was executed
  assert np.mean(episode.action != episode.expert_action) > 0.7
  assert len(expert.seen) == episode.length


def test_noise_depends_on_the_seed_alone(line_noise):
  first, again, other = (collect_episode(Line(), Forward(), seed, noise=True) for seed in (7, 7, 8))
  np.testing.assert_array_equal(first.action, again.action)
  assert len(first.action) != len(other.action) or np.any(first.action != other.action)


def test_noisy_episode_is_cut_off(line_noise):
  line_noise(max_steps=6)
  assert collect_episode(Line(score='return'), Forward(), 0, noise=True).length == 6


def test_gaussian_noise_has_its_strength(line_noise):
  line_noise(strength=(0.2, 0.2), burst_every=10**9, burst_steps=(1, 1))
  disturb = noise.Disturbance(Line().spec, 0)
  action = np.array([0.1], np.float32)
  disturb(action)  # the burst that starts an episode
  difference = np.array([disturb(action) - action for _ in range(4000)])
  assert abs(difference.mean()) < 0.015
  assert abs(difference.std() - 0.2) < 0.01


def test_bursts_hold_one_action(line_noise):
  line_noise(strength=(0.0, 0.0), burst_every=20, burst_steps=(3, 3))
  disturb = noise.Disturbance(Line().spec, 0)
  executed = np.array([disturb(np.zeros(1, np.float32))[0] for _ in range(20_000)])
  off = executed != 0
  assert off[:3].all() and len(set(executed[:3])) == 1
  # A burst of 3 steps after 19 quiet ones on average: the next may start at once.
  assert abs(off.mean() - 3 / 22) < 0.015


def test_undisturbed_components_are_the_experts(line_noise):
  line_noise(undisturbed=(1,))
  spec = TaskSpec('test/line', 'test', {}, ArraySpec('continuous', (2,)), 10)
  disturb = noise.Disturbance(spec, 3)
  executed = np.array([disturb(np.array([0.3, 0.4], np.float32)) for _ in range(100)])
  assert np.all(executed[:, 1] == np.float32(0.4))
  assert np.mean(executed[:, 0] != np.float32(0.3)) == 1
  assert np.abs(executed).max() <= 1


def test_discrete_noise_replaces_a_share_of_the_actions(line_noise):
  line_noise(strength=(0.3, 0.3), burst_every=10**9, burst_steps=(1, 1), actions=(0, 2))
  disturb = noise.Disturbance(Line(kind='discrete').spec, 0)
  disturb(np.int32(1))
  executed = np.array([disturb(np.int32(1)) for _ in range(4000)])
  assert abs(np.mean(executed != 1) - 0.3) < 0.025
  assert set(executed) == {0, 1, 2}


# What a random policy and the experts are known to score, within which the stored means must lie.
KNOWN = {
    'classic_control/CartPole-v1': ((15, 30), (500, 500)),
    'classic_control/Acrobot-v1': ((-500, -490), (-95, -70)),
    'classic_control/MountainCar-v0': ((-200, -200), (-125, -100)),
    'classic_control/MountainCarContinuous-v0': ((-36, -30), (94, 97)),
    'classic_control/Pendulum-v1': ((-1350, -1000), (-170, -120)),
    'classic_control/LunarLander-v3': ((-220, -150), (255, 300)),
    'classic_control/LunarLanderContinuous-v3': ((-260, -150), (255, 300)),
    'dm_control/cartpole-swingup': ((20, 45), (850, 870)),
    'dm_control/pendulum-swingup': ((0, 20), (800, 940)),
    'dm_control/reacher-easy': ((0, 120), (960, 1000)),
    'dm_control/point_mass-easy': ((0, 10), (870, 940)),
}
# `test_mujoco_environments` has the rest of the MuJoCo suites.
COVERED = [name for name in registry.task_names()  # the others have tests of their own
           if name in KNOWN or not name.startswith(('dm_control', 'modular_rl', 'atari', 'procgen'))]


@needs_simulators
@pytest.mark.parametrize('name', ONE_A_SUITE)
def test_collection_is_deterministic(name):
  environment = registry.make(name)
  expert = registry.make_expert(environment)
  first = collect_episode(environment, expert, 5, noise=True)
  collect_episode(environment, expert, 6, noise=True)
  again = collect_episode(environment, expert, 5, noise=True)
  np.testing.assert_array_equal(first.action, again.action)
  np.testing.assert_array_equal(first.expert_action, again.expert_action)
  for key, items in first.observation.items():
    np.testing.assert_array_equal(items, again.observation[key])
  assert np.any(first.action != first.expert_action)
  assert first.action.dtype == (np.int32 if environment.spec.action.kind == 'discrete' else np.float32)
  environment.close()


@needs_simulators
@pytest.mark.parametrize('name', (
    *registry.task_names('classic_control'),
    'dm_control/cartpole-swingup', 'dm_control/pendulum-swingup', 'dm_control/reacher-easy',
    'dm_control/point_mass-easy',
    'metaworld/reach-v3', 'metaworld/push-v3', 'metaworld/drawer-open-v3', 'metaworld/door-open-v3',
    'babyai/OpenRedDoor-v0', 'babyai/GoToLocalS5N2-v0', 'babyai/KeyCorridorS3R2-v0',
    'sokoban/room7-boxes2', 'sokoban/room8-boxes3',
    *(('fetch/push-v4', 'fetch/pick-and-place-v4') if importlib.util.find_spec('gymnasium_robotics') else ())))
def test_noisy_demonstrations_still_succeed(name):
  environment = registry.make(name)
  expert = registry.make_expert(environment)
  episodes = [collect_episode(environment, expert, seed, noise=True) for seed in range(6)]
  if environment.spec.score == 'success':
    assert sum(episode.success for episode in episodes) >= 4
  # Executed and wanted actions differ at some steps, by what the settings say and no more.
  differing = np.mean([np.mean(episode.action != episode.expert_action) for episode in episodes])
  assert 0.01 < differing <= (0.6 if environment.spec.action.kind == 'discrete' else 1)
  environment.close()


@needs_simulators
def test_bot_replans_from_the_executed_action():
  environment = registry.make('babyai/GoToRedBallNoDists-v0')
  expert = registry.make_expert(environment)
  environment.reset(0)
  expert.reset()
  told = []
  replan = expert._bot.replan
  expert._bot.replan = lambda taken: told.append(taken) or replan(taken)
  for action in (1, 1, 0):
    expert.act({})
    environment.step(np.int32(action))
  expert.act({})
  assert told == [None, 1, 1, 0]
  environment.close()


class Raising(Forward):
  def act(self, observation):
    assert observation['place'] < 2, 'nothing left to explore'
    return super().act(observation)


class Hanging(Forward):
  def act(self, observation):
    while True:
      pass


def test_expert_that_raises_is_named():
  with pytest.raises(ExpertFailure, match='test/line, seed 3: the expert raised AssertionError: nothing left'):
    collect_episode(Line(), Raising(), 3, noise=False)


def test_expert_that_hangs_is_interrupted(monkeypatch):
  monkeypatch.setattr(Line, 'demonstration_seconds', 0.1)
  start = time.process_time()
  with pytest.raises(ExpertFailure, match='test/line, seed 3: no end after 0.1 s of processor'):
    collect_episode(Line(), Hanging(), 3, noise=False)
  assert time.process_time() - start < 1
  while time.process_time() - start < 0.3:
    pass  # no alarm is left behind
  assert collect_episode(Line(), Forward(), 0, noise=False).success


def test_collection_works_outside_the_main_thread():
  episodes = []
  thread = threading.Thread(target=lambda: episodes.append(collect_episode(Line(), Forward(), 0, noise=False)))
  thread.start()
  thread.join()
  assert episodes[0].success


def test_wrong_expert_action_is_an_input_error():
  class Wild(Forward):
    def act(self, observation):
      return np.array([3.0], np.float32)

  with pytest.raises(InputError, match='test/line: action'):
    collect_episode(Line(), Wild(), 0, noise=False)


@pytest.mark.parametrize('name', COVERED)
def test_stored_reference_scores(name):
  scores = reference_scores.reference_scores(name)
  if registry.task_spec(name).score == 'success':
    # Random play finds the right one of few doors four times in five; Meta-World's weakest scripts fail one in three.
    assert 0 <= scores.random < scores.expert - 0.15 and 0.6 <= scores.expert <= 1
  elif name in KNOWN:
    (random_low, random_high), (expert_low, expert_high) = KNOWN[name]
    assert random_low <= scores.random <= random_high
    assert expert_low <= scores.expert <= expert_high
  assert scores.episodes >= 20


@pytest.mark.parametrize(('variant', 'task'), (
    ('babyai/OpenRedDoor-v0-symbolic', 'babyai/OpenRedDoor-v0'), ('fetch/push-v4-pixels', 'fetch/push-v4'),
    ('sokoban/room7-boxes2-symbolic', 'sokoban/room7-boxes2'), ('sokoban/room7-boxes2', 'sokoban/room7-boxes2'),
    ('dm_control_pixels/cheetah-run', 'dm_control/cheetah-run')))
def test_variants_share_scores_and_noise(variant, task):
  assert reference_scores.scored_as(variant) == task
  assert reference_scores.reference_scores(variant) == reference_scores.reference_scores(task)
  assert noise.noise_settings(registry.task_spec(variant)) == noise.noise_settings(registry.task_spec(task))


@pytest.mark.parametrize('name', ('own/arm-pixels', 'own/arm-symbolic', 'own_dm_control_pixels/arm'))
def test_a_name_makes_no_variant(monkeypatch, name):
  """Suites of the user's own may call their tasks what they like."""
  spec = TaskSpec(name, name.split('/')[0], {}, ArraySpec('continuous', (1,)), 7)
  monkeypatch.setitem(registry.SPECS, name, spec)
  assert reference_scores.scored_as(name) == name
  assert noise.noise_settings(spec).max_steps == 7


def test_what_a_task_is_a_variant_of_is_not_recorded():
  """So that datasets and indexes that are older than the field are still good."""
  spec = registry.task_spec('sokoban/room7-boxes2-symbolic')
  recorded = json.loads(json.dumps(spec.to_json()))
  assert spec.variant_of == 'sokoban/room7-boxes2' and 'variant_of' not in recorded
  assert TaskSpec.from_json(recorded) == spec


def test_other_bodies_have_scores_of_their_own_but_the_same_noise():
  for size in ('small', 'large'):
    name = f'dm_control_random_{size}/reacher-easy'
    assert reference_scores.scored_as(name) == name
    assert noise.BY_TASK[name] == noise.BY_TASK['dm_control/reacher-easy']


def test_failed_experts_are_counted_in_the_score(monkeypatch):
  class Seldom(Forward):
    def reset(self):
      self.failing = next(failing)

    def act(self, observation):
      assert not self.failing
      return np.ones(1, np.float32)

  failing = iter((True, False, False, False))
  monkeypatch.setattr(reference_scores, 'make', lambda name: Line())
  monkeypatch.setattr(reference_scores, 'make_expert', lambda environment: Seldom())
  assert reference_scores.measure('test/line', 4).expert == 0.75
  failing = iter((True,))
  monkeypatch.setattr(reference_scores, 'make', lambda name: Line(score='return'))
  with pytest.raises(ExpertFailure):
    reference_scores.measure('test/line', 1)


def test_unknown_and_unmeasured_reference_scores(monkeypatch):
  with pytest.raises(InputError, match='did you mean'):
    reference_scores.reference_scores('dm_control/reacher_easy')
  monkeypatch.setattr(reference_scores, '_stored', lambda domain: {})
  with pytest.raises(InputError, match='has no reference scores; measure them: python -m'):
    reference_scores.reference_scores('dm_control/reacher-easy')


@needs_simulators
def test_measuring_again_writes_the_file(monkeypatch, tmp_path, capsys):
  monkeypatch.setattr(reference_scores, '__file__', str(tmp_path / 'reference_scores.py'))
  name = 'classic_control/MountainCar-v0'
  reference_scores.main(['--tasks', name, '--episodes', '3', '--workers', '1'])
  assert f'[1/1] {name}: random -200, expert -1' in capsys.readouterr().out
  path = tmp_path / 'scores/classic_control.json'
  assert json.loads(path.read_text())[name]['episodes'] == 3
  path.write_text(json.dumps({'classic_control/Acrobot-v1': {}} | json.loads(path.read_text())))
  reference_scores.main(['--tasks', name, '--episodes', '2', '--workers', '1'])
  written = json.loads(path.read_text())  # the other tasks' scores are kept
  assert list(written) == ['classic_control/Acrobot-v1', name] and written[name]['episodes'] == 2
