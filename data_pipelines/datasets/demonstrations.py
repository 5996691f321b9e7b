"""Plays experts for the demonstrations of a control task."""

from collections.abc import Iterator
import contextlib
import dataclasses
from typing import Any
import zlib

import numpy as np

from data_pipelines.datasets.catalogue import CLEAN_AGENT, NOISY_AGENT, SEED_LIMIT, Request
from data_pipelines.datasets.episodes import ControlEpisode
from data_pipelines.environments.collection import collect_episode
from data_pipelines.environments.registry import make, make_expert
from data_pipelines.environments.specs import Environment, Expert, Observation, StepResult
from data_pipelines.errors import InputError

_FAILURES_ALLOWED = 10  # whatever the number of episodes; beyond it, as many as there are good ones


@dataclasses.dataclass(frozen=True)
class Demonstration:
  """An episode, and what a ControlEpisode does not hold.

  Attributes:
    episode: T timesteps.
    final_observation: what was seen after the last action.
    terminated: whether the episode ended by itself; False where it was cut off.
    agent: who played: CLEAN_AGENT or NOISY_AGENT.
    seed: of the environment.
  """

  episode: ControlEpisode
  final_observation: Observation
  terminated: bool
  agent: str
  seed: int


def demonstrations(request: Request, dropped: list[str]) -> Iterator[Demonstration]:
  """Plays until `request.episodes` episodes are good; they are a pure function of the request.

  A task that is scored by success keeps successful episodes only. An episode that fails, or on which the expert or the
  simulator raises, gives way to the next seed.

  Args:
    request: of a control task.
    dropped: gets a line for every episode that was dropped.

  Raises:
    InputError: an unknown task, or its expert fails on more seeds than it solves (and on more than ten).
  """
  seeds = _seeds(request)
  with contextlib.closing(_Recorder(make(request.task_name))) as environment:
    expert = make_expert(environment.inner)
    for kept in range(request.episodes):
      # Noise is spread evenly over the episodes, and the first is always free of it.
      noise = int((kept + 1) * request.noise) > int(kept * request.noise)
      while isinstance(attempt := _attempt(environment, expert, next(seeds), noise), str):
        dropped.append(attempt)
        if len(dropped) > max(_FAILURES_ALLOWED, kept):
          raise InputError(
              f'{request.name}: the expert failed on {len(dropped)} seeds and solved {kept}; last, {attempt}. Leave '
              'the task out of the mixture, lower its noise, or mend its expert')
      yield attempt


def _attempt(environment: '_Recorder', expert: Expert, seed: int, noise: bool) -> Demonstration | str:
  """Plays one episode; what went wrong if it is not good."""
  try:
    episode = collect_episode(environment, expert, seed, noise)
  except Exception as error:  # experts and simulators are other people's code and fail in ways of their own
    return f'on seed {seed}: {type(error).__name__}: {error}'
  if environment.spec.score == 'success' and not episode.success:
    return f'on seed {seed}: no success in {episode.length} steps'
  last = environment.results[episode.length - 1]
  return Demonstration(episode, last.observation, last.terminated, NOISY_AGENT if noise else CLEAN_AGENT, seed)


def _seeds(request: Request) -> Iterator[int]:
  """Successive seeds below SEED_LIMIT from a random start of the task's own."""
  most = 2 * request.episodes + _FAILURES_ALLOWED + 1
  if most > SEED_LIMIT:
    raise InputError(f'{request.name}: there are not enough seeds below {SEED_LIMIT} for {request.episodes} episodes')
  generator = np.random.default_rng([request.seed, zlib.crc32(request.task_name.encode())])
  start = int(generator.integers(SEED_LIMIT - most + 1))
  return iter(range(start, start + most))


class _Recorder:
  """An environment that keeps its steps' results: RLDS wants the final observation and how the episode ended."""

  def __init__(self, inner: Environment):
    self.inner = inner
    self.results: list[StepResult] = []

  def __getattr__(self, name: str) -> Any:
    return getattr(self.inner, name)

  def reset(self, seed: int) -> Observation:
    self.results.clear()
    return self.inner.reset(seed)

  def step(self, action: np.ndarray) -> StepResult:
    self.results.append(self.inner.step(action))
    return self.results[-1]
