"""Where the time of a run goes, every second of it, over all its restarts."""

import contextlib
import json
import os
import pathlib
import time
from typing import Any

from data_pipelines.errors import InputError
from gato_jax.atomic import write_atomically
from gato_jax.training.ownership import process_ticks

FILE = 'goodput.json'
# What the time is spent on; `step` alone is good.
BUCKETS = {
    'start': 'from the start of the process to the first batch: imports, other processes, datasets, initial state',
    'restore': 'reading a checkpoint',
    'compile': 'the compilation after a start',
    'data': 'waiting for a batch',
    'step': 'steps, and the writing of their metrics',
    'save': 'waiting for a checkpoint: for the one before it, and for the arrays to leave the device',
    'evaluation': 'playing, as training goes on',
    'lost': 'steps done again because no checkpoint had them',
    'down': 'from the last sign of life to the next start',
    'unknown': 'lost or down: from a checkpoint to the next start, where owner.json and goodput.json were gone',
}


class Goodput:
  """A clock that is always in one bucket.

  Its state is JSON and lies in every checkpoint.

  Args:
    began: when the process started, seconds since the epoch.
  """

  def __init__(self, began: float | None = None):
    self.seconds = dict.fromkeys(BUCKETS, 0.0)
    self._began = process_start() if began is None else began
    self.seconds['start'] = time.time() - self._began
    self._bucket, self._since = 'start', time.monotonic()

  def enter(self, bucket: str) -> None:
    """From now on, time goes into this bucket."""
    now = time.monotonic()
    self.seconds[self._bucket] += now - self._since
    self._bucket, self._since = bucket, now

  def to_json(self) -> dict[str, Any]:
    self.enter(self._bucket)
    return {'seconds': dict(self.seconds), 'at': time.time()}

  def go_on(self, saved: dict[str, Any] | None, before: dict[str, Any] | None) -> None:
    """Adds up with what an interrupted run had spent.

    Args:
      saved: `to_json` in the checkpoint that is gone on from; None if there is none.
      before: the record of the workdir's owner before (`ownership`), or `last_sign`; None if there is neither.
    """
    if saved is None and before is None:
      return
    seconds, at = (saved['seconds'], saved['at']) if saved else ({}, before['since'])
    alive = max(before['updated'], at) if before else at
    for bucket, spent in {**seconds, 'lost': seconds.get('lost', 0.0) + alive - at}.items():
      self.seconds[bucket] += spent
    self.seconds['down' if before else 'unknown'] += max(self._began - alive, 0.0)

  def write(self, workdir: str) -> None:
    """Writes goodput.json, for `gato-jax goodput`; a full disk is the metrics' and the checkpoints' to report."""
    with contextlib.suppress(OSError):
      write_atomically(pathlib.Path(workdir) / FILE, json.dumps(self.to_json()))


def report(workdir: str) -> str:
  """The table of a run, and its plot as goodput.png; raises InputError where there has been no run."""
  seconds = read_seconds(workdir)
  _plot(seconds, (pathlib.Path(workdir) / FILE).with_suffix('.png'))
  return table(seconds)


def read_seconds(workdir: str | os.PathLike) -> dict[str, float]:
  """Bucket -> seconds of a run; raises InputError where there has been none."""
  path = pathlib.Path(workdir) / FILE
  try:
    seconds = json.loads(path.read_text(encoding='utf-8'))['seconds']
    return {bucket: float(spent) for bucket, spent in seconds.items()}
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise InputError(f'{path} cannot be read ({error}); train into this workdir first') from error


def last_sign(workdir: str) -> dict[str, float] | None:
  """What goodput.json tells of the run before where owner.json is gone; see `Goodput.go_on`."""
  try:
    state = json.loads((pathlib.Path(workdir) / FILE).read_text(encoding='utf-8'))
    return {'since': state['at'] - sum(state['seconds'].values()), 'updated': state['at']}
  except (OSError, ValueError, KeyError, TypeError, AttributeError):
    return None


def _plot(seconds: dict[str, float], path: pathlib.Path) -> None:
  """One bar, a colour a bucket."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(9, 2), layout='constrained')
  axes = figure.subplots()
  left = 0.0
  for bucket, spent in seconds.items():
    axes.barh(0, spent, left=left, label=f'{bucket} {spent / max(sum(seconds.values()), 1e-9):.1%}')
    left += spent
  axes.set(yticks=[], xlabel='seconds')
  axes.legend(ncols=4, loc='lower center', bbox_to_anchor=(0.5, 1.0), frameon=False)
  figure.savefig(path, dpi=120)


def table(seconds: dict[str, float]) -> str:
  """Seconds and shares by bucket, and the goodput: the share of `step`."""
  total = max(sum(seconds.values()), 1e-9)
  lines = [f'{bucket:10} {spent:12,.1f} s {spent / total:7.1%}  {BUCKETS.get(bucket, "")}'
           for bucket, spent in seconds.items()]
  return '\n'.join([*lines, f'{"goodput":10} {total:12,.1f} s {seconds.get("step", 0.0) / total:7.1%}'])


def process_start() -> float:
  """When this process started, seconds since the epoch."""
  ticks = process_ticks(os.getpid())
  if ticks is None:  # this system does not say
    return time.time()
  return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf('SC_CLK_TCK'))
