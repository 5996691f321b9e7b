"""The roll call: all processes of a run find each other and agree, before JAX is started.

JAX's own start ends a process with a stack trace where another one is missing, and names nobody.
"""

from collections.abc import Callable
import contextlib
import json
import os
import socket
import time
from typing import Any

from data_pipelines.errors import InputError
from gato_jax.group import GRACE, Group, Peer

CLOCK_TOLERANCE = 30.0  # seconds
_RETRY = 0.2


def call_the_roll(
    coordinator: str, index: int, count: int, facts: dict[str, Any], compare: Callable[[list[dict[str, Any]]], str],
    timeout: float, clock: Callable[[], float] = time.time) -> Group:
  """Waits until all processes are there and agree.

  Args:
    coordinator: `host:port` of process 0.
    index: of this process.
    count: of all processes.
    facts: JSON that the processes compare.
    compare: from all processes' facts to what is wrong with them, empty where nothing is; process 0 calls it.
    timeout: seconds to wait for the others.
    clock: seconds since the epoch.

  Raises:
    InputError: the same on every process that is there: absent processes, facts or clocks that differ; no coordinator.
  """
  group = Group(index, count)
  if count == 1:
    return group
  deadline = time.monotonic() + timeout
  host, port = _address(coordinator)
  name = f'{socket.gethostname()} pid {os.getpid()}'
  facts = json.loads(json.dumps(facts))  # as the others' come: a tuple is a list
  hello = {'kind': 'hello', 'index': index, 'count': count, 'name': name, 'facts': facts}
  if index:
    _join(group, host, port, hello, deadline, timeout, clock)
  else:
    _receive_all(group, port, hello, compare, deadline, timeout, clock)
  group.listen()
  return group


def _address(coordinator: str) -> tuple[str, int]:
  host, _, port = coordinator.rpartition(':')
  if not host or not port.isdigit():
    raise InputError(f'the coordinator address {coordinator!r} is not host:port')
  return host, int(port)


def _join(group: Group, host: str, port: int, hello: dict[str, Any], deadline: float, timeout: float, clock) -> None:
  """Process i's part: finds process 0, answers its questions, hears the verdict."""
  problem = 'no answer'
  while time.monotonic() < deadline + GRACE:
    try:
      peer = Peer(socket.create_connection((host, port), timeout=5.0))
      peer.send(hello)
      while True:
        message = peer.receive(max(deadline + GRACE - time.monotonic(), 1.0))
        if message is None:
          raise ConnectionError('closed the connection; is another program using this port?')
        if message['kind'] == 'clock':
          peer.send({'kind': 'clock', 'time': clock()})
        elif message['problem']:
          raise InputError(message['problem'])
        else:
          group.add(0, message['name'], peer)
          group.add(group.index, hello['name'])
          return
    except InputError:
      raise
    except (OSError, ValueError) as error:
      problem = str(error)
      time.sleep(_RETRY)
  raise InputError(
      f'process {group.index} could not reach the coordinator, process 0 at {host}:{port}, within {timeout:.0f} s '
      f'({problem}). Is process 0 running, and is the port open between the hosts?')


def _receive_all(group: Group, port: int, hello: dict[str, Any], compare, deadline: float, timeout: float,
                 clock) -> None:
  """Process 0's part: takes the others in, compares, tells all the verdict."""
  found: dict[int, tuple[dict[str, Any], Peer]] = {}
  problems = []
  with _listener(port) as listener:
    while len(found) < group.count - 1 and time.monotonic() < deadline and not problems:
      problems += _take_one(listener, found, group.count, deadline)
  absent = [str(index) for index in range(1, group.count) if index not in found]
  if absent and not problems:
    problems.append(
        f'{len(found) + 1} of {group.count} processes came within {timeout:.0f} s; absent: process '
        f'{", ".join(absent)}. See their logs, or start them')
  if not problems:
    facts = [hello['facts'], *(found[index][0]['facts'] for index in sorted(found))]
    problems = [problem for problem in (compare(facts), _clock_problem(found, clock)) if problem]
  problem = '; '.join(problems)
  for _, peer in found.values():
    with contextlib.suppress(OSError):  # one that is gone by now is the group's to notice
      peer.send({'kind': 'verdict', 'problem': problem, 'name': hello['name']})
  if problem:
    raise InputError(problem)
  group.add(0, hello['name'])
  for index, (answer, peer) in found.items():
    group.add(index, answer['name'], peer)


def _listener(port: int) -> socket.socket:
  listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
  listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # JAX's service takes the port afterwards
  try:
    listener.bind(('', port))
  except OSError as error:
    listener.close()
    raise InputError(f'process 0 cannot listen on port {port}: {error}; choose another coordinator port') from error
  listener.listen(1024)
  listener.settimeout(_RETRY)
  return listener


def _take_one(listener: socket.socket, found: dict[int, Any], count: int, deadline: float) -> list[str]:
  """One more process, if one comes; returns what is wrong with it."""
  try:
    peer = Peer(listener.accept()[0])
    hello = peer.receive(max(min(deadline - time.monotonic(), 5.0), 0.1))
  except (OSError, ValueError):
    return []
  if not hello or hello.get('kind') != 'hello':
    return []
  index = hello['index']
  problem = []
  if hello['count'] != count:
    problem = [f'process {index} ({hello["name"]}) was told of {hello["count"]} processes, process 0 of {count}']
  elif index in found or not 0 < index < count:
    problem = [f'two processes say that they are process {index}: {hello["name"]} is the second']
  if problem:
    peer.send({'kind': 'verdict', 'problem': problem[0]})
  else:
    found[index] = hello, peer
  return problem


def _clock_problem(found: dict[int, tuple[dict[str, Any], Peer]], clock) -> str:
  """Asks every process for its time; half the time a question takes is its error. One that is gone is a problem too."""
  for index in sorted(found):
    hello, peer = found[index]
    asked = clock()
    try:
      peer.send({'kind': 'clock'})
      answer = peer.receive(10.0)
    except (OSError, ValueError):
      answer = None
    if answer is None:
      return f'process {index} ({hello["name"]}) came and went away again; see its log'
    ahead = answer['time'] - (asked + clock()) / 2
    if abs(ahead) > CLOCK_TOLERANCE:
      return (f'the clocks disagree: that of process {index} ({hello["name"]}) is {abs(ahead):,.0f} s '
              f'{"ahead of" if ahead > 0 else "behind"} process 0\'s; set them by NTP, as records go by them')
  return ''
