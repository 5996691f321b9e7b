"""What clients may say, checked: everything that comes in may be wrong, or hostile."""

import base64
import binascii
from collections.abc import Mapping
import json
import math
from typing import Any

import numpy as np

from data_pipelines.environments.simulation import check_observation, converted
from data_pipelines.environments.specs import ArraySpec, Observation, TaskSpec
from data_pipelines.errors import InputError

_TEXT = 10_000  # characters
_KINDS = ('continuous', 'discrete', 'image', 'text')
_DTYPES = {'f4', 'f8', 'u1', 'i1', 'i2', 'i4', 'i8', 'b1'}  # little-endian or of one byte


def read_message(data: Any) -> dict[str, Any]:
  """A message as a dict with a `type`; raises InputError where it is none."""
  try:
    message = json.loads(data)
  except (TypeError, ValueError, RecursionError) as error:
    raise InputError(f'a message is JSON ({error})') from error
  if not isinstance(message, dict) or not isinstance(message.get('type'), str):
    raise InputError('a message is a JSON object with a "type"')
  return message


def number(message: Mapping[str, Any], key: str, default: float, low: float, high: float) -> float:
  """A finite number of a message within bounds, or the default; raises InputError."""
  value = message.get(key, default)
  if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
    raise InputError(f'"{key}" is a number from {low:g} to {high:g}')
  return value


def read_spec(message: Mapping[str, Any], most_values: int) -> TaskSpec:
  """The spec of an environment that the agent does not know.

  Args:
    message: has `observation`, key -> array spec, and `action`.
    most_values: of one observation, pixels counted by channel.

  Raises:
    InputError: it is none, or too large.
  """
  observation = message.get('observation')
  if not isinstance(observation, dict) or not 0 < len(observation) <= 64:
    raise InputError('"observation" is an object of 1 to 64 specs by key')
  specs = {key: _array_spec(key, value) for key, value in observation.items()}
  action = _array_spec('action', message.get('action'))
  if action.kind not in ('continuous', 'discrete') or (action.kind == 'discrete' and action.shape):
    raise InputError('"action" is continuous, or discrete without a shape')
  if sum(spec.size for spec in specs.values()) > most_values or not 0 < action.size <= 1024:
    raise InputError(f'an observation has at most {most_values:,} values and an action 1 to 1,024')
  return TaskSpec('your/task', 'your', specs, action, max_steps=1)


def read_observation(spec: TaskSpec, message: Mapping[str, Any]) -> Observation:
  """The observation of an `act` message; raises InputError where it does not fit the spec."""
  items = message.get('observation')
  if not isinstance(items, dict):
    raise InputError('"observation" is an object of values by key')
  observation = {key: _value(key, value, spec.observation.get(key)) for key, value in items.items()}
  check_observation(spec, observation)
  return observation


def _array_spec(key: str, fields: Any) -> ArraySpec:
  if not isinstance(fields, dict) or fields.get('kind') not in _KINDS:
    raise InputError(f'the spec of {key!r} is an object with a "kind", one of {", ".join(_KINDS)}')
  shape, num_values = fields.get('shape', []), fields.get('num_values', 0)
  whole = isinstance(shape, list) and all(type(size) is int and 0 < size <= 2**16 for size in shape)
  if not whole or len(shape) > 4 or type(num_values) is not int or not 0 <= num_values <= 2**16:
    raise InputError(f'the spec of {key!r}: "shape" is a list of at most 4 sizes, "num_values" a whole number')
  spec = ArraySpec(fields['kind'], tuple(shape), num_values)
  if spec.kind == 'image' and (len(shape) != 3 or shape[2] != 3) or spec.kind == 'discrete' and not num_values:
    raise InputError(f'the spec of {key!r}: an image has the shape [height, width, 3], a discrete item "num_values"')
  return spec


def _value(key: str, value: Any, spec: ArraySpec | None) -> Any:
  if spec is None:
    raise InputError(f'the task has no observation {key!r}')
  if spec.kind == 'text':
    return _text(key, value)
  try:
    # Numbers only: of texts in a list NumPy would make an array as wide as the longest.
    array = _array(value) if isinstance(value, dict) else np.array(value, np.float64)
    if array.shape != spec.shape:
      raise ValueError(f'it is {array.dtype} {list(array.shape)}; it must have the shape {list(spec.shape)}')
    return converted(array, spec.kind)
  except (KeyError, MemoryError, OverflowError, TypeError, ValueError, binascii.Error) as error:
    raise InputError(f'observation {key!r}: {error}') from error


def _text(key: str, value: Any) -> str:
  try:
    if isinstance(value, str) and len(value) <= _TEXT and value.encode() is not None:
      return value
  except UnicodeEncodeError:  # half of a pair of surrogates, which JSON can hold
    pass
  raise InputError(f'observation {key!r} is not text of at most {_TEXT:,} characters')


def _array(fields: Mapping[str, Any]) -> np.ndarray:
  """Of dtype, shape and base64; never of objects."""
  dtype, shape = fields['dtype'], fields['shape']
  if not isinstance(dtype, str) or dtype.lstrip('<|=') not in _DTYPES:
    raise ValueError(f'its dtype is {dtype!r}')
  data = base64.b64decode(fields['data'], validate=True)
  if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
    raise ValueError(f'its shape is {shape!r}')
  if math.prod(shape) * np.dtype(dtype).itemsize != len(data):
    raise ValueError(f'{len(data)} bytes for {shape} of {dtype}')
  return np.frombuffer(data, dtype).reshape(shape)
