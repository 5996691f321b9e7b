"""A trained model, read back for acting: one device, whatever mesh trained it."""

import pathlib
from typing import Any, NamedTuple

import jax
from jax.sharding import SingleDeviceSharding
import ml_collections

from data_pipelines.sequences.tokenizer import SequenceTokenizer
from gato_jax.model.gato import Gato
from gato_jax.training.checkpoint import TOKENIZER_FOLDER, read_checkpoint
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
  return Trained(model, tokenizer, config, restored.step, restored.run.get('goodput', {}).get('at', 0.0))
