"""What scaling costs: `python -m tests.gato_jax.overheads` prints one JSON line.

A small model, so shares are upper bounds: the larger the model, the smaller all of them but the first. CPU seconds are
those of the process with all its threads; they say the same on a machine that others use as well.
"""

import json
import os
import pathlib
import shutil
import tempfile
from typing import NamedTuple

from gato_jax.training.checkpoint_place import FOLDER
from tests.gato_jax.processes import finish, start
from tests.gato_jax.training_run import CPU_LINE

STEPS, WARM_UP = 100, 10
SETTINGS = ('data=mixture', 'width=256', f'log_every={STEPS}')
_QUIET = 1_000_000  # checkpoint_every of a run that saves its last step only
_START = ('start', 'restore', 'compile')


class Account(NamedTuple):
  """Of one run.

  Attributes:
    seconds: by goodput's bucket.
    cpu_seconds: at each request for a batch.
  """

  seconds: dict[str, float]
  cpu_seconds: list[float]

  @property
  def step_cpu(self) -> float:
    return (self.cpu_seconds[-1] - self.cpu_seconds[WARM_UP]) / (len(self.cpu_seconds) - 1 - WARM_UP)

  @property
  def first_step_cpu(self) -> float:
    return self.cpu_seconds[1]

  @property
  def start_up(self) -> float:
    return sum(self.seconds[bucket] for bucket in _START)


def account(folder: str, name: str, *settings: str, devices: int = 1, cache: str = 'one') -> Account:
  """Of a run in the workdir `name`; `cache` is its compilation cache."""
  workdir = pathlib.Path(folder) / name
  os.environ['JAX_COMPILATION_CACHE_DIR'] = str(pathlib.Path(folder) / f'{cache}_compilations')
  os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
  [output] = finish(start(workdir, *SETTINGS, *settings, devices=devices))
  [line] = [line for line in output.splitlines() if line.startswith(CPU_LINE)]
  seconds = json.loads((workdir / 'goodput.json').read_text(encoding='utf-8'))['seconds']
  return Account(seconds, json.loads(line.removeprefix(CPU_LINE)))


def main() -> None:
  with tempfile.TemporaryDirectory() as folder:
    quiet = f'steps={STEPS}', f'checkpoint_every={_QUIET}'
    cold = account(folder, 'cold', *quiet)
    warm = account(folder, 'warm', *quiet)
    eight = account(folder, 'eight', *quiet, devices=8, cache='eight')
    saving = account(folder, 'saving', f'steps={STEPS}', 'checkpoint_every=10')
    shutil.rmtree(pathlib.Path(folder) / 'saving' / FOLDER / str(STEPS))  # as if it had been killed on the way there
    restarted = account(folder, 'saving', f'steps={STEPS}', 'checkpoint_every=10')
  step = warm.seconds['step'] / STEPS
  print(json.dumps({
      'step_seconds': round(step, 4),
      'step_cpu_seconds': round(warm.step_cpu, 4),
      'eight_devices_over_one': round(eight.step_cpu / warm.step_cpu - 1, 3),
      'loader_share_of_step': round(warm.seconds['data'] / warm.seconds['step'], 4),
      'a_save_in_steps': round((saving.seconds['save'] - warm.seconds['save']) / (STEPS / 10 - 1) / step, 3),
      'saving_every_10_over_none': round(saving.step_cpu / warm.step_cpu - 1, 3),
      'start_to_first_step_cold': [round(cold.start_up, 1), round(cold.first_step_cpu, 1)],
      'start_to_first_step_cached': [round(warm.start_up, 1), round(warm.first_step_cpu, 1)],
      'restart_to_first_step_cached': [
          round(restarted.start_up - saving.start_up, 1), round(restarted.first_step_cpu, 1)],
  }))


if __name__ == '__main__':
  main()
