"""Plays episodes of one task: while the policy acts for one group of environments, the others take their step."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
from typing import Any, Protocol

import numpy as np

from data_pipelines.datasets.catalogue import SEED_LIMIT
from data_pipelines.datasets.episodes import ControlEpisode
from data_pipelines.environments.action_bounds import Bounds, RescaledActions
from data_pipelines.environments.registry import make, register
from data_pipelines.environments.specs import Environment, Observation, TaskSpec
from data_pipelines.errors import InputError
from gato_jax.evaluation.simulators import (
    Command,
    Moment,
    Outcome,
    Reset,
    SimulatorProcesses,
    Simulators,
    SimulatorsHere,
)

ATTEMPTS = 3  # at one episode, before a simulator that crashes is given up


class Player(Protocol):
  """What plays a group of environments: `gato_jax.acting.policy.Policy`, or a stand-in."""

  batch_size: int

  def start(self, row: int, seed: int, prompt: ControlEpisode | None = None) -> None:
    """Starts an episode in a row."""

  def act(self, observations: Sequence[Observation | None]) -> list[np.ndarray]:
    """One action a row; a row that rests has None for an observation."""


@dataclasses.dataclass(frozen=True)
class Rollouts:
  """What was played of one task.

  Attributes:
    task: its name.
    scores: one an episode, in the order of the seeds: the return, or 1 for success.
    lengths: steps an episode.
    crashes: how often a simulator crashed and its episode was played again.
    frames: pictures of the first episode, if asked for and if the task can be drawn.
  """

  task: str
  scores: tuple[float, ...]
  lengths: tuple[int, ...]
  crashes: int = 0
  frames: tuple[np.ndarray, ...] = ()

  @classmethod
  def from_json(cls, fields: Mapping[str, Any]) -> 'Rollouts':
    """Without frames."""
    return cls(**{**fields, 'scores': tuple(fields['scores']), 'lengths': tuple(fields['lengths']), 'frames': ()})


def check_seed(seed: int, name: str = 'evaluation.seed') -> None:
  """Raises InputError where the seeds of an evaluation, from this one on, are among the demonstrations'."""
  if seed < SEED_LIMIT:
    raise InputError(f'{name} is {seed}: demonstrations are made from the seeds below {SEED_LIMIT}; set it to at least '
                     'that')


def play(
    players: Sequence[Player],
    task: str,
    make: Callable[[], Environment],
    seeds: Sequence[int],
    prompts: Sequence[ControlEpisode] | None = None,
    *,
    workers: int = 0,
    frame_every: int = 0,
) -> Rollouts:
  """Plays one episode a seed; what happens in it depends on its seed and prompt alone, not on its neighbours.

  Who plays which episode in which row and when follows from the episodes' lengths, not from the processes' speed, so
  the number of workers changes nothing but the time.

  Args:
    players: each plays `batch_size` environments of its own. With two of them and workers, the model and the
      simulators work at the same time.
    task: its name, for messages.
    make: makes one environment; must pickle if there are workers. Called at most once a row, and again after a crash.
    seeds: of the environment's reset and of the policy's sampling.
    prompts: a pool of demonstrations; episode i starts with prompt i modulo their number. None or empty: no prompts.
    workers: processes that the environments are in; 0: this one.
    frame_every: keep a picture of the first episode every so many steps; 0: none.

  Raises:
    InputError: the same episode failed ATTEMPTS times in the simulator.
  """
  episodes = _Episodes(task, seeds, prompts, frame_every)
  simulators = SimulatorProcesses(make, workers) if workers else SimulatorsHere(make)
  groups, first = [], 0
  for player in players:
    groups.append(_Group(player, first, simulators, episodes))
    first += player.batch_size
  try:
    for group in groups:
      group.begin()
    while any(group.playing for group in groups):
      for group in groups:
        if group.playing:
          group.turn()
  finally:
    simulators.close()
  return episodes.rollouts()


