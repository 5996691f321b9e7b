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
  pictures.reset(1)
  simulator = pictures._simulator
  block = simulator.data.joint('object0:joint')

  def look(goal, place):
    pictures.raw_observation['desired_goal'][:] = fetch.TABLE + goal
    block.qpos[:2] = fetch.TABLE[:2] + place
    fetch.import_simulator('mujoco').mj_forward(simulator.model, simulator.data)
    return pictures._observation()

  corner, other, high, low = (0.12, 0.12), (-0.12, -0.14), (0.14, -0.14, 0.45), (0.14, -0.14, 0)
  seen, goal_moved, block_moved, again = look(high, corner), look(low, corner), look(high, other), look(high, corner)
  for view in fetch.VIEWS:
    before = seen[view].astype(int)
    assert before.shape == (64, 64, 3) and before.std() > 20
    assert np.abs(goal_moved[view] - before).max() > 100  # the red ball
    assert np.abs(block_moved[view] - before).max() > 100  # the black block
    np.testing.assert_array_equal(again[view], before)


def test_pixels_without_opengl_say_what_to_install(monkeypatch):
  monkeypatch.setattr(fetch.Camera, 'picture', lambda camera: None)
  environment = registry.make('fetch/reach-v4-pixels')
  with pytest.raises(InputError, match='fetch/reach-v4-pixels: MuJoCo cannot draw here; install OpenGL'):
    environment.reset(0)
  environment.close()
