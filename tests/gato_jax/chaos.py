"""`make chaos`: kills a random one of two processes at random moments, saving included, and looks at what is left.

`python -m tests.gato_jax.chaos --runs=20` prints a line a run, and a last one for all. Every run must end with the
records of an undisturbed run, to the bit; nothing may be unreadable; and what is done again must be no more than what
lay between two checkpoints.
"""

import argparse
import json
import os
import pathlib
import random
import re
import statistics
import sys
import tempfile
import threading
import time
from typing import NamedTuple

from experiments.launch.job import Job
from experiments.launch.local import Launcher
from gato_jax.training.checkpoint import UNREADABLE_FOLDER
from gato_jax.training.checkpoint_place import FOLDER
from tests.gato_jax.processes import MODULE, last_step, losses

STEPS, INTERVAL, KILLS = 60, 10, 2
SETTINGS = (f'steps={STEPS}', f'checkpoint_every={INTERVAL}', 'log_every=1', 'pause=0.05')


class Result(NamedTuple):
  """Of one run.

  Attributes:
    kills: what was going on at each kill: `step` or `saving`.
    attempts: starts.
    repeated: most steps done again after a kill.
    same: whether the records are those of the undisturbed run.
    unreadable: checkpoints that were moved aside.
    lost_seconds: by the run's own account.
  """

  kills: list[str]
  attempts: int
  repeated: int
  same: bool
  unreadable: int
  lost_seconds: float

  @property
  def good(self) -> bool:
    return self.same and not self.unreadable and self.repeated <= INTERVAL and self.attempts > 1


def launcher(workdir: pathlib.Path) -> Launcher:
  job = Job('chaos', 'none', str(workdir), processes=2, devices=2, max_restarts=3 * KILLS)
  compilations = os.environ.get('JAX_COMPILATION_CACHE_DIR', f'{workdir.parent}/compilations')  # one for all runs
  command = ['env', f'JAX_COMPILATION_CACHE_DIR={compilations}', 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0']
  return Launcher(job, [*command, sys.executable, '-m', MODULE, str(workdir), *SETTINGS], quiet=True)


def disturbed_run(workdir: pathlib.Path, seed: int, undisturbed: list, kill_count: int = KILLS) -> Result:
  """Trains to the end, in spite of so many kills."""
  rng = random.Random(seed)
  run = launcher(workdir)
  kills: list[str] = []
  before: list[int] = []
  killer = threading.Thread(target=_kill_now_and_then, args=(run, workdir, rng, kill_count, kills, before), daemon=True)
  killer.start()
  status = run.run()
  if status:
    raise RuntimeError(f'run {seed} ended with {status}; see {workdir}/logs')
  goodput = json.loads((workdir / 'goodput.json').read_text(encoding='utf-8'))['seconds']
  unreadable = workdir / UNREADABLE_FOLDER
  return Result(
      kills, run.attempts, max(_repeated(workdir, before), default=0), losses(workdir) == undisturbed,
      len(list(unreadable.iterdir())) if unreadable.exists() else 0, goodput['lost'])


def _kill_now_and_then(run: Launcher, workdir: pathlib.Path, rng: random.Random, kill_count: int, kills: list[str],
                       before: list[int]) -> None:
  """Half of the kills while a checkpoint is being written, the others at any moment of training."""
  for _ in range(kill_count):
    first = last_step(workdir) + rng.randint(3, 2 * INTERVAL)
    wanted = rng.choice(('saving', 'step'))
    while last_step(workdir) < min(first, STEPS - 5) or not run.processes:
      time.sleep(0.01)
    while wanted == 'saving' and not _saving(workdir) and last_step(workdir) < STEPS - 2:
      time.sleep(0.001)
    if wanted == 'step':
      time.sleep(rng.uniform(0, 0.5))
    kills.append('saving' if _saving(workdir) else 'step')
    attempts = run.attempts
    rng.choice(run.processes).kill()
    before.append(last_step(workdir))
    while run.attempts == attempts:
      time.sleep(0.01)
      if not any(process.poll() is None for process in run.processes) and before[-1] >= STEPS:
        return


def _saving(workdir: pathlib.Path) -> bool:
  return any((workdir / FOLDER).glob('*.orbax-checkpoint-tmp*'))


def _repeated(workdir: pathlib.Path, before: list[int]) -> list[int]:
  """Steps done again, of every restart: the last step with a record, less the one that was gone on from."""
  for attempt, last in enumerate(before, start=1):
    text = (workdir / 'logs' / f'attempt_{attempt}_process_0.log').read_text(encoding='utf-8')
    found = re.search(r'going on from the checkpoint of step (\d+)', text)
    yield last - (int(found.group(1)) if found else 0)


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--runs', type=int, default=20)
  parser.add_argument('--seed', type=int, default=0)
  arguments = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    calm = pathlib.Path(folder) / 'undisturbed'
    assert launcher(calm).run() == 0
    results = []
    for number in range(arguments.seed, arguments.seed + arguments.runs):
      results.append(disturbed_run(pathlib.Path(folder) / str(number), number, losses(calm)))
      print(f'run {number}: {"good" if results[-1].good else "BAD"} {results[-1]._asdict()}', flush=True)
  kills = [kill for result in results for kill in result.kills]
  print(f'{sum(result.good for result in results)} of {len(results)} good; {len(kills)} kills, '
        f'{kills.count("saving")} of them while saving; steps done again: at most '
        f'{max(result.repeated for result in results)} of an interval of {INTERVAL}, '
        f'median {statistics.median(result.repeated for result in results)}')
  return 0 if all(result.good for result in results) else 1


if __name__ == '__main__':
  sys.exit(main())
