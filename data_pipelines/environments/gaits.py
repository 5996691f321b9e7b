"""Gaits: linear feedback on the observation plus one oscillator, an expert for bodies that nobody has a controller for.

The parameters are found by `gait_search`, and lie beside this module in `gaits/<domain>.json` with the seed and the
budget of their search.
"""

import dataclasses
import functools
import importlib.resources
import json
import math
from typing import Any

import numpy as np

from data_pipelines.environments.specs import Observation, TaskSpec
from data_pipelines.errors import InputError

FOLDER = 'gaits'
DECIMALS = 4  # of stored parameters; the search scores what is stored


@dataclasses.dataclass(frozen=True)
class Gait:
  """action = clip(bias + sine sin p + cosine cos p + feedback observation), p = 2 pi frequency step.

  Attributes:
    frequency: of the oscillator, cycles a step. 0 in a pure feedback law.
    bias: float [A], for A components of the action.
    sine: float [A].
    cosine: float [A].
    feedback: float [A, F], on the F numbers of the observation's items in the sorted order of their keys.
  """

  frequency: float
  bias: np.ndarray
  sine: np.ndarray
  cosine: np.ndarray
  feedback: np.ndarray

  def action(self, step: int, features: np.ndarray) -> np.ndarray:
    """float32 [A] in [-1, 1].

    Args:
      step: how many actions came before in the episode.
      features: float [F].
    """
    phase = 2 * math.pi * self.frequency * step
    wanted = self.bias + self.sine * math.sin(phase) + self.cosine * math.cos(phase) + self.feedback @ features
    return np.minimum(np.maximum(wanted, -1), 1).astype(np.float32)

  def rounded(self) -> 'Gait':
    fields = {name: np.round(value, DECIMALS) for name, value in vars(self).items()}
    return Gait(**fields | {'frequency': round(float(self.frequency), 6)})

  def to_json(self) -> dict[str, Any]:
    return {name: np.asarray(value).tolist() for name, value in vars(self.rounded()).items()}

  @classmethod
  def from_json(cls, fields: dict[str, Any]) -> 'Gait':
    arrays = {name: np.array(fields[name], float) for name in ('bias', 'sine', 'cosine', 'feedback')}
    return cls(frequency=fields['frequency'], **arrays)


class GaitExpert:
  """A gait as an `Expert`: it remembers how many steps the episode has had, and nothing else."""

  def __init__(self, gait: Gait):
    self._gait = gait
    self._step = 0

  def reset(self) -> None:
    self._step = 0

  def act(self, observation: Observation) -> np.ndarray:
    action = self._gait.action(self._step, features(observation))
    self._step += 1
    return action


def features(observation: Observation) -> np.ndarray:
  """The observation's arrays as one vector, in the sorted order of their keys."""
  return np.concatenate([observation[key].ravel() for key in sorted(observation)])


def feature_count(spec: TaskSpec) -> int:
  return sum(item.size for item in spec.observation.values())


def stored_gait(name: str) -> Gait:
  """The gait that the search found for a task `domain/task`; raises InputError where there is none."""
  domain, task = name.split('/')
  found = stored_gaits(domain)
  if task not in found:
    raise InputError(f'{name} has no gait; search for one: python -m data_pipelines.environments.gait_search {name}')
  return Gait.from_json(found[task]['gait'])


@functools.cache
def stored_gaits(domain: str) -> dict[str, dict[str, Any]]:
  """Task -> gait, seed, budget and score of its search; empty where none was searched for."""
  file = importlib.resources.files(__package__) / FOLDER / f'{domain}.json'
  return json.loads(file.read_text()) if file.is_file() else {}
