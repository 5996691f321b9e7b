"""Classic control and Box2D from gymnasium, with heuristic experts.

The experts are functions of the observation alone. They are scored by undiscounted return.
"""

from collections.abc import Callable, Mapping
import os

import numpy as np

from data_pipelines.environments.simulation import SimulatedEnvironment, Transition, import_simulator
from data_pipelines.environments.specs import ArraySpec, Observation, TaskSpec

DOMAIN = 'classic_control'


def _spec(task: str, observation_size: int, action: ArraySpec, max_steps: int) -> TaskSpec:
  observation = {'state': ArraySpec('continuous', (observation_size,))}
  return TaskSpec(f'{DOMAIN}/{task}', DOMAIN, observation, action, max_steps)


SPECS: Mapping[str, TaskSpec] = {
    'CartPole-v1': _spec('CartPole-v1', 4, ArraySpec('discrete', (), 2), 500),
    'Acrobot-v1': _spec('Acrobot-v1', 6, ArraySpec('discrete', (), 3), 500),
    'MountainCar-v0': _spec('MountainCar-v0', 2, ArraySpec('discrete', (), 3), 200),
    'MountainCarContinuous-v0': _spec('MountainCarContinuous-v0', 2, ArraySpec('continuous', (1,)), 999),
    'Pendulum-v1': _spec('Pendulum-v1', 3, ArraySpec('continuous', (1,)), 200),
    'LunarLander-v3': _spec('LunarLander-v3', 8, ArraySpec('discrete', (), 4), 1000),
    'LunarLanderContinuous-v3': _spec('LunarLanderContinuous-v3', 8, ArraySpec('continuous', (2,)), 1000),
}


class ClassicControlEnvironment(SimulatedEnvironment):
  """A gymnasium environment with one flat observation vector, and an action space symmetric about 0 or discrete.

  Attributes:
    action_bounds: what -1 and 1 stand for in a continuous action; empty for a discrete one.
  """

  def __init__(self, spec: TaskSpec):
    super().__init__(spec)
    os.environ.setdefault('SDL_VIDEODRIVER', 'dummy')  # pygame draws without a display
    gymnasium = import_simulator('gymnasium')
    # The wrappers' checks and time limit are `SimulatedEnvironment`'s.
    self._simulator = gymnasium.make(spec.task, render_mode='rgb_array').unwrapped
    self._discrete = spec.action.kind == 'discrete'
    space = self._simulator.action_space
    self.action_bounds = (np.zeros(0), np.zeros(0)) if self._discrete else (space.low, space.high)

  def _reset(self, seed: int) -> Observation:
    state, _ = self._simulator.reset(seed=seed)
    return {'state': np.asarray(state, np.float32)}

  def _step(self, action: np.ndarray) -> Transition:
    sent = int(action) if self._discrete else action * self.action_bounds[1]
    state, reward, terminated, _, _ = self._simulator.step(sent)
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


def mountain_car_continuous(state: np.ndarray) -> np.ndarray:
  """The same with 0.6 of the engine: as the reward charges the square of the action, slower is cheaper."""
  return np.array([0.6 if state[1] >= 0 else -0.6])


def pendulum(state: np.ndarray) -> np.ndarray:
  """Energy pump, saturating smoothly; proportional and derivative control near the top."""
  cosine, sine, velocity = state
  if cosine > 0.9:
    return -(10 * sine + 3 * velocity) / 2 * np.ones(1)
  energy = velocity**2 / 2 + 15 * (cosine - 1)  # of a rod of 1 m and 1 kg in units of its inertia; 0 at rest on top
  return np.tanh([-5 * energy * velocity])


def lander_thrust(state: np.ndarray) -> tuple[float, float]:
  """How much to turn (positive: anticlockwise) and to lift.

  Gymnasium's heuristic with more damping of the fall and the spin: it lands always, the original in 6 of 7.
  """
  x, y, x_velocity, y_velocity, angle, angular_velocity, left_contact, right_contact = state
  if left_contact or right_contact:
    return 0.0, -0.5 * y_velocity
  angle_target = np.clip(0.5 * x + x_velocity, -0.4, 0.4)
  turn = 0.5 * (angle_target - angle) - 1.2 * angular_velocity
  return turn, 0.5 * (0.55 * abs(x) - y) - 0.7 * y_velocity


def lunar_lander(state: np.ndarray) -> int:
  """Fires the engine that is needed most."""
  turn, lift = lander_thrust(state)
  if lift > abs(turn) and lift > 0.05:
    return 2
  if turn < -0.05:
    return 3
  return 1 if turn > 0.05 else 0


def lunar_lander_continuous(state: np.ndarray) -> np.ndarray:
  """Main engine above 0, side engines beyond -0.5 and 0.5."""
  turn, lift = lander_thrust(state)
  return np.array([20 * lift - 1, -20 * turn])


HEURISTICS: Mapping[str, Callable[[np.ndarray], int | np.ndarray]] = {
    'CartPole-v1': cart_pole,
    'Acrobot-v1': acrobot,
    'MountainCar-v0': mountain_car,
    'MountainCarContinuous-v0': mountain_car_continuous,
    'Pendulum-v1': pendulum,
    'LunarLander-v3': lunar_lander,
    'LunarLanderContinuous-v3': lunar_lander_continuous,
}


class HeuristicExpert:
  """A function of the state as an `Expert`; what it asks for is cut to [-1, 1] where the action is continuous."""

  def __init__(self, heuristic: Callable[[np.ndarray], int | np.ndarray]):
    self._heuristic = heuristic

  def reset(self) -> None:
    """Nothing is remembered."""

  def act(self, observation: Observation) -> np.ndarray:
    action = self._heuristic(observation['state'])
    return np.int32(action) if isinstance(action, int) else np.clip(action, -1, 1).astype(np.float32)


def make(spec: TaskSpec) -> ClassicControlEnvironment:
  return ClassicControlEnvironment(spec)


def make_expert(environment: ClassicControlEnvironment) -> HeuristicExpert:
  return HeuristicExpert(HEURISTICS[environment.spec.task])
