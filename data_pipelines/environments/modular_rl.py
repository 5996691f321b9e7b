"""Modular RL: the planar MuJoCo bodies of gymnasium with some of their limbs taken off, played by gaits.

After Huang, Mordatch and Pathak, "One policy to control them all" (2020), from which Gato took the domain. A body's
name says how many limbs it has, torso included. Rewards, falls and starts are those of gymnasium's Walker2d-v5,
Hopper-v5 and HalfCheetah-v5: forward speed, plus 1 a step for the walkers and hoppers, whose episodes end with a fall.
"""

from collections.abc import Mapping
import dataclasses
from pathlib import Path
import tempfile
from xml.etree import ElementTree

import numpy as np

from data_pipelines.environments.gaits import GaitExpert, stored_gait
from data_pipelines.environments.mujoco_rendering import Camera, choose_backend
from data_pipelines.environments.simulation import SimulatedEnvironment, Transition, import_simulator
from data_pipelines.environments.specs import ArraySpec, Observation, TaskSpec

DOMAIN = 'modular_rl'
MAX_STEPS = 1000
MAX_VELOCITY = 10.0  # velocities are clipped, as gymnasium does for the walker and the hopper
ROOT_JOINTS = 3  # forward, up and pitch


@dataclasses.dataclass(frozen=True)
class Morphology:
  """A body.

  Attributes:
    environment: gymnasium's.
    file: the whole body's, among gymnasium's assets.
    joints: of the whole body, without the root's.
    without: the bodies in the file that are taken off, with all that hangs on them.
    lost: how many joints go with them.
  """

  environment: str
  file: str
  joints: int
  without: tuple[str, ...] = ()
  lost: int = 0


def _walker(without: tuple[str, ...] = (), lost: int = 0) -> Morphology:
  return Morphology('Walker2d-v5', 'walker2d_v5.xml', 6, without, lost)


def _hopper(without: tuple[str, ...] = (), lost: int = 0) -> Morphology:
  return Morphology('Hopper-v5', 'hopper.xml', 3, without, lost)


def _cheetah(without: tuple[str, ...] = (), lost: int = 0) -> Morphology:
  return Morphology('HalfCheetah-v5', 'half_cheetah.xml', 6, without, lost)


MORPHOLOGIES: Mapping[str, Morphology] = {
    'walker_7_full': _walker(),
    'hopper_4_full': _hopper(),
    'hopper_3_no_foot': _hopper(('foot',), 1),
    'cheetah_7_full': _cheetah(),
    'cheetah_6_no_front_foot': _cheetah(('ffoot',), 1),
    'cheetah_6_no_back_foot': _cheetah(('bfoot',), 1),
    'cheetah_5_no_front_shin': _cheetah(('fshin',), 2),
}


def _spec(task: str, morphology: Morphology) -> TaskSpec:
  joints = morphology.joints - morphology.lost
  observation = {
      'position': ArraySpec('continuous', (ROOT_JOINTS - 1 + joints,)),  # height, pitch and joints; not how far it got
      'velocity': ArraySpec('continuous', (ROOT_JOINTS + joints,)),
  }
  return TaskSpec(f'{DOMAIN}/{task}', DOMAIN, observation, ArraySpec('continuous', (joints,)), MAX_STEPS)


SPECS: Mapping[str, TaskSpec] = {task: _spec(task, morphology) for task, morphology in MORPHOLOGIES.items()}
# The walker's legs change places: of the features, and of the actions.
MIRRORS = {'walker_7_full': ((0, 1, 5, 6, 7, 2, 3, 4, 8, 9, 10, 14, 15, 16, 11, 12, 13), (3, 4, 5, 0, 1, 2))}


class ModularEnvironment(SimulatedEnvironment):
  """A body of which some limbs are gone."""

  def __init__(self, spec: TaskSpec):
    super().__init__(spec)
    choose_backend()
    gymnasium = import_simulator('gymnasium')
    import_simulator('mujoco')
    morphology = MORPHOLOGIES[spec.task]
    assets = Path(import_simulator('gymnasium.envs.mujoco').__file__).parent / 'assets'
    with tempfile.TemporaryDirectory() as folder:
      path = Path(folder) / 'body.xml'
      path.write_text(remove_limbs((assets / morphology.file).read_text(), morphology.without))
      # The wrappers' checks and time limit are `SimulatedEnvironment`'s.
      self._simulator = gymnasium.make(morphology.environment, xml_file=str(path)).unwrapped
    self._camera = Camera(self._simulator.model, self._simulator.data, 'track')

  def _reset(self, seed: int) -> Observation:
    self._simulator.reset(seed=seed)
    return self._observation()

  def _step(self, action: np.ndarray) -> Transition:
    _, reward, terminated, _, _ = self._simulator.step(action)
    return Transition(self._observation(), float(reward), bool(terminated))

  def _observation(self) -> Observation:
    data = self._simulator.data
    velocity = np.clip(data.qvel, -MAX_VELOCITY, MAX_VELOCITY)
    return {'position': data.qpos[1:].astype(np.float32), 'velocity': velocity.astype(np.float32)}

  def render(self) -> np.ndarray | None:
    return self._camera.picture()

  def close(self) -> None:
    self._camera.close()
    self._simulator.close()


def remove_limbs(xml: str, limbs: tuple[str, ...]) -> str:
  """MJCF without the bodies named, what hangs on them, and the motors of their joints."""
  root = ElementTree.fromstring(xml)
  for parent in list(root.iter('body')):
    for body in parent.findall('body'):
      if body.get('name') in limbs:
        parent.remove(body)
  joints = {joint.get('name') for joint in root.iter('joint')}
  motors = root.find('actuator')
  for motor in motors.findall('motor'):
    if motor.get('joint') not in joints:
      motors.remove(motor)
  return ElementTree.tostring(root, encoding='unicode')


def make(spec: TaskSpec) -> ModularEnvironment:
  return ModularEnvironment(spec)


def make_expert(environment: ModularEnvironment) -> GaitExpert:
  return GaitExpert(stored_gait(environment.spec.name))
