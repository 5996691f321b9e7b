"""Scores as shares of the expert's (paper section 4.1 and figure 5)."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from data_pipelines.errors import InputError


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
  """

  domain: str
  score: float
  random: float
  expert: float
  normalised: float
  episodes: int

  def to_json(self) -> dict[str, Any]:
    return dataclasses.asdict(self)


def normalised_score(score: float, random: float, expert: float) -> float:
  """`100 * (score - random) / (expert - random)`; not clipped: above the expert is above 100.

  Raises:
    InputError: the expert is not better than random, so there is no scale.
  """
  if not expert > random:
    raise InputError(f'expert score {expert} is not above random score {random}: measure the reference scores again')
  return 100 * (score - random) / (expert - random)


def task_score(domain: str, episode_scores: Sequence[float], random: float, expert: float) -> TaskScore:
  """Mean over the episodes, normalised by the task's reference scores."""
  mean = float(np.mean(episode_scores))
  return TaskScore(domain, mean, random, expert, normalised_score(mean, random, expert), len(episode_scores))


def summary(tasks: Mapping[str, TaskScore]) -> dict[str, Any]:
  """Share of tasks at or above half of the expert's score, and the mean over each domain's tasks."""
  if not tasks:
    return {'share_at_or_above_50': None, 'mean_by_domain': {}}
  normalised = [task.normalised for task in tasks.values()]
  return {
      'share_at_or_above_50': float(np.mean(np.asarray(normalised) >= 50)),
      'mean_by_domain': {
          domain: float(np.mean([task.normalised for task in tasks.values() if task.domain == domain]))
          for domain in domains(tasks)
      },
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
