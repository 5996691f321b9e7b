"""dm_env's specs as the spaces of `gymnasium_spaces`, which knows a space by the name of its class."""

from collections.abc import Mapping
import dataclasses
from typing import Any

import numpy as np

from data_pipelines.errors import InputError


@dataclasses.dataclass(frozen=True)
class Box:
  low: np.ndarray
  high: np.ndarray
  shape: tuple[int, ...]
  dtype: np.dtype


@dataclasses.dataclass(frozen=True)
class Discrete:
  n: int
  start: int
  shape: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Text:
  pass


@dataclasses.dataclass(frozen=True)
class Dict:
  spaces: Mapping[str, Any]


def is_dm_env(spec: Any) -> bool:
  """Whether it is a spec of dm_env's, or a mapping of them, and not a space of gymnasium's."""
  if isinstance(spec, Mapping) and not hasattr(spec, 'spaces'):
    return all(is_dm_env(part) for part in spec.values())
  return type(spec).__module__.split('.')[0] == 'dm_env'


def as_space(spec: Any, name: str = '') -> Any:
  """The space of a dm_env spec, or of a nested mapping of them; raises InputError where it has none."""
  if isinstance(spec, Mapping):
    return Dict({str(key): as_space(part, f'{name}.{key}' if name else str(key)) for key, part in spec.items()})
  if type(spec).__name__ == 'StringArray':
    return Text()
  whole = np.issubdtype(spec.dtype, np.integer) and spec.dtype != np.uint8
  if spec.shape == () and hasattr(spec, 'minimum') and whole:
    return Discrete(int(spec.maximum) - int(spec.minimum) + 1, int(spec.minimum))
  if np.issubdtype(spec.dtype, np.floating) or spec.dtype == np.uint8:
    low, high = getattr(spec, 'minimum', -np.inf), getattr(spec, 'maximum', np.inf)
    return Box(np.broadcast_to(low, spec.shape), np.broadcast_to(high, spec.shape), tuple(spec.shape), spec.dtype)
  raise InputError(f'{name or "it"!r} is {spec}; wrap the environment so that it is made of floats, of single '
                   'whole numbers with bounds, of pictures or of text')
