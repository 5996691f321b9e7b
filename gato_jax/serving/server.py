"""`gato-jax serve`: a model that robots ask for actions, over WebSockets. A connection is a session.

Sessions have a context each and share the computation: what arrives together is answered together. A session that
breaks, or sends what it should not, is told or ended; the others do not notice. `client.py` speaks the protocol:

    {"type": "open", "task": NAME}                -> {"type": "opened", "task", "observation", "action",
                                                      "action_bounds", "prompts"}
    {"type": "open", "observation": {...}, "action": {...}}     for an environment that training has not seen
    {"type": "act", "observation": {KEY: VALUE}}  -> {"type": "action", "action", "milliseconds", "late"}
    {"type": "reset", "seed": 1}                  -> {"type": "ready"}
                                                  -> {"type": "error", "message"} instead of any of them

Actions are in [-1, 1]; "action_bounds" says what these stood for where a task was recorded, [[LOW, ...], [HIGH, ...]],
or is null. A VALUE is a number, lists of numbers, a string, or {"dtype": "<f4", "shape": [3], "data": BASE64}. GET / on
the same port answers with the tasks, the limits and the counts so far, as JSON.
"""

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
import contextlib
import dataclasses
import hmac
import http
import ipaddress
import json
import threading
import time
from typing import Any

from rich.console import Console
from websockets.asyncio.server import Request, Response, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from data_pipelines.environments.specs import TaskSpec
from data_pipelines.errors import InputError
from gato_jax.agent import Agent
from gato_jax.export.tasks import KnownTask
from gato_jax.serving.lanes import Lanes, Row
from gato_jax.serving.messages import number, read_message, read_observation, read_spec

_SEEDS = 2**32 - 1
_PERIODS = (1.0, 60_000.0)  # milliseconds


@dataclasses.dataclass(frozen=True)
class Limits:
  """What a server puts up with.

  Attributes:
    sessions: at once.
    message_bytes: of one message.
    values: of one observation, pixels counted by channel.
    rate: messages a second of a session, on average; one that sends more waits.
    idle: seconds without a message before a session is ended.
    batch: sessions answered together; also what one of them alone costs, so for a single robot 1 is best.
    unseen: sessions at once of environments that training has not seen, which are answered one by one: each takes
      memory and compilation of its own.
    wait_ms: a request waits so long for others to come along.
  """

  sessions: int = 64
  message_bytes: int = 2**22
  values: int = 2**20
  rate: float = 200.0
  idle: float = 300.0
  batch: int = 8
  unseen: int = 4
  wait_ms: float = 2.0


@dataclasses.dataclass
class Counts:
  """Since the server started."""

  sessions: int = 0
  actions: int = 0
  late: int = 0
  errors: int = 0


@dataclasses.dataclass
class _Session:
  task: str
  spec: TaskSpec
  lane_key: tuple[str, str]
  row: Row
  prompts: list[Any]
  period_ms: float
  episodes: int = 0


