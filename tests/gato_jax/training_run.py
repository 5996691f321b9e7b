"""A tiny training run as a process of its own: `training_run.py WORKDIR KEY=VALUE...`.

Keys are of the config's `training` section, or `mesh` (replica,fsdp,tensor), or `pause` (seconds to wait for a batch).
"""

import sys
import time

from gato_jax.training.loop import Run
from tests.gato_jax.training_cases import MadeUpLoader, tiny_run_config, tiny_tokenizer


def main(workdir, *settings):
  values = dict(setting.split('=') for setting in settings)
  mesh, pause = values.pop('mesh', '1,1,1'), float(values.pop('pause', 0))
  config = tiny_run_config(**{key: int(value) for key, value in values.items()})
  config.mesh.update(dict(zip(('replica', 'fsdp', 'tensor'), map(int, mesh.split(',')), strict=True)))

  def slow(index, batch):
    time.sleep(pause)
    return batch

  run = Run(config, workdir, MadeUpLoader(change=slow), tiny_tokenizer())
  print('summary', run.train())
  assert run.train_step.traces <= 1


if __name__ == '__main__':
  main(*sys.argv[1:])
