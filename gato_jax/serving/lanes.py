"""Rows of policies for sessions: requests that arrive together are answered together."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
import dataclasses
from typing import Any

import numpy as np

from data_pipelines.datasets.episodes import ControlEpisode
from data_pipelines.environments.specs import Observation
from data_pipelines.errors import InputError
from gato_jax.acting.policy import Policy


@dataclasses.dataclass
class Row:
  """A session's place.

  Attributes:
    lane: whose.
    number: of the row in it.
  """

  lane: 'Lane'
  number: int


class Lane:
  """A policy whose rows are sessions of one task.

  Args:
    policy: of B rows.
    thread: the one that computes; all lanes share it.
    wait: seconds that a request waits for others to come along.
  """

  def __init__(self, policy: Policy, thread: ThreadPoolExecutor, wait: float):
    self.rows = policy.batch_size
    self.free = list(range(self.rows))
    self.broken = False
    self._policy = policy
    self._thread = thread
    self._wait = wait
    self._waiting: dict[int, tuple[Observation, asyncio.Future]] = {}
    self._answering: asyncio.Task | None = None

  async def start(self, row: int, seed: int, prompt: ControlEpisode | None) -> None:
    """Starts an episode in a row; raises InputError if the model fails."""
    await self._compute(self._policy.start, row, seed, prompt)

  async def act(self, row: int, observation: Observation) -> np.ndarray:
    """The row's action; raises InputError if the observation does not fit into its context."""
    future = asyncio.get_running_loop().create_future()
    self._waiting[row] = observation, future
    if self._answering is None or self._answering.done():
      self._answering = asyncio.create_task(self._answer())
    return await future

  async def _answer(self) -> None:
    while self._waiting:
      if len(self._waiting) + len(self.free) < self.rows:
        await asyncio.sleep(self._wait)  # not all of them have asked
      requests, self._waiting = self._waiting, {}
      try:
        actions = await self._compute(self._act, {row: observation for row, (observation, _) in requests.items()})
      except InputError as failure:
        actions = dict.fromkeys(requests, failure)
      for row, (_, future) in requests.items():
        if not future.done():  # its session may be gone
          _settle(future, actions[row])

  def _act(self, observations: dict[int, Observation]) -> dict[int, Any]:
    """Row -> its action, or what was wrong with it; one row's error is not the others'."""
    try:
      actions = self._policy.act([observations.get(row) for row in range(self.rows)])
      return {row: actions[row] for row in observations}
    except InputError as error:
      if len(observations) == 1:
        return dict.fromkeys(observations, error)
    return {row: answer for one in observations.items() for row, answer in self._act(dict([one])).items()}

  async def _compute(self, function: Callable[..., Any], *arguments: Any) -> Any:
    try:
      return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
    except InputError:
      raise
    except Exception as error:  # of the device: what the rows remember is gone, but the server goes on
      self.broken = True
      raise InputError(f'the model failed ({error}); open another session') from error


class Lanes:
  """The lanes of all tasks; one is opened when a task's others are full."""

  def __init__(self, thread: ThreadPoolExecutor, wait: float):
    self._thread = thread
    self._wait = wait
    self._by_task: dict[Any, list[Lane]] = {}

  def take(self, task: Any, make: Callable[[], Policy]) -> Row:
    """A free row for a session of a task; `make` makes another policy for it."""
    lanes = self._by_task.get(task, ())
    lane = next((lane for lane in lanes if lane.free and not lane.broken), None)
    if lane is None:
      lane = Lane(make(), self._thread, self._wait)
      self._by_task.setdefault(task, []).append(lane)
    return Row(lane, lane.free.pop(0))

  def count(self, wanted: Callable[[Any], bool]) -> int:
    """Lanes of the tasks that are wanted."""
    return sum(len(lanes) for task, lanes in self._by_task.items() if wanted(task))

  def give_back(self, task: Any, row: Row) -> None:
    """Ends a session's use of it; a lane without sessions is let go, and with it its memory."""
    row.lane.free.append(row.number)
    lanes = self._by_task[task]
    if len(row.lane.free) == row.lane.rows:
      lanes.remove(row.lane)
    if not lanes:
      del self._by_task[task]


def _settle(future: asyncio.Future, answer: Any) -> None:
  if isinstance(answer, Exception):
    future.set_exception(answer)
  else:
    future.set_result(answer)
