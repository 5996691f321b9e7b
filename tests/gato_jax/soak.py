"""`make soak`: a long training run that is killed, stopped and moved to other processes and devices; looks for leaks.

`python -m tests.gato_jax.soak --config=FILE --workdir=DIR [--config.a.b=value ...]` trains to the end, writes what it
saw every few seconds to DIR/soak.jsonl, draws it as DIR/soak.svg and prints a JSON line: for each part of the run how
memory and open files grew within it, and for each seam between two parts how the loss went on.
"""

import argparse
import dataclasses
import json
import pathlib
import statistics
import sys
import threading
import time
from typing import Any, NamedTuple

from matplotlib.figure import Figure
import psutil

from experiments.launch.job import Job
from experiments.launch.local import Launcher
from gato_jax.config_file import load_config
from gato_jax.training.metrics import read_records
from tests.gato_jax.processes import last_step

FILE, PLOT = 'soak.jsonl', 'soak.svg'
SECONDS = 10.0  # between two looks
WARM_UP = 0.25  # of a part, in which caches fill


class Part(NamedTuple):
  """A stretch of the run on one topology.

  Attributes:
    until: share of the run's steps after which it ends; not before the next record.
    processes, devices: so many processes with so many simulated devices each.
    ending: `kill` (SIGKILL, of one process), `stop` (SIGTERM, of all), or `end`, of the run itself.
  """

  until: float
  processes: int
  devices: int
  ending: str


PARTS = (
    Part(0.17, 1, 1, 'kill'),
    Part(0.38, 1, 1, 'stop'),
    Part(0.42, 2, 1, 'stop'),
    Part(0.505, 1, 2, 'kill'),
    Part(1.0, 1, 1, 'end'),
)


class Watcher(threading.Thread):
  """Looks at a part's processes every few seconds, and ends the part when it has come far enough."""

  def __init__(self, number: int, part: Part, launcher: Launcher, workdir: str, steps: int):
    super().__init__(daemon=True)
    self._number, self._part, self._launcher, self._workdir = number, part, launcher, pathlib.Path(workdir)
    self._until = part.until * steps
    self._over = threading.Event()

  def run(self) -> None:
    with (self._workdir / FILE).open('a', encoding='utf-8') as file:
      while not self._over.wait(SECONDS):
        step = last_step(self._workdir)
        file.write(json.dumps({'at': time.time(), 'part': self._number, 'step': step, **self._look()}) + '\n')
        file.flush()
        if step >= self._until and self._part.ending != 'end':
          self._end()
          return

  def close(self) -> None:
    self._over.set()
    self.join()

  def _look(self) -> dict[str, Any]:
    """Of each process, what it holds; of all processes they started, such as evaluations, the sum; the disk's use."""
    processes = [psutil.Process(process.pid) for process in self._launcher.processes if process.poll() is None]
    own = [_holdings(process) for process in processes]
    children = [_holdings(child) for process in processes for child in process.children(recursive=True)]
    files = [path for path in self._workdir.rglob('*') if path.is_file()]
    return {
        'memory_mb': [held['memory_mb'] for held in own if held], 'files': [held['files'] for held in own if held],
        'threads': [held['threads'] for held in own if held], 'children': len(children),
        'children_mb': sum(held['memory_mb'] for held in children if held),
        'disk_mb': round(sum(_size(path) for path in files) / 1e6, 1), 'disk_files': len(files)}

  def _end(self) -> None:
    if self._part.ending == 'kill':
      self._launcher.processes[-1].kill()
    else:
      self._launcher.stop()


def _holdings(process: psutil.Process) -> dict[str, float] | None:
  """Of a process that may be gone."""
  try:
    return {'memory_mb': round(process.memory_info().rss / 1e6, 1), 'files': process.num_fds(),
            'threads': process.num_threads()}
  except psutil.Error:
    return None


def _size(path: pathlib.Path) -> int:
  try:
    return path.stat().st_size
  except OSError:  # moved, or cleared away
    return 0


def soak(config_file: str, workdir: str, overrides: list[str]) -> None:
  """Trains to the end, part by part; one that finds itself done already is over at once."""
  steps = load_config(config_file, overrides).training.steps
  pathlib.Path(workdir).mkdir(parents=True, exist_ok=True)
  job = Job('soak', config_file, workdir, tuple(overrides), max_restarts=0)
  for number, part in enumerate(PARTS):
    launcher = Launcher(dataclasses.replace(job, processes=part.processes, devices=part.devices))
    watcher = Watcher(number, part, launcher, workdir, steps)
    watcher.start()
    status = launcher.run()
    watcher.close()
    if (status == 0) != (part.ending == 'end'):
      raise RuntimeError(f'part {number}, {part}, ended with exit status {status}')


