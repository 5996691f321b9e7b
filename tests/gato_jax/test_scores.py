import numpy as np
import pytest

from data_pipelines.errors import InputError
from gato_jax.evaluation.scores import TaskScore, normalised_score, summary, task_score, tasks_at_or_above


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
  assert task == TaskScore('dm_control', 900.0, 28.0, 858.0, pytest.approx(100 * 872 / 830), 3)


def test_summary_counts_tasks_and_averages_within_domains():
  tasks = {'a/1': scored('a', 50.0), 'a/2': scored('a', 49.9), 'b/1': scored('b', 120.0), 'b/2': scored('b', -20.0)}
  assert summary(tasks) == {'share_at_or_above_50': 0.5, 'mean_by_domain': {'a': pytest.approx(49.95), 'b': 50.0}}
  assert summary({}) == {'share_at_or_above_50': None, 'mean_by_domain': {}}


def test_figure_5_counts_the_tasks_that_reach_each_threshold():
  tasks = {'a/1': scored('a', 50.0), 'a/2': scored('a', 10.0), 'b/1': scored('b', 120.0), 'b/2': scored('b', -20.0)}
  counts = tasks_at_or_above(tasks, [0, 10, 10.1, 50, 100])
  np.testing.assert_array_equal(counts['a'], [2, 2, 1, 1, 0])
  np.testing.assert_array_equal(counts['b'], [1, 1, 1, 1, 1])
