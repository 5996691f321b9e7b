"""The Control Suite and its variants, and Modular RL: specs of all tasks, and a few played."""

import importlib
import importlib.util
import json

import numpy as np
import pytest

from data_pipelines.datasets.catalogue import DATASETS, Request
from data_pipelines.datasets.sources import open_source
from data_pipelines.environments import (
    dm_control_controllers,
    dm_control_pixels,
    dm_control_random,
    dm_control_random_large,
    dm_control_random_small,
    dm_control_suite,
    modular_rl,
    mujoco_rendering,
    noise,
    registry,
)
from data_pipelines.environments.collection import collect_episode
from data_pipelines.environments.reference_scores import reference_scores
from data_pipelines.environments.specs import TaskSpec
from data_pipelines.errors import InputError
from tests.data_pipelines.environment_cases import play

# Looked for, not imported: an adapter chooses MuJoCo's OpenGL backend before its first import.
INSTALLED = all(importlib.util.find_spec(module) for module in ('dm_control', 'gymnasium', 'mujoco'))
needs_simulators = pytest.mark.skipif(not INSTALLED, reason='the extra `envs` is not installed')
DRAWS = mujoco_rendering.choose_backend() not in ('disabled', '')
needs_opengl = pytest.mark.skipif(not DRAWS, reason='there is no OpenGL here')

VARIANTS = (dm_control_pixels, dm_control_random_small, dm_control_random_large)
SUITES = (dm_control_suite, *VARIANTS, modular_rl)
TASKS = [spec.name for suite in SUITES for spec in suite.SPECS.values()]
PLAYED = ('dm_control/cheetah-run', 'dm_control/swimmer-swimmer6', 'dm_control/point_mass-hard',
          'dm_control_random_small/reacher-easy', 'dm_control_random_large/cheetah-run', 'modular_rl/hopper_3_no_foot')


def test_there_are_as_many_tasks_as_promised():
  assert len(dm_control_suite.SPECS) >= 12 and len(dm_control_pixels.SPECS) >= 8 and len(modular_rl.SPECS) >= 4
  for suite in VARIANTS:
    assert set(suite.SPECS) <= set(dm_control_suite.SPECS)


@pytest.mark.parametrize('suite', SUITES)
def test_specs(suite):
  for task, spec in suite.SPECS.items():
    assert spec.name == f'{suite.DOMAIN}/{task}' and spec.domain == suite.DOMAIN and spec.max_steps == 1000
    assert registry.task_spec(spec.name) == spec == TaskSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert spec.action.kind == 'continuous' and len(spec.action.shape) == 1
    assert noise.noise_settings(spec).max_steps <= spec.max_steps


@pytest.mark.parametrize('suite', (dm_control_suite, *VARIANTS))
def test_swingup_alone_is_held_out(suite):
  assert set(suite.HELD_OUT) == {'cartpole-swingup'}
  assert set(suite.TRAINED) == set(suite.SPECS) - set(suite.HELD_OUT)


@pytest.mark.parametrize('suite', SUITES)
def test_every_suite_is_a_dataset(suite):
  assert DATASETS[suite.DOMAIN].kind == 'control' and DATASETS[suite.DOMAIN].row and DATASETS[suite.DOMAIN].licence
  builder = importlib.import_module(f'data_pipelines.datasets.{suite.DOMAIN}.builder')
  assert builder.Builder.DESCRIPTION


@pytest.mark.parametrize('name', TASKS)
def test_experts_are_far_above_random_play(name):
  scores = reference_scores(name)
  assert scores.episodes >= 5
  assert scores.expert - scores.random >= 100
  domain, task = name.split('/')
  # On other bodies than those they were made for, experts may lose half of their score.
  bar = reference_scores(f'dm_control/{task}').expert / 2 if 'random' in domain else 250
  assert scores.expert >= bar


@needs_simulators
@pytest.mark.parametrize('name', PLAYED)
def test_seed_alone_determines_the_episode(environments, name):
  environment = environments(name)
  first, other, again = (play(environment, seed, 30) for seed in (11, 12, 11))
  fresh = registry.make(name)
  for episode in (again, play(fresh, 11, 30)):
    assert episode[1] == first[1]
    for left, right in zip(first[0], episode[0], strict=True):
      for key in left:
        np.testing.assert_array_equal(left[key], right[key])
  assert any(np.any(first[0][0][key] != other[0][0][key]) for key in first[0][0])
  fresh.close()


