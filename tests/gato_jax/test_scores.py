import dataclasses

import numpy as np
import pytest
from scipy import stats

from data_pipelines.environments.reference_scores import human_scores
from data_pipelines.errors import InputError
from gato_jax.evaluation.scores import (
    TaskScore,
    bootstrap_interval,
    normalised_score,
    summary,
    task_score,
    tasks_at_or_above,
)


def scored(domain, normalised):
  return TaskScore(domain, normalised, 0.0, 100.0, normalised, 10)


def test_published_reference_scores_normalise_as_the_formula_says():
  # JAT's pong and breakout (paper.md 9.2): expert, human and random means.
  assert normalised_score(20.99, -20.7, 20.99) == 100
  assert normalised_score(-20.7, -20.7, 20.99) == 0
  assert normalised_score(14.6, -20.7, 20.99) == pytest.approx(84.67, abs=0.01)
  assert normalised_score(30.5, 1.7, 703) == pytest.approx(4.107, abs=0.001)
  assert normalised_score(1404.3, 1.7, 703) == pytest.approx(200)  # above the expert is not clipped
  assert normalised_score(-30, -20.7, 20.99) < 0


def test_an_expert_no_better_than_random_leaves_no_scale():
  # Meta-World's handle-press-side by return (data.md 2).
  with pytest.raises(InputError, match='1060.* not above random score 2107'):
    normalised_score(1500, 2107, 1060)


def test_a_task_is_scored_by_its_mean_episode():
  task = task_score('dm_control', (800.0, 900.0, 1000.0), 28.0, 858.0)
  normalised = pytest.approx(100 * 872 / 830)
  assert task == TaskScore(
      'dm_control', 900.0, 28.0, 858.0, normalised, 3, (800.0, 900.0, 1000.0), task.interval)
  assert 100 * 772 / 830 <= task.interval[0] < task.normalised < task.interval[1] <= 100 * 972 / 830


def test_the_interval_of_successes_is_that_of_the_binomial_distribution():
  # Resampling n episodes of which k succeeded draws the number of successes from Binomial(n, k / n).
  for successes, episodes in ((35, 50), (6, 10), (499, 500)):
    samples = np.r_[np.full(successes, 100.0), np.zeros(episodes - successes)]
    low, high = stats.binom.ppf((0.025, 0.975), episodes, successes / episodes) * 100 / episodes
    assert bootstrap_interval([samples]) == pytest.approx((low, high), abs=100 / episodes)


def test_a_domains_interval_is_narrower_than_its_tasks_and_follows_the_normal_law():
  rng = np.random.default_rng(1)
  tasks = [rng.normal(mean, 10.0, size=200) for mean in (20, 60, 90, 40)]
  low, high = bootstrap_interval(tasks)
  mean = np.mean([task.mean() for task in tasks])
  error = np.sqrt(sum(task.var() / len(task) for task in tasks)) / len(tasks)
  assert (low, high) == pytest.approx((mean - 1.96 * error, mean + 1.96 * error), abs=0.05)
  assert bootstrap_interval(tasks) == (low, high)  # no dice at large


def test_one_episode_has_no_interval_and_equal_ones_an_empty_one():
  assert bootstrap_interval([np.array([1.0])]) is None
  assert bootstrap_interval([np.array([1.0, 2.0]), np.array([1.0])]) is None
  assert bootstrap_interval([]) is None
  assert bootstrap_interval([np.full(10, 70.0)]) == (70, 70)


def test_atari_is_normalised_by_humans_too_and_nothing_else_is():
  human = human_scores('atari/pong')
  assert (human.random, human.expert) == (-20.7, 14.6)
  task = task_score('atari', (14.6, -20.7), -20.7, 20.99, human)
  assert task.human_normalised == pytest.approx(50) and task.normalised == pytest.approx(100 * 17.65 / 41.69)
  assert human_scores('procgen/coinrun') is human_scores('dm_control/cartpole-swingup') is None
  tasks = {'atari/pong': task, 'b/1': scored('b', 1.0)}
  assert summary(tasks)['human_normalised_by_domain'] == {'atari': pytest.approx(50)}


def test_summary_counts_tasks_and_averages_within_domains():
  tasks = {'a/1': scored('a', 50.0), 'a/2': scored('a', 49.9), 'b/1': scored('b', 120.0), 'b/2': scored('b', -20.0)}
  assert summary(tasks) == {
      'share_at_or_above_50': 0.5, 'mean_by_domain': {'a': pytest.approx(49.95), 'b': 50.0},
      'interval_by_domain': {'a': None, 'b': None}, 'human_normalised_by_domain': {}}
  tasks = {name: dataclasses.replace(task, episode_scores=(task.score - 1, task.score + 1))
           for name, task in tasks.items()}
  low, high = summary(tasks)['interval_by_domain']['a']
  assert 48.95 <= low < 49.95 < high <= 50.95
  assert summary({}) == {'share_at_or_above_50': None, 'mean_by_domain': {}, 'interval_by_domain': {},
                         'human_normalised_by_domain': {}}


def test_figure_5_counts_the_tasks_that_reach_each_threshold():
  tasks = {'a/1': scored('a', 50.0), 'a/2': scored('a', 10.0), 'b/1': scored('b', 120.0), 'b/2': scored('b', -20.0)}
  counts = tasks_at_or_above(tasks, [0, 10, 10.1, 50, 100])
  np.testing.assert_array_equal(counts['a'], [2, 2, 1, 1, 0])
  np.testing.assert_array_equal(counts['b'], [1, 1, 1, 1, 1])
