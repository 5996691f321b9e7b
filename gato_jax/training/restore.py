"""A trained model, read back for acting, on one device, whatever mesh trained it; or to start another run from."""

import pathlib
from typing import Any, NamedTuple

import jax
from jax.sharding import SingleDeviceSharding
import ml_collections

from data_pipelines.datasets.prepare import open_tokenizer
from data_pipelines.errors import InputError
from data_pipelines.sequences.tokenizer import SequenceTokenizer
from gato_jax.config import changed_keys
from gato_jax.model.gato import Gato
from gato_jax.training.checkpoint_place import TOKENIZER_FOLDER
from gato_jax.training.checkpoint_reading import Restored, read_checkpoint
from gato_jax.training.compatibility import check_vocabulary, config_of, describe_vocabulary
from gato_jax.training.state import define_model


class Trained(NamedTuple):
  """What acting needs.

  Attributes:
    model: on the first device.
    tokenizer: the one it was trained with.
    config: the config it was trained with.
    step: of the checkpoint.
    saved: when it was saved, seconds since the epoch: tells it from the same step of another run into the workdir.
  """

  model: Gato
  tokenizer: SequenceTokenizer
  config: ml_collections.ConfigDict
  step: int
  saved: float = 0.0


def load_trained(workdir: str, step: int | None = None) -> Trained:
  """Reads the parameters of a checkpoint, the newest readable one by default, and the tokenizer in the workdir.

  Raises:
    InputError: there is no such checkpoint, or one that does not fit the tokenizer.
  """
  folder = pathlib.Path(workdir) / TOKENIZER_FOLDER

  def wanted(run: dict[str, Any]) -> dict[str, Any]:
    tokenizer = SequenceTokenizer.load(folder)
    check_vocabulary(run['vocabulary'], describe_vocabulary(tokenizer))
    definition = define_model(config_of(run).model, tokenizer.vocabulary)
    sharding = SingleDeviceSharding(jax.local_devices()[0])
    shapes = jax.eval_shape(lambda: definition.initialize(0))
    return {'parameters': jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes)}

  restored = read_checkpoint(workdir, wanted, step)
  config = config_of(restored.run)
  tokenizer = SequenceTokenizer.load(folder, config.data.mask_question)
  model = define_model(config.model, tokenizer.vocabulary).build(restored.items['parameters'])
  return Trained(model, tokenizer, config, restored.step, restored.saved)


def read_run(workdir: str, step: int | None = None) -> Restored:
  """What `load_trained` would read, without its arrays: a large model is read by those that play with it alone.

  Raises:
    InputError: there is no such checkpoint, or one of another vocabulary than the tokenizer in the workdir.
  """
  def wanted(run: dict[str, Any]) -> dict[str, Any]:
    tokenizer = SequenceTokenizer.load(pathlib.Path(workdir) / TOKENIZER_FOLDER)
    check_vocabulary(run['vocabulary'], describe_vocabulary(tokenizer))
    return {}

  return read_checkpoint(workdir, wanted, step)


def read_parameters(workdir: str, abstract: Any, tokenizer: SequenceTokenizer) -> Restored:
  """The parameters of a run's newest checkpoint, in the shardings of `abstract`, for another run to start from.

  Raises:
    InputError: the workdir has no checkpoint, or one of another model or vocabulary.
  """
  def wanted(run: dict[str, Any]) -> dict[str, Any]:
    check_vocabulary(run['vocabulary'], describe_vocabulary(tokenizer))
    return {'parameters': abstract}

  return read_checkpoint(workdir, wanted)


def tokenizer_of(config: ml_collections.ConfigDict) -> SequenceTokenizer:
  """That of the run that a config starts from, or the one made with its data.

  Raises:
    InputError: it has another vocabulary than the config, or there is none.
  """
  workdir = config.training.init_from
  if not workdir:
    return open_tokenizer(config.data)
  folder = pathlib.Path(workdir) / TOKENIZER_FOLDER
  if not folder.exists():
    raise InputError(f'training.init_from={workdir}: there is no {folder}; name the workdir of a training run')
  tokenizer = SequenceTokenizer.load(folder, config.data.mask_question)
  wanted = {key: getattr(config.data.vocabulary, key) for key in tokenizer.vocabulary.to_json()}
  if changes := changed_keys(wanted, tokenizer.vocabulary.to_json()):
    raise InputError(f'{workdir} was trained with another data.vocabulary; set what it had: ' + '; '.join(changes))
  return tokenizer