@needs_simulators
@pytest.mark.parametrize('name', PLAYED)
def test_expert_repeats_its_reference_score(environments, name):
  environment = environments(name)
  expert = registry.make_expert(environment)
  returns = [collect_episode(environment, expert, 2_000_000 + seed, noise=False).episode_return for seed in range(2)]
  scores = reference_scores(name)
  # Two episodes are no mean: they must be nearer to the expert's score than to random play.
  assert np.mean(returns) > (scores.random + scores.expert) / 2


@needs_simulators
def test_mixed_point_mass_is_pulled_where_the_controller_wants(environments):
  environment = environments('dm_control/point_mass-hard')
  expert = registry.make_expert(environment)
  observation = {'position': np.array([0.01, -0.004], np.float32), 'velocity': np.array([-0.02, 0.01], np.float32)}
  mixes = []
  for seed in range(3):
    environment.reset(seed)
    action = expert.act(observation)
    environment.physics.set_control(action)
    environment.physics.forward()
    pull = environment.physics.data.qfrc_actuator / environment.physics.model.actuator_gear[0, 0]
    np.testing.assert_allclose(pull, dm_control_controllers.point_mass_easy(observation), atol=1e-5)
    mixes.append(action)
  assert np.ptp(mixes, axis=0).min() > 0.01


def test_factors_are_drawn_from_both_ranges_by_seed_and_task():
  ranges = dm_control_random_large.RANGES
  drawn = np.array([list(dm_control_random.draw_factors('a/b', seed, ranges).values()) for seed in range(400)])
  assert drawn.shape[1] == len(dm_control_random.PROPERTIES)
  low = (drawn > 0.6) & (drawn < 0.8)
  high = (drawn > 1.2) & (drawn < 1.4)
  assert np.all(low | high)
  assert np.all(np.abs(high.mean(0) - 0.5) < 0.1)
  assert drawn.min() < 0.61 and drawn[low].max() > 0.79 and drawn[high].min() < 1.21 and drawn.max() > 1.39
  again = dm_control_random.draw_factors('a/b', 7, ranges)
  np.testing.assert_array_equal(list(again.values()), drawn[7])
  assert dm_control_random.draw_factors('a/c', 7, ranges) != again
  assert dm_control_random_small.RANGES == ((0.9, 0.95), (1.05, 1.1))


@needs_simulators
def test_each_property_is_scaled_and_nothing_else(environments):
  plain = environments('dm_control/cheetah-run').physics.model
  environment = environments('dm_control_random_large/cheetah-run')
  environment.reset(5)
  model, factors = environment.physics.model, environment.factors
  np.testing.assert_allclose(model.actuator_gear, plain.actuator_gear * factors['gear'])
  np.testing.assert_allclose(model.jnt_range, plain.jnt_range * factors['range'])
  np.testing.assert_allclose(model.jnt_stiffness, plain.jnt_stiffness * factors['stiffness'])
  np.testing.assert_allclose(model.dof_damping, plain.dof_damping * factors['damping'])
  moving = plain.geom_bodyid > 0
  np.testing.assert_allclose(model.geom_size[moving, 0], plain.geom_size[moving, 0] * factors['size'])  # thickness
  np.testing.assert_array_equal(model.geom_size[~moving], plain.geom_size[~moving])
  np.testing.assert_allclose(model.opt.gravity, plain.opt.gravity)
  np.testing.assert_allclose(model.body_pos, plain.body_pos)


@needs_simulators
def test_density_and_size_give_the_mass_of_a_sphere(environments):
  environment = environments('dm_control_random_small/reacher-easy')
  environment.reset(3)
  model, factors = environment.physics.named.model, environment.factors
  radius = 0.01 * factors['size']  # metres
  np.testing.assert_allclose(model.geom_size['finger', 0], radius)
  np.testing.assert_allclose(model.body_mass['finger'], 1000 * factors['density'] * 4 / 3 * np.pi * radius**3)
  assert model.geom_size['target', 0] == 0.05  # which is scenery


@needs_simulators
def test_factors_of_one_leave_the_suites_body(environments, monkeypatch):
  ones = dict.fromkeys(dm_control_random.PROPERTIES, 1.0)
  monkeypatch.setattr(dm_control_random, 'draw_factors', lambda *arguments: ones)
  scaled = play(environments('dm_control_random_small/reacher-easy'), 4, 40)
  plain = play(environments('dm_control/reacher-easy'), 4, 40)
  np.testing.assert_allclose(scaled[1], plain[1], atol=1e-6)
  for left, right in zip(scaled[0], plain[0], strict=True):
    for key in left:
      np.testing.assert_allclose(left[key], right[key], atol=1e-5)


