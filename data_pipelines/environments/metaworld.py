"""The fifty Meta-World v3 tasks with goals that vary, and the scripted policies that come with them.

What differs from the simulator's own face:
  Episodes: `reset(seed)` alone determines the episode, goal included. Meta-World draws the goal from a generator of
    its own and ignores the seed given to `reset`.
  Ending: an episode ends at its first success, since success is its score; demonstrations go on for 20 steps more.
  Coordinates: the simulator's vector of 39 numbers holds the frame before as well, which a sequence has anyway, and
    slots for a second object, which most tasks lack. The remaining 14 (with a second object, 21) are kept, objects
    and goal placed relative to the hand: the same information, in numbers that are near 0 where precision matters.
"""

from collections.abc import Mapping
import functools
from typing import Any
import warnings

import numpy as np

from data_pipelines.environments.mujoco_rendering import Camera, choose_backend
from data_pipelines.environments.simulation import SimulatedEnvironment, Transition, import_simulator
from data_pipelines.environments.specs import ArraySpec, Observation, TaskSpec

DOMAIN = 'metaworld'
TRAINED = (
    'basketball-v3', 'button-press-topdown-v3', 'button-press-topdown-wall-v3', 'button-press-v3',
    'button-press-wall-v3', 'coffee-button-v3', 'coffee-pull-v3', 'coffee-push-v3', 'dial-turn-v3', 'disassemble-v3',
    'door-close-v3', 'door-lock-v3', 'door-open-v3', 'drawer-close-v3', 'drawer-open-v3', 'faucet-close-v3',
    'faucet-open-v3', 'hammer-v3', 'handle-press-side-v3', 'handle-press-v3', 'handle-pull-side-v3', 'handle-pull-v3',
    'lever-pull-v3', 'peg-insert-side-v3', 'peg-unplug-side-v3', 'pick-out-of-hole-v3', 'pick-place-v3',
    'pick-place-wall-v3', 'plate-slide-back-side-v3', 'plate-slide-back-v3', 'plate-slide-side-v3', 'plate-slide-v3',
    'push-back-v3', 'push-v3', 'push-wall-v3', 'reach-v3', 'reach-wall-v3', 'shelf-place-v3', 'soccer-v3',
    'stick-pull-v3', 'stick-push-v3', 'sweep-into-v3', 'sweep-v3', 'window-close-v3', 'window-open-v3',
)
# Assembly is held out in the paper; the others are of those that Meta-World's ML45 split holds out.
HELD_OUT = ('assembly-v3', 'bin-picking-v3', 'box-close-v3', 'door-unlock-v3', 'hand-insert-v3')
TWO_OBJECTS = ('hammer-v3', 'stick-pull-v3', 'stick-push-v3')
OBSERVATION: Mapping[str, ArraySpec] = {
    'goal': ArraySpec('continuous', (3,)),  # relative to the hand, metres
    'gripper': ArraySpec('continuous', (1,)),  # 0 closed, 1 open
    'hand': ArraySpec('continuous', (3,)),  # metres
    'object': ArraySpec('continuous', (3,)),  # relative to the hand, metres
    'object_quaternion': ArraySpec('continuous', (4,)),
}
SECOND_OBJECT: Mapping[str, ArraySpec] = {
    'second_object': ArraySpec('continuous', (3,)),  # relative to the hand, metres
    'second_object_quaternion': ArraySpec('continuous', (4,)),
}


def _spec(task: str) -> TaskSpec:
  observation = {**OBSERVATION, **(SECOND_OBJECT if task in TWO_OBJECTS else {})}
  return TaskSpec(f'{DOMAIN}/{task}', DOMAIN, observation, ArraySpec('continuous', (4,)), 500, 'success')


SPECS: Mapping[str, TaskSpec] = {task: _spec(task) for task in sorted(TRAINED + HELD_OUT)}


