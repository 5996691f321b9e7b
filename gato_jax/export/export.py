"""Writes a trained model as a folder that others can use: weights, vocabulary, tasks, prompts, and a card.

  config.json                    format, version, step, dtype, and of the config what acting goes by
  model-*.safetensors            the weights, see `weights`
  model.safetensors.index.json   which file has which
  vocabulary.json, text.model    the id layout and the SentencePiece model
  tasks.json                     specs, bounds and reference scores of the control tasks
  prompts.safetensors            demonstrations to start their episodes with
  programs/*.stablehlo           the model's functions, see `programs`
  README.md                      the model card
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import pathlib
import shutil
import tempfile

import jax
from jax.sharding import SingleDeviceSharding
import ml_collections
import numpy as np
from rich.console import Console

from data_pipelines.datasets.episodes import ControlEpisode
from data_pipelines.errors import InputError
from data_pipelines.sequences.tokenizer import SequenceTokenizer
from gato_jax.acting.prompts import place_of
from gato_jax.export.card import model_card
from gato_jax.export.config import write_config
from gato_jax.export.programs import PLATFORMS, write_programs
from gato_jax.export.tasks import KnownTask, demonstrations_of, known_tasks, shortened, write_prompts, write_tasks
from gato_jax.export.weights import DTYPES, names, nested, write_weights
from gato_jax.training.checkpoint_place import TOKENIZER_FOLDER
from gato_jax.training.checkpoint_reading import ParameterReader, parameter_reader
from gato_jax.training.compatibility import check_vocabulary, config_of, describe_vocabulary
from gato_jax.training.state import define_model


def export(workdir: str, out: str, *, data_dir: str = '', step: int | None = None, dtype: str = 'float32',
           prompts: int = 10, shard_megabytes: int = 1024, programs: bool = True,
           console: Console | None = None) -> pathlib.Path:
  """Writes the folder, all of it or nothing.

  Args:
    workdir: of a training run.
    out: the folder to make; it must not be there, or be empty.
    data_dir: where the datasets are that prompts come from; empty: where training found them.
    step: of the checkpoint; None: the newest.
    dtype: of the weights, `float32` or `bfloat16`.
    prompts: demonstrations a task.
    shard_megabytes: size of a file of weights, unless a single tensor is larger; so much memory is needed.
    programs: whether to write the StableHLO programs too.
    console: for what was done.

  Returns:
    the folder.

  Raises:
    InputError: there is no such checkpoint, or no such dtype, or the folder is in use; or `prompts` is negative.
  """
  if dtype not in DTYPES:
    raise InputError(f'dtype {dtype!r}: it is one of {", ".join(DTYPES)}')
  if prompts < 0:
    raise InputError(f'--prompts={prompts}: must be 0, for none, or positive')
  console = console or Console()
  target = pathlib.Path(out).resolve()
  with _whole_or_nothing(target) as folder, parameter_reader(workdir, step) as reader:
    config = config_of(reader.run)
    if data_dir:
      with config.unlocked():
        config.data.dir = data_dir
    tokenizer = SequenceTokenizer.load(pathlib.Path(workdir) / TOKENIZER_FOLDER)
    check_vocabulary(reader.run['vocabulary'], describe_vocabulary(tokenizer))
    tokenizer.save(folder)
    parameters = _write_weights(folder, reader, config, tokenizer, dtype, shard_megabytes * 2**20)
    console.print(f'step {reader.step}: {parameters:,} parameters, {dtype}')
    tasks = _write_tasks(folder, config, tokenizer, prompts, console)
    write_config(folder, reader.step, dtype, parameters, config)
    if programs:
      with config.unlocked():
        config.model.dtype = 'float32' if config.model.dtype == 'auto' else config.model.dtype
      definition = define_model(config.model, tokenizer.vocabulary)
      size = write_programs(folder, definition, tokenizer.vocabulary.size)
      console.print(f'StableHLO programs for {", ".join(PLATFORMS)} ({size / 1e6:.1f} MB)')
    (folder / 'README.md').write_text(model_card(pathlib.Path(workdir), reader.step, parameters, dtype, config, tasks))
  console.print(f'{target}: {_megabytes(target):,.1f} MB', highlight=False)
  return target


@contextlib.contextmanager
def _whole_or_nothing(target: pathlib.Path) -> Iterator[pathlib.Path]:
  """A folder to write into, which is what `target` is at the end; if anything is raised, that stays as it was."""
  if target.exists() and (not target.is_dir() or any(target.iterdir()) or target.is_mount()):
    raise InputError(f'{target} is there already; name another folder with --out')
  try:
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = pathlib.Path(tempfile.mkdtemp(dir=target.parent, prefix='.'))
  except OSError as error:
    raise InputError(f'{target} cannot be written ({error}); name another folder with --out') from error
  try:
    yield folder
    folder.chmod(0o755)
    for path in folder.glob('*.safetensors'):
      path.chmod(0o644)  # some were made by safetensors, for the owner's eyes only
    folder.replace(target)  # an empty folder gives way
  finally:
    shutil.rmtree(folder, ignore_errors=True)


def _write_weights(folder: pathlib.Path, reader: ParameterReader, config: ml_collections.ConfigDict,
                   tokenizer: SequenceTokenizer, dtype: str, shard_bytes: int) -> int:
  definition = define_model(config.model, tokenizer.vocabulary)
  sharding = SingleDeviceSharding(jax.local_devices(backend='cpu')[0])
  abstract = {
      name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
      for name, leaf in names(jax.eval_shape(lambda: definition.initialize(0))).items()}
  shapes = {name: leaf.shape for name, leaf in abstract.items()}

  def read(part: Sequence[str]) -> Mapping[str, np.ndarray]:
    arrays = reader.read(nested({name: abstract[name] for name in part}))
    return {name: np.asarray(array) for name, array in names(arrays).items()}

  write_weights(folder, shapes, read, dtype, shard_bytes)
  return sum(int(np.prod(shape)) for shape in shapes.values())


def _write_tasks(folder: pathlib.Path, config: ml_collections.ConfigDict, tokenizer: SequenceTokenizer, prompts: int,
                 console: Console) -> dict[str, KnownTask]:
  tasks, missing = known_tasks(config)
  counts: dict[str, int] = {}
  share = config.acting.prompt_share_of_row
  room = int(share * config.data.sequence_length), int(share * config.data.patches_per_row)

  def demonstrations() -> Iterator[tuple[str, list[ControlEpisode]]]:
    for name, task in tasks.items():
      if task.prompts and prompts:
        episodes = [shortened(tokenizer, task.spec, episode, *room, place_of(config.acting))
                    for episode in demonstrations_of(config, name, min(prompts, task.prompts))]
        counts[name] = len(episodes)
        yield name, episodes

  size = write_prompts(folder, demonstrations())
  tasks = {name: dataclasses.replace(task, prompts=counts.get(name, 0)) for name, task in tasks.items()}
  write_tasks(folder, tasks)
  console.print(f'{len(tasks)} control tasks, {len(counts)} of them with prompts ({size / 1e6:.1f} MB)')
  if len(counts) < len(tasks) and prompts:
    console.print(f'{len(tasks) - len(counts)} tasks have no prompts, as {config.data.dir} has no successful '
                  'demonstrations of them; if their datasets are elsewhere, name the place with --data_dir')
  if missing:
    console.print(f'left out, as only their datasets describe them, which are not there: {", ".join(missing)}')
  return tasks


def _megabytes(folder: pathlib.Path) -> float:
  return sum(path.stat().st_size for path in folder.rglob('*')) / 1e6