@needs_simulators
@needs_opengl
def test_pixels_show_the_target_where_the_camera_sees_it(environments):
  environment = environments('dm_control_pixels/reacher-easy')
  for seed in range(3):
    picture = environment.reset(seed)['pixels'].astype(int)
    assert picture.shape == (64, 64, 3)
    red = (picture[..., 0] > 180) & (picture[..., 1] < 140) & (picture[..., 2] < 140)
    row, column = np.argwhere(red).mean(0) + 0.5
    physics = environment.physics
    offset = physics.named.data.geom_xpos['target'] - physics.data.cam_xpos[0]
    right, up, back = physics.data.cam_xmat[0].reshape(3, 3).T @ offset
    focal = 32 / np.tan(np.radians(physics.model.cam_fovy[0]) / 2)  # pixels
    np.testing.assert_allclose([column, row], [32 - focal * right / back, 32 + focal * up / back], atol=1.5)


@needs_simulators
@needs_opengl
def test_pixels_hide_the_state_and_change_nothing_else(environments):
  pixels, state = environments('dm_control_pixels/reacher-easy'), environments('dm_control/reacher-easy')
  seen, rewards = play(pixels, 8, 40)
  _, expected = play(state, 8, 40)
  assert rewards == expected and list(seen[0]) == ['pixels']
  assert np.any(seen[0]['pixels'] != seen[-1]['pixels'])
  np.testing.assert_array_equal(pixels.state['to_target'], state.state['to_target'])
  expert = registry.make_expert(pixels)
  np.testing.assert_array_equal(expert.act(seen[-1]), registry.make_expert(state).act(state.state))


@needs_simulators
@needs_opengl
def test_pictures_come_back_from_their_dataset(environments, tmp_path):
  request = Request('dm_control_pixels', 'point_mass-easy', episodes=1, noise=0.0, seed=3)
  builder = importlib.import_module('data_pipelines.datasets.dm_control_pixels.builder').Builder
  builder(request, str(tmp_path), progress=lambda: None).download_and_prepare(download_dir=tmp_path / 'none')
  source = open_source(request, str(tmp_path), 'train')
  episode = source[0]
  environment = environments(request.task_name)
  again = collect_episode(environment, registry.make_expert(environment), int(source.table.seed[0]), noise=False)
  assert episode.length == 1000 and episode.episode_return == pytest.approx(again.episode_return)
  np.testing.assert_array_equal(episode.observation['pixels'][500:502], again.observation['pixels'][500:502])


@needs_simulators
def test_without_opengl_pixels_say_what_to_install(monkeypatch):
  environment = registry.make('dm_control_pixels/point_mass-easy')
  monkeypatch.setattr(mujoco_rendering, 'choose_backend', lambda: 'disabled')
  with pytest.raises(InputError, match='dm_control_pixels/point_mass-easy: .* apt-get install libegl1'):
    environment.reset(0)
  environment.close()


@needs_simulators
@pytest.mark.parametrize('task', modular_rl.SPECS)
def test_limbs_are_gone_and_the_rest_is_as_it_was(environments, task):
  whole_task = {'walker': 'walker_7_full', 'hopper': 'hopper_4_full', 'cheetah': 'cheetah_7_full'}[task.split('_')[0]]
  whole, body = (environments(f'modular_rl/{name}')._simulator.model for name in (whole_task, task))
  assert body.nbody - 1 == int(task.split('_')[1])  # without the world
  masses = {whole.body(index).name: float(whole.body_mass[index]) for index in range(whole.nbody)}
  for index in range(body.nbody):
    # The cheetah's masses are scaled to one sum, whatever limbs it has.
    if 'cheetah' not in task:
      assert body.body_mass[index] == pytest.approx(masses[body.body(index).name])
  for index in range(body.nu):
    joint = body.joint(body.actuator_trnid[index, 0]).name
    [motor] = [i for i in range(whole.nu) if whole.joint(whole.actuator_trnid[i, 0]).name == joint]
    np.testing.assert_array_equal(body.actuator_gear[index], whole.actuator_gear[motor])
  assert body.nu == modular_rl.SPECS[task].action.size


@needs_simulators
def test_a_hopper_that_falls_ends_its_episode(environments):
  observations, rewards = play(environments('modular_rl/hopper_3_no_foot'), 0, 1000)
  assert len(rewards) < 200
  assert observations[-1]['position'][0] < 0.75 or abs(observations[-1]['position'][1]) > 0.19  # height, pitch
