"""Gaits: the law, what is stored, and the search."""

import importlib.util
import json

import numpy as np
import pytest

from data_pipelines.environments import dm_control_suite, gait_search, gaits, modular_rl, registry
from data_pipelines.environments.gaits import Gait, GaitExpert
from data_pipelines.environments.specs import ArraySpec, StepResult, TaskSpec
from data_pipelines.errors import InputError

SPEC = TaskSpec('test/body', 'test', {'b': ArraySpec('continuous', (1,)), 'a': ArraySpec('continuous', (2,))},
                ArraySpec('continuous', (2,)), 30)
GAIT = Gait(0.05, np.array([0.1, 0.2]), np.array([0.3, 0.0]), np.array([0.0, 0.4]), np.array([[1, 0, 0], [0, 2, 3.0]]))
MIRROR = ((1, 0, 2), (1, 0))


def test_action_by_hand():
  expert = GaitExpert(GAIT)
  observation = {'b': np.array([0.01], np.float32), 'a': np.array([-0.5, 0.1], np.float32)}
  expert.reset()
  for step in range(12):
    phase = 2 * np.pi * step / 20
    first = 0.1 + 0.3 * np.sin(phase) - 0.5
    second = 0.2 + 0.4 * np.cos(phase) + 0.2 + 0.03  # keys in their sorted order: a, then b
    action = expert.act(observation)
    np.testing.assert_allclose(action, [first, second], atol=1e-6)
    assert action.dtype == np.float32
  expert.reset()
  np.testing.assert_allclose(expert.act(observation), [-0.4, 0.83], atol=1e-6)


def test_actions_are_cut_to_the_range():
  np.testing.assert_array_equal(GAIT.action(0, np.array([9.0, -9.0, 0.0])), [1, -1])


def test_what_is_stored_is_what_was_found():
  again = Gait.from_json(json.loads(json.dumps(GAIT.to_json())))
  for name, value in vars(GAIT).items():
    np.testing.assert_array_equal(getattr(again, name), value)


@pytest.mark.parametrize('mirror', (None, MIRROR))
def test_encoding_there_and_back(mirror):
  encoding = gait_search.Encoding(SPEC, np.array([0.5, 0.5, 2.0]), mirror)
  assert encoding.size == (13 if mirror is None else 7)
  vector = np.random.default_rng(0).normal(size=encoding.size)
  np.testing.assert_allclose(encoding.encode(encoding.decode(vector)), vector, atol=2e-3)  # parameters are rounded


def test_mirrored_gait_does_the_mirrored_thing_half_a_cycle_later():
  encoding = gait_search.Encoding(SPEC, np.ones(3), MIRROR)
  gait = encoding.decode(np.random.default_rng(1).normal(size=encoding.size) / 4)
  gait = Gait(0.05, gait.bias, gait.sine, gait.cosine, gait.feedback)
  features = np.array([0.1, -0.3, 0.2])
  places, actions = MIRROR
  for step in range(20):
    there = gait.action(step, features)
    np.testing.assert_allclose(gait.action(step + 10, features[list(places)])[list(actions)], there, atol=1e-6)


def test_mirrors_swap_pairs_of_the_same_kind():
  for task, (places, actions) in modular_rl.MIRRORS.items():
    spec = modular_rl.SPECS[task]
    assert len(places) == gaits.feature_count(spec) and len(actions) == spec.action.size
    for swap in (places, actions):
      np.testing.assert_array_equal(np.array(swap)[list(swap)], np.arange(len(swap)))
    ends = np.cumsum([spec.observation[key].size for key in sorted(spec.observation)])
    for place, other in enumerate(places):
      assert np.searchsorted(ends, place, 'right') == np.searchsorted(ends, other, 'right')  # the same item


@pytest.mark.parametrize('suite', (dm_control_suite, modular_rl))
def test_stored_gaits_fit_their_tasks(suite):
  for task, entry in gaits.stored_gaits(suite.DOMAIN).items():
    spec = suite.SPECS[task]
    gait = Gait.from_json(entry['gait'])
    assert gait.feedback.shape == (spec.action.size, gaits.feature_count(spec))
    assert gait.bias.shape == gait.sine.shape == gait.cosine.shape == (spec.action.size,)
    assert 0 <= gait.frequency <= gait_search.MAX_FREQUENCY


def test_a_task_without_a_gait_says_how_to_search():
  with pytest.raises(InputError, match='dm_control/cartpole-balance has no gait; search for one: python -m .*gait_sea'):
    gaits.stored_gait('dm_control/cartpole-balance')


class Drift:
  """Rewards actions near 0.5 and -0.5, which a bias alone achieves; remembers the seeds it was started with."""

  spec = SPEC
  seeds: list[int] = []

  def reset(self, seed):
    self.seeds.append(seed)
    self.steps = 0
    return self._observation()

  def step(self, action):
    self.steps += 1
    return StepResult(self._observation(), 1 - float(np.abs(action - [0.5, -0.5]).mean()), False, self.steps == 30)

  def close(self):
    pass

  def _observation(self):
    return {'a': np.array([np.sin(self.steps), 0.3], np.float32), 'b': np.zeros(1, np.float32)}


@pytest.mark.skipif(not importlib.util.find_spec('cmaes'), reason='the extra `suites` is not installed')
def test_search_finds_and_stores_the_better_gait(monkeypatch, tmp_path):
  monkeypatch.setattr(gait_search, 'make', lambda name: Drift())
  monkeypatch.setattr(gait_search, 'SUITES', {'test': dm_control_suite})
  monkeypatch.setattr(gait_search, '__file__', str(tmp_path / 'gait_search.py'))
  stored = tmp_path / 'gaits/test.json'
  gait_search.main(['test/body', '--generations', '60', '--steps', '10'])
  entry = json.loads(stored.read_text())['body']
  assert entry['score'] > 27  # of 30; at rest it is 15
  assert entry['generations'] == 60
  before = stored.read_text()
  gait_search.main(['test/body', '--generations', '1'])  # worse, and not stored
  assert stored.read_text() == before
  stored.unlink()
  gait_search.main(['test/body', '--generations', '60', '--steps', '10'])
  assert stored.read_text() == before  # what is stored with a gait makes it again
  trials = [seed for seed in Drift.seeds if seed < gait_search.FIRST_SEED]
  assert len(trials) == 3 * gait_search.TRIAL_EPISODES and min(trials) > 2_900_000


def test_every_gait_belongs_to_a_task_that_uses_it():
  for domain in ('dm_control', 'modular_rl'):
    assert {f'{domain}/{task}' for task in gaits.stored_gaits(domain)} <= set(registry.task_names(domain))
