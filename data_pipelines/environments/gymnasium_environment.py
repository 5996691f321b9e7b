"""Any gymnasium environment as one of ours: its spaces become the task's spec."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from data_pipelines.environments.gymnasium_spaces import ActionSpace, ObservationSpace
from data_pipelines.environments.simulation import SimulatedEnvironment, Transition
from data_pipelines.environments.specs import Observation, TaskSpec


def gymnasium_spec(name: str, environment: Any, max_steps: int,
                   score: Literal['return', 'success'] = 'return') -> TaskSpec:
  """The spec of a task.

  Args:
    name: `domain/task`.
    environment: a gymnasium environment; its observation may be a Box, Discrete, MultiDiscrete, MultiBinary, Text, or a
      Dict or Tuple of them; its action one that `ActionSpace` takes.
    max_steps: an episode is cut off after so many steps.
    score: `success`: the environment says so in `info`, as `success` or `is_success`.

  Raises:
    InputError: a space that has no tokens.
  """
  observation = ObservationSpace(environment.observation_space).specs
  action = ActionSpace(environment.action_space).spec
  return TaskSpec(name, name.partition('/')[0], observation, action, max_steps, score)


class GymnasiumEnvironment(SimulatedEnvironment):
  """Plays the task of a spec that `gymnasium_spec` made from such an environment.

  Attributes:
    simulator: the gymnasium environment.
    observation_space: between its observations and the spec's.
    action_space: between its actions and the spec's.
    action_bounds: what -1 and 1 stand for in a continuous action; empty for a discrete one.
  """

  def __init__(self, spec: TaskSpec, make: Callable[[], Any]):
    super().__init__(spec)
    self.simulator = make()
    self.observation_space = ObservationSpace(self.simulator.observation_space)
    self.action_space = ActionSpace(self.simulator.action_space)
    self.action_bounds = self.action_space.low, self.action_space.high

  def _reset(self, seed: int) -> Observation:
    observation, _ = self.simulator.reset(seed=seed)
    return self.observation_space.from_space(observation)

  def _step(self, action: np.ndarray) -> Transition:
    observation, reward, terminated, truncated, info = self.simulator.step(self.action_space.to_space(action))
    success = bool(info.get('success', info.get('is_success', False)))
    # A time limit of its own, if it is shorter, ends the episode too.
    ended = terminated or truncated and self.steps_left > 1
    return Transition(self.observation_space.from_space(observation), float(reward), bool(ended), success)

  def render(self) -> np.ndarray | None:
    picture = self.simulator.render() if self.simulator.render_mode == 'rgb_array' else None
    return picture if isinstance(picture, np.ndarray) else None

  def close(self) -> None:
    self.simulator.close()


class PolicyExpert:
  """A Python function as the expert of an environment.

  Args:
    environment: it plays in.
    policy: takes the observation, key -> value, and returns an action as the gymnasium environment takes it.
  """

  def __init__(self, environment: GymnasiumEnvironment, policy: Callable[[Observation], Any]):
    self._environment = environment
    self._policy = policy

  def reset(self) -> None:
    """Nothing is remembered."""

  def act(self, observation: Observation) -> np.ndarray:
    return self._environment.action_space.from_space(self._policy(observation))
