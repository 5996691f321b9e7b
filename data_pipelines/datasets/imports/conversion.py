"""Raw episodes as demonstrations of a task; whatever is wrong with one is said in words."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data_pipelines.datasets.demonstrations import Demonstration
from data_pipelines.datasets.episodes import ControlEpisode
from data_pipelines.datasets.imports.items import Item, RawEpisode
from data_pipelines.datasets.imports.layout import Layout
from data_pipelines.datasets.imports.pictures import encoded_picture
from data_pipelines.environments.action_bounds import to_unit
from data_pipelines.environments.specs import ArraySpec

AGENT = 'imported'
_TOLERANCE = 1e-4  # of the span between the bounds: float32 arithmetic


def convert(raw: RawEpisode, layout: Layout, items: Mapping[str, Item], number: int) -> Demonstration:
  """The episode as the layout has it, its pictures encoded and scaled; `number` stands for its unknown seed.

  Raises:
    ValueError: it is empty, ragged, or has values that are not finite, out of bounds or of another shape or type.
  """
  missing = sorted(layout.names - set(raw.items))
  if missing:
    raise ValueError(f'it has no {", ".join(missing)}')
  T, steps = _lengths(raw, layout)
  observation = {
      key: _observed(raw.items[name], name, items[name], spec, layout, steps)
      for key, (name, spec) in layout.observation.items()
  }
  action = _action(raw, layout, items, T)
  reward = _numbers(raw.items[layout.reward], layout.reward, (), T) if layout.reward else np.zeros(T, np.float32)
  success = bool(layout.success) and bool(np.any(np.asarray(raw.items[layout.success], np.float64) > 0))
  episode = ControlEpisode(
      observation={key: values[:T] for key, values in observation.items()},
      action=action,
      expert_action=action,
      reward=reward,
      episode_return=float(np.sum(reward, dtype=np.float64)),
      success=success,
  )
  # Where nobody recorded the final observation, the last one stands for it: no action follows it.
  final = {key: values[-1] for key, values in observation.items()}
  return Demonstration(episode, final, raw.terminated, AGENT, number)


def _lengths(raw: RawEpisode, layout: Layout) -> tuple[int, int]:
  """How many actions there are, and how many observations: as many or one more."""
  lengths = {name: len(raw.items[name]) for name in layout.names if not _of_episode(raw.items[name])}
  actions = {lengths.get(part.name, 1) for part in layout.parts}
  observed = {lengths[name] for name, _ in layout.observation.values() if name in lengths}
  if 0 in lengths.values():
    raise ValueError('it has no timesteps')
  if len(actions) != 1 or len(observed) > 1 or observed and not 0 <= min(observed) - min(actions) <= 1:
    raise ValueError(f'it is ragged: {", ".join(f"{length} of {name}" for name, length in sorted(lengths.items()))}')
  T, steps = actions.pop(), observed.pop() if observed else 1
  if T == steps and layout.last_step == 'observation':
    T -= 1
  if not T:
    raise ValueError('it has one observation and no action')
  return T, steps


def _of_episode(values: Any) -> bool:
  return np.isscalar(values) or isinstance(values, np.ndarray) and not values.ndim


def _observed(values: Any, name: str, item: Item, spec: ArraySpec, layout: Layout, steps: int) -> Sequence[Any]:
  if spec.kind == 'text':
    return [_text(values, name)] * steps if _of_episode(values) else [_text(value, name) for value in values]
  if spec.kind == 'image':
    return [_picture(value, name, step, item, layout.picture_sizes[name], spec) for step, value in enumerate(values)]
  if spec.kind == 'discrete':
    return _integers(values, name, spec, steps)
  return _numbers(values, name, spec.shape, steps)


def _text(value: Any, name: str) -> str:
  if isinstance(value, str):
    return value
  if not isinstance(value, bytes):
    value = bytes(np.trim_zeros(np.asarray(value), 'b').astype(np.uint8))  # numbers that spell it, padded with zeros
  try:
    return value.decode()
  except UnicodeDecodeError as error:
    raise ValueError(f'{name} is not UTF-8: {error}') from error


def _picture(value: Any, name: str, step: int, item: Item, size: tuple[int, int], spec: ArraySpec) -> bytes:
  try:
    return encoded_picture(value, item, size, spec.shape[:2])
  except ValueError as error:
    raise ValueError(f'{name}, picture {step}: {error}') from error


def _numbers(values: Any, name: str, shape: tuple[int, ...], length: int) -> np.ndarray:
  """float32 [length, *shape]."""
  with np.errstate(over='ignore'):
    array = _by_step(values, name, shape, length).astype(np.float32)
  if not np.isfinite(array).all():
    raise ValueError(f'{name} is not finite at step {np.argwhere(~np.isfinite(array))[0][0]}')
  return array


def _integers(values: Any, name: str, spec: ArraySpec, length: int) -> np.ndarray:
  array = _by_step(values, name, spec.shape, length).astype(np.int64)
  wrong = np.argwhere((array < 0) | (array >= spec.num_values))
  if len(wrong):
    raise ValueError(f'{name} is {array[tuple(wrong[0])]} at step {wrong[0][0]}, outside [0, {spec.num_values})')
  return array.astype(np.int32)


def _by_step(values: Any, name: str, shape: tuple[int, ...], length: int) -> np.ndarray:
  """[length, *shape] of an array that has as many numbers, in other axes of length 1, or of a number for all steps."""
  try:
    array = np.asarray(values)
  except ValueError as error:
    raise ValueError(f'{name} is ragged: its steps differ in shape') from error
  array = array[:length] if array.ndim else np.broadcast_to(array, (length,))
  if len(array) != length or array.size != length * int(np.prod(shape, dtype=int)):
    raise ValueError(f'{name} has the shape {array.shape[1:]} in {len(array)} steps, not {shape} in {length}')
  return array.reshape(length, *shape)


def _action(raw: RawEpisode, layout: Layout, items: Mapping[str, Item], T: int) -> np.ndarray:
  if layout.action.kind == 'discrete':
    return _integers(raw.items[layout.parts[0].name], layout.parts[0].name, layout.action, T)
  columns = []
  for part in layout.parts:
    columns.append(part.take(_by_step(raw.items[part.name], part.name, items[part.name].shape, T)))
  action = np.concatenate(columns, axis=1)
  if not np.isfinite(action).all():
    raise ValueError(f'the action is not finite at step {np.argwhere(~np.isfinite(action))[0][0]}')
  slack = _TOLERANCE * (layout.high - layout.low)
  wrong = np.argwhere((action < layout.low - slack) | (action > layout.high + slack))
  if len(wrong):
    step, component = wrong[0]
    raise ValueError(f'the action is {action[step, component]:g} at step {step}, component {component}, outside '
                          f'[{layout.low[component]:g}, {layout.high[component]:g}]')
  return np.clip(to_unit(action, layout.low, layout.high), -1, 1)
