"""Classic control and Box2D from gymnasium, with heuristic experts.

The experts are functions of the observation alone. They are scored by undiscounted return.
"""

from collections.abc import Callable, Mapping
import os

import numpy as np

from data_pipelines.environments.simulation import SimulatedEnvironment, Transition, import_simulator
from data_pipelines.environments.specs import ArraySpec, Observation, TaskSpec

DOMAIN = 'classic_control'


def _spec(task: str, observation_size: int, actions: int, max_steps: int) -> TaskSpec:
  observation = {'state': ArraySpec('continuous', (observation_size,))}
  return TaskSpec(f'{DOMAIN}/{task}', DOMAIN, observation, ArraySpec('discrete', (), actions), max_steps)


SPECS: Mapping[str, TaskSpec] = {
    'CartPole-v1': _spec('CartPole-v1', 4, 2, 500),
    'Acrobot-v1': _spec('Acrobot-v1', 6, 3, 500),
    'MountainCar-v0': _spec('MountainCar-v0', 2, 3, 200),
    'LunarLander-v3': _spec('LunarLander-v3', 8, 4, 1000),
}


class ClassicControlEnvironment(SimulatedEnvironment):
  """A gymnasium environment with one flat observation vector and a discrete action."""

  def __init__(self, spec: TaskSpec):
    super().__init__(spec)
    os.environ.setdefault('SDL_VIDEODRIVER', 'dummy')  # pygame draws without a display
    gymnasium = import_simulator('gymnasium')
    # The wrappers' checks and time limit are `SimulatedEnvironment`'s.
    self._simulator = gymnasium.make(spec.name.split('/')[1], render_mode='rgb_array').unwrapped

  def _reset(self, seed: int) -> Observation:
    state, _ = self._simulator.reset(seed=seed)
    return {'state': np.asarray(state, np.float32)}

  def _step(self, action: np.ndarray) -> Transition:
    state, reward, terminated, _, _ = self._simulator.step(int(action))
    return Transition({'state': np.asarray(state, np.float32)}, float(reward), bool(terminated))

  def render(self) -> np.ndarray | None:
    return self._simulator.render()

  def close(self) -> None:
    self._simulator.close()


def cart_pole(state: np.ndarray) -> int:
  """Pushes towards where the pole falls, with a pull to the middle of the track."""
  position, velocity, angle, angular_velocity = state
  return int(angle + 0.3 * angular_velocity + 0.05 * position + 0.1 * velocity > 0)


def acrobot(state: np.ndarray) -> int:
  """Pumps energy: torque along the elbow's swing, sooner where the shoulder swings against it."""
  return 2 if state[5] - 0.5 * state[4] > 0 else 0


def mountain_car(state: np.ndarray) -> int:
  """Pumps energy: pushes the way the car moves."""
  return 2 if state[1] >= 0 else 0


def lunar_lander(state: np.ndarray) -> int:
  """Gymnasium's heuristic with more damping of the fall and the spin: it lands always, the original in 6 of 7."""
  x, y, x_velocity, y_velocity, angle, angular_velocity, left_contact, right_contact = state
  landed = left_contact or right_contact
  angle_target = np.clip(0.5 * x + x_velocity, -0.4, 0.4)
  turn = 0.0 if landed else 0.5 * (angle_target - angle) - 1.2 * angular_velocity
  lift = -0.5 * y_velocity if landed else 0.5 * (0.55 * abs(x) - y) - 0.7 * y_velocity
  if lift > abs(turn) and lift > 0.05:
    return 2
  if turn < -0.05:
    return 3
  return 1 if turn > 0.05 else 0


HEURISTICS: Mapping[str, Callable[[np.ndarray], int]] = {
    'CartPole-v1': cart_pole,
    'Acrobot-v1': acrobot,
    'MountainCar-v0': mountain_car,
    'LunarLander-v3': lunar_lander,
}


class HeuristicExpert:
  """A function of the state as an `Expert`."""

  def __init__(self, heuristic: Callable[[np.ndarray], int]):
    self._heuristic = heuristic

  def reset(self) -> None:
    """Nothing is remembered."""

  def act(self, observation: Observation) -> np.ndarray:
    return np.int32(self._heuristic(observation['state']))


def make(spec: TaskSpec) -> ClassicControlEnvironment:
  return ClassicControlEnvironment(spec)


def make_expert(environment: ClassicControlEnvironment) -> HeuristicExpert:
  return HeuristicExpert(HEURISTICS[environment.spec.name.split('/')[1]])
