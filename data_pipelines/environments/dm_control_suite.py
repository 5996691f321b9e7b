"""Four tasks of the DeepMind Control Suite, with scripted controllers.

Observations are the suite's own, flattened to one float32 vector a key. The controllers are memoryless functions of
the observation, so that they can be imitated from single timesteps. Returns are of at most 1000.
"""

from collections.abc import Callable, Mapping

import numpy as np

from data_pipelines.environments.mujoco_rendering import Camera, choose_backend
from data_pipelines.environments.simulation import SimulatedEnvironment, Transition, import_simulator
from data_pipelines.environments.specs import ArraySpec, Observation, TaskSpec

DOMAIN = 'dm_control'
MAX_STEPS = 1000


def _spec(task: str, action_size: int, **sizes: int) -> TaskSpec:
  observation = {key: ArraySpec('continuous', (size,)) for key, size in sizes.items()}
  return TaskSpec(f'{DOMAIN}/{task}', DOMAIN, observation, ArraySpec('continuous', (action_size,)), MAX_STEPS)


SPECS: Mapping[str, TaskSpec] = {
    'cartpole-swingup': _spec('cartpole-swingup', 1, position=3, velocity=2),
    'pendulum-swingup': _spec('pendulum-swingup', 1, orientation=2, velocity=1),
    'reacher-easy': _spec('reacher-easy', 2, position=2, to_target=2, velocity=2),
    'point_mass-easy': _spec('point_mass-easy', 2, position=2, velocity=2),
}


class ControlSuiteEnvironment(SimulatedEnvironment):
  """A task of the suite; its time limit is `max_steps`."""

  def __init__(self, spec: TaskSpec):
    super().__init__(spec)
    choose_backend()
    suite = import_simulator('dm_control.suite')
    domain, task = spec.name.split('/')[1].split('-')
    # Episodes must not depend on the generator's first seed: `_reset` seeds it again.
    self._simulator = suite.load(domain, task, task_kwargs={'random': 0})
    bounds = self._simulator.action_spec()
    self._action_centre = (bounds.maximum + bounds.minimum) / 2
    self._action_scale = (bounds.maximum - bounds.minimum) / 2
    physics = self._simulator.physics
    self._camera = Camera(physics.model.ptr, physics.data.ptr, 0)

  def _reset(self, seed: int) -> Observation:
    self._simulator.task.random.seed(seed)
    return _flat(self._simulator.reset().observation)

  def _step(self, action: np.ndarray) -> Transition:
    timestep = self._simulator.step(self._action_centre + self._action_scale * action)
    # The suite's last timestep is its time limit, unless its discount is 0.
    terminated = timestep.last() and timestep.discount == 0
    return Transition(_flat(timestep.observation), float(timestep.reward), bool(terminated))

  def render(self) -> np.ndarray | None:
    return self._camera.picture()

  def close(self) -> None:
    self._camera.close()
    self._simulator.close()


def _flat(observation: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  return {key: np.asarray(value, np.float32).reshape(-1) for key, value in observation.items()}


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
}


class ControllerExpert:
  """A control law as an `Expert`; what it asks for is cut to the actuators' range."""

  def __init__(self, controller: Callable[[Observation], np.ndarray]):
    self._controller = controller

  def reset(self) -> None:
    """Nothing is remembered."""

  def act(self, observation: Observation) -> np.ndarray:
    return np.clip(self._controller(observation), -1, 1).astype(np.float32)


def make(spec: TaskSpec) -> ControlSuiteEnvironment:
  return ControlSuiteEnvironment(spec)


def make_expert(environment: ControlSuiteEnvironment) -> ControllerExpert:
  return ControllerExpert(CONTROLLERS[environment.spec.name.split('/')[1]])
