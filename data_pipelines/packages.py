"""Packages of the extras: imported only when they are used."""

import importlib
from types import ModuleType

from data_pipelines.errors import InputError


def import_package(module: str, extra: str, what: str = 'it') -> ModuleType:
  """Imports a module; raises InputError that says to install `what`, by its extra, where it is missing."""
  try:
    return importlib.import_module(module)
  except ImportError as error:
    remedy = f"install {what}: pip install 'gato_jax[{extra}]'"
    raise InputError(f'cannot import {module} ({error}); {remedy}') from error