class MetaWorldEnvironment(SimulatedEnvironment):
  """A Meta-World task. The action is the hand's velocity and the gripper's effort.

  Attributes:
    raw_observation: the simulator's own vector, float64 [39], which the scripted policies read.
  """

  demonstration_tail = 20

  def __init__(self, spec: TaskSpec):
    super().__init__(spec)
    choose_backend()
    self._mujoco = import_simulator('mujoco')
    environments = import_simulator('metaworld.env_dict').ALL_V3_ENVIRONMENTS
    self._simulator = environments[spec.task]()
    self._simulator._set_task_called = True
    self._simulator._partially_observable = False  # shows the goal
    self._simulator.__dict__.pop('sawyer_observation_space', None)  # the cached bounds still hide it
    self._simulator._freeze_rand_vec = False  # a new goal every episode
    self._simulator.seeded_rand_vec = True  # from the simulator's generator, which `_reset` seeds
    self._simulator.touching_object = functools.partial(touching, self._simulator)
    # Resets move furniture and goals within the model; each must start from the same one.
    self._body_positions = self._simulator.model.body_pos.copy()
    self._site_positions = self._simulator.model.site_pos.copy()
    self._camera = Camera(self._simulator.model, self._simulator.data, 'corner2')
    self.raw_observation = np.zeros(39)

  def _reset(self, seed: int) -> Observation:
    simulator = self._simulator
    simulator.seed(seed)
    simulator.curr_path_length = 0
    simulator.model.body_pos[:] = self._body_positions
    simulator.model.site_pos[:] = self._site_positions
    self._mujoco.mj_resetData(simulator.model, simulator.data)
    self.raw_observation = simulator.reset_model()
    return self._observation()

  def _step(self, action: np.ndarray) -> Transition:
    self.raw_observation, reward, _, _, info = self._simulator.step(action)
    return Transition(self._observation(), float(reward), False, bool(info['success']))

  def _observation(self) -> Observation:
    raw = self.raw_observation.astype(np.float32)
    hand = raw[:3]
    observation = {'goal': raw[36:] - hand, 'gripper': raw[3:4], 'hand': hand, 'object': raw[4:7] - hand,
                   'object_quaternion': raw[7:11]}
    if 'second_object' in self.spec.observation:
      observation |= {'second_object': raw[11:14] - hand, 'second_object_quaternion': raw[14:18]}
    return observation

  def render(self) -> np.ndarray | None:
    picture = self._camera.picture()
    return None if picture is None else picture[::-1]  # this camera hangs upside down

  def close(self) -> None:
    self._camera.close()
    self._simulator.close()


def touching(simulator: Any, geom: int) -> bool:
  """Whether both fingers press on a geom: the simulator's own `touching_object`, which takes half of a step's time."""
  contact = simulator.data.contact
  for pad in ('leftpad_geom', 'rightpad_geom'):
    pressed = (contact.geom == simulator.data.geom(pad).id).any(1) & (contact.geom == geom).any(1)
    if simulator.data.efc_force[contact.efc_address[pressed]].sum() <= 0:
      return False
  return True


class ScriptedExpert:
  """Meta-World's own policy for the task: a function of the current observation."""

  def __init__(self, environment: MetaWorldEnvironment):
    self._environment = environment
    self._policy = import_simulator('metaworld.policies').ENV_POLICY_MAP[environment.spec.task]()
    # The policies ask for more than the actuators give, and say so at every step.
    warnings.filterwarnings('ignore', message=r'Constant\(s\) may be too high')

  def reset(self) -> None:
    """Nothing is remembered."""

  def act(self, observation: Observation) -> np.ndarray:
    del observation  # the policy reads the simulator's own layout of the same numbers
    return np.clip(self._policy.get_action(self._environment.raw_observation), -1, 1).astype(np.float32)


def make(spec: TaskSpec) -> MetaWorldEnvironment:
  return MetaWorldEnvironment(spec)


def make_expert(environment: MetaWorldEnvironment) -> ScriptedExpert:
  return ScriptedExpert(environment)
