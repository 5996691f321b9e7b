"""The processes of a run, talking about the run itself: who is there, do they agree, has one failed.

Beside JAX's own runtime, which ends a process without a word when another one is missing, and waits for ever in a
collective that one process never reaches. Here every wait has a limit and names the process it waited for, and an
error of one process is the error of all. A star: every process has a connection to process 0, with lines of JSON.
"""

from collections.abc import Callable
import contextlib
import json
import os
import socket
import sys
import threading
import time
from typing import Any

from data_pipelines.errors import InputError

LOST = 75  # exit status: start it again; the one that launchers restart on
FAILED = 2  # exit status: something must be changed first
GRACE = 10.0  # seconds a process has to end by itself after the failure of another
_RETRY = 0.2


class Preempted(Exception):
  """The run has saved its state and stopped, as the machine is wanted back; the same command goes on from there."""


class LostProcess(RuntimeError):
  """Another process of the run is gone; starting all of them again goes on from the last checkpoint."""


class Group:
  """All processes of a run. Every process calls the same methods in the same order.

  Attributes:
    index: of this process.
    count: of all.
  """

  def __init__(self, index: int = 0, count: int = 1):
    self.index, self.count = index, count
    self._names = [''] * count
    self._peers: dict[int, Peer] = {}
    self._changed = threading.Condition()
    self._values: dict[str, dict[int, Any]] = {}
    self._answers: dict[str, list[Any]] = {}
    self._failure: Exception | None = None
    self._said = threading.Event()  # the failure is on this process's output
    self._leaving: set[int] = set()
    self._rounds: dict[str, int] = {}
    self._readers: list[threading.Thread] = []

  def gather(self, name: str, value: Any, timeout: float) -> list[Any]:
    """Every process's value (JSON), by process.

    Raises:
      InputError: another process failed.
      LostProcess: a process is gone, or did not come within `timeout` seconds.
    """
    if self.count == 1:
      return [value]
    self._rounds[name] = self._rounds.get(name, 0) + 1
    name = f'{name} {self._rounds[name]}'
    if self.index:
      self._send_all({'kind': 'value', 'name': name, 'value': value})
      return self._wait(lambda: self._answers.pop(name, None), timeout + GRACE, lambda: [0], name)
    with self._changed:
      values = self._values.setdefault(name, {})
      values[0] = value
    self._wait(lambda: len(values) == self.count, timeout, lambda: set(range(self.count)) - set(values), name)
    answer = [values[index] for index in range(self.count)]
    del self._values[name]
    self._send_all({'kind': 'values', 'name': name, 'values': answer})
    return answer

  def first(self, name: str, value: Any, timeout: float) -> Any:
    """Process 0's value, on every process."""
    return self.gather(name, value if self.index == 0 else None, timeout)[0]

  @property
  def failed(self) -> bool:
    """Whether a process has failed: nothing may be waited for any more."""
    return self._failure is not None

  @property
  def status(self) -> int:
    """The exit status that the first failure asks for, whatever the other processes' errors were that followed it."""
    return FAILED if isinstance(self._failure, InputError) else LOST

  def check(self) -> None:
    """Raises what another process has failed with; never waits."""
    if self._failure:
      raise self._failure

  def fail(self, error: BaseException) -> None:
    """Tells the other processes that this one ends with an error; they raise it too, or are ended."""
    if self._failure is None and self.count > 1:
      text = str(error) if isinstance(error, InputError) else f'{type(error).__name__}: {error}'
      self._fail(f'{self._name(self.index)}: {text}', isinstance(error, InputError))

  def linger(self) -> None:
    """After a failure, until it is on the output, which may be another thread's work; and on process 0 until the others
    have ended: JAX aborts them when its service goes away."""
    deadline = time.monotonic() + GRACE
    if self._failure:
      self._said.wait(GRACE)
    while self.index == 0 and any(reader.is_alive() for reader in self._readers) and time.monotonic() < deadline:
      time.sleep(_RETRY)

  def close(self) -> None:
    """Leaves the group in good order, once all have got here."""
    if self.count > 1 and self._failure is None:
      try:
        self.gather('end', None, 60.0)
      except (InputError, LostProcess):
        pass  # all that was to be done is done
    self._send_all({'kind': 'bye'})
    for peer in self._peers.values():
      peer.close()

  def add(self, index: int, name: str, peer: 'Peer | None' = None) -> None:
    """A process's name and the connection to it; process 0 has all the others', the others have process 0's."""
    self._names[index] = name
    if peer:
      self._peers[index] = peer

  def listen(self) -> None:
    """From now on messages are taken in as they come."""
    for index, peer in self._peers.items():
      self._readers.append(threading.Thread(target=self._read, args=(index, peer), daemon=True))
      self._readers[-1].start()

  def _read(self, index: int, peer: 'Peer') -> None:
    while True:
      try:
        message = peer.receive(None)
      except (OSError, ValueError):
        message = None
      if message is None or message['kind'] == 'bye':
        if message is None and index not in self._leaving and self._failure is None:
          self._fail(f'{self._name(index)} is gone; see its log', False)
        return
      self._take(index, message)

  def _take(self, index: int, message: dict[str, Any]) -> None:
    with self._changed:
      if message['kind'] == 'value':
        self._values.setdefault(message['name'], {})[index] = message['value']
        if message['name'].startswith('end '):
          self._leaving.add(index)
      elif message['kind'] == 'values':
        self._answers[message['name']] = message['values']
        if message['name'].startswith('end '):
          self._leaving.add(index)
      self._changed.notify_all()
    if message['kind'] == 'failure' and self._failure is None:
      self._fail(message['text'], message['final'])

  def _wait(self, ready: Callable[[], Any], timeout: float, absent: Callable[[], Any], name: str) -> Any:
    deadline = time.monotonic() + timeout
    with self._changed:
      while True:
        self.check()
        result = ready()
        if result:
          return result
        if time.monotonic() > deadline:
          break
        self._changed.wait(_RETRY)
    who = ', '.join(self._name(index) for index in sorted(absent()))
    self._fail(f'waited {timeout:.0f} s at "{name}" for {who}', False)
    raise self._failure

  def _fail(self, text: str, final: bool) -> None:
    """Notes the failure, hands it on, and sees to it that this process ends even if it waits for a device."""
    with self._changed:
      self._failure = InputError(text) if final else LostProcess(text)
      self._changed.notify_all()
    self._send_all({'kind': 'failure', 'text': text, 'final': final})

    def end():
      time.sleep(GRACE)
      os._exit(FAILED if final else LOST)

    threading.Thread(target=end, daemon=True, name='end').start()
    with contextlib.suppress(OSError):  # nobody may be reading
      print(f'gato-jax: error: {text}', file=sys.stderr, flush=True)
    self._said.set()

  def _send_all(self, message: dict[str, Any]) -> None:
    for peer in self._peers.values():
      try:
        peer.send(message)
      except OSError:
        pass  # its reader will find out

  def _name(self, index: int) -> str:
    return f'process {index} ({self._names[index]})' if self._names[index] else f'process {index}'


class Peer:
  """Lines of JSON over a connection."""

  def __init__(self, connection: socket.socket):
    self._socket = connection
    self._buffer = b''
    self._lock = threading.Lock()

  def send(self, message: dict[str, Any]) -> None:
    with self._lock:
      self._socket.sendall(json.dumps(message).encode() + b'\n')

  def receive(self, timeout: float | None) -> dict[str, Any] | None:
    """The next message; None at the end. Raises OSError, or ValueError where it is not ours."""
    self._socket.settimeout(timeout)
    while b'\n' not in self._buffer:
      data = self._socket.recv(65536)
      if not data:
        return None
      self._buffer += data
    line, self._buffer = self._buffer.split(b'\n', 1)
    return json.loads(line)

  def close(self) -> None:
    try:
      self._socket.shutdown(socket.SHUT_RDWR)
    except OSError:
      pass
    self._socket.close()
