"""Loads an experiment's config file and applies the command line's overrides to it."""

from collections.abc import Sequence
import pathlib
from typing import Any

from absl import flags
import ml_collections
from ml_collections import config_flags

from data_pipelines.errors import InputError


def load_config(file: str, overrides: Sequence[str] = ()) -> ml_collections.ConfigDict:
  """The config of `FILE[:arg]`, with `--config.a.b=value` overrides applied in order, locked.

  A file that is not there relative to the working directory is looked for next to the installed package, so that
  `experiments/configs/quickstart.py` works from anywhere.

  Raises:
    InputError: no such file, an unknown key (naming the nearest one), or a value of the wrong type.
  """
  name, _, argument = file.partition(':')
  path = _find(name)
  arguments = ['gato-jax', f'--config={path}:{argument}' if argument else f'--config={path}', *overrides]
  values: Any = flags.FlagValues()
  config_flags.DEFINE_config_file('config', flag_values=values, sys_argv=arguments)
  try:
    values(arguments)
    return values['config'].value.lock()
  except (AttributeError, KeyError, flags.Error, TypeError, ValueError) as error:
    raise InputError(f'{" ".join([f"--config={file}", *overrides])}: {_text(error)}') from error


def _text(error: Exception) -> str:
  """The error's last line, without the stack trace that config_flags prints into it."""
  text = str(error).replace('\\n', ' ').replace('\\', '')
  line = text.strip().splitlines()[-1] if 'Traceback' in text else text
  return ' '.join(line.replace("'", '').strip('"').split())


def _find(path: str) -> pathlib.Path:
  candidates = [pathlib.Path(path), pathlib.Path(__file__).parent.parent / path]
  for candidate in candidates:
    if candidate.is_file():
      return candidate
  raise InputError(f'no config file {path!r}; give --config=FILE[:arg], for example experiments/configs/quickstart.py')
