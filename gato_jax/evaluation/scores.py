"""Scores as shares of the expert's, with intervals (paper section 4.1 and figure 5)."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from data_pipelines.environments.reference_scores import ReferenceScores
from data_pipelines.errors import InputError

CONFIDENCE = 0.95
RESAMPLES = 5000
Interval = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class TaskScore:
  """One task's mean score over its episodes, and what it is measured by.

  Attributes:
    domain: the suite.
    score: mean episode score of the agent, in the task's own unit.
    random: mean score of uniformly random actions.
    expert: mean score of the expert that made the demonstrations.
    normalised: 0 is random, 100 the expert.
    episodes: how many were played.
    episode_scores: one an episode, in the order of their seeds.
    interval: of `normalised`, see `bootstrap_interval`.
    human_normalised: where human scores are published: 0 is their random agent, 100 the human.
  """

  domain: str
  score: float
  random: float
  expert: float
  normalised: float
  episodes: int
  episode_scores: tuple[float, ...] = ()
  interval: Interval | None = None
  human_normalised: float | None = None


def normalised_score(score: float, random: float, expert: float) -> float:
  """`100 * (score - random) / (expert - random)`; not clipped: above the expert is above 100.

  Raises:
    InputError: the expert is not better than random, so there is no scale.
  """
  if not expert > random:
    raise InputError(f'expert score {expert} is not above random score {random}: measure the reference scores again')
  return 100 * (score - random) / (expert - random)


def task_score(
    domain: str, episode_scores: Sequence[float], random: float, expert: float, human: ReferenceScores | None = None
) -> TaskScore:
  """Mean over the episodes, normalised by the task's reference scores."""
  mean = float(np.mean(episode_scores))
  interval = bootstrap_interval([_normalised_episodes(episode_scores, random, expert)])
  human_normalised = human and normalised_score(mean, human.random, human.expert)
  return TaskScore(domain, mean, random, expert, normalised_score(mean, random, expert), len(episode_scores),
                   tuple(map(float, episode_scores)), interval, human_normalised)


def _normalised_episodes(episode_scores: Sequence[float], random: float, expert: float) -> np.ndarray:
  return 100 * (np.asarray(episode_scores, np.float64) - random) / (expert - random)


def bootstrap_interval(tasks: Sequence[np.ndarray]) -> Interval | None:
  """Percentile bootstrap of the mean over tasks of the mean over each task's episodes.

  Episodes are drawn anew within each task: what other episodes of the same tasks, played by the same weights, would
  have scored. Nothing is said of another training run.

  Args:
    tasks: the episodes' scores of each task.

  Returns:
    The middle 95% of the resampled means; None where a task has fewer than two episodes. Low equals high where all
    episodes of each task scored the same.
  """
  if not tasks or min(map(len, tasks)) < 2:
    return None
  from scipy import stats  # slow to import

  result = stats.bootstrap(
      tasks, lambda *samples, axis: np.mean([sample.mean(axis) for sample in samples], axis=0),
      n_resamples=RESAMPLES, batch=RESAMPLES // 10, vectorized=True, confidence_level=CONFIDENCE, method='percentile',
      rng=np.random.default_rng(0))
  return tuple(float(end) for end in result.confidence_interval)


def summary(tasks: Mapping[str, TaskScore]) -> dict[str, Any]:
  """Share of tasks at or above half of the expert's score, and the mean over each domain's tasks with its interval.

  `human_normalised_by_domain` has the domains of which a task has published human scores, over those tasks.
  """
  if not tasks:
    return {'share_at_or_above_50': None, 'mean_by_domain': {}, 'interval_by_domain': {},
            'human_normalised_by_domain': {}}
  by_domain = {domain: [task for task in tasks.values() if task.domain == domain] for domain in domains(tasks)}
  human = {domain: [task.human_normalised for task in members if task.human_normalised is not None]
           for domain, members in by_domain.items()}
  return {
      'share_at_or_above_50': float(np.mean([task.normalised >= 50 for task in tasks.values()])),
      'mean_by_domain': {
          domain: float(np.mean([task.normalised for task in members])) for domain, members in by_domain.items()},
      'interval_by_domain': {
          domain: bootstrap_interval(
              [_normalised_episodes(task.episode_scores, task.random, task.expert) for task in members])
          for domain, members in by_domain.items()},
      'human_normalised_by_domain': {domain: float(np.mean(scores)) for domain, scores in human.items() if scores},
  }


def domains(tasks: Mapping[str, TaskScore]) -> list[str]:
  """The domains in the order in which the tasks name them."""
  return list(dict.fromkeys(task.domain for task in tasks.values()))


def tasks_at_or_above(tasks: Mapping[str, TaskScore], thresholds: Sequence[float]) -> dict[str, np.ndarray]:
  """Figure 5: for each domain, how many of its tasks reach each share of the expert's score; int64 [thresholds]."""
  thresholds = np.asarray(thresholds, np.float64)
  counts = {}
  for domain in domains(tasks):
    normalised = np.asarray([task.normalised for task in tasks.values() if task.domain == domain])
    counts[domain] = np.sum(normalised[:, None] >= thresholds[None], axis=0)
  return counts
