"""Atari: what is shown, how time passes, what the scripts reach, and what is said of games without one."""

import importlib.util
import types

import numpy as np
import pytest

from data_pipelines.datasets.atari.builder import Builder
from data_pipelines.datasets.catalogue import Request
from data_pipelines.datasets.prepare import prepare
from data_pipelines.datasets.sources import open_source
from data_pipelines.environments import atari, atari_experts, atari_extended, registry
from data_pipelines.environments.collection import collect_episode
from data_pipelines.environments.reference_scores import published_scores, reference_scores
from data_pipelines.errors import InputError

needs_console = pytest.mark.skipif(importlib.util.find_spec('ale_py') is None,
                                   reason='the extra `suites` is not installed')


def play(environment, seed, actions):
  """Observations and rewards; a game that ends early ends it."""
  observations, rewards = [environment.reset(seed)['image']], []
  for action in actions:
    result = environment.step(np.int32(action))
    observations.append(result.observation['image'])
    rewards.append(result.reward)
    if result.terminated:
      break
  return np.stack(observations), rewards


def band_weights(size, whole):
  """[size, whole]: the mean over the pixels with centres in each of `size` equal bands, upper edges included."""
  band = np.ceil((np.arange(whole) + 0.5) * size / whole).astype(int) - 1
  weights = (band == np.arange(size)[:, None]).astype(float)
  return weights / weights.sum(axis=1, keepdims=True)


@needs_console
def test_picture_is_the_screen_averaged_over_bands():
  environment = registry.make('atari/breakout')
  images, _ = play(environment, 3, [1] * 20)
  screen = environment.render().astype(float)
  assert screen.shape == (210, 160, 3) and images.shape == (21, 80, 64, 3)
  want = np.einsum('hy,wx,yxc->hwc', band_weights(80, 210), band_weights(64, 160), screen)
  np.testing.assert_allclose(images[-1], want, atol=1.01)  # rounded twice


@needs_console
def test_an_action_holds_for_four_frames_and_a_game_starts_with_few_idle_ones():
  environment = registry.make('atari/pong')
  starts = []
  for seed in range(8):
    environment.reset(seed)
    starts.append(environment._simulator.getEpisodeFrameNumber())
    environment.step(np.int32(0))
    assert environment._simulator.getEpisodeFrameNumber() == starts[-1] + 4
  assert len(set(starts)) > 3 and np.ptp(starts) <= 28 and not np.ptp(np.array(starts) % 4)
  assert environment._simulator.getFloat('repeat_action_probability') == 0.25


@needs_console
def test_seed_alone_determines_the_episode():
  actions = np.random.default_rng(0).integers(18, size=60)
  environment = registry.make('atari/boxing')
  first, again, other = (play(environment, seed, actions) for seed in (11, 11, 12))
  fresh = play(registry.make('atari/boxing'), 11, actions)
  np.testing.assert_array_equal(first[0], again[0])
  np.testing.assert_array_equal(first[0], fresh[0])
  assert np.any(first[0] != other[0])


@needs_console
def test_buttons_repeat_at_random():
  """The same actions on the same game end differently where only the console's own draws differ."""
  environment = registry.make('atari/boxing')
  idle = [np.random.default_rng(seed).integers(atari.MAX_IDLE_STEPS + 1) for seed in range(40)]
  first, second = (seed for seed in range(40) if idle[seed] == idle[0] and seed in (0, idle.index(idle[0], 1)))
  actions = [3, 4] * 30
  assert np.any(play(environment, first, actions)[0] != play(environment, second, actions)[0])


# Steps, and the least return then, below what the scripts reach on this seed.
EARLY_BARS = {
    'atari/breakout': (400, 8), 'atari/freeway': (500, 3), 'atari/skiing': (600, -5000),
    'atari/fishing_derby': (600, -20),
    'atari_extended/breakout-mode24-difficulty0': (400, 5),
}


@needs_console
@pytest.mark.parametrize('name', EARLY_BARS)
def test_script_scores_early(name):
  environment = registry.make(name)
  expert = registry.make_expert(environment)
  observation = environment.reset(0)
  expert.reset()
  steps, bar = EARLY_BARS[name]
  total = 0
  for _ in range(steps):
    result = environment.step(expert.act(observation))
    total += result.reward
    observation = result.observation
    if result.terminated:
      break
  assert total >= bar


@needs_console
def test_noise_is_executed_and_the_scripts_action_kept():
  environment = registry.make('atari/skiing')
  expert = registry.make_expert(environment)
  episodes = [collect_episode(environment, expert, seed=7, noise=True) for _ in range(2)]
  np.testing.assert_array_equal(episodes[0].action, episodes[1].action)
  assert 0.02 < np.mean(episodes[0].action != episodes[0].expert_action) < 0.4
  assert set(episodes[0].expert_action) <= {0, 3, 4}


@needs_console
def test_extended_games_are_other_games():
  actions = [1, 3] * 100
  usual, _ = play(registry.make('atari/breakout'), 0, actions)
  for task in ('breakout-mode24-difficulty0', 'breakout-mode4-difficulty0', 'breakout-mode0-difficulty1'):
    other, _ = play(registry.make(f'atari_extended/{task}'), 0, actions)
    length = min(len(usual), len(other))
    assert np.any(usual[:length] != other[:length])


def test_extended_tasks():
  assert len(atari_extended.SPECS) >= 6
  assert all(registry.has_expert(name) for name in registry.task_names('atari_extended'))
  for game, mode, difficulty in atari_extended.VARIANTS:
    assert game in atari_experts.EXPERTS and (mode, difficulty) != (0, 0)