def group_sizes(environments: int) -> list[int]:
  """Rows of each of the policies that play so many environments at once, to be given to `play`.

  They do not depend on the workers: a sum may round differently in a batch of another size.

  Raises:
    InputError: there are none.
  """
  if environments < 1:
    raise InputError('evaluation.episodes and evaluation.environments must be at least 1; to score pictures and text '
                     'alone, leave the control tasks out of data.mixture')
  return [(environments + 1) // 2] * min(2, environments)


def environment_maker(task: str, modules: Sequence[str], bounds: Bounds | None) -> Callable[[], Environment]:
  """What makes a task's environment, for `play`; pickles.

  Args:
    task: its name.
    modules: suites of the user's own.
    bounds: what -1 and 1 stood for in the data that the model learned from, if not what they do in the environment.
  """
  return functools.partial(_make, task, tuple(modules), bounds)


def cost(spec: TaskSpec) -> float:
  """Tokens of a longest episode, about: what the time to play it goes by."""
  observation = sum(item.size // 256 if item.kind == 'image' else item.size for item in spec.observation.values())
  return spec.max_steps * (observation + 1 + spec.action.size)


def _make(task: str, modules: tuple[str, ...], bounds: Bounds | None) -> Environment:
  register(modules)  # this may be a process of its own
  environment = make(task)
  return environment if bounds is None else RescaledActions(environment, bounds)


class _Episodes:
  """What is to be played and what has been."""

  def __init__(self, task: str, seeds: Sequence[int], prompts: Sequence[ControlEpisode] | None, frame_every: int):
    self._task, self._seeds, self._prompts, self._frame_every = task, seeds, prompts, frame_every
    self._pending = deque(range(len(seeds)))
    self._attempts = [0] * len(seeds)
    self._ended: dict[int, Outcome] = {}

  def next(self, player: Player, row: int) -> tuple[int, Reset] | None:
    """Starts the next episode in a player's row: its number and what to tell the simulator; None: all are under way."""
    if not self._pending:
      return None
    index = self._pending.popleft()
    self._attempts[index] += 1
    prompt = self._prompts[index % len(self._prompts)] if self._prompts else None
    player.start(row, self._seeds[index], prompt)
    return index, Reset(self._seeds[index], 0 if index else self._frame_every)

  def end(self, index: int, outcome: Outcome) -> None:
    if not outcome.error:
      self._ended[index] = outcome
    elif self._attempts[index] < ATTEMPTS:
      self._pending.append(index)
    else:
      raise InputError(f'{self._task}: the episode of seed {self._seeds[index]} failed {ATTEMPTS} times, the last time '
                       f'with {outcome.error}')

  def rollouts(self) -> Rollouts:
    outcomes = [self._ended[index] for index in range(len(self._seeds))]
    return Rollouts(
        self._task, tuple(outcome.score for outcome in outcomes), tuple(outcome.length for outcome in outcomes),
        sum(self._attempts) - len(self._seeds), outcomes[0].frames)


class _Group:
  """A player, its environments, and the episode of each of its rows; rows whose episodes have ended take the next."""

  def __init__(self, player: Player, first: int, simulators: Simulators, episodes: _Episodes):
    self._player, self._first, self._simulators, self._episodes = player, first, simulators, episodes
    self._playing: dict[int, int] = {}  # row -> episode

  @property
  def playing(self) -> bool:
    return bool(self._playing)

  def begin(self) -> None:
    commands: dict[int, Command] = {}
    for row in range(self._player.batch_size):
      self._start(row, commands)
    self._send(commands)

  def turn(self) -> None:
    """Takes the environments' answers and has the next command of each on its way before it returns."""
    answers = self._simulators.receive()
    observations: list[Observation | None] = [None] * self._player.batch_size
    commands: dict[int, Command] = {}
    for row, index in list(self._playing.items()):
      moment: Moment = answers[self._first + row]
      observations[row] = moment.observation
      if moment.outcome is not None:
        del self._playing[row]
        self._episodes.end(index, moment.outcome)
        self._start(row, commands)
    if any(observation is not None for observation in observations):
      actions = self._player.act(observations)
      commands |= {row: actions[row] for row, item in enumerate(observations) if item is not None}
    self._send(commands)

  def _start(self, row: int, commands: dict[int, Command]) -> None:
    started = self._episodes.next(self._player, row)
    if started is not None:
      self._playing[row], commands[row] = started

  def _send(self, commands: dict[int, Command]) -> None:
    if commands:
      self._simulators.send({self._first + row: command for row, command in commands.items()})
