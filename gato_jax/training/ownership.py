"""Who writes into a workdir: one run at a time, and when it was last alive."""

import json
import os
import pathlib
import socket
import threading
import time
from typing import Any

from data_pipelines.errors import InputError
from gato_jax.atomic import write_atomically

FILE = 'owner.json'
REFRESH = 5.0  # seconds between signs of life


class Ownership:
  """A workdir taken by this run, with a sign of life every few seconds.

  Attributes:
    before: the record of the run that had it before, None for a new workdir: `since` and `updated`, seconds since the
      epoch of its first start and its last sign of life, `host`, `pid`.

  Raises:
    InputError: another run is alive in it, or it cannot be written.
  """

  def __init__(self, workdir: str):
    if '://' in workdir:
      raise InputError(f'--workdir={workdir} must be a directory; checkpoints alone can be elsewhere, name that place '
                       'with --config.training.checkpoint_dir')
    self._path = pathlib.Path(workdir) / FILE
    self.before = _read(self._path)
    if self.before is not None:
      _refuse_if_alive(self._path, self.before)
    since = self.before['since'] if self.before else time.time()
    self._record = {
        'host': socket.gethostname(), 'pid': os.getpid(), 'started': process_ticks(os.getpid()), 'since': since}
    try:
      self._path.parent.mkdir(parents=True, exist_ok=True)
      self._write()
    except OSError as error:
      raise InputError(f'{workdir} cannot be written: {error}; make room, make it writable, or name another directory '
                       'with --workdir') from error
    self._stop = threading.Event()
    self._refreshing = threading.Thread(target=self._refresh, daemon=True, name='ownership')
    self._refreshing.start()

  def close(self) -> None:
    """Gives the workdir back."""
    self._stop.set()
    self._refreshing.join(REFRESH)  # else its last sign of life may come after this one
    self._record['pid'] = 0
    try:
      self._write()
    except OSError:
      pass  # it was only a note

  def _refresh(self) -> None:
    while not self._stop.wait(REFRESH):
      try:
        self._write()
      except OSError:
        pass  # a full disk is the checkpoint's to report

  def _write(self) -> None:
    write_atomically(self._path, json.dumps({**self._record, 'updated': time.time()}))


def _refuse_if_alive(path: pathlib.Path, record: dict[str, Any]) -> None:
  if record['pid'] == 0:
    return
  if record['host'] == socket.gethostname():
    alive = record['pid'] != os.getpid() and process_ticks(record['pid']) == record['started'] is not None
  else:
    alive = False
    deadline = time.monotonic() + 3 * REFRESH  # whatever the clocks of the two hosts say
    while not alive and time.monotonic() < deadline:
      time.sleep(REFRESH / 5)
      now = _read(path)
      alive = now is not None and now['updated'] != record['updated'] and now['pid'] != 0
  if alive:
    raise InputError(
        f'{path.parent} belongs to a run that is going on: process {record["pid"]} on {record["host"]}. Wait for it, '
        'stop it, or name another directory with --workdir')


def _read(path: pathlib.Path) -> dict[str, Any] | None:
  try:
    return json.loads(path.read_text())
  except (OSError, ValueError):
    return None


def process_ticks(pid: int) -> int | None:
  """When a process of this host started, in ticks since it was booted; None if there is none."""
  try:
    with open(f'/proc/{pid}/stat', encoding='utf-8') as file:
      return int(file.read().rpartition(')')[2].split()[19])
  except (OSError, ValueError):
    return None
