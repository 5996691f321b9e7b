"""Disturbances of the expert's actions in demonstrations, so that states off its path come with the way back.

A policy cloned from undisturbed demonstrations meets, after its first errors, states that no demonstration holds, and
smooth actions tempt it to repeat the last one. A disturbed demonstration executes other actions than the expert's
and keeps the expert's clean action as the label.
"""

from collections.abc import Mapping
import dataclasses
import zlib

import numpy as np

from data_pipelines.environments.gaits import stored_gaits
from data_pipelines.environments.registry import SPECS, has_expert
from data_pipelines.environments.specs import ArraySpec, TaskSpec


@dataclasses.dataclass(frozen=True)
class NoiseSettings:
  """How demonstrations of a task are disturbed. Every pair is a range to draw from uniformly.

  Attributes:
    strength: drawn once an episode. Of a continuous action, the standard deviation of the Gaussian added to it at
      every step; of a discrete one, the share of steps at which a random action is taken.
    burst_every: mean number of steps between bursts, in which one random action is held.
    burst_steps: length of a burst. An episode starts with one, as if it started elsewhere.
    max_steps: the demonstration is cut off here: what it has to show, it has shown.
    actions: discrete actions to draw from; empty: all of them.
    undisturbed: components of a continuous action that are executed as the expert says.
  """

  strength: tuple[float, float]
  burst_every: int
  burst_steps: tuple[int, int]
  max_steps: int
  actions: tuple[int, ...] = ()
  undisturbed: tuple[int, ...] = ()


BABYAI_MOVES = (0, 1, 2)  # turn left, turn right, go forward: what else there is leads nowhere
GRIPPER = (3,)  # once closed by accident, the scripted policies cannot open it again

CONTROLLER = NoiseSettings((0.1, 0.4), 200, (5, 20), 500)
# A gait has no way back from a fall.
GAIT = NoiseSettings((0.0, 0.15), 200, (1, 3), 1000)

_CONTROL_SUITE: Mapping[str, NoiseSettings] = {
    'cartpole-swingup': NoiseSettings((0.1, 0.4), 200, (5, 20), 500),
    'pendulum-swingup': NoiseSettings((0.1, 0.4), 300, (5, 30), 500),
    # Short: from the same number of steps, more targets taught a small cloned policy over twice the score.
    'reacher-easy': NoiseSettings((0.1, 0.6), 50, (5, 25), 120),
    'point_mass-easy': NoiseSettings((0.1, 0.6), 150, (10, 40), 400),
    **dict.fromkeys((
        'cartpole-balance', 'cartpole-balance_sparse', 'cartpole-swingup_sparse', 'reacher-hard', 'point_mass-hard',
        'swimmer-swimmer6', 'fish-upright'), CONTROLLER),
    **dict.fromkeys(stored_gaits('dm_control'), GAIT),
}

