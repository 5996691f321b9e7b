"""Fetch: what is shown of the simulator's own observation, and that looking changes nothing."""

import importlib.util

import numpy as np
import pytest

from data_pipelines.environments import fetch, registry
from data_pipelines.errors import InputError

pytestmark = pytest.mark.skipif(not importlib.util.find_spec('gymnasium_robotics'),
                                reason='the extra `suites` is not installed')
ACTIONS = np.random.default_rng(0).uniform(-1, 1, (12, 4)).astype(np.float32)


def play(environment, seed):
  observations = [environment.reset(seed)]
  return observations + [environment.step(action).observation for action in ACTIONS]


@pytest.fixture(scope='module')
def pictures():
  """The pixels variant, or a skip where nothing can be drawn."""
  environment = registry.make('fetch/pick-and-place-v4-pixels')
  try:
    environment.reset(0)
  except InputError:
    pytest.skip('no OpenGL here')
  yield environment
  environment.close()


@pytest.mark.parametrize('task', fetch.CLASSES)
def test_places_are_the_simulators(task):
  environment = registry.make(f'fetch/{task}')
  for observation in play(environment, 3)[-1:]:
    raw = environment.raw_observation
    gripper = observation['gripper'] + fetch.TABLE
    np.testing.assert_allclose(gripper, raw['observation'][:3], atol=1e-6)
    np.testing.assert_allclose(observation['goal'] + gripper, raw['desired_goal'], atol=1e-6)
    held = gripper if task == 'reach-v4' else observation['object'] + gripper
    np.testing.assert_allclose(held, raw['achieved_goal'], atol=1e-6)
    # Nothing but the object's place, which is also given relative to the gripper, is left out.
    shown = np.concatenate([value for key, value in observation.items() if key not in ('goal', 'gripper')])
    rest = np.delete(raw['observation'], range(6 if task != 'reach-v4' else 3))
    np.testing.assert_allclose(np.sort(shown), np.sort(rest), atol=1e-6)
  environment.close()


def test_looking_changes_nothing(pictures):
  blind = registry.make('fetch/pick-and-place-v4')
  for seen, felt in zip(play(pictures, 5), play(blind, 5), strict=True):
    assert not {'goal', 'object'} & set(seen)
    for key in fetch.GRIPPER_ITEMS:
      np.testing.assert_array_equal(seen[key], felt[key])
  blind.close()


def test_both_cameras_see_goal_and_block(pictures):
  observation = pictures.reset(1)
  goal = pictures.raw_observation['desired_goal'].copy()
  block = pictures._simulator.data.joint('object0:joint')
  for view in fetch.VIEWS:
    before = observation[view].astype(int)
    assert before.shape == (64, 64, 3) and before.std() > 20
    pictures.raw_observation['desired_goal'][:] = goal + [0, 0, 0.15]
    assert np.abs(pictures._observation()[view] - before).max() > 100  # the red ball
    pictures.raw_observation['desired_goal'][:] = goal
    place = block.qpos.copy()
    block.qpos[:2] = fetch.TABLE[:2] + [0.1, 0.1]
    fetch.import_simulator('mujoco').mj_forward(pictures._simulator.model, pictures._simulator.data)
    assert np.abs(pictures._observation()[view] - before).max() > 100  # the black block
    block.qpos[:] = place
    fetch.import_simulator('mujoco').mj_forward(pictures._simulator.model, pictures._simulator.data)
    np.testing.assert_array_equal(pictures._observation()[view], before)


def test_pixels_without_opengl_say_what_to_install(monkeypatch):
  monkeypatch.setattr(fetch.Camera, 'picture', lambda camera: None)
  environment = registry.make('fetch/reach-v4-pixels')
  with pytest.raises(InputError, match='fetch/reach-v4-pixels: MuJoCo cannot draw here; install OpenGL'):
    environment.reset(0)
  environment.close()
