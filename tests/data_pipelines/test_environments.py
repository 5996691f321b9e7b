"""Every task: its spec, its episodes' dependence on the seed alone, its expert; and what is refused."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest

from data_pipelines.environments import (
    babyai,
    classic_control,
    dm_control_controllers,
    metaworld,
    registry,
    simulation,
)
from data_pipelines.environments.collection import collect_episode
from data_pipelines.environments.specs import ArraySpec, TaskSpec
from data_pipelines.errors import InputError
from tests.data_pipelines.environment_cases import play

# Looked for, not imported: an adapter chooses MuJoCo's OpenGL backend before its first import.
INSTALLED = all(importlib.util.find_spec(module) for module in ('gymnasium', 'dm_control', 'metaworld', 'minigrid'))
pytestmark = pytest.mark.skipif(not INSTALLED, reason='the extra `envs` is not installed')

TASKS = registry.task_names()
# Every way that a suite makes and shows its tasks; each is played some steps in several tests.
PLAYED = (
    *registry.task_names('classic_control'),
    'dm_control/cartpole-swingup', 'dm_control/pendulum-swingup', 'dm_control/reacher-easy',
    'dm_control/point_mass-easy',
    'metaworld/push-v3', 'metaworld/reach-v3', 'metaworld/hammer-v3',
    'babyai/OpenRedDoor-v0', 'babyai/GoToLocalS5N2-v0-symbolic', 'babyai/PutNextLocal-v0', 'babyai/BossLevel-v0',
    'sokoban/room7-boxes2', 'sokoban/room8-boxes3-symbolic', 'sokoban/room10-boxes4',
    *(('fetch/reach-v4', 'fetch/push-v4', 'fetch/pick-and-place-v4')
      if importlib.util.find_spec('gymnasium_robotics') else ()),
)
ONE_A_SUITE = ('classic_control/LunarLander-v3', 'dm_control/reacher-easy', 'metaworld/push-v3',
               'babyai/GoToLocalS5N2-v0', 'sokoban/room7-boxes2')


def assert_same_episode(left, right):
  assert left[1] == right[1]
  assert len(left[0]) == len(right[0])
  for a, b in zip(left[0], right[0], strict=True):
    for key in a:
      np.testing.assert_array_equal(a[key], b[key])


@pytest.mark.parametrize('name', TASKS)
def test_spec(name):
  spec = registry.task_spec(name)
  assert spec.name == name and name.split('/')[0] == spec.domain
  assert TaskSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
  assert spec.max_steps > 0 and spec.observation
  assert spec.action.num_values > 1 if spec.action.kind == 'discrete' else len(spec.action.shape) == 1
  for item in spec.observation.values():
    assert item.kind == 'text' or item.size > 0
    assert (item.kind == 'discrete') == (item.num_values > 0)


@pytest.mark.parametrize('name', PLAYED)
def test_observations_fit_the_spec(environments, name):
  environment = environments(name)
  spec = registry.task_spec(name)
  assert environment.spec == spec
  dtypes = {'continuous': np.float32, 'discrete': np.int32, 'image': np.uint8}
  for observation in play(environment, 3, 5)[0]:
    assert sorted(observation) == sorted(spec.observation)
    for key, item in spec.observation.items():
      if item.kind == 'text':
        assert isinstance(observation[key], str) and observation[key]
      else:
        assert observation[key].shape == item.shape and observation[key].dtype == dtypes[item.kind]


@pytest.mark.parametrize('name', PLAYED)
def test_seed_alone_determines_the_episode(environments, name):
  environment = environments(name)
  first = play(environment, 11, 40)
  other = play(environment, 12, 40)
  again = play(environment, 11, 40)
  assert_same_episode(first, again)
  with pytest.raises(AssertionError):
    assert_same_episode(first, other)


@pytest.mark.parametrize('name', ONE_A_SUITE)
def test_seed_determines_the_episode_in_a_fresh_environment(environments, name):
  played = environments(name)
  play(played, 5, 40)
  fresh = registry.make(name)
  np.random.seed(123)  # simulators must not draw from NumPy's global generator
  assert_same_episode(play(played, 6, 40), play(fresh, 6, 40))
  fresh.close()


def test_metaworld_goals_differ_between_seeds_and_stay_within_an_episode(environments):
  environment = environments('metaworld/reach-v3')
  goals = []
  for seed in range(8):
    observations, _ = play(environment, seed, 10)
    absolute = np.array([o['goal'] + o['hand'] for o in observations])
    np.testing.assert_allclose(absolute, absolute[:1].repeat(len(absolute), 0), atol=1e-6)
    goals.append(absolute[0])
  assert np.ptp(goals, axis=0).min() > 0.03  # metres
  assert len(np.unique(np.round(goals, 4), axis=0)) == 8


def test_metaworld_observation_is_the_simulators_own(environments):
  environment = environments('metaworld/push-v3')
  observation = environment.reset(4)
  for step in range(20):
    raw = environment.raw_observation
    np.testing.assert_allclose(observation['hand'], raw[:3], atol=1e-6)
    np.testing.assert_allclose(observation['object'] + observation['hand'], raw[4:7], atol=1e-6)
    np.testing.assert_allclose(observation['goal'] + observation['hand'], raw[36:39], atol=1e-6)
    kept = np.concatenate([observation['gripper'], observation['object_quaternion']])
    np.testing.assert_allclose(kept, raw[[3, 7, 8, 9, 10]], atol=1e-6)
    assert not raw[11:18].any() and not raw[29:36].any()  # the slots of a second object
    observation = environment.step(np.full(4, np.sin(step), np.float32)).observation


# Bars: reference scores that these experts are known to reach (returns, or success rates), less their spread.
EXPERT_BARS = {
    'classic_control/CartPole-v1': 500,
    'classic_control/Acrobot-v1': -95,
    'classic_control/MountainCar-v0': -125,
    'classic_control/MountainCarContinuous-v0': 94,
    'classic_control/Pendulum-v1': -260,
    'classic_control/LunarLander-v3': 240,
    'classic_control/LunarLanderContinuous-v3': 240,
    'dm_control/cartpole-swingup': 850,
    'dm_control/pendulum-swingup': 900,
    'dm_control/reacher-easy': 950,
    'dm_control/point_mass-easy': 880,
}


@pytest.mark.parametrize('name', PLAYED)
def test_expert_reaches_its_bar(environments, name):
  environment = environments(name)
  episodes = [collect_episode(environment, registry.make_expert(environment), seed, noise=False) for seed in range(3)]
  if environment.spec.score == 'success':
    assert all(episode.success for episode in episodes)
  else:
    assert np.mean([episode.episode_return for episode in episodes]) >= EXPERT_BARS[name]


@pytest.mark.parametrize('name', [name for name in PLAYED if name.startswith(('classic_control', 'dm_control'))])
def test_experts_of_states_remember_nothing(environments, name):
  environment = environments(name)
  observations, _ = play(environment, 0, 10)
  expert = registry.make_expert(environment)
  expert.reset()
  forwards = [expert.act(observation) for observation in observations]
  backwards = [expert.act(observation) for observation in reversed(observations)]
  np.testing.assert_array_equal(forwards, backwards[::-1])


def test_reacher_pull_matches_a_numerical_jacobian():
  def finger(joints):
    shoulder, elbow = joints[0], joints[0] + joints[1]
    return 0.12 * np.array([np.cos(shoulder) + np.cos(elbow), np.sin(shoulder) + np.sin(elbow)])

  joints, to_target, velocity = np.array([0.7, -1.9]), np.array([0.03, -0.05]), np.array([0.2, -0.4])
  steps = 1e-6 * np.eye(2)
  jacobian = np.stack([(finger(joints + step) - finger(joints - step)) / 2e-6 for step in steps], axis=1)
  observation = {'position': joints, 'to_target': to_target, 'velocity': velocity}
  np.testing.assert_allclose(dm_control_controllers.reacher_easy(observation),
                             400 * jacobian.T @ to_target - 0.4 * velocity,
                             atol=1e-6)


def test_babyai_picture_and_symbols_show_the_same_level(environments):
  for level in ('OpenRedDoor-v0', 'KeyCorridorS3R2-v0', 'GoToLocalS5N2-v0'):
    picture = environments(f'babyai/{level}').reset(9)
    symbols = environments(f'babyai/{level}-symbolic').reset(9)
    assert sorted(picture) == ['image', 'mission']
    assert picture['mission'] == symbols['mission']
    # A tile that is not seen (type 0) is drawn in one colour.
    tiles = picture['image'].reshape(7, 8, 7, 8, 3)
    for column, row in np.argwhere(symbols['image'][:, :, 0] == 0):
      assert np.ptp(tiles[row, 1:, column, 1:].reshape(-1, 3), axis=0).max() == 0


@pytest.mark.parametrize('level', ('MiniBossLevel-v0', 'KeyCorridorS3R2-v0', 'PutNextLocal-v0'))
def test_babyai_picture_is_minigrids_own(environments, level):
  environment = environments(f'babyai/{level}')
  expert = registry.make_expert(environment)
  for seed in range(2):  # among other things, a thing carried and doors open, closed and locked
    observation, terminated = environment.reset(seed), False
    expert.reset()
    while not terminated:
      np.testing.assert_array_equal(observation['image'], environment.simulator.get_frame(tile_size=8, agent_pov=True))
      result = environment.step(expert.act(observation))
      observation, terminated = result.observation, result.terminated or result.truncated


def test_babyai_limits_are_the_levels_own():
  gymnasium = importlib.import_module('gymnasium')
  importlib.import_module('minigrid')
  assert len(babyai.LEVELS) >= 46
  registered = {name for name in gymnasium.registry if name.startswith('BabyAI-')}
  assert {f'BabyAI-{level}' for level in babyai.LEVELS} <= registered
  for level in ('GoToLocalS5N2-v0', 'GoToObjMazeS4-v0', 'KeyCorridorS4R3-v0', 'PutNextS7N4-v0', 'OpenTwoDoors-v0'):
    simulator = gymnasium.make(f'BabyAI-{level}').unwrapped
    simulator.reset(seed=0)
    assert babyai.LEVELS[level] == simulator.max_steps


def test_babyai_rewards_by_the_tasks_limit(environments):
  environment = environments('babyai/BossLevel-v0')
  episode = collect_episode(environment, registry.make_expert(environment), 3, noise=False)
  assert episode.episode_return == pytest.approx(1 - 0.9 * episode.length / 1152, abs=1e-5)  # minigrid's rule


def test_metaworld_split():
  names = importlib.import_module('metaworld.env_dict').ALL_V3_ENVIRONMENTS
  assert set(metaworld.TRAINED) | set(metaworld.HELD_OUT) == set(names) == set(metaworld.SPECS)
  assert (len(metaworld.TRAINED), len(metaworld.HELD_OUT)) == (45, 5)  # Table 1 trains on 45
  assert 'assembly-v3' in metaworld.HELD_OUT and not set(metaworld.TRAINED) & set(metaworld.HELD_OUT)


def test_metaworld_second_object(environments):
  environment = environments('metaworld/hammer-v3')
  observation = environment.reset(4)
  raw = environment.raw_observation
  np.testing.assert_allclose(observation['second_object'] + observation['hand'], raw[11:14], atol=1e-6)
  np.testing.assert_allclose(observation['second_object_quaternion'], raw[14:18], atol=1e-6)
  assert np.linalg.norm(raw[11:14]) > 0.1


def test_metaworld_touch_is_the_simulators_own(environments):
  environment = environments('metaworld/push-v3')
  simulator = environment._simulator
  geom = simulator._get_id_main_object()
  expert = registry.make_expert(environment)
  observation, said = environment.reset(1), []
  while environment.steps_left:
    own = type(simulator).touching_object(simulator, geom)
    assert metaworld.touching(simulator, geom) == simulator.touching_object(geom) == own
    said.append(own)
    observation = environment.step(expert.act(observation)).observation
  assert True in said and False in said


def test_continuous_actions_reach_the_simulators_bounds(environments):
  environment = environments('classic_control/Pendulum-v1')
  environment.reset(0)
  environment.step(np.array([-0.75], np.float32))
  assert environment._simulator.last_u == pytest.approx(-1.5)  # of a torque of at most 2


def test_success_ends_the_episode_and_stays(environments):
  environment = environments('metaworld/reach-v3')
  expert = registry.make_expert(environment)
  observation = environment.reset(0)
  expert.reset()
  while not (result := environment.step(expert.act(observation))).terminated:
    observation = result.observation
  assert result.success and not result.truncated
  away = -np.sign(result.observation['goal'])
  for _ in range(20):
    result = environment.step(np.append(away, 0).astype(np.float32))
    assert result.success and result.terminated
  assert np.linalg.norm(result.observation['goal']) > 0.08  # metres; success is within 0.05
  with pytest.raises(InputError, match='metaworld/reach-v3: the episode is over'):
    environment.step(np.zeros(4, np.float32))


def test_episode_is_cut_off_at_max_steps(environments):
  environment = environments('classic_control/MountainCar-v0')
  environment.reset(0)
  results = [environment.step(np.int32(1)) for _ in range(200)]
  assert [result.truncated for result in results] == [False] * 199 + [True]
  assert not any(result.terminated for result in results)
  with pytest.raises(InputError, match='the episode is over'):
    environment.step(np.int32(1))


@pytest.mark.parametrize('action', (
    np.zeros(3, np.float32), np.float32(0), np.array([0, 1.01], np.float32), np.array([np.nan, 0], np.float32),
    np.array([0, np.inf], np.float32), np.array([0, 1]), 'left'))
def test_bad_continuous_action_is_refused(environments, action):
  environment = environments('dm_control/reacher-easy')
  environment.reset(0)
  with pytest.raises(InputError, match='dm_control/reacher-easy: action'):
    environment.step(action)


@pytest.mark.parametrize('action', (np.int32(4), np.int32(-1), np.float32(1), np.zeros(1, np.int32)))
def test_bad_discrete_action_is_refused(environments, action):
  environment = environments('classic_control/LunarLander-v3')
  environment.reset(0)
  with pytest.raises(InputError, match='classic_control/LunarLander-v3: action'):
    environment.step(action)


def test_rounding_at_the_action_bound_is_clipped(environments):
  environment = environments('dm_control/reacher-easy')
  environment.reset(0)
  environment.step(np.array([1 + 1e-6, -1 - 1e-6], np.float32))
  np.testing.assert_array_equal(environment.last_action, np.array([1, -1], np.float32))


def test_actions_are_scaled_to_the_simulators_bounds(environments):
  environment = environments('dm_control/point_mass-easy')
  environment._action_centre, environment._action_scale = np.array([0.2, 0.0]), np.array([0.5, 1.0])
  sent = []
  step = environment._simulator.step
  environment._simulator.step = lambda action: sent.append(action) or step(action)
  environment.reset(0)
  environment.step(np.array([-1, 0.5], np.float32))
  del environment._simulator.step
  environment._action_centre, environment._action_scale = np.zeros(2), np.ones(2)
  np.testing.assert_allclose(sent, [[-0.3, 0.5]])


class Broken(simulation.SimulatedEnvironment):
  """Gives back the observation it was built with."""

  def __init__(self, observation):
    items = {'state': ArraySpec('continuous', (2,)), 'level': ArraySpec('discrete', (), 3), 'words': ArraySpec('text')}
    super().__init__(TaskSpec('test/broken', 'test', items, ArraySpec('discrete', (), 2), 5))
    good = {'state': np.zeros(2, np.float32), 'level': np.array(2, np.int32), 'words': 'go'}
    self._given = {**good, **observation}

  def _reset(self, seed):
    return self._given

  def _step(self, action):
    return simulation.Transition(self._given, 0.0, False)

  def close(self):
    pass


@pytest.mark.parametrize(('key', 'value', 'problem'), (
    ('state', np.array([0, np.nan], np.float32), 'not finite'),
    ('state', np.array([0, np.inf], np.float32), 'not finite'),
    ('state', np.zeros(2), 'float64'),
    ('state', np.zeros(3, np.float32), r'\(3,\)'),
    ('state', [0.0, 0.0], 'list'),
    ('level', np.array(3, np.int32), r'outside \[0, 3\)'),
    ('words', None, 'NoneType'),
))
def test_bad_observation_names_task_and_key(key, value, problem):
  with pytest.raises(InputError, match=f"test/broken: observation '{key}' .*{problem}"):
    Broken({key: value}).reset(0)


def test_missing_observation_key_is_refused():
  environment = Broken({})
  environment.reset(0)
  del environment._given['words']
  with pytest.raises(InputError, match='test/broken: observation has keys'):
    environment.step(np.int32(0))


def test_unknown_names_point_to_the_nearest():
  with pytest.raises(InputError, match="did you mean 'dm_control/cartpole-swingup'"):
    registry.make('dm_control/cartpole_swingup')
  with pytest.raises(InputError, match="did you mean 'babyai'"):
    registry.task_names('babyAI')


def test_names_by_domain():
  assert registry.task_names('classic_control') == tuple(f'classic_control/{task}' for task in classic_control.SPECS)
  assert registry.task_names('metaworld') == tuple(f'metaworld/{task}' for task in metaworld.SPECS)
  assert len(TASKS) == len(set(TASKS)) == len(registry.SPECS)


def test_missing_simulator_names_the_extra(monkeypatch):
  def fail(module):
    raise ImportError(f'No module named {module!r}')

  monkeypatch.setattr('importlib.import_module', fail)
  with pytest.raises(InputError, match=r"pip install 'gato_jax\[envs\]'"):
    registry.make('classic_control/CartPole-v1')


def test_specs_are_known_without_simulators():
  code = ('import sys; from data_pipelines.environments import collection, registry, reference_scores; '
          "registry.task_spec('metaworld/reach-v3'); "
          "print({'gymnasium', 'mujoco', 'minigrid', 'dm_control', 'metaworld', 'jax'} & set(sys.modules))")
  shown = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
  assert shown.stdout.strip() == 'set()'


def test_mujoco_imports_and_draws_nothing_without_opengl():
  code = ("from data_pipelines.environments import registry; e = registry.make('metaworld/reach-v3'); e.reset(0); "
          "print(e.render())")
  shown = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True,
                         env={'MUJOCO_GL': 'disabled', 'PYTHONPATH': ':'.join(sys.path)})
  assert shown.stdout.strip() == 'None'


@pytest.mark.parametrize('name', ONE_A_SUITE)
def test_render(environments, name):
  environment = environments(name)
  environment.reset(0)
  picture = environment.render()
  if picture is None:
    assert environment.spec.domain in ('dm_control', 'metaworld')  # which need OpenGL
  else:
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
    assert picture.std() > 5  # not blank