def account(looks: list[dict[str, Any]], records: list[dict[str, Any]]) -> dict[str, Any]:
  """Of each part, how what it held grew after its warm-up; of each seam, the loss before and after it.

  Growth is the median of the last third of a part's looks over that of the first, for its first process. The spread
  of the loss is the standard deviation of the same records about their mean, one side of the seam at a time.
  """
  parts, seams = [], []
  for number, part in enumerate(PARTS):
    own = [look for look in looks if look['part'] == number and look['memory_mb']]
    own = own[int(WARM_UP * len(own)):]
    third = max(1, len(own) // 3)
    growth = {name: round(_median(own[-third:], name) / _median(own[:third], name), 3)
              for name in ('memory_mb', 'files', 'threads')}
    parts.append({'processes': part.processes, 'devices': part.devices, 'ending': part.ending,
                  'minutes': round((own[-1]['at'] - own[0]['at']) / 60, 1), 'memory_mb': _median(own, 'memory_mb'),
                  'growth': growth})
    following = [look['step'] for look in looks if look['part'] == number + 1]
    if following:
      seam = next(look['step'] for look in reversed(looks) if look['part'] == number)
      seams.append({'step': seam, **_across(records, seam)})
  return {'parts': parts, 'seams': seams}


def _median(looks: list[dict[str, Any]], name: str) -> float:
  return statistics.median(look[name][0] for look in looks)


def _across(records: list[dict[str, Any]], seam: int, count: int = 5) -> dict[str, float]:
  before = [record['loss'] for record in records if record['step'] <= seam][-count:]
  after = [record['loss'] for record in records if record['step'] > seam][:count]
  spread = statistics.mean((statistics.stdev(before), statistics.stdev(after)))
  return {'loss_before': round(statistics.mean(before), 4), 'loss_after': round(statistics.mean(after), 4),
          'spread': round(spread, 4)}


def draw(looks: list[dict[str, Any]], records: list[dict[str, Any]], path: pathlib.Path) -> None:
  """Memory, open files and loss against time."""
  start = looks[0]['at']
  minutes = [(look['at'] - start) / 60 for look in looks]
  figure = Figure(figsize=(8, 6.5), layout='constrained')
  memory, files, loss = figure.subplots(3, 1, sharex=True)
  for number, part in enumerate(PARTS):
    own = [(at, look) for at, look in zip(minutes, looks, strict=True) if look['part'] == number]
    for index in range(part.processes):
      held = [(at, look['memory_mb'][index], look['files'][index]) for at, look in own
              if index < len(look['memory_mb'])]
      memory.plot([at for at, *_ in held], [mb for _, mb, _ in held], color=f'C{index}')
      files.plot([at for at, *_ in held], [count for *_, count in held], color=f'C{index}')
    for axes in (memory, files, loss):
      axes.axvline(own[-1][0], color='0.8', linewidth=0.8)
    plural = 's' if part.devices > 1 else ''
    memory.annotate(f'{part.processes} x {part.devices} device{plural}\n{part.ending}',
                    (own[0][0], 0.03 + 0.16 * (number % 2)), xycoords=('data', 'axes fraction'), fontsize=8)
  by_step = {record['step']: record['loss'] for record in records}
  seen = [(at, by_step[look['step']]) for at, look in zip(minutes, looks, strict=True) if look['step'] in by_step]
  loss.plot([at for at, _ in seen], [value for _, value in seen], color='C2')
  memory.set(ylabel='memory of a process, MB', ylim=(0, None))
  files.set(ylabel='its open files', ylim=(0, None))
  loss.set(ylabel='loss, nats', xlabel='minutes')
  figure.savefig(path)


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--config', required=True)
  parser.add_argument('--workdir', required=True)
  parser.add_argument('--only_draw', action='store_true', help='of a soak that is over')
  arguments, overrides = parser.parse_known_args()
  if not arguments.only_draw:
    soak(arguments.config, arguments.workdir, overrides)
  workdir = pathlib.Path(arguments.workdir)
  looks = [json.loads(line) for line in (workdir / FILE).read_text(encoding='utf-8').splitlines()]
  records = read_records(str(workdir))
  draw(looks, records, workdir / PLOT)
  print(json.dumps(account(looks, records)))
  return 0


if __name__ == '__main__':
  sys.exit(main())
