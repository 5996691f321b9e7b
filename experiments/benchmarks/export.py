"""What exporting and loading cost: `gato-jax benchmark export --config=FILE`; needs no data.

Saves the config's model, its weights as they start, exports the checkpoint in a process and loads the export in
another. Prints one JSON line:

  weights_megabytes, parameters, largest_file_megabytes: of the export.
  export_megabytes, load_megabytes: most memory the process had, less what the imports took.
  export_cpu_seconds, load_cpu_seconds: without the imports.
"""

import concurrent.futures
import json
import multiprocessing
import pathlib
import tempfile
import time

import jax
import ml_collections

from experiments.benchmarks.memory import peak_megabytes
from experiments.benchmarks.tokenizer import made_up_tokenizer
from gato_jax.export.export import export
from gato_jax.export.loading import load_export
from gato_jax.training.checkpoint import Checkpoints
from gato_jax.training.checkpoint_place import TOKENIZER_FOLDER
from gato_jax.training.compatibility import describe_vocabulary
from gato_jax.training.optimizer import make_optimizer
from gato_jax.training.state import define_model, initial_state

SHARD_MEGABYTES = 256


def main(config: ml_collections.ConfigDict) -> None:
  """Measures and prints."""
  context = multiprocessing.get_context('spawn')
  result = {'benchmark': 'export', 'config': config.name}
  with tempfile.TemporaryDirectory() as folder:
    workdir, out = pathlib.Path(folder) / 'run', pathlib.Path(folder) / 'agent'
    steps = {'save': (save, config, workdir), 'export': (measured_export, workdir, out), 'load': (measured_load, out)}
    for name, step in steps.items():
      with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        megabytes, seconds = pool.submit(*step).result()
      if name != 'save':
        result |= {f'{name}_megabytes': round(megabytes), f'{name}_cpu_seconds': round(seconds, 1)}
    sizes = [path.stat().st_size / 2**20 for path in out.glob('model-*')]
    parameters = json.loads((out / 'config.json').read_text())['parameters']
    result |= {'parameters': parameters, 'weights_megabytes': round(sum(sizes)),
               'largest_file_megabytes': round(max(sizes))}
  print(json.dumps(result))


def save(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> tuple[float, float]:
  """A run that has not taken a step; the numbers mean nothing."""
  tokenizer = made_up_tokenizer(config)
  definition = define_model(config.model, tokenizer.vocabulary)
  state = jax.jit(lambda: initial_state(definition, make_optimizer(config.training), 0))()
  checkpoints = Checkpoints(str(workdir), 1)
  checkpoints.save(0, state, {'config': config.to_dict(), 'vocabulary': describe_vocabulary(tokenizer)})
  checkpoints.close()
  tokenizer.save(workdir / TOKENIZER_FOLDER)
  return 0.0, 0.0


def measured_export(workdir: pathlib.Path, out: pathlib.Path) -> tuple[float, float]:
  """Megabytes and CPU seconds of an export without prompts and programs."""
  jax.devices()
  before, began = peak_megabytes(), time.process_time()
  export(str(workdir), str(out), prompts=0, shard_megabytes=SHARD_MEGABYTES, programs=False)
  return peak_megabytes() - before, time.process_time() - began


def measured_load(out: pathlib.Path) -> tuple[float, float]:
  """Megabytes and CPU seconds of loading the model."""
  jax.devices()
  before, began = peak_megabytes(), time.process_time()
  trained = load_export(out)
  jax.block_until_ready(jax.tree.leaves(trained.model))
  return peak_megabytes() - before, time.process_time() - began
