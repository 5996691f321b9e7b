"""A tiny training run as a process of its own: `training_run.py WORKDIR KEY=VALUE...`.

Keys are of the config's `training` or `faults` section, or `mesh` (replica,fsdp,tensor), `width` (of the model),
`pause` (seconds to wait for a batch), `data` (`made_up`, or `mixture` for the real loader), `digests` (a file for
what each row was, by step), `stuck` (a step at which this process stops for ever), `file_limit` (bytes that a file of
this process may have: a full disk), `show` (1: prints a digest of what it restored), `seed`. Of several processes,
each is started so; see `processes.py`.
"""

import hashlib
import json
import resource
import signal
import sys
import time

from data_pipelines.errors import InputError
from data_pipelines.loader import make_loader
from gato_jax.distributed import together
from gato_jax.group import FAILED, LOST, Preempted
from tests.data_pipelines import token_cases
from tests.gato_jax.training_cases import MadeUpLoader, tiny_run_config, tiny_tokenizer

CPU_LINE = 'CPU seconds'


def make_config(values):
  mesh = values.pop('mesh', '1,-1,1')
  config = tiny_run_config()
  width = int(values.pop('width', config.model.width))
  config.model.update(width=width, head_size=width // config.model.heads, feed_forward=2 * width)
  config.seed = int(values.pop('seed', 0))
  for key, value in values.items():
    section = config.faults if key in config.faults else config.training
    section[key] = type(section[key])(value)
  config.mesh.update(dict(zip(('replica', 'fsdp', 'tensor'), map(int, mesh.split(',')), strict=True)))
  return config


def made_up(config, rows):
  return MadeUpLoader(config.training.batch_size, rows), tiny_tokenizer()


def mixture(config, rows):
  """The real loader, over datasets in memory."""
  config.data.update(sequence_length=128, patches_per_row=32)
  config.data.vocabulary.text_size = 1024
  data = token_cases.data_config(sequence_length=128, patches_per_row=32)
  loader = make_loader(data, token_cases.mixed_sources(), token_cases.tokenizer(), seed=config.seed,
                       batch_size=config.training.batch_size, local_rows=rows)
  return loader, token_cases.tokenizer()


class Watched:
  """A loader that notes what it gave, and is slow."""

  def __init__(self, loader, rows, pause, path, stuck):
    self._loader, self._rows, self._pause, self._path, self._stuck = loader, rows, pause, path, stuck
    self.digests = {}
    self.cpu_seconds = []  # of this process, at each call
    self.source_names, self.get_state, self.set_state = loader.source_names, loader.get_state, loader.set_state

  def __iter__(self):
    return self

  def __next__(self):
    self.cpu_seconds.append(time.process_time())
    step = self._loader.get_state()
    time.sleep(1e6 if step == self._stuck else self._pause)
    batch = next(self._loader)
    if self._path:
      for place, row in enumerate(self._rows):
        digest = hashlib.sha256(b''.join(array[place].tobytes() for array in batch)).hexdigest()
        self.digests[f'{step}/{row}'] = digest
      with open(self._path, 'w', encoding='utf-8') as file:
        json.dump(self.digests, file)
    return batch


def train(config, workdir, group, options):
  from gato_jax.mesh import make_mesh
  from gato_jax.sharding import batch_sharding, local_rows
  from gato_jax.training.loop import Run

  class Showing(Run):
    def _restore_or_initialize(self, checkpoints):
      state, step, saved = super()._restore_or_initialize(checkpoints)
      if options['show']:
        print('restored', step, state_digest(state, self._mesh), flush=True)
      return state, step, saved

  rows = local_rows(batch_sharding(make_mesh(config.mesh)), config.training.batch_size)
  loader, tokenizer = {'made_up': made_up, 'mixture': mixture}[options['data']](config, rows)
  digests = f'{options["digests"]}.{group.index}.json' if options['digests'] else ''
  watched = Watched(loader, rows, float(options['pause']), digests, int(options['stuck']))
  run = Showing(config, workdir, watched, tokenizer, group)
  print('summary', run.train(), flush=True)
  print(CPU_LINE, json.dumps(watched.cpu_seconds), flush=True)
  assert run.train_step.traces <= 1


def state_digest(state, mesh):
  """Of all of the state, however it lies on the devices."""
  import jax
  from jax.sharding import NamedSharding, PartitionSpec

  whole = jax.jit(lambda tree: tree, out_shardings=NamedSharding(mesh, PartitionSpec()))(state)
  return hashlib.sha256(b''.join(jax.device_get(leaf).tobytes() for leaf in jax.tree.leaves(whole))).hexdigest()


def limit_files(size):
  """Writes beyond so many bytes fail, as on a full disk."""
  signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def main(workdir, *settings):
  values = dict(setting.split('=', 1) for setting in settings)
  defaults = {'data': 'made_up', 'pause': '0', 'digests': '', 'stuck': '-1', 'show': '', 'file_limit': '0'}
  options = {name: values.pop(name, value) for name, value in defaults.items()}
  config = make_config(values)
  if int(options['file_limit']):
    limit_files(int(options['file_limit']))
  try:
    with together(config, workdir) as group:
      train(config, workdir, group, options)
  except InputError as error:
    print(f'gato-jax: error: {error}', file=sys.stderr)
    sys.exit(FAILED)
  except Preempted as stop:
    print(f'gato-jax: {stop}', file=sys.stderr)
    sys.exit(LOST)


if __name__ == '__main__':
  main(*sys.argv[1:])
