"""Packages that read other people's formats; they are not needed otherwise."""

import importlib
from types import ModuleType

from data_pipelines.errors import InputError


def import_package(module: str) -> ModuleType:
  """Imports a module; raises InputError naming the extra to install where it is missing."""
  try:
    return importlib.import_module(module)
  except ImportError as error:
    raise InputError(f"cannot import {module} ({error}); install it: pip install 'gato_jax[formats]'") from error
