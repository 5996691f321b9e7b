"""Fetch from gymnasium-robotics: an arm that reaches, pushes and places, with scripted experts.

A task shows positions and velocities; its `-pixels` variant shows two camera pictures and what the arm feels of itself,
and so neither the object's place nor the goal's in numbers: these must be seen.

What differs from the simulator's own face:
  Ending: an episode ends at its first success, which is its score; demonstrations go on for 5 steps more.
  Coordinates: object and goal are relative to the gripper, and the gripper to the middle of the table top, so that
    numbers are near 0 where precision matters.
"""

from collections.abc import Callable, Mapping
import contextlib
import io

import numpy as np

from data_pipelines.environments.mujoco_rendering import Camera, choose_backend
from data_pipelines.environments.simulation import SimulatedEnvironment, Transition, import_simulator
from data_pipelines.environments.specs import ArraySpec, Observation, TaskSpec

DOMAIN = 'fetch'
PIXELS = '-pixels'
CLASSES: Mapping[str, tuple[str, str]] = {  # task -> module and class of gymnasium_robotics.envs.fetch
    'reach-v4': ('reach', 'MujocoFetchReachEnv'),
    'push-v4': ('push', 'MujocoFetchPushEnv'),
    'pick-and-place-v4': ('pick_and_place', 'MujocoFetchPickAndPlaceEnv'),
}
MAX_STEPS = 50
TABLE = np.array([1.34, 0.75, 0.42])  # the middle of its top, metres
PICTURE_SIZE = 64
LOOK_AT = TABLE + [0, 0, 0.2]  # goals are up to 0.45 above the table
# From where a camera looks there: distance in metres, azimuth and elevation in degrees.
VIEWS: Mapping[str, tuple[float, float, float]] = {
    'camera_front': (1.2, 180.0, -30.0),
    'camera_side': (1.2, 120.0, -40.0),
}

# Where each item is in the simulator's own vector; without an object it has the gripper's only.
GRIPPER_ITEMS: Mapping[str, slice] = {
    'finger_velocity': slice(-2, None),  # metres a step
    'fingers': slice(3, 5),  # how far each is from the middle, metres
    'gripper': slice(0, 3),
    'gripper_velocity': slice(-5, -2),  # metres a step
}
OBJECT_ITEMS: Mapping[str, slice] = {
    'finger_velocity': slice(23, 25),
    'fingers': slice(9, 11),
    'gripper': slice(0, 3),
    'gripper_velocity': slice(20, 23),
    'object': slice(6, 9),  # relative to the gripper, metres
    'object_rotation': slice(11, 14),  # Euler angles, radians
    'object_spin': slice(17, 20),  # radians a step
    'object_velocity': slice(14, 17),  # relative to the gripper, metres a step
}


def _items(task: str) -> Mapping[str, slice]:
  return GRIPPER_ITEMS if task.startswith('reach') else OBJECT_ITEMS


def _spec(task: str) -> TaskSpec:
  items = GRIPPER_ITEMS if task.endswith(PIXELS) else _items(task)
  observation = {key: ArraySpec('continuous', (OBJECT_ITEMS[key].stop - OBJECT_ITEMS[key].start,)) for key in items}
  if task.endswith(PIXELS):
    observation |= {view: ArraySpec('image', (PICTURE_SIZE, PICTURE_SIZE, 3)) for view in VIEWS}
  else:
    observation |= {'goal': ArraySpec('continuous', (3,))}  # relative to the gripper, metres
  original = f'{DOMAIN}/{task.removesuffix(PIXELS)}' if task.endswith(PIXELS) else ''
  action = ArraySpec('continuous', (4,))
  return TaskSpec(f'{DOMAIN}/{task}', DOMAIN, observation, action, MAX_STEPS, 'success', original)


SPECS: Mapping[str, TaskSpec] = {task + suffix: _spec(task + suffix) for suffix in ('', PIXELS) for task in CLASSES}


