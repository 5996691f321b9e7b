"""Tasks of the DeepMind Control Suite seen through a camera: the observation is one picture, without the state.

The experts are the suite's, and read the state. A picture is rendered in software where there is no GPU, so without
shadows, reflections, sky and multisampling, which take most of the time and show nothing of the task.
"""

from data_pipelines.environments import dm_control_suite
from data_pipelines.environments.dm_control_suite import ControlSuiteEnvironment
from data_pipelines.environments.mujoco_rendering import Camera
from data_pipelines.environments.specs import ArraySpec, Expert, Observation, TaskSpec

DOMAIN = 'dm_control_pixels'
PIXELS = 64
# Not the swimmer: its camera follows it, and the target is mostly out of sight.
TASKS = tuple(task for task in dm_control_suite.SPECS if not task.startswith('swimmer'))


def _spec(task: str) -> TaskSpec:
  state = dm_control_suite.SPECS[task]
  observation = {'pixels': ArraySpec('image', (PIXELS, PIXELS, 3))}
  return TaskSpec(f'{DOMAIN}/{task}', DOMAIN, observation, state.action, state.max_steps, variant_of=state.name)


SPECS = {task: _spec(task) for task in TASKS}
HELD_OUT = dm_control_suite.HELD_OUT
TRAINED = tuple(task for task in SPECS if task not in HELD_OUT)


class PixelsEnvironment(ControlSuiteEnvironment):
  """A task of the suite whose observation is what `render` draws, but small."""

  def __init__(self, spec: TaskSpec):
    super().__init__(spec)
    self._eye = Camera(self.physics.model.ptr, self.physics.data.ptr, 0, PIXELS, PIXELS, plain=True)

  def _observe(self, timestep) -> Observation:
    super()._observe(timestep)
    return {'pixels': self._eye.observation(self.spec.name)}

  def close(self) -> None:
    self._eye.close()
    super().close()


class StateExpert:
  """An expert of the state at work where the observation does not show it."""

  def __init__(self, environment: ControlSuiteEnvironment):
    self._environment = environment
    self._expert = dm_control_suite.make_expert(environment)

  def reset(self) -> None:
    self._expert.reset()

  def act(self, observation: Observation):
    del observation
    return self._expert.act(self._environment.state)


def make(spec: TaskSpec) -> PixelsEnvironment:
  return PixelsEnvironment(spec)


def make_expert(environment: PixelsEnvironment) -> Expert:
  return StateExpert(environment)
