"""Suites of the user's own, and gymnasium environments in general."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from data_pipelines.datasets import listing
from data_pipelines.datasets.catalogue import DATASETS, requests
from data_pipelines.datasets.contact_sheet import draw_contact_sheet
from data_pipelines.datasets.prepare import open_sources, prepare
from data_pipelines.environments import registry
from data_pipelines.environments.action_bounds import RescaledActions, from_unit, to_unit
from data_pipelines.environments.gymnasium_environment import GymnasiumEnvironment, gymnasium_spec
from data_pipelines.environments.gymnasium_spaces import ActionSpace
from data_pipelines.environments.reference_scores import reference_scores
from data_pipelines.environments.specs import ArraySpec
from data_pipelines.errors import InputError
from tests.data_pipelines.test_datasets_prepare import data_config, entry

EXAMPLE = str(pathlib.Path(__file__).parents[2] / 'experiments' / 'examples' / 'own_environment.py')
gymnasium = pytest.importorskip('gymnasium')
spaces = gymnasium.spaces


@pytest.fixture
def own():
  """The example, registered; forgotten afterwards."""
  registry.register((EXAMPLE,))
  yield
  registry.SUITES.pop('own')
  for name in [name for name in registry.SPECS if name.startswith('own/')]:
    registry.SPECS.pop(name)


def own_config(directory):
  config = data_config(directory, own=entry(tasks=('pendulum',), episodes=4, noise=0.5))
  config.environments = (EXAMPLE,)
  return config


def test_the_example_is_built_by_workers_and_read(own, tmp_path):
  config = own_config(tmp_path)
  prepare(config, workers=2)
  source, = open_sources(config, 'train')
  assert len(source) == 4 and source.name == 'own/pendulum'
  assert source.task.action == ArraySpec('continuous', (1,))
  clean = source[int(source.demonstrations()[0])]
  np.testing.assert_array_equal(clean.action, clean.expert_action)
  assert not np.array_equal(source[1].action, source[1].expert_action)
  # The record, played again in gymnasium's own units, gives gymnasium's own rewards.
  simulator = gymnasium.make('Pendulum-v1')
  observation, _ = simulator.reset(seed=int(source.table.seed[0]))
  for step in range(20):
    np.testing.assert_allclose(source[0].observation['observation'][step], observation, atol=1e-5)
    observation, reward, *_ = simulator.step(2 * source[0].action[step])
    assert source[0].reward[step] == pytest.approx(reward, abs=1e-5)


def test_the_example_is_good(own):
  scores = reference_scores('own/pendulum')
  assert scores.expert > -200 > scores.random  # a return of about -150 counts as solved
  environment = registry.make('own/pendulum')
  expert = registry.make_expert(environment)
  observation, result = environment.reset(2_000_000), None
  total = 0.0
  while result is None or not (result.terminated or result.truncated):
    result = environment.step(expert.act(observation))
    observation, total = result.observation, total + result.reward
  assert total > -450 and result.truncated  # gymnasium's own time limit is no end of the task
  assert environment.render().shape[-1] == 3


def test_importing_the_example_loads_no_jax():
  code = (f'import sys; from data_pipelines.environments import registry; registry.register([{EXAMPLE!r}]); '
          'sys.exit("jax" in sys.modules)')
  assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0


def test_another_policy_gives_other_data_elsewhere(tmp_path):
  """Each time in a process of its own, as a module is loaded once."""
  file = tmp_path / 'suite.py'
  code = f'''
import types
from data_pipelines.datasets import listing
from data_pipelines.datasets.catalogue import DATASETS, requests
from data_pipelines.datasets.contact_sheet import draw_contact_sheet
entry = types.SimpleNamespace(weight=1, dataset="", tasks=("pendulum",), episodes=4, noise=0.0, path="")
config = types.SimpleNamespace(seed=0, environments=({str(file)!r},), mixture=dict(own=entry))
print(requests(config)[0].directory("data"))
'''
  found = []
  for torque in ('2.0', '1.9', '1.9'):
    file.write_text(pathlib.Path(EXAMPLE).read_text().replace('else -2.0', f'else -{torque}'))
    found.append(subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout)
  assert found[0] != found[1] == found[2]


def test_a_suite_is_listed_and_shown(own, tmp_path):
  lines = list(listing.description('own', str(tmp_path)))
  assert lines[1].startswith('own/pendulum: observation continuous[3] -> continuous[1]; at most 200 steps')
  assert [row[0] for row in listing.datasets_table(str(tmp_path))[1:]] == [*DATASETS, 'own']
  assert draw_contact_sheet('own', str(tmp_path), str(tmp_path / 'sheet.png')) == 0


def test_an_unknown_suite_is_no_dataset(tmp_path):
  config = own_config(tmp_path)
  config.environments = ()
  with pytest.raises(InputError, match="data.mixture.own: unknown dataset 'own'"):
    requests(config)


@pytest.mark.parametrize(('content', 'message'), [
    (None, 'cannot import .*; name a module or the path of a .py file'),
    ('DOMAIN = "own_two"', 'has no SPECS, make, make_expert'),
    ('DOMAIN, SPECS, make, make_expert = "babyai", {}, None, None', "the domain 'babyai' of .* is there already"),
    ('import a_package_that_is_not_there', 'cannot import'),
])
def test_bad_modules(tmp_path, content, message):
  file = tmp_path / 'suite.py'
  if content is not None:
    file.write_text(content)
  with pytest.raises(InputError, match=message):
    registry.register([str(file)])
  with pytest.raises(InputError, match=message):  # nothing of the first try is left
    registry.register([str(file)])


class Everything(gymnasium.Env):
  """All kinds of spaces; it shows what it was made to do."""

  render_mode = None
  observation_space = spaces.Dict({
      'camera': spaces.Box(0, 255, (4, 6, 4), np.uint8), 'mode': spaces.Discrete(3, start=1),
      'nested': spaces.Tuple([spaces.Box(-1, 1, (2,), np.float64), spaces.MultiBinary(3)]), 'word': spaces.Text(9)})
  action_space = spaces.Dict({
      'arm': spaces.Box(np.array([-2, 0], np.float32), np.array([2, 10], np.float32)), 'grip': spaces.Discrete(3),
      'lamps': spaces.MultiDiscrete([2, 4])})

  def reset(self, *, seed=None, options=None):
    return self._show(), {}

  def step(self, action):
    self.done = action
    return self._show(), 1.0, False, False, {'is_success': action['grip'] == 2}

  def _show(self):
    camera = np.full((4, 6, 4), 9, np.uint8)
    return {'camera': camera, 'mode': 3, 'nested': (np.zeros(2), np.array([1, 0, 1], np.int8)), 'word': 'hello'}


def test_spaces_of_all_kinds():
  spec = gymnasium_spec('test/everything', Everything(), 5, 'success')
  assert spec.observation == {
      'camera': ArraySpec('image', (4, 6, 3)), 'mode': ArraySpec('discrete', (), 3),
      'nested.0': ArraySpec('continuous', (2,)), 'nested.1': ArraySpec('discrete', (3,), 2), 'word': ArraySpec('text')}
  assert spec.action == ArraySpec('continuous', (5,))
  environment = GymnasiumEnvironment(spec, Everything)
  observation = environment.reset(0)
  assert observation['mode'] == 2 and observation['word'] == 'hello' and observation['camera'].shape == (4, 6, 3)
  result = environment.step(np.array([0.5, -1, 0, 1, 0.9], np.float32))
  done = environment.simulator.done
  np.testing.assert_allclose(done['arm'], [1, 0], atol=1e-6)
  assert done['grip'] == 1 and done['lamps'].tolist() == [1, 3]
  assert not result.success
  assert environment.step(np.ones(5, np.float32)).success
  np.testing.assert_allclose(environment.action_space.from_space(done), [0.5, -1, 0, 1, 1], atol=1e-6)


def test_spaces_that_have_no_tokens():
  class Graph(Everything):
    observation_space = spaces.Sequence(spaces.Discrete(3))

  with pytest.raises(InputError, match="observation 'observation' is a Sequence; wrap the environment"):
    gymnasium_spec('test/graph', Graph(), 5)
  with pytest.raises(InputError, match="action 'action' has no bounds"):
    ActionSpace(spaces.Box(-np.inf, np.inf, (2,)))


def test_bounds_there_and_back():
  low, high = np.array([-3.0, 0.0, 7.0]), np.array([5.0, 0.5, 7.0])
  action = np.array([[-3, 0.5, 7], [1, 0.25, 7]])
  unit = to_unit(action, low, high)
  np.testing.assert_array_equal(unit, [[-1, 1, 0], [0, 0, 0]])
  np.testing.assert_allclose(from_unit(unit, low, high), action)


def test_an_action_means_what_it_meant_in_the_data(own):
  """Data in which the torque went from -1 to 2; the pendulum's own goes from -2 to 2."""
  environment = RescaledActions(registry.make('own/pendulum'), (np.array([-1.0]), np.array([2.0])))
  plain = registry.make('own/pendulum')
  environment.reset(3)
  plain.reset(3)
  ours, theirs = environment.step(np.array([-1.0], np.float32)), plain.step(np.array([-0.5], np.float32))
  np.testing.assert_allclose(ours.observation['observation'], theirs.observation['observation'], atol=1e-6)
  assert environment.spec is plain.spec or environment.spec == plain.spec


@pytest.mark.parametrize(('name', 'high'), (
    ('classic_control/Pendulum-v1', 2), ('classic_control/MountainCarContinuous-v0', 1), ('dm_control/fish-upright', 1),
    ('dm_control_pixels/reacher-easy', 1)))
def test_actions_in_the_simulators_own_units(name, high):
  environment = registry.make(name)
  size = environment.spec.action.shape
  for bound, sign in zip(environment.action_bounds, (-1, 1), strict=True):
    np.testing.assert_array_equal(bound, np.full(size, sign * high))
  environment.close()


def test_data_in_the_suites_own_bounds_are_played_as_they_are():
  """Torques of the pendulum recorded in [-2, 2], as gymnasium takes them."""
  bounds = np.array([-2.0]), np.array([2.0])
  environment = RescaledActions(registry.make('classic_control/Pendulum-v1'), bounds)
  simulator = gymnasium.make('Pendulum-v1')
  environment.reset(3)
  simulator.reset(seed=3)
  for torque in (-1.8, -0.4, 0.0, 0.7, 1.9):
    ours = environment.step(to_unit(np.array([torque]), *bounds)).observation['state']
    np.testing.assert_allclose(ours, simulator.step(np.array([torque], np.float32))[0], atol=1e-5)
