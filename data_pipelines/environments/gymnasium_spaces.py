"""Gymnasium's spaces as specs: what an environment, or a dataset that keeps its spaces, shows and takes.

A nested space is taken apart into leaves, named by their path with dots. Discrete values count from 0.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from data_pipelines.environments.action_bounds import from_unit, to_unit
from data_pipelines.environments.simulation import converted
from data_pipelines.environments.specs import ArraySpec, Observation
from data_pipelines.errors import InputError


def leaves(space: Any, name: str = '') -> Iterator[tuple[str, Any]]:
  """(name, space) of all leaves of a Dict or Tuple; the space itself, named `name`, if it is neither."""
  parts = getattr(space, 'spaces', None)
  if parts is None:
    yield name, space
    return
  for key, part in parts.items() if hasattr(parts, 'items') else enumerate(parts):
    yield from leaves(part, f'{name}.{key}' if name else str(key))


def leaf_values(space: Any, value: Any, name: str = '') -> Iterator[tuple[str, Any]]:
  """(name, value) of all leaves of a value of the space, or of a batch of values that has the space's structure."""
  parts = getattr(space, 'spaces', None)
  if parts is None:
    start = getattr(space, 'start', 0)
    yield name, np.asarray(value) - start if np.any(start) else value
    return
  for key, part in parts.items() if hasattr(parts, 'items') else enumerate(parts):
    yield from leaf_values(part, value[key], f'{name}.{key}' if name else str(key))


def observation_spec(space: Any, name: str) -> ArraySpec:
  """The spec of a leaf; raises InputError where it has no tokens."""
  match type(space).__name__:
    case 'Box' if space.dtype == np.uint8 and len(space.shape) == 3 and space.shape[-1] in (1, 3, 4):
      return ArraySpec('image', (*space.shape[:2], 3))
    case 'Box':
      return ArraySpec('continuous', space.shape)
    case 'Discrete':
      return ArraySpec('discrete', (), int(space.n))
    case 'MultiDiscrete':
      return ArraySpec('discrete', space.shape, int(np.max(space.nvec)))
    case 'MultiBinary':
      return ArraySpec('discrete', space.shape, 2)
    case 'Text':
      return ArraySpec('text')
  raise InputError(f'observation {name!r} is a {type(space).__name__}; wrap the environment so that it is a Box, '
                   'Discrete, MultiDiscrete, MultiBinary or Text')


def leaf_bounds(space: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
  """Least and greatest value of each number of a leaf of an action, float64, flat; Discrete ones count from 0.

  Raises:
    InputError: it is not made of numbers, or it is unbounded.
  """
  match type(space).__name__:
    case 'Box':
      low, high = space.low.ravel(), space.high.ravel()
    case 'Discrete':
      low, high = np.zeros(1), np.full(1, space.n - 1)
    case 'MultiDiscrete':
      low, high = np.zeros(space.nvec.size), space.nvec.ravel() - 1
    case 'MultiBinary':
      low, high = np.zeros(int(np.prod(space.shape))), np.ones(int(np.prod(space.shape)))
    case kind:
      raise InputError(f'action {name!r} is a {kind}; wrap the environment so that it is made of numbers')
  if not np.isfinite([low, high]).all():
    raise InputError(f'action {name!r} has no bounds; wrap the environment so that it has')
  return low.astype(np.float64), high.astype(np.float64)


class ObservationSpace:
  """An observation space as specs, and its values as observations.

  Of four channels of a picture the last is dropped; one channel becomes three.

  Attributes:
    specs: key -> spec; a space that is no Dict or Tuple has the one key `observation`.
  """

  def __init__(self, space: Any):
    """Raises InputError naming a leaf that has no tokens."""
    self._space = space
    self.specs = {name or 'observation': observation_spec(leaf, name or 'observation') for name, leaf in leaves(space)}

  def from_space(self, value: Any) -> Observation:
    """A value of the space as an observation; raises InputError where it is none."""
    try:
      parts = [(name or 'observation', part) for name, part in leaf_values(self._space, value)]
      return {key: _as_spec(part, self.specs[key]) for key, part in parts}
    except (IndexError, KeyError, TypeError, ValueError) as error:
      raise InputError(f'an observation that does not fit its space: {error!r}') from error


class ActionSpace:
  """An action space as a spec: Discrete as it is, all else joined to one vector in [-1, 1].

  Attributes:
    spec: of the action.
    low: what -1 stands for in each component, float64 [A]; empty for a discrete one.
    high: what 1 stands for.
  """

  def __init__(self, space: Any):
    self._space = space
    self.low = self.high = np.zeros(0)
    if type(space).__name__ == 'Discrete':
      self.spec = ArraySpec('discrete', (), int(space.n))
      return
    bounds = [leaf_bounds(part, name) for name, part in leaves(space, 'action')]
    self.low, self.high = (np.concatenate(column) for column in zip(*bounds, strict=True))
    self.spec = ArraySpec('continuous', self.low.shape)

  def to_space(self, action: np.ndarray) -> Any:
    """The action as the environment takes it."""
    if self.spec.kind == 'discrete':
      return int(action) + int(self._space.start)
    numbers = list(from_unit(action, self.low, self.high))
    return _assembled(self._space, numbers)

  def from_space(self, action: Any) -> np.ndarray:
    """The inverse: an action of the environment's as the spec has it."""
    if self.spec.kind == 'discrete':
      return np.int32(action - self._space.start)
    parts = [np.ravel(value) for _, value in leaf_values(self._space, action)]
    return np.clip(to_unit(np.concatenate(parts), self.low, self.high), -1, 1)


def _as_spec(value: Any, spec: ArraySpec) -> Any:
  if spec.kind == 'text':
    return str(value)
  array = np.asarray(value)
  if spec.kind == 'image' and array.shape[-1] != 3:
    array = np.repeat(array, 3, axis=-1) if array.shape[-1] == 1 else array[..., :3]
  return converted(array, spec.kind)


def _assembled(space: Any, numbers: list[float]) -> Any:
  """Takes the numbers of a space from the front of a list."""
  parts = getattr(space, 'spaces', None)
  if parts is None:
    size = int(np.prod(space.shape, dtype=int))
    taken = np.array([numbers.pop(0) for _ in range(size)])
    if np.issubdtype(space.dtype, np.integer):
      taken = np.rint(taken) + np.ravel(getattr(space, 'start', 0))
    taken = taken.reshape(space.shape).astype(space.dtype)
    return taken if space.shape else taken.item()
  if hasattr(parts, 'items'):
    return {key: _assembled(part, numbers) for key, part in parts.items()}
  return tuple(_assembled(part, numbers) for part in parts)