def test_boxing_is_held_out():
  trained = registry.trained_tasks('atari') + registry.trained_tasks('atari_extended')
  assert len(registry.trained_tasks('atari')) >= 6 and len(registry.trained_tasks('atari_extended')) >= 6
  assert not any('boxing' in task for task in trained) and 'alien' not in trained
  assert registry.has_expert('atari/boxing')


def bounce(start, velocity, steps, low, high):
  position = start
  for _ in range(steps):
    position += velocity
    if not low <= position <= high:
      velocity = -velocity
      position = 2 * (low if position < low else high) - position
  return position


@pytest.mark.parametrize(('start', 'velocity', 'steps'), ((60, 3, 100), (190, -7, 33), (57, -2, 1), (120, 0, 5)))
def test_a_reflected_ball_is_where_a_bouncing_one_is(start, velocity, steps):
  assert atari_experts.reflect(start + velocity * steps, 57, 199) == bounce(start, velocity, steps, 57, 199)


def test_moves_go_the_way_that_the_joystick_does():
  names = ('NOOP', 'FIRE', 'UP', 'RIGHT', 'LEFT', 'DOWN', 'UPRIGHT', 'UPLEFT', 'DOWNRIGHT', 'DOWNLEFT')
  for right, down, want in ((5, 0, 'RIGHT'), (-5, 2, 'LEFT'), (-5, 4, 'DOWNLEFT'), (4, -9, 'UPRIGHT'), (3, -3, 'NOOP'),
                            (0, 8, 'DOWN')):
    assert names[atari_experts.towards(right, down, 3)] == want


def test_all_57_games_have_published_scores():
  assert len(atari.GAMES) == 57
  published = published_scores()
  assert {name for name in published if name.startswith('atari/')} == set(registry.task_names('atari'))
  # As the JAT project gives them.
  assert published['atari/pong'][:2] == (-20.7, 14.6) and published['atari/breakout'][:2] == (1.7, 30.5)
  assert all(scores.random < scores.expert for scores in published.values())


def test_scores_of_games_without_an_expert_are_published_ones():
  scores = reference_scores('atari/alien')
  assert scores[:3] == (227.8, 7127.7, 0) and 'Wang et al. 2016' in scores.source
  assert reference_scores('atari/breakout').source == '' and reference_scores('atari/breakout').episodes >= 5


def test_at_least_six_experts_reach_half_of_the_human_score():
  reached = {}
  for game in atari_experts.EXPERTS:
    human = published_scores()[f'atari/{game}']
    reached[game] = (reference_scores(f'atari/{game}').expert - human.random) / (human.expert - human.random)
  assert sum(share >= 0.5 for share in reached.values()) >= 6


@pytest.mark.parametrize('name', [name for domain in ('atari', 'atari_extended', 'procgen')
                                  for name in registry.task_names(domain) if registry.has_expert(name)])
def test_experts_are_far_better_than_random(name):
  scores = reference_scores(name)
  assert scores.expert - scores.random > 0.2 * abs(scores.random) + 3


def entry(*tasks, episodes=1):
  return types.SimpleNamespace(weight=1, dataset='', tasks=tasks, episodes=episodes, noise=0.0, path='')


def data_config(directory, **mixture):
  vocabulary = types.SimpleNamespace(text_size=300, bins=64, discrete_size=64, discrete_overlaps_text=True, mu=100.0,
                                     m=256.0)
  return types.SimpleNamespace(dir=str(directory), seed=0, mixture=mixture, vocabulary=vocabulary, mask_question=True,
                               skip_share=0.0)


@pytest.mark.parametrize(('dataset', 'task'), (('atari', 'alien'), ('procgen', 'coinrun')))
def test_a_task_without_an_expert_is_refused_before_anything_is_built(tmp_path, dataset, task):
  with pytest.raises(InputError, match=f'data.mixture.{dataset}.tasks: {dataset}/{task} has no expert'):
    prepare(data_config(tmp_path, **{dataset: entry(task)}), workers=1)
  assert not list(tmp_path.iterdir())


@needs_console
def test_a_game_without_a_script_can_be_played_only():
  environment = registry.make('atari/alien')
  with pytest.raises(InputError, match='atari/alien has no expert: it can be evaluated.*breakout'):
    registry.make_expert(environment)


@needs_console
def test_dataset_of_a_game(tmp_path):
  request = Request('atari', 'skiing', episodes=1)
  progress = []
  Builder(request, str(tmp_path), lambda: progress.append(1)).download_and_prepare(download_dir=str(tmp_path))
  source = open_source(request, str(tmp_path), 'train')
  episode = source[0]
  assert len(source) == 1 == len(progress)
  assert episode.length > 400 and -6000 < episode.episode_return < -3000
  images, rewards = play(registry.make('atari/skiing'), source.table.seed[0], episode.action[:30])
  np.testing.assert_array_equal(episode.observation['image'][:31], images)
  np.testing.assert_array_equal(episode.reward[:30], rewards)


def test_missing_console_names_the_extra(monkeypatch):
  def fail(module):
    raise ImportError(f'No module named {module!r}')

  monkeypatch.setattr('importlib.import_module', fail)
  with pytest.raises(InputError, match=r"cannot import ale_py .*pip install 'gato_jax\[suites\]'"):
    registry.make('atari/pong')
  with pytest.raises(InputError, match='cannot import procgen .*pip install --no-deps procgen2'):
    registry.make('procgen/maze')
