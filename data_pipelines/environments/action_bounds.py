"""Between an actuator's own units and [-1, 1], which is what tokens stand for."""

import numpy as np


def to_unit(action: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
  """Actions [..., A] in [low, high] -> float32 in [-1, 1]; a component that cannot vary becomes 0."""
  span = np.asarray(high, np.float64) - low
  scaled = 2 * (np.asarray(action, np.float64) - low) / np.where(span > 0, span, 1) - 1
  return np.where(span > 0, scaled, 0).astype(np.float32)


def from_unit(action: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
  """The inverse: [-1, 1] [..., A] -> float64 in [low, high]."""
  low = np.asarray(low, np.float64)
  return low + (np.asarray(action, np.float64) + 1) / 2 * (np.asarray(high, np.float64) - low)
