"""Which items of a dataset become what: as the user's mapping, the dataset itself or else its values say."""

from collections.abc import Mapping, Sequence
import dataclasses
import re
from typing import Literal

import numpy as np

from data_pipelines.datasets.imports.items import Item, Reader
from data_pipelines.datasets.imports.values import DatasetValues
from data_pipelines.datasets.mapping import KeyMapping
from data_pipelines.environments.specs import ArraySpec
from data_pipelines.errors import InputError

MOST_NUMBERS = 256  # of an observation item that is taken without being named: what has more is an embedding
_MOST_VALUES = 1024  # of an integer observation that counts as discrete
_TEXT_NAMES = ('language_instruction', 'natural_language_instruction', 'instruction', 'task')
_REWARD_NAMES = ('reward', 'next.reward')
_PREFIXES = ('', 'observation.', 'action.', 'episode.')
_PART = re.compile(r'(?P<name>.+?)(\[(?P<start>\d+):(?P<stop>\d+)\])?$')


@dataclasses.dataclass(frozen=True)
class Part:
  """An item of the action, or with `[start:stop]` behind its name some of its numbers."""

  name: str
  start: int
  stop: int

  def take(self, values: np.ndarray) -> np.ndarray:
    """[T, ...] -> float64 [T, stop - start]."""
    return np.asarray(values, np.float64).reshape(len(values), -1)[:, self.start : self.stop]


@dataclasses.dataclass(frozen=True)
class Layout:
  """How a raw episode becomes an episode of a task.

  Attributes:
    observation: key -> item and spec.
    parts: what the action is joined from.
    action: its spec.
    low: what -1 stands for in each component, float64 [A]; of a discrete action, empty.
    high: what 1 stands for.
    reward: item; empty: none.
    success: item; empty: none.
    last_step: `action` or `observation`, for episodes with as many observations as actions.
    picture_sizes: item -> height and width, before they are scaled to the spec's.
    notes: what was guessed or left out, a line each.
  """

  observation: Mapping[str, tuple[str, ArraySpec]]
  parts: tuple[Part, ...]
  action: ArraySpec
  low: np.ndarray
  high: np.ndarray
  reward: str
  success: str
  last_step: Literal['action', 'observation']
  picture_sizes: Mapping[str, tuple[int, int]]
  notes: tuple[str, ...]

  @property
  def names(self) -> frozenset[str]:
    """The items that are read."""
    used = {name for name, _ in self.observation.values()} | {part.name for part in self.parts}
    return frozenset(used | {self.reward, self.success} - {''})


def make_layout(reader: Reader, mapping: KeyMapping) -> Layout:
  """Settles what every item is. Reads the numbers of all episodes if something cannot be told without.

  Raises:
    InputError: the mapping names an item that is not there, or nothing is left to observe or to do.
  """
  notes: list[str] = []
  text = _text_name(reader.items, mapping)
  observation = _observation_names(reader.items, mapping, text, notes)
  parts = _parts(reader.items, mapping)
  reward = _given_or_first(reader.items, mapping.reward, _REWARD_NAMES, 'reward')
  success = _given_or_first(reader.items, mapping.success, (), 'success')
  spelled = {text} - {''}
  values = DatasetValues(reader, set(observation.values()) - spelled, [part.name for part in parts], reward)
  specs = {}
  for key, name in observation.items():
    is_text = name in spelled
    specs[key] = name, ArraySpec('text') if is_text else _observation_spec(reader.items[name], name, values, mapping)
  action = _action_spec(reader.items, parts, values, mapping)
  low = high = np.zeros(0)
  if action.kind == 'continuous':
    low, high = _bounds(reader.items, parts, values, mapping, notes)
  last_step = mapping.last_step or reader.last_step or values.last_step
  sizes = {name: values.picture_size(name) for name, spec in specs.values() if spec.kind == 'image'}
  return Layout(specs, parts, action, low, high, reward, success, last_step, sizes, tuple(notes))


def find_item(items: Mapping[str, Item], name: str, what: str) -> str:
  """The full name of an item; raises InputError listing what there is."""
  for prefix in _PREFIXES:
    if prefix + name in items:
      return prefix + name
  raise InputError(f'mapping.{what} names {name!r}, which is not there; there are {", ".join(sorted(items))}')


def _given_or_first(items: Mapping[str, Item], given: str, names: Sequence[str], what: str) -> str:
  return find_item(items, given, what) if given else next((name for name in names if name in items), '')


def _text_name(items: Mapping[str, Item], mapping: KeyMapping) -> str:
  """The item that says what is to be done; empty: none."""
  if mapping.text:
    return find_item(items, mapping.text, 'text')
  candidates = (f'{prefix}{name}' for name in _TEXT_NAMES for prefix in ('observation.', '', 'episode.'))
  # Some spell it in a vector of numbers.
  return next((name for name in candidates if name in items and (
      items[name].kind == 'text' or items[name].kind == 'integer' and len(items[name].shape) == 1)), '')


