"""Tasks of the DeepMind Control Suite with a body whose physical parameters are others in every episode.

As in Gato's Random Small and Random Large (paper, appendix F), actuator gear, joint range, stiffness and damping, and
geom size and density are scaled. The paper does not say whether every joint and geom gets a factor of its own: here
each of the six properties has one factor an episode. Only moving bodies change, not the scenery nor the targets;
a geom given by its two ends keeps its length, and one given a mass has that scaled in place of its density.
"""

from collections.abc import Mapping
import dataclasses
import zlib

import numpy as np

from data_pipelines.environments import dm_control_suite
from data_pipelines.environments.dm_control_suite import ControlSuiteEnvironment
from data_pipelines.environments.simulation import import_simulator
from data_pipelines.environments.specs import Observation, TaskSpec

SKY_PIXELS = 64  # to draw the suite's sky of 800 takes thirty times as long as the rest of a body's compilation
PROPERTIES = ('gear', 'range', 'stiffness', 'damping', 'size', 'density')
Ranges = tuple[tuple[float, float], tuple[float, float]]  # each as likely as the other


def random_specs(domain: str, tasks: tuple[str, ...]) -> Mapping[str, TaskSpec]:
  """The suite's specs under another domain."""
  return {task: dataclasses.replace(dm_control_suite.SPECS[task], name=f'{domain}/{task}', domain=domain)
          for task in tasks}


class RandomBodyEnvironment(ControlSuiteEnvironment):
  """A task of the suite; `reset` builds a new body.

  Attributes:
    factors: property -> what it is multiplied by in this episode.
  """

  def __init__(self, spec: TaskSpec, ranges: Ranges):
    super().__init__(spec)
    self._ranges = ranges
    self._mujoco = import_simulator('mujoco')
    self._wrapper = import_simulator('dm_control.mujoco.wrapper')
    self._control = import_simulator('dm_control.rl.control')
    self._timestep = self._simulator.control_timestep()
    domain, task = spec.task.split('-')
    module = import_simulator(f'dm_control.suite.{domain}')
    xml, includes = module.get_model_and_assets(*((int(task[len('swimmer'):]),) if domain == 'swimmer' else ()))
    self._xml = xml if isinstance(xml, str) else xml.decode()
    self._includes = includes
    self.factors: dict[str, float] = {}

  def _reset(self, seed: int) -> Observation:
    self.factors = draw_factors(self.spec.name, seed, self._ranges)
    model = self._mujoco.MjSpec.from_string(self._xml, include=self._includes)
    scale_body(model, self.factors)
    for texture in model.textures:
      if texture.type == self._mujoco.mjtTexture.mjTEXTURE_SKYBOX:
        texture.width = texture.height = SKY_PIXELS
    physics = type(self.physics).from_model(self._wrapper.MjModel(model.compile()))
    task = self._simulator.task
    self._camera.close()
    self._simulator.close()
    self._simulator = self._control.Environment(physics, task, control_timestep=self._timestep)
    self._camera = self._make_camera()
    return super()._reset(seed)


def draw_factors(name: str, seed: int, ranges: Ranges) -> dict[str, float]:
  """The factors of an episode."""
  rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
  return {key: float(rng.uniform(*ranges[rng.integers(2)])) for key in PROPERTIES}


def scale_body(model, factors: Mapping[str, float]) -> None:
  """Multiplies the properties of a mujoco.MjSpec's moving parts, in place."""
  for actuator in model.actuators:
    actuator.gear = actuator.gear * factors['gear']
  for joint in model.joints:
    joint.range = joint.range * factors['range']
    joint.stiffness *= factors['stiffness']
    joint.damping *= factors['damping']
  for geom in model.geoms:
    if geom.parent.name != 'world':
      geom.size = geom.size * factors['size']
      geom.density *= factors['density']
      geom.mass *= factors['density']  # NaN, and then unused, where the model gives no mass
