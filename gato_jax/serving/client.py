"""The client of `gato-jax serve`, in one file: copy it to the robot. Needs `numpy` and `websockets`.

    with Session('ws://127.0.0.1:8765', task='dm_control/reacher-easy') as session:
      action = session.act(observation)

Messages are JSON; arrays in them are base64 of their bytes. Nothing is pickled.
"""

import base64
from collections.abc import Mapping
import json
from typing import Any

import numpy as np
from websockets.sync.client import connect


class Refused(Exception):
  """The server would not do what was asked; its words say why."""


class Session:
  """One episode at a time on the server, which keeps its context.

  Attributes:
    opened: what the server said of the session: `task`, its `observation` and `action` specs, and `action_bounds`, what
      -1 and 1 stood for where the task was recorded; None: what they do in the simulator.
    milliseconds: how long the server took for the last action.
    late: whether that was longer than the period.
  """

  def __init__(self, address: str, task: str = '', *, observation: Mapping[str, Any] | None = None,
               action: Mapping[str, Any] | None = None, seed: int = 0, period_ms: float = 50.0, token: str = '',
               timeout: float = 60.0):
    """Opens the session.

    Args:
      address: `ws://host:port`.
      task: one that the agent knows; its demonstrations are the prompts.
      observation: instead of a task, key -> `{'kind': 'continuous', 'shape': [3]}`, or `image`, `discrete` with
        `num_values`, `text`.
      action: `{'kind': 'continuous', 'shape': [2]}`, in [-1, 1], or `{'kind': 'discrete', 'num_values': 4}`.
      seed: of the sampling.
      period_ms: what an action may take before it counts as late; 20 Hz in the paper.
      token: the server's, if it wants one.
      timeout: seconds to wait for any answer; the first may include compilation.
    """
    headers = {'Authorization': f'Bearer {token}'} if token else None
    self._timeout = timeout
    self._connection = connect(address, additional_headers=headers, open_timeout=timeout, max_size=2**24)
    self.milliseconds, self.late = 0.0, False
    message = {'type': 'open', 'seed': seed, 'period_ms': period_ms}
    message |= {'task': task} if task else {'observation': dict(observation or {}), 'action': dict(action or {})}
    try:
      self.opened = self._ask(message)
    except BaseException:
      self._connection.close()
      raise

  def reset(self, seed: int = 0) -> None:
    """Starts the next episode."""
    self._ask({'type': 'reset', 'seed': seed})

  def act(self, observation: Mapping[str, Any]) -> np.ndarray:
    """The action to take: float32 [A] in [-1, 1], or an int32 scalar; raises Refused if the observation is not fit."""
    answer = self._ask({'type': 'act', 'observation': {key: _encoded(value) for key, value in observation.items()}})
    self.milliseconds, self.late = answer['milliseconds'], answer['late']
    return np.array(answer['action'], np.int32 if isinstance(answer['action'], int) else np.float32)

  def close(self) -> None:
    """Ends the session."""
    self._connection.close()

  def __enter__(self) -> 'Session':
    return self

  def __exit__(self, *_: Any) -> None:
    self.close()

  def _ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
    self._connection.send(json.dumps(message))
    try:
      answer = json.loads(self._connection.recv(self._timeout))
    except TimeoutError:
      self._connection.close()  # a late answer must not pass for that of the next question
      raise
    if answer['type'] == 'error':
      raise Refused(answer['message'])
    return answer


def _encoded(value: Any) -> Any:
  if isinstance(value, str):
    return value
  array = np.ascontiguousarray(value)
  return {'dtype': array.dtype.str, 'shape': list(np.shape(value)), 'data': base64.b64encode(array.tobytes()).decode()}
