"""`config.json` of an exported folder: what it is, and how its model acts."""

from collections.abc import Mapping
import json
import pathlib
from typing import Any

from data_pipelines.errors import InputError
from gato_jax.export.weights import read_json

FILE = 'config.json'
FORMAT, VERSION = 'gato_jax export', 1
DATA_KEYS = ('sequence_length', 'patches_per_row', 'mask_question')  # of the config's data section: acting reads them


def write_config(folder: pathlib.Path, step: int, dtype: str, parameters: int, config: Any) -> None:
  """Of the config only what acting reads: the rest says where things lay on the machine that trained."""
  content = {
      'format': FORMAT, 'version': VERSION, 'name': config.name, 'step': step, 'dtype': dtype, 'parameters': parameters,
      'config': {'model': config.model.to_dict(), 'acting': config.acting.to_dict(),
                 'data': {key: config.data[key] for key in DATA_KEYS}},
  }
  (folder / FILE).write_text(json.dumps(content, indent=2) + '\n')


def read_config(folder: pathlib.Path) -> Mapping[str, Any]:
  """`step`, and `config` with the sections model, acting and data.

  Raises:
    InputError: it is no such file, or one of another version.
  """
  path = folder / FILE
  content = read_json(path)
  if not isinstance(content, dict) or content.get('format') != FORMAT:
    raise InputError(f'{path} is not the config of an export')
  if content.get('version') != VERSION:
    raise InputError(f'{folder} has version {content.get("version")!r} of the format, this is made for {VERSION}; use '
                     'the gato_jax it was exported with, or export again')
  config, step = content.get('config'), content.get('step')
  sections = isinstance(config, dict) and all(isinstance(config.get(key), dict) for key in ('model', 'acting', 'data'))
  if not sections or not config['data'].keys() == {*DATA_KEYS} or not isinstance(step, int):
    raise InputError(f'{path}: its config is not one of ours; export again')
  return content