class Server:
  """Serves one agent.

  Args:
    agent: loaded.
    limits: see there.
    token: what clients must send as `Authorization: Bearer TOKEN`; empty: nothing.
  """

  def __init__(self, agent: Agent, limits: Limits, token: str = ''):
    self.counts = Counts()
    self._agent = agent
    self._limits = limits
    self._token = token
    self._thread = ThreadPoolExecutor(1, thread_name_prefix='model')
    self._lanes = Lanes(self._thread, limits.wait_ms / 1000)
    self._open = 0

  def listen(self, host: str, port: int) -> Any:
    """An async context manager; the server runs inside it."""
    return serve(self._session, host, port, max_size=self._limits.message_bytes, process_request=self._admit,
                 max_queue=4, server_header=None)

  def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
    """Before a connection becomes a session: the token, room, and those who only want to know."""
    given = request.headers.get('Authorization', '').removeprefix('Bearer ')
    if self._token and not hmac.compare_digest(given.encode(), self._token.encode()):
      return connection.respond(http.HTTPStatus.UNAUTHORIZED, 'send the token: Authorization: Bearer TOKEN\n')
    if request.headers.get('Upgrade', '').lower() != 'websocket':
      return connection.respond(http.HTTPStatus.OK, json.dumps(self._status(), indent=1) + '\n')
    if 'Origin' in request.headers and not self._token:
      # A web page that somebody looks at must not reach a robot's server on the same machine.
      return connection.respond(http.HTTPStatus.FORBIDDEN, 'browsers need a token\n')
    if self._open >= self._limits.sessions:
      return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, f'{self._open} sessions are open; no room\n')
    return None

  def _status(self) -> dict[str, Any]:
    return {'tasks': list(self._agent.tasks), 'step': self._agent.step, 'open_sessions': self._open,
            'counts': dataclasses.asdict(self.counts), 'limits': dataclasses.asdict(self._limits)}

  async def _session(self, connection: ServerConnection) -> None:
    if self._open >= self._limits.sessions:
      await connection.close(1013, 'no room')
      return
    self._open += 1
    self.counts.sessions += 1
    session: _Session | None = None
    pace = _Pace(self._limits.rate)
    try:
      while True:
        data = await asyncio.wait_for(connection.recv(), self._limits.idle)
        arrived = time.monotonic()
        await pace.keep()
        try:
          message = read_message(data)
          if session is None or message['type'] == 'open':
            session = await self._opened(session, message)
            answer = _description(session, self._agent.tasks.get(session.task))
          else:
            answer = await self._answer(session, message, arrived)
        except InputError as error:
          self.counts.errors += 1
          answer = {'type': 'error', 'message': str(error)}
        await connection.send(json.dumps(answer))
    except TimeoutError:
      await connection.close(1000, f'no message for {self._limits.idle:g} s')
    except ConnectionClosed:
      pass
    finally:
      self._open -= 1
      if session is not None:
        self._lanes.give_back(session.lane_key, session.row)

  async def _opened(self, session: _Session | None, message: dict[str, Any]) -> _Session:
    if session is not None:
      raise InputError('this session is open already; a connection has one')
    if message['type'] != 'open':
      raise InputError('the first message is "open"')
    task = message.get('task', '')
    if not isinstance(task, str):
      raise InputError('"task" is a name')
    spec = None if task else read_spec(message, self._limits.values)
    seed = int(number(message, 'seed', 0, 0, _SEEDS))
    period_ms = number(message, 'period_ms', 50.0, *_PERIODS)
    loop = asyncio.get_running_loop()
    make, spec, prompts = await loop.run_in_executor(
        self._thread, self._agent.rows, task, spec, self._limits.batch if task else 1)
    # Nothing may be awaited between this and the session's row, or many that come at once would all find room.
    if not task and self._lanes.count(lambda key: not key[0]) >= self._limits.unseen:
      raise InputError(f'{self._limits.unseen} sessions of environments of their own are open; no room for more')
    key = task, json.dumps(spec.to_json(), sort_keys=True)
    session = _Session(task, spec, key, self._lanes.take(key, make), prompts, period_ms)
    try:
      await self._start(session, seed)
    except BaseException:
      self._lanes.give_back(key, session.row)
      raise
    return session

  async def _answer(self, session: _Session, message: dict[str, Any], arrived: float) -> dict[str, Any]:
    if message['type'] == 'reset':
      await self._start(session, int(number(message, 'seed', 0, 0, _SEEDS)))
      return {'type': 'ready'}
    if message['type'] != 'act':
      raise InputError(f'a message of type {message["type"]!r}; there are open, act and reset')
    action = await session.row.lane.act(session.row.number, read_observation(session.spec, message))
    milliseconds = 1000 * (time.monotonic() - arrived)
    late = milliseconds > session.period_ms
    self.counts.actions += 1
    self.counts.late += late
    return {'type': 'action', 'action': action.tolist(), 'milliseconds': round(milliseconds, 3), 'late': late}

  async def _start(self, session: _Session, seed: int) -> None:
    prompt = session.prompts[session.episodes % len(session.prompts)] if session.prompts else None
    session.episodes += 1
    await session.row.lane.start(session.row.number, seed, prompt)


