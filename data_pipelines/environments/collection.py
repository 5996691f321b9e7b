"""Demonstrations: an expert rolled through an environment, with or without noise in what is executed."""

from collections.abc import Iterator, Sequence
import contextlib
import signal
import threading
from typing import Any

import numpy as np

from data_pipelines.datasets.episodes import ControlEpisode
from data_pipelines.environments.noise import Disturbance, noise_settings
from data_pipelines.environments.simulation import DTYPES, SimulatedEnvironment
from data_pipelines.environments.specs import ArraySpec, Expert


class ExpertFailure(RuntimeError):
  """The expert raised or hung in an episode. Leave the episode out, count it, and go on with the next seed."""


def collect_episode(environment: SimulatedEnvironment, expert: Expert, seed: int, noise: bool) -> ControlEpisode:
  """Rolls the expert through the episode that `seed` determines.

  Args:
    environment: from `registry.make`.
    expert: from `registry.make_expert(environment)`.
    seed: determines the episode and the noise.
    noise: execute disturbed actions, `noise.NoiseSettings` of the task, and cut the episode off after their
      `max_steps`; the expert's own action is kept as the label.

  Returns:
    The episode, `environment.demonstration_tail` steps past its end where the task has such a tail.

  Raises:
    ExpertFailure: the expert raised, or the episode took over `environment.demonstration_seconds` (in the main thread,
      which alone can be interrupted).
  """
  limit = environment.demonstration_seconds
  try:
    with _time_limit(limit):
      return _roll(environment, expert, seed, noise)
  except TimeoutError as error:
    raise ExpertFailure(f'{environment.spec.name}, seed {seed}: no end after {limit} s') from error


def _roll(environment: SimulatedEnvironment, expert: Expert, seed: int, noise: bool) -> ControlEpisode:
  spec = environment.spec
  disturb = Disturbance(spec, seed) if noise else lambda action: action
  steps_left = noise_settings(spec).max_steps if noise else spec.max_steps
  observation = environment.reset(seed)
  observations, actions, labels, rewards, success = [], [], [], [], False
  with _expert_failures(f'{spec.name}, seed {seed}'):
    expert.reset()
  while steps_left:
    with _expert_failures(f'{spec.name}, seed {seed}'):
      label = expert.act(observation)
    action = disturb(label)
    result = environment.step(action)
    observations.append(observation)
    actions.append(action)
    labels.append(label)
    rewards.append(result.reward)
    success = result.success
    observation = result.observation
    steps_left -= 1
    if result.truncated:
      break
    if result.terminated:
      steps_left = min(steps_left, environment.steps_left)
  return ControlEpisode(
      observation={key: _stack(item, [o[key] for o in observations]) for key, item in spec.observation.items()},
      action=_stack(spec.action, actions),
      expert_action=_stack(spec.action, labels),
      reward=np.asarray(rewards, np.float32),
      episode_return=float(np.sum(rewards)),
      success=success,
  )


def _stack(spec: ArraySpec, items: Sequence[Any]) -> np.ndarray | list[str]:
  return list(items) if spec.kind == 'text' else np.stack(items).astype(DTYPES[spec.kind], copy=False)


@contextlib.contextmanager
def _expert_failures(where: str) -> Iterator[None]:
  """Turns whatever the expert raises into ExpertFailure, but for the time limit."""
  try:
    yield
  except TimeoutError:
    raise
  except Exception as error:
    raise ExpertFailure(f'{where}: the expert raised {type(error).__name__}: {error}') from error


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
  """Raises TimeoutError in the body after so many seconds; without effect outside the main thread."""
  if threading.current_thread() is not threading.main_thread():
    yield
    return

  def expire(signal_number, frame):
    raise TimeoutError

  previous = signal.signal(signal.SIGALRM, expire)
  signal.setitimer(signal.ITIMER_REAL, seconds)
  try:
    yield
  finally:
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, previous)
