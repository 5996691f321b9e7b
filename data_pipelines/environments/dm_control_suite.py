"""Tasks of the DeepMind Control Suite, with controllers, and gaits for bodies that have none.

Observations are the suite's own, flattened to one float32 vector a key. Returns are of at most 1000.
"""

from collections.abc import Mapping

import numpy as np

from data_pipelines.environments.dm_control_controllers import (
    CONTROLLERS,
    ControllerExpert,
    MixedPointMassExpert,
    SwimmerExpert,
    UprightFishExpert,
)
from data_pipelines.environments.gaits import GaitExpert, stored_gait
from data_pipelines.environments.mujoco_rendering import Camera, choose_backend
from data_pipelines.environments.simulation import SimulatedEnvironment, Transition, import_simulator
from data_pipelines.environments.specs import ArraySpec, Expert, Observation, TaskSpec

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
    'cartpole-balance': _spec('cartpole-balance', 1, position=3, velocity=2),
    'cartpole-balance_sparse': _spec('cartpole-balance_sparse', 1, position=3, velocity=2),
    'cartpole-swingup_sparse': _spec('cartpole-swingup_sparse', 1, position=3, velocity=2),
    'reacher-hard': _spec('reacher-hard', 2, position=2, to_target=2, velocity=2),
    'point_mass-hard': _spec('point_mass-hard', 2, position=2, velocity=2),
    'cheetah-run': _spec('cheetah-run', 6, position=8, velocity=9),
    'swimmer-swimmer6': _spec('swimmer-swimmer6', 5, body_velocities=18, joints=5, to_target=2),
    'fish-upright': _spec('fish-upright', 5, joint_angles=7, upright=1, velocity=13),
}

HELD_OUT = ('cartpole-swingup',)  # of the paper's training data, for learning from a few demonstrations
TRAINED = tuple(task for task in SPECS if task not in HELD_OUT)

PRIVILEGED = {'fish-upright': UprightFishExpert, 'point_mass-hard': MixedPointMassExpert}


class ControlSuiteEnvironment(SimulatedEnvironment):
  """A task of the suite; its time limit is `max_steps`.

  Attributes:
    action_bounds: what -1 and 1 stand for, [A] each.
    state: the suite's own observation now, which experts read, whatever a subclass shows instead.
  """

  def __init__(self, spec: TaskSpec):
    super().__init__(spec)
    choose_backend()
    suite = import_simulator('dm_control.suite')
    domain, task = spec.task.split('-')
    # Episodes must not depend on the generator's first seed: `_reset` seeds it again.
    self._simulator = suite.load(domain, task, task_kwargs={'random': 0})
    bounds = self._simulator.action_spec()
    self.action_bounds = bounds.minimum, bounds.maximum
    self._action_centre = (bounds.maximum + bounds.minimum) / 2
    self._action_scale = (bounds.maximum - bounds.minimum) / 2
    self._camera = self._make_camera()
    self.state: Observation = {}

  @property
  def physics(self):
    """The dm_control Physics being simulated."""
    return self._simulator.physics

  def _make_camera(self) -> Camera:
    return Camera(self.physics.model.ptr, self.physics.data.ptr, 0)

  def _reset(self, seed: int) -> Observation:
    self._simulator.task.random.seed(seed)
    return self._observe(self._simulator.reset())

  def _step(self, action: np.ndarray) -> Transition:
    timestep = self._simulator.step(self._action_centre + self._action_scale * action)
    # The suite's last timestep is its time limit, unless its discount is 0.
    terminated = timestep.last() and timestep.discount == 0
    return Transition(self._observe(timestep), float(timestep.reward), bool(terminated))

  def _observe(self, timestep) -> Observation:
    self.state = {key: np.asarray(value, np.float32).reshape(-1) for key, value in timestep.observation.items()}
    return self.state

  def render(self) -> np.ndarray | None:
    return self._camera.picture()

  def close(self) -> None:
    self._camera.close()
    self._simulator.close()


def make(spec: TaskSpec) -> ControlSuiteEnvironment:
  return ControlSuiteEnvironment(spec)


def make_expert(environment: ControlSuiteEnvironment) -> Expert:
  """A controller, or a gait where there is no controller; what it reads is `environment.state` in its place."""
  task = environment.spec.task
  if task in PRIVILEGED:
    return PRIVILEGED[task](environment)
  if task == 'swimmer-swimmer6':
    return SwimmerExpert()
  if task in CONTROLLERS:
    return ControllerExpert(CONTROLLERS[task])
  return GaitExpert(stored_gait(f'{DOMAIN}/{task}'))
