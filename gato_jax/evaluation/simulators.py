"""Environments that play for a policy, here or in processes of their own. Imports no jax: such a process needs none."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
import contextlib
import dataclasses
import multiprocessing
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Protocol

import numpy as np

from data_pipelines.environments.specs import Environment, Observation, StepResult


class Reset(NamedTuple):
  """Asks for an episode; `frame_every`: keep a picture every so many steps, 0: none."""

  seed: int
  frame_every: int = 0


Command = Reset | np.ndarray  # start an episode, or take an action


@dataclasses.dataclass(frozen=True)
class Outcome:
  """How an episode ended.

  Attributes:
    score: the return, or 1 for success.
    length: steps.
    error: what the simulator raised, if it crashed; the other fields then mean nothing.
    frames: pictures, if they were asked for and if the task can be drawn.
  """

  score: float = 0.0
  length: int = 0
  error: str = ''
  frames: tuple[np.ndarray, ...] = ()


class Moment(NamedTuple):
  """What a command led to: the next observation, or the end of the episode."""

  observation: Observation | None = None
  outcome: Outcome | None = None


class Simulators(Protocol):
  """Environments by number. Answers come in the order of the questions."""

  def send(self, commands: Mapping[int, Command]) -> None:
    """Has each environment that is named do what it is told."""

  def receive(self) -> dict[int, Moment]:
    """The answers to the earliest `send` that has not been answered."""

  def close(self) -> None:
    """Frees the simulators."""


class SimulatorsHere:
  """In this process, one after the other, while they are asked."""

  def __init__(self, make: Callable[[], Environment]):
    self._make = make
    self._seats: dict[int, _Seat] = {}
    self._answers: deque[dict[int, Moment]] = deque()

  def send(self, commands: Mapping[int, Command]) -> None:
    """See `Simulators`."""
    self._answers.append({number: self._seat(number).run(command) for number, command in commands.items()})

  def receive(self) -> dict[int, Moment]:
    """See `Simulators`."""
    return self._answers.popleft()

  def close(self) -> None:
    """See `Simulators`."""
    for seat in self._seats.values():
      seat.environment.close()

  def _seat(self, number: int) -> '_Seat':
    if number not in self._seats:
      self._seats[number] = _Seat(self._make)
    return self._seats[number]


class SimulatorProcesses:
  """In worker processes: environment i in process i modulo their number. `send` returns at once.

  A process that dies takes its episodes with it, which then ended with an error, and another one takes its place.
  """

  def __init__(self, make: Callable[[], Environment], workers: int):
    """Starts the processes; `make` must pickle."""
    self._workers = [_Worker(make) for _ in range(workers)]
    self._asked: deque[Sequence[_Worker]] = deque()

  def send(self, commands: Mapping[int, Command]) -> None:
    """See `Simulators`."""
    shares: dict[_Worker, dict[int, Command]] = {}
    for number, command in commands.items():
      shares.setdefault(self._workers[number % len(self._workers)], {})[number] = command
    for worker, share in shares.items():
      worker.send(share)
    self._asked.append(list(shares))

  def receive(self) -> dict[int, Moment]:
    """See `Simulators`."""
    moments: dict[int, Moment] = {}
    for worker in self._asked.popleft():
      moments |= worker.receive()
    return moments

  def close(self) -> None:
    """See `Simulators`."""
    for worker in self._workers:
      worker.stop()


class _Worker:
  """One process, and what it was asked and has not answered."""

  def __init__(self, make: Callable[[], Environment]):
    self._make = make
    self._pending: deque[Mapping[int, Command]] = deque()
    self._start()

  def send(self, commands: Mapping[int, Command]) -> None:
    self._pending.append(commands)
    self._write(commands)

  def receive(self) -> dict[int, Moment]:
    commands = self._pending[0]
    try:
      answer = self._pipe.recv()
    except (EOFError, OSError):
      self._restart()
      answer = {number: _crash(f'the simulator process died with {self._status}') for number in commands}
    self._pending.popleft()
    if isinstance(answer, Exception):
      raise answer
    return answer

  def stop(self) -> None:
    self._pipe.close()
    self._process.join()

  def _start(self) -> None:
    context = multiprocessing.get_context('spawn')
    self._pipe, theirs = context.Pipe()
    self._process = context.Process(target=_serve, args=(self._make, theirs), daemon=True)
    self._process.start()
    theirs.close()

  def _write(self, commands: Mapping[int, Command]) -> None:
    with contextlib.suppress(OSError):  # it has died: so `receive` finds
      self._pipe.send(commands)

  def _restart(self) -> None:
    self._pipe.close()
    self._process.join()
    self._status = f'exit status {self._process.exitcode}'
    self._start()
    for commands in list(self._pending)[1:]:  # where it is an action, the answer will be an error
      self._write(commands)


def _serve(make: Callable[[], Environment], pipe: Connection) -> None:
  """Answers until the other end is closed."""
  here = SimulatorsHere(make)
  while True:
    try:
      commands = pipe.recv()
    except EOFError:
      here.close()
      return
    try:
      here.send(commands)
      answer = here.receive()
    except Exception as error:  # the environment cannot even be made: for the one who asked to tell
      answer = error
    pipe.send(answer)


class _Seat:
  """One environment and the episode that is being played in it."""

  def __init__(self, make: Callable[[], Environment]):
    self._make = make
    self.environment = make()
    self._playing = False

  def run(self, command: Command) -> Moment:
    """Does what it is told; whatever a simulator raises is an outcome, and a new simulator takes its place."""
    if not self._playing and not isinstance(command, Reset):
      return _crash('the simulator process died')
    try:
      moment = self._reset(*command) if isinstance(command, Reset) else self._step(command)
    except Exception as error:  # physics that diverged, a lost native handle
      moment = _crash(repr(error))
      with contextlib.suppress(Exception):  # it may be too broken for that
        self.environment.close()
      self.environment = self._make()
    self._playing = moment.outcome is None
    return moment

  def _reset(self, seed: int, frame_every: int) -> Moment:
    self._score, self._length = 0.0, 0
    self._drawn = Drawn(self.environment, frame_every)
    return Moment(self._drawn.reset(seed))

  def _step(self, action: np.ndarray) -> Moment:
    result = self._drawn.step(action)
    by_success = self.environment.spec.score == 'success'
    self._length += 1
    self._score = float(result.success) if by_success else self._score + float(result.reward)
    if not (result.terminated or result.truncated):
      return Moment(result.observation)
    return Moment(outcome=Outcome(self._score, self._length, frames=tuple(self._drawn.frames)))


class Drawn:
  """An environment that is drawn while somebody plays it.

  Args:
    environment: what is played.
    every: steps between pictures, besides those of the episode's start and end; 0: none are drawn.
  """

  def __init__(self, environment: Environment, every: int):
    self._environment = environment
    self._every = every
    self.frames: list[np.ndarray] = []

  def __getattr__(self, name: str) -> Any:
    return getattr(self._environment, name)

  def reset(self, seed: int) -> Observation:
    observation = self._environment.reset(seed)
    self._steps = 0
    self._draw()
    return observation

  def step(self, action: np.ndarray) -> StepResult:
    result = self._environment.step(action)
    self._steps += 1
    if self._every and (result.terminated or result.truncated or self._steps % self._every == 0):
      self._draw()
    return result

  def _draw(self) -> None:
    frame = self._environment.render() if self._every else None
    if frame is not None:
      self.frames.append(frame)


def _crash(error: str) -> Moment:
  return Moment(outcome=Outcome(error=error))
