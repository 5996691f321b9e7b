"""Reads an exported folder, whoever made it: everything is checked, nothing in it is executed."""

import functools
import pathlib
from typing import Any

from flax import nnx
import jax.numpy as jnp
import ml_collections

from data_pipelines.errors import InputError
from data_pipelines.sequences.tokenizer import SequenceTokenizer
from gato_jax.config import default_config
from gato_jax.export.export import CONFIG, DATA_KEYS, FORMAT, VERSION
from gato_jax.export.weights import names, read_json, read_weights
from gato_jax.training.checkpoint import with_tuples
from gato_jax.training.restore import Trained
from gato_jax.training.state import define_model


def is_export(folder: pathlib.Path) -> bool:
  """Whether it is an exported folder, and not a workdir of training."""
  return (folder / CONFIG).is_file()


def load_export(folder: pathlib.Path) -> Trained:
  """The model on the first device, float32, and what acting needs besides; memory is that of the weights.

  Raises:
    InputError: a file is missing, damaged or of another version, or the weights are not those of the config.
  """
  content = read_json(folder / CONFIG)
  if not isinstance(content, dict) or content.get('format') != FORMAT:
    raise InputError(f'{folder / CONFIG} is not the config of an export')
  if content.get('version') != VERSION:
    raise InputError(f'{folder} has version {content.get("version")!r} of the format, this is made for {VERSION}; use '
                     'the gato_jax it was exported with, or export again')
  config = _config(folder, content.get('config'))
  tokenizer = SequenceTokenizer.load(folder, config.data.mask_question)
  definition = define_model(config.model, tokenizer.vocabulary)
  shapes = {name: leaf.shape for name, leaf in names(nnx.to_pure_dict(definition.abstract)).items()}
  arrays = read_weights(folder, shapes, lambda _, tensor: jnp.asarray(tensor))
  parameters: dict[str, Any] = {}
  for name, array in arrays.items():
    *path, last = name.split('.')
    functools.reduce(lambda node, key: node.setdefault(key, {}), path, parameters)[last] = array
  step = content.get('step')
  return Trained(definition.build(parameters), tokenizer, config, step if isinstance(step, int) else 0)


def _config(folder: pathlib.Path, saved: Any) -> ml_collections.ConfigDict:
  """The default config with what the export says of acting."""
  config = default_config()
  try:
    config.model.update(with_tuples(saved['model']))
    config.acting.update(with_tuples(saved['acting']))
    config.data.update({key: saved['data'][key] for key in DATA_KEYS})
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise InputError(f'{folder / CONFIG}: its config is not one of ours ({error}); export again') from error
  return config