def _observation_names(items: Mapping[str, Item], mapping: KeyMapping, text: str, notes: list[str]) -> dict[str, str]:
  """Key -> item."""
  if mapping.observation:
    names = [find_item(items, name, 'observation') for name in mapping.observation]
  else:
    names = []
    for name, item in items.items():
      if name.split('.')[0] != 'observation' or name == text:
        continue
      if item.kind == 'other':
        notes.append(f'{name} is not observed: it is neither numbers nor a picture nor text')
      elif item.kind in ('number', 'integer') and item.size > MOST_NUMBERS:
        notes.append(f'{name} is not observed: {item.size} numbers a step; if it should be, name it in '
                     'mapping.observation')
      else:
        names.append(name)
  unreadable = [name for name in names if items[name].kind == 'other']
  if unreadable:
    raise InputError(f'mapping.observation: {unreadable[0]} is neither numbers nor a picture nor text; leave it out')
  result = {name.removeprefix('observation.'): name for name in names}
  if text and text not in names:
    result['instruction'] = text
  if not result:
    raise InputError(f'there is nothing to observe; name it in mapping.observation: {", ".join(sorted(items))}')
  return result


def _parts(items: Mapping[str, Item], mapping: KeyMapping) -> tuple[Part, ...]:
  given = mapping.action or [name for name in items if name.split('.')[0] == 'action']
  if not given:
    raise InputError(f'there is no item called action; name it in mapping.action: {", ".join(sorted(items))}')
  parts = []
  for text in given:
    match = _PART.match(text)
    name = find_item(items, match['name'] if match['start'] else text, 'action')
    if items[name].kind not in ('number', 'integer'):
      raise InputError(f'mapping.action: {name} is {items[name].kind}, not numbers; name the items that are')
    size = items[name].size
    start, stop = (int(match['start']), int(match['stop'])) if match['start'] else (0, size)
    if not start < stop <= size:
      raise InputError(f'mapping.action: {text} takes numbers {start} to {stop} of {size}')
    parts.append(Part(name, start, stop))
  return tuple(parts)


def _observation_spec(item: Item, name: str, values: DatasetValues, mapping: KeyMapping) -> ArraySpec:
  if item.kind == 'text':
    return ArraySpec('text')
  if item.kind == 'image':
    return ArraySpec('image', (*_scaled(*values.picture_size(name), mapping.image_side), 3))
  if item.kind == 'integer':
    num_values = item.num_values or values.count(name)
    if 0 < num_values <= _MOST_VALUES:
      return ArraySpec('discrete', item.shape, num_values)
  return ArraySpec('continuous', item.shape)


def _scaled(height: int, width: int, side: int) -> tuple[int, int]:
  scale = min(1.0, side / max(height, width)) if side else 1.0
  return max(1, round(height * scale)), max(1, round(width * scale))


def _action_spec(items: Mapping[str, Item], parts: Sequence[Part], values: DatasetValues,
                 mapping: KeyMapping) -> ArraySpec:
  item = items[parts[0].name]
  if len(parts) == 1 and item.kind == 'integer' and item.size == 1 and not mapping.action_low:
    if num_values := mapping.action_values or item.num_values or values.count(parts[0].name):
      return ArraySpec('discrete', (), num_values)
  return ArraySpec('continuous', (sum(part.stop - part.start for part in parts),))


def _bounds(items: Mapping[str, Item], parts: Sequence[Part], values: DatasetValues, mapping: KeyMapping,
            notes: list[str]) -> tuple[np.ndarray, np.ndarray]:
  size = sum(part.stop - part.start for part in parts)
  if mapping.action_low:
    if len(mapping.action_low) not in (1, size):
      raise InputError(f'mapping.action_low has {len(mapping.action_low)} numbers; the action has {size}')
    return tuple(np.broadcast_to(np.array(bound), (size,)) for bound in (mapping.action_low, mapping.action_high))
  lows, highs = [], []
  for part in parts:
    low, high = _said_bounds(items[part.name])
    if low is None:
      low, high = values.range(part.name)
      notes.append(f'{part.name}: its least and greatest values in the data are -1 and 1; set mapping.action_low and '
                   'action_high if the actuator goes further')
    lows.append(low.ravel()[part.start : part.stop])
    highs.append(high.ravel()[part.start : part.stop])
  return np.concatenate(lows), np.concatenate(highs)


def _said_bounds(item: Item) -> tuple[np.ndarray | None, np.ndarray | None]:
  if item.low is not None and np.isfinite([item.low, item.high]).all():
    return np.asarray(item.low, float), np.asarray(item.high, float)
  if item.num_values:
    return np.zeros(item.size), np.full(item.size, item.num_values - 1.0)
  return None, None
