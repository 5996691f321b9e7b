"""Controllers for tasks of the DeepMind Control Suite: functions of the observation.

They are memoryless, so that they can be imitated from single timesteps.
"""

from collections.abc import Callable, Mapping

import numpy as np

from data_pipelines.environments.specs import Observation


def cartpole_swingup(observation: Observation) -> np.ndarray:
  """Energy pump that also draws the cart to the middle; a linear quadratic regulator near the top."""
  position, cosine, sine = observation['position']
  velocity, angular_velocity = observation['velocity']
  if cosine > 0.64 and abs(angular_velocity) < 6.65:
    # Gains of the regulator for the linearised cart and pole: state cost (1, 1, 0.1, 0.1), control cost 1.
    state = np.array([position, np.arctan2(sine, cosine), velocity, angular_velocity])
    return np.array([0.932, 6.390, 1.047, 1.682]) @ state * np.ones(1)
  # Of a uniform pole with round ends, in units of its weight times half its length; 0 when at rest on top.
  energy = angular_velocity**2 / 28.8 + cosine - 1
  return np.tanh([1.28 * (energy - 0.09) * angular_velocity * cosine - 0.74 * position - 0.75 * velocity])


def pendulum_swingup(observation: Observation) -> np.ndarray:
  """Energy pump, saturating smoothly; proportional and derivative control near the top."""
  cosine, sine = observation['orientation']
  velocity = observation['velocity'][0]
  if cosine > 0.94:
    return np.array([-15 * sine - 3 * velocity])
  inertia, weight_times_length = 0.251, 4.905
  energy = inertia * velocity**2 / 2 + weight_times_length * (cosine - 1)
  return np.tanh([5 * (0.2 - energy) * velocity])


def reacher_easy(observation: Observation) -> np.ndarray:
  """Pulls the finger to the target by the transposed Jacobian, damping the joints.

  Unlike inverse kinematics, smooth where the elbow straightens and where the shoulder passes half a turn: a cloned
  policy fails at such seams.
  """
  shoulder, wrist = observation['position']
  x, y = observation['to_target']
  link = 0.12
  # Torques about the wrist and about the shoulder of a force on the finger along `to_target`.
  forearm = link * np.array([np.cos(shoulder + wrist), np.sin(shoulder + wrist)])
  arm = forearm + link * np.array([np.cos(shoulder), np.sin(shoulder)])
  torques = np.array([arm[0] * y - arm[1] * x, forearm[0] * y - forearm[1] * x])
  return 400 * torques - 0.4 * observation['velocity']


def point_mass_easy(observation: Observation) -> np.ndarray:
  """Proportional and derivative control towards the origin, where the target is."""
  return -20 * observation['position'] - 4 * observation['velocity']


CONTROLLERS: Mapping[str, Callable[[Observation], np.ndarray]] = {
    'cartpole-swingup': cartpole_swingup,
    'pendulum-swingup': pendulum_swingup,
    'reacher-easy': reacher_easy,
    'point_mass-easy': point_mass_easy,
    'cartpole-balance': cartpole_swingup,
    'cartpole-balance_sparse': cartpole_swingup,
    'cartpole-swingup_sparse': cartpole_swingup,
    'reacher-hard': reacher_easy,
}


class ControllerExpert:
  """A control law as an `Expert`; what it asks for is cut to the actuators' range."""

  def __init__(self, controller: Callable[[Observation], np.ndarray]):
    self._controller = controller

  def reset(self) -> None:
    """Nothing is remembered."""

  def act(self, observation: Observation) -> np.ndarray:
    return np.clip(self._controller(observation), -1, 1).astype(np.float32)


class MixedPointMassExpert:
  """`point_mass_easy` where each actuator pulls along a direction of its own, other in every episode.

  A policy has to find the directions out; this expert reads them from the simulator.

  Args:
    environment: its `physics` is the simulator's.
  """

  def __init__(self, environment):
    self._environment = environment

  def reset(self) -> None:
    """Nothing is remembered."""

  def act(self, observation: Observation) -> np.ndarray:
    directions = np.reshape(self._environment.physics.model.wrap_prm[:4], (2, 2))
    force = np.clip(point_mass_easy(observation), -1, 1)
    return np.clip(np.linalg.solve(directions.T, force), -1, 1).astype(np.float32)


class SwimmerExpert:
  """A wave that runs down the body from head to tail, bent towards the target; it remembers the wave's phase."""

  def __init__(self):
    self._step = 0

  def reset(self) -> None:
    self._step = 0

  def act(self, observation: Observation) -> np.ndarray:
    x, y = observation['to_target']  # in the frame of the head, which looks along -y
    vigour = np.clip(10 * np.hypot(x, y) - 0.3, 0, 1)  # metres: it rests with the nose well inside the target
    bend = -0.6 * np.clip(np.arctan2(x, -y), -1, 1)
    joints = observation['joints']
    wanted = vigour * (0.8 * np.sin(0.15 * self._step - 1.4 * np.arange(len(joints))) + bend)
    self._step += 1
    return np.clip(5 * (wanted - joints), -1, 1).astype(np.float32)


class UprightFishExpert:
  """Swims ahead with its tail, and rolls upright with its fins as a plane does with its ailerons.

  The observation does not say to which side the fish leans; the expert reads that from the simulator. It remembers the
  phase of its tail.

  Args:
    environment: its `physics` is the simulator's.
  """

  def __init__(self, environment):
    self._environment = environment
    self._step = 0

  def reset(self) -> None:
    self._step = 0

  def act(self, observation: Observation) -> np.ndarray:
    del observation
    side, _, upright = self._environment.physics.named.data.xmat['torso', ['zx', 'zy', 'zz']]
    roll = np.clip(3 * np.arctan2(side, upright), -1, 1)
    tail = np.sin(0.4 * self._step)
    self._step += 1
    return np.array([tail, 0, 0, roll, -roll], np.float32)  # tail, its twist, flapping, left and right fin