class FetchEnvironment(SimulatedEnvironment):
  """A Fetch task. The action is a step of the gripper, at most 5 cm along each axis, and to close or open the fingers.

  Attributes:
    raw_observation: the simulator's own, a dict of float64 arrays, which the experts read.
  """

  demonstration_tail = 5

  def __init__(self, spec: TaskSpec):
    super().__init__(spec)
    choose_backend()
    task = spec.task.removesuffix(PIXELS)
    module, name = CLASSES[task]
    with contextlib.redirect_stderr(io.StringIO()):  # the package prints a notice about tasks that are not here
      simulators = import_simulator(f'gymnasium_robotics.envs.fetch.{module}', 'suites')
    self._simulator = getattr(simulators, name)()
    self._items = {key: item for key, item in _items(task).items() if key in spec.observation}
    self._goal = self._simulator.data.site('target0')
    self._cameras = {view: self._camera(view, PICTURE_SIZE, PICTURE_SIZE, plain=True) for view in VIEWS}
    self._render_camera = self._camera('camera_side')
    self.raw_observation: Mapping[str, np.ndarray] = {}

  def _camera(self, name: str, *size: int, plain: bool = False) -> Camera:
    view = import_simulator('mujoco').MjvCamera()
    view.distance, view.azimuth, view.elevation = VIEWS[name]
    view.lookat[:] = LOOK_AT
    return Camera(self._simulator.model, self._simulator.data, view, *size, plain=plain)

  def _reset(self, seed: int) -> Observation:
    self.raw_observation, _ = self._simulator.reset(seed=seed)
    return self._observation()

  def _step(self, action: np.ndarray) -> Transition:
    self.raw_observation, reward, _, _, info = self._simulator.step(action)
    return Transition(self._observation(), float(reward), False, bool(info['is_success']))

  def _observation(self) -> Observation:
    raw = self.raw_observation
    observation = {key: raw['observation'][item].astype(np.float32) for key, item in self._items.items()}
    observation['gripper'] = (raw['observation'][:3] - TABLE).astype(np.float32)
    if 'goal' in self.spec.observation:
      observation['goal'] = (raw['desired_goal'] - raw['observation'][:3]).astype(np.float32)
    else:
      observation |= self._pictures()
    return observation

  def _pictures(self) -> Observation:
    self._goal.xpos[:] = self.raw_observation['desired_goal']  # where it is drawn; the simulation knows no goal
    return {view: camera.observation(self.spec.name) for view, camera in self._cameras.items()}

  def render(self) -> np.ndarray | None:
    self._goal.xpos[:] = self.raw_observation['desired_goal']
    return self._render_camera.picture()

  def close(self) -> None:
    for camera in (*self._cameras.values(), self._render_camera):
      camera.close()
    self._simulator.close()


def reach(raw: Mapping[str, np.ndarray]) -> np.ndarray:
  """Straight to the goal."""
  return np.append(10 * (raw['desired_goal'] - raw['observation'][:3]), 0)


def push(raw: Mapping[str, np.ndarray]) -> np.ndarray:
  """Goes round above the block to behind it, as seen from the goal, then pushes, and keeps to the line."""
  to_block = raw['observation'][OBJECT_ITEMS['object']]
  to_goal = (raw['desired_goal'] - raw['achieved_goal'])[:2]  # from the block
  distance = np.linalg.norm(to_goal)
  way = to_goal / max(distance, 1e-9)
  height = -to_block[2]
  ahead = -to_block[:2] @ way
  aside = -to_block[:2] - ahead * way
  if ahead < -0.03 and np.linalg.norm(aside) < 0.02 and height < 0.02:
    return np.array([*(way * np.clip(12 * distance, 0.25, 1) - 15 * aside), -10 * height, 0])
  behind = to_block[:2] - 0.085 * way
  if np.linalg.norm(behind) < 0.02:
    return np.array([*(12 * behind), -12 * height, 0])
  if height < 0.045:
    return np.array([0, 0, 1, 0])
  return np.array([*(12 * behind), 12 * (0.06 - height), 0])


def pick_and_place(raw: Mapping[str, np.ndarray]) -> np.ndarray:
  """Opens above the block, goes down, closes, and carries it to the goal."""
  to_block = raw['observation'][OBJECT_ITEMS['object']]
  width = raw['observation'][OBJECT_ITEMS['fingers']].sum()
  aside = np.linalg.norm(to_block[:2])
  held = width < 0.06 and aside < 0.03 and abs(to_block[2]) < 0.02
  if aside > 0.015 and not held:
    return np.append(12 * (to_block + [0, 0, 0.06 if aside > 0.03 else 0.03]), 1)
  if to_block[2] < -0.01:
    return np.append(12 * to_block, 1)
  if width > 0.056:
    return np.array([0, 0, 0, -1])
  return np.append(12 * (raw['desired_goal'] - raw['observation'][:3]), -1)


SCRIPTS: Mapping[str, Callable[[Mapping[str, np.ndarray]], np.ndarray]] = {
    'reach-v4': reach,
    'push-v4': push,
    'pick-and-place-v4': pick_and_place,
}


class ScriptedExpert:
  """A script as an `Expert`: a function of the simulator's own observation, also where the task shows pictures."""

  def __init__(self, environment: FetchEnvironment):
    self._environment = environment
    self._script = SCRIPTS[environment.spec.task.removesuffix(PIXELS)]

  def reset(self) -> None:
    """Nothing is remembered."""

  def act(self, observation: Observation) -> np.ndarray:
    del observation  # the script reads the simulator's own
    return np.clip(self._script(self._environment.raw_observation), -1, 1).astype(np.float32)


def make(spec: TaskSpec) -> FetchEnvironment:
  return FetchEnvironment(spec)


def make_expert(environment: FetchEnvironment) -> ScriptedExpert:
  return ScriptedExpert(environment)