# Strong enough to leave the expert's path, weak enough that the expert mostly still succeeds.
BY_TASK: Mapping[str, NoiseSettings] = {
    'classic_control/CartPole-v1': NoiseSettings((0.0, 0.2), 40, (1, 3), 300),
    'classic_control/Acrobot-v1': NoiseSettings((0.0, 0.3), 40, (2, 8), 500),
    'classic_control/MountainCar-v0': NoiseSettings((0.0, 0.2), 60, (5, 20), 200),
    'classic_control/MountainCarContinuous-v0': NoiseSettings((0.1, 0.5), 60, (5, 20), 999),
    'classic_control/Pendulum-v1': NoiseSettings((0.1, 0.5), 60, (3, 15), 200),
    'classic_control/LunarLander-v3': NoiseSettings((0.0, 0.1), 80, (2, 6), 1000),
    'classic_control/LunarLanderContinuous-v3': NoiseSettings((0.0, 0.3), 80, (2, 6), 1000),
    **{f'{domain}/{task}': settings
       for domain in ('dm_control', 'dm_control_random_small', 'dm_control_random_large')
       for task, settings in _CONTROL_SUITE.items()},
    **{f'modular_rl/{task}': GAIT for task in stored_gaits('modular_rl')},
    **{name: NoiseSettings((0.05, 0.3), 80, (5, 15), spec.max_steps, undisturbed=GRIPPER)
       for name, spec in SPECS.items() if spec.domain == 'metaworld'},
    'metaworld/reach-v3': NoiseSettings((0.1, 0.6), 40, (5, 20), 300, undisturbed=GRIPPER),
    'metaworld/push-v3': NoiseSettings((0.05, 0.4), 60, (5, 15), 300, undisturbed=GRIPPER),
    'metaworld/drawer-open-v3': NoiseSettings((0.1, 0.4), 80, (5, 15), 300, undisturbed=GRIPPER),
    'metaworld/button-press-topdown-v3': NoiseSettings((0.1, 0.6), 60, (5, 20), 300, undisturbed=GRIPPER),
    **{name: NoiseSettings((0.0, 0.2), 20, (1, 4), spec.max_steps, BABYAI_MOVES)
       for name, spec in SPECS.items() if spec.domain == 'babyai' and not spec.variant_of},
    **{name: NoiseSettings((0.0, 0.2), 40, (1, 3), spec.max_steps, undisturbed=GRIPPER)
       for name, spec in SPECS.items() if spec.domain == 'fetch' and not spec.variant_of},
    # Few and short: a wrong push can be for ever.
    **{name: NoiseSettings((0.0, 0.05), 60, (1, 1), spec.max_steps)
       for name, spec in SPECS.items() if spec.domain == 'sokoban' and not spec.variant_of},
    **{name: NoiseSettings((0.0, 0.1), 60, (2, 6), 1500)
       for name, spec in SPECS.items() if spec.domain in ('atari', 'atari_extended') and has_expert(name)},
    'procgen/maze': NoiseSettings((0.0, 0.2), 20, (1, 4), 200, (1, 3, 5, 7)),
    **{name: NoiseSettings((0.0, 0.1), 60, (1, 3), spec.max_steps)
       for name, spec in SPECS.items() if spec.domain == 'procgen' and name != 'procgen/maze' and has_expert(name)},
}


def noise_settings(spec: TaskSpec) -> NoiseSettings:
  """A task's own settings, or those of the task it is a variant of; mild ones where none were tuned."""
  settings = BY_TASK.get(spec.variant_of or spec.name)
  return settings or NoiseSettings((0.0, 0.2), 50, (1, 5), spec.max_steps)


class Disturbance:
  """The disturbed action for each of the expert's; a function of task, seed and the calls so far."""

  def __init__(self, spec: TaskSpec, seed: int):
    self._spec = spec.action
    self._settings = noise_settings(spec)
    self._rng = np.random.default_rng([seed, zlib.crc32(spec.name.encode())])
    self._strength = self._rng.uniform(*self._settings.strength)
    self._start_burst()

  def __call__(self, action: np.ndarray) -> np.ndarray:
    """Takes and returns a float32 [A] in [-1, 1], or an int32 scalar."""
    if self._burst_left == 0 and self._rng.random() < 1 / self._settings.burst_every:
      self._start_burst()
    in_burst = self._burst_left > 0
    self._burst_left -= in_burst
    if self._spec.kind == 'discrete':
      if in_burst:
        return self._burst_action
      return self._random_action() if self._rng.random() < self._strength else action
    noisy = np.clip(action + self._rng.normal(0, self._strength, self._spec.shape), -1, 1).astype(np.float32)
    disturbed = self._burst_action.copy() if in_burst else noisy
    undisturbed = list(self._settings.undisturbed)
    disturbed[undisturbed] = action[undisturbed]
    return disturbed

  def _start_burst(self) -> None:
    shortest, longest = self._settings.burst_steps
    self._burst_left = int(self._rng.integers(shortest, longest + 1))
    self._burst_action = self._random_action()

  def _random_action(self) -> np.ndarray:
    return random_action(self._spec, self._rng, self._settings.actions)


def random_action(spec: ArraySpec, rng: np.random.Generator, actions: tuple[int, ...] = ()) -> np.ndarray:
  """A uniformly random action of an action spec, or one of `actions`."""
  if spec.kind == 'discrete':
    return np.int32(rng.choice(actions) if actions else rng.integers(spec.num_values))
  return rng.uniform(-1, 1, spec.shape).astype(np.float32)
