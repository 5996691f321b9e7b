"""Reads an exported folder, whoever made it: everything is checked, nothing in it is executed."""

import pathlib
from typing import Any

from flax import nnx
import ml_collections

from data_pipelines.errors import InputError
from data_pipelines.sequences.tokenizer import SequenceTokenizer
from gato_jax.config import default_config
from gato_jax.export.config import FILE, read_config
from gato_jax.export.weights import names, nested, read_weights
from gato_jax.training.compatibility import with_tuples
from gato_jax.training.restore import Trained
from gato_jax.training.state import define_model


def load_export(folder: pathlib.Path) -> Trained:
  """The model on the first device, float32, and what acting needs besides; memory is that of the weights.

  Raises:
    InputError: a file is missing, damaged or of another version, or the weights are not those of the config.
  """
  content = read_config(folder)
  config = _config(folder, content['config'])
  tokenizer = SequenceTokenizer.load(folder, config.data.mask_question)
  definition = define_model(config.model, tokenizer.vocabulary)
  shapes = {name: leaf.shape for name, leaf in names(nnx.to_pure_dict(definition.abstract)).items()}
  parameters = nested(read_weights(folder, shapes))
  return Trained(definition.build(parameters), tokenizer, config, content['step'])


def _config(folder: pathlib.Path, saved: dict[str, dict[str, Any]]) -> ml_collections.ConfigDict:
  """The default config with what the export says of acting."""
  config = default_config()
  try:
    for section, values in saved.items():
      config[section].update(with_tuples(values))
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise InputError(f'{folder / FILE}: its config is not one of ours ({error}); export again') from error
  return config
