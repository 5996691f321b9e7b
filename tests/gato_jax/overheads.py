"""What scaling costs: `python -m tests.gato_jax.overheads` prints one JSON line, from the runs' own goodput accounts.

A tiny model, so shares are upper bounds: the larger the model, the smaller all of them but the first.
"""

import json
import os
import pathlib
import tempfile

from tests.gato_jax.processes import finish, start

STEPS = 100
_QUIET = 1_000_000  # checkpoint_every of a run that saves its last step only


def account(folder: str, name: str, *settings: str, devices: int = 1, cache: str = '') -> dict[str, float]:
  """Seconds by bucket of a run of its own; `cache` is its compilation cache."""
  workdir = pathlib.Path(folder) / name
  os.environ['JAX_COMPILATION_CACHE_DIR'] = str(pathlib.Path(folder) / (cache or name + '_compilations'))
  os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
  finish(start(workdir, 'data=mixture', f'steps={STEPS}', f'log_every={STEPS}', *settings, devices=devices))
  return json.loads((workdir / 'goodput.json').read_text(encoding='utf-8'))['seconds']


def main() -> None:
  with tempfile.TemporaryDirectory() as folder:
    quiet = f'checkpoint_every={_QUIET}'
    cold = account(folder, 'cold', quiet, cache='one')
    warm = account(folder, 'warm', quiet, cache='one')
    eight = account(folder, 'eight', quiet, devices=8)
    saving = account(folder, 'saving', 'checkpoint_every=10', cache='one')
    restart = account(folder, 'saving', 'checkpoint_every=10', f'steps={STEPS + 1}', cache='one')
  step = warm['step'] / (STEPS - 1)

  def start_up(seconds):
    return round(seconds['start'] + seconds['restore'] + seconds['compile'], 2)

  print(json.dumps({
      'step_seconds': round(step, 4),
      'eight_devices_over_one': round(eight['step'] / warm['step'] - 1, 3),
      'loader_share_of_step': round(warm['data'] / warm['step'], 4),
      'a_save_in_steps': round((saving['save'] - warm['save']) / (STEPS / 10 - 1) / step, 3),
      'saving_every_10_over_none': round((saving['step'] + saving['save']) / (warm['step'] + warm['save']) - 1, 3),
      'start_to_first_step_cold_seconds': start_up(cold),
      'start_to_first_step_cached_seconds': start_up(warm),
      'restart_is_in_the_account': restart['down'] > 0,
  }))


if __name__ == '__main__':
  main()
