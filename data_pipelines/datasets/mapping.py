"""Which items of other people's episodes are what; see `KeyMapping`."""

from collections.abc import Mapping
import dataclasses
import difflib
import hashlib
import json
from typing import Any

from data_pipelines.errors import InputError


@dataclasses.dataclass(frozen=True)
class KeyMapping:
  """How the items of someone else's dataset become observation, action and reward.

  What is empty is guessed: from what the dataset says of itself, else from its values. Items of a nested observation
  are named with dots, `camera.wrist`.

  Attributes:
    observation: items that are observed; empty: all, but for numbers in bulk (embeddings), which are left out and said.
    action: items of the action, joined to one vector in this order; empty: `action`, with all that is in it.
    action_low: what -1 stands for in a continuous action: one number, or one a component; empty: the dataset's own
      bounds, else the least value in it.
    action_high: what 1 stands for, likewise.
    action_values: of a discrete action, how many there are; 0: the dataset's own number, else one above the greatest.
    text: the item that says in words what is to be done, of a step or of the episode; it is observed too.
    reward: empty: `reward` if there is one, else rewards are zero.
    success: an item that is true (or above zero) in an episode that succeeded; episodes are then scored by success.
    last_step: `observation`: the action of an episode's last step means nothing, as RLDS has it; `action`: it does.
      Empty: `observation` if it is zero, and so is its reward, in every episode.
    split: of a dataset that has several, `rlds` and `jat`; empty: `train`, or with `rlds` the only one there is.
    image_side: larger pictures are scaled down until their longer side is this; 0: they stay as they are.
  """

  observation: tuple[str, ...] = ()
  action: tuple[str, ...] = ()
  action_low: tuple[float, ...] = ()
  action_high: tuple[float, ...] = ()
  action_values: int = 0
  text: str = ''
  reward: str = ''
  success: str = ''
  last_step: str = ''
  split: str = ''
  image_side: int = 128

  @classmethod
  def from_settings(cls, settings: Mapping[str, Any], where: str) -> 'KeyMapping':
    """Checks what a config says; `where` names the place in it.

    Raises:
      InputError: an unknown key, a value of another type, bounds that do not belong together.
    """
    defaults = dataclasses.asdict(cls())
    values = {}
    for key, value in settings.items():
      if key not in defaults:
        nearest = difflib.get_close_matches(key, defaults, n=1)
        hint = f'did you mean {nearest[0]!r}?' if nearest else f'there are {", ".join(defaults)}'
        raise InputError(f'{where} has no key {key!r}; {hint}')
      values[key] = _like(defaults[key], value, f'{where}.{key}')
    mapping = cls(**values)
    if len(mapping.action_low) != len(mapping.action_high):
      raise InputError(f'{where}: action_low has {len(mapping.action_low)} numbers and action_high '
                       f'{len(mapping.action_high)}; give both, or neither')
    if not all(low < high for low, high in zip(mapping.action_low, mapping.action_high, strict=True)):
      raise InputError(f'{where}: every action_low must be below its action_high')
    if mapping.last_step not in ('', 'observation', 'action'):
      raise InputError(f"{where}.last_step is {mapping.last_step!r}; it is 'observation', 'action' or empty")
    for key in ('action_values', 'image_side'):
      if getattr(mapping, key) < 0:
        raise InputError(f'{where}.{key} is {getattr(mapping, key)}; it must be 0 or more')
    return mapping

  @property
  def digest(self) -> str:
    """Names the settings that differ from the defaults; empty where none does."""
    changes = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)
               if getattr(self, field.name) != field.default}
    return hashlib.sha256(json.dumps(changes, sort_keys=True).encode()).hexdigest()[:8] if changes else ''


def _like(default: Any, value: Any, where: str) -> Any:
  """The value as the type of the default; a single item counts as a tuple of one."""
  if isinstance(default, tuple):
    items = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    wanted = (int, float) if where.endswith(('action_low', 'action_high')) else str
    if not all(isinstance(item, wanted) and not isinstance(item, bool) for item in items):
      raise InputError(f'{where} is {value!r}; it takes a tuple of {"numbers" if wanted is not str else "item names"}')
    return tuple(float(item) for item in items) if wanted is not str else items
  if not isinstance(value, type(default)) or isinstance(value, bool):
    raise InputError(f'{where} is {value!r}; it takes a value like {default!r}')
  return value
