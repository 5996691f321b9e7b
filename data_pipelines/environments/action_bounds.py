"""Between an actuator's own units and [-1, 1], which is what tokens stand for."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from data_pipelines.environments.specs import Environment, StepResult

Bounds = tuple[ArrayLike, ArrayLike]  # what -1 and 1 stand for, [A] each


def to_unit(action: np.ndarray, low: ArrayLike, high: ArrayLike) -> np.ndarray:
  """Actions [..., A] in [low, high] -> float32 in [-1, 1]; a component that cannot vary becomes 0."""
  low = np.asarray(low, np.float64)
  span = np.asarray(high, np.float64) - low
  scaled = 2 * (np.asarray(action, np.float64) - low) / np.where(span > 0, span, 1) - 1
  return np.where(span > 0, scaled, 0).astype(np.float32)


def from_unit(action: np.ndarray, low: ArrayLike, high: ArrayLike) -> np.ndarray:
  """The inverse: [-1, 1] [..., A] -> float64 in [low, high]."""
  low = np.asarray(low, np.float64)
  return low + (np.asarray(action, np.float64) + 1) / 2 * (np.asarray(high, np.float64) - low)


def rescaled(action: np.ndarray, bounds: Bounds, others: Bounds) -> np.ndarray:
  """An action in [-1, 1] of `bounds` as the same one, or the nearest there is, in [-1, 1] of `others`."""
  return np.clip(to_unit(from_unit(action, *bounds), *others), -1, 1)


class RescaledActions:
  """An environment played by one who learned on data with other bounds: an action means here what it meant there.

  Args:
    environment: its `action_bounds` say what -1 and 1 stand for in it; where it has none, themselves.
    bounds: of the data.
  """

  def __init__(self, environment: Environment, bounds: Bounds):
    self._environment = environment
    self._data = bounds
    ones = np.ones(environment.spec.action.shape)
    self._own = getattr(environment, 'action_bounds', (-ones, ones))

  def __getattr__(self, name: str) -> Any:
    return getattr(self._environment, name)

  def step(self, action: np.ndarray) -> StepResult:
    return self._environment.step(rescaled(action, self._data, self._own))
