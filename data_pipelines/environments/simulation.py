"""What every adapter shares: the checks of actions and observations, episode length, success, lazy imports."""

import abc
from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from data_pipelines.environments.specs import ArraySpec, Observation, StepResult, TaskSpec
from data_pipelines.errors import InputError
from data_pipelines.packages import import_package

DTYPES = {'continuous': np.float32, 'discrete': np.int32, 'image': np.uint8}
RANGE_TOLERANCE = 1e-5  # float32 arithmetic may leave [-1, 1] by a rounding error


class Transition(NamedTuple):
  """What a simulator says about one step. The cut-off at `max_steps` is not its business."""

  observation: Observation
  reward: float
  terminated: bool
  success: bool = False


class SimulatedEnvironment(abc.ABC):
  """An `Environment` of which a suite fills in `_reset` and `_step`.

  An episode ends (`terminated`) at its first success where the task is scored by success: nothing that follows can
  change the score. A suite whose demonstrations should show what comes after allows `demonstration_tail` further steps.

  Attributes:
    spec: the task's spec.
    demonstration_tail: how many steps may follow the one that terminated the episode.
    demonstration_seconds: processor time after which an expert that has not finished an episode is given up.
    steps_left: how many more steps this episode can take.
    last_action: the action of the latest step; None right after `reset`. Experts that plan read it.
  """

  demonstration_tail = 0
  demonstration_seconds = 60

  def __init__(self, spec: TaskSpec):
    self.spec = spec
    self.last_action: np.ndarray | None = None
    self._steps = 0
    self._success = False
    self.steps_left = 0

  def reset(self, seed: int) -> Observation:
    """Starts the episode that `seed` alone determines, whatever was played before in this object."""
    observation = self._reset(int(seed))
    self.last_action = None
    self._steps = 0
    self._success = False
    self.steps_left = self.spec.max_steps
    check_observation(self.spec, observation)
    return observation

  def step(self, action: np.ndarray) -> StepResult:
    """Takes one step.

    Args:
      action: float32 [A] in [-1, 1], or an int32 scalar.

    Raises:
      InputError: the action does not fit `spec.action`, the simulator gave an observation that does not fit
        `spec.observation`, or the episode is over.
    """
    action = check_action(self.spec, action)
    if self.steps_left == 0:
      raise InputError(f'{self.spec.name}: the episode is over; call reset(seed) before the next step')
    transition = self._step(action)
    check_observation(self.spec, transition.observation)
    self.last_action = action
    self._steps += 1
    self._success = self._success or transition.success
    terminated = transition.terminated or (self.spec.score == 'success' and self._success)
    self.steps_left = min(self.steps_left - 1, self.demonstration_tail) if terminated else self.steps_left - 1
    truncated = not terminated and self._steps == self.spec.max_steps
    return StepResult(transition.observation, transition.reward, terminated, truncated, self._success)

  def render(self) -> np.ndarray | None:
    """uint8 [height, width, 3], or None where the task cannot be drawn without a display."""
    return None

  @abc.abstractmethod
  def close(self) -> None:
    """Frees the simulator."""

  @abc.abstractmethod
  def _reset(self, seed: int) -> Observation:
    """Starts the episode of `seed`."""

  @abc.abstractmethod
  def _step(self, action: np.ndarray) -> Transition:
    """Takes a checked action."""


def check_action(spec: TaskSpec, action: Any) -> np.ndarray:
  """The action as an array of its spec's dtype; raises InputError where it does not fit."""
  want = spec.action
  array = np.asarray(action)
  if array.shape != want.shape:
    raise InputError(f"{spec.name}: action has shape {array.shape}; its spec says {want.shape}")
  if want.kind == 'discrete':
    if not np.issubdtype(array.dtype, np.integer) or not 0 <= array < want.num_values:
      raise InputError(f'{spec.name}: action is {action!r}; it must be an integer in [0, {want.num_values})')
    return array.astype(np.int32)
  # `not <=` also catches NaN.
  if array.dtype.kind != 'f' or not np.abs(array).max() <= 1 + RANGE_TOLERANCE:
    raise InputError(f'{spec.name}: action is {action!r}; it must be finite floats in [-1, 1]')
  return np.minimum(np.maximum(array, -1), 1).astype(np.float32)  # three times as fast as np.clip


def converted(array: np.ndarray, kind: str) -> np.ndarray:
  """Numbers as an item of this kind keeps them; raises ValueError where a pixel or a discrete value becomes another."""
  with np.errstate(invalid='ignore', over='ignore'):
    result = array.astype(DTYPES[kind])
  if kind != 'continuous' and (result != array).any():
    raise ValueError(f'it has values that are no {result.dtype}')
  return result


def check_observation(spec: TaskSpec, observation: Mapping[str, Any]) -> None:
  """Raises InputError naming the task and the key where the observation does not fit its spec."""
  if observation.keys() != spec.observation.keys():
    raise InputError(f'{spec.name}: observation has keys {sorted(observation)}; its spec says '
                     f'{sorted(spec.observation)}')
  for key, want in spec.observation.items():
    problem = _misfit(want, observation[key])
    if problem:
      raise InputError(f'{spec.name}: observation {key!r} {problem}')


def _misfit(want: ArraySpec, value: Any) -> str:
  """What is wrong with an observation item; empty where nothing is."""
  if want.kind == 'text':
    return '' if isinstance(value, str) else f'is a {type(value).__name__}, not text'
  if not isinstance(value, np.ndarray) or value.dtype != DTYPES[want.kind] or value.shape != want.shape:
    got = f'{value.dtype} {value.shape}' if isinstance(value, np.ndarray) else type(value).__name__
    return f'is {got}; its spec says {np.dtype(DTYPES[want.kind])} {want.shape}'
  if want.kind == 'continuous' and not np.isfinite(value).all():
    return f'is not finite: {value}'
  if want.kind == 'discrete' and not (np.all(value >= 0) and np.all(value < want.num_values)):
    return f'is outside [0, {want.num_values})'
  return ''


def import_simulator(module: str, extra: str = 'envs') -> ModuleType:
  """Imports a simulator's module; raises InputError naming the extra to install where it is missing."""
  return import_package(module, extra, 'the simulators')