class _Pace:
  """Keeps a session to a rate by making it wait; a second's worth may come at once."""

  def __init__(self, rate: float):
    self._rate = rate
    self._due = 0.0  # when the messages so far would have come at this rate

  async def keep(self) -> None:
    now = time.monotonic()
    self._due = max(self._due, now - 1.0) + 1.0 / self._rate
    if self._due > now:
      await asyncio.sleep(self._due - now)


def _description(session: _Session, known: KnownTask | None) -> dict[str, Any]:
  spec = session.spec.to_json()
  return {'type': 'opened', 'task': session.task, 'observation': spec['observation'], 'action': spec['action'],
          'action_bounds': known and known.action_bounds, 'prompts': len(session.prompts)}


def run(agent: Agent, host: str, port: int, limits: Limits, token: str, console: Console | None = None) -> None:
  """Serves until it is interrupted; says every ten seconds what was done, if anything was.

  Raises:
    InputError: it cannot listen there, or would listen beyond this machine without a token.
  """
  console = console or Console()
  for name, least in (('sessions', 1), ('batch', 1), ('rate', 0.1), ('message_bytes', 100)):
    if getattr(limits, name) < least:
      raise InputError(f'--{name} is {getattr(limits, name)}: must be {least} at least')
  if not 0 <= port < 2**16:
    raise InputError(f'--port is {port}: must be from 0 to 65535')
  if not token and not _is_loopback(host):
    raise InputError(f'{host} is reached from other machines: set a token, in the environment variable GATO_JAX_TOKEN')

  async def main() -> None:
    server = Server(agent, limits, token)
    try:
      async with server.listen(host, port) as listener:
        console.print(f'ws://{host}:{_port(listener)}: {len(agent.tasks)} tasks; Ctrl-C ends it', highlight=False)
        await _report(server, console)
    except OSError as error:
      raise InputError(f'cannot listen on {host}:{port} ({error}); name another --port') from error

  try:
    asyncio.run(main())
  except KeyboardInterrupt:
    pass


@contextlib.contextmanager
def in_background(agent: Agent, limits: Limits, token: str = '') -> Iterator[tuple[str, Server]]:
  """Serves on a free port of this machine, in a thread, while the `with` lasts; gives the address and the server."""
  started: Future[tuple[str, Server]] = Future()
  ended = threading.Event()

  async def main() -> None:
    try:
      server = Server(agent, limits, token)
      async with server.listen('127.0.0.1', 0) as listener:
        started.set_result((f'ws://127.0.0.1:{_port(listener)}', server))
        await asyncio.get_running_loop().run_in_executor(None, ended.wait)
    except Exception as error:
      if started.done():
        raise
      started.set_exception(error)

  thread = threading.Thread(target=asyncio.run, args=(main(),), name='server')
  thread.start()
  try:
    yield started.result()
  finally:
    ended.set()
    thread.join()


def _port(listener: Any) -> int:
  """The one it has, where any was asked for."""
  return listener.sockets[0].getsockname()[1]


def _is_loopback(host: str) -> bool:
  try:
    return host == 'localhost' or ipaddress.ip_address(host).is_loopback
  except ValueError:
    return False


async def _report(server: Server, console: Console) -> None:
  before = dataclasses.replace(server.counts)
  while True:
    await asyncio.sleep(10)
    counts = dataclasses.replace(server.counts)
    if counts != before:
      console.print(f'{counts.sessions} sessions, {(counts.actions - before.actions) / 10:.1f} actions/s, '
                    f'{counts.late - before.late} late, {counts.errors - before.errors} errors', highlight=False)
    before = counts
