"""What a control task looks like from outside: its observations, its action, how it is scored."""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any, Literal, Protocol

import numpy as np

Kind = Literal['continuous', 'discrete', 'image', 'text']
Observation = Mapping[str, Any]  # key -> float32 or int32 array, uint8 [H, W, 3] picture, or str


@dataclasses.dataclass(frozen=True)
class ArraySpec:
  """One observation item, or the action.

  Attributes:
    kind: `continuous` (float32), `discrete` (int32), `image` (uint8 [height, width, 3]) or `text` (str).
    shape: the array's shape; `()` for a scalar and for text.
    num_values: of a discrete item, its values are in [0, num_values).
  """

  kind: Kind
  shape: tuple[int, ...] = ()
  num_values: int = 0

  @property
  def size(self) -> int:
    return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class TaskSpec:
  """A control task.

  Attributes:
    name: `domain/task`, e.g. `dm_control/cartpole-swingup`; unique, and the name of its dataset.
    domain: the suite, e.g. `dm_control`; scores are averaged by domain.
    observation: key -> spec. Tokens follow the sorted order of the keys (paper section 2.1).
    action: a discrete scalar, or a continuous vector in [-1, 1] whatever the simulator's own bounds are.
    max_steps: an episode is cut off after so many steps.
    score: what an episode is scored by: its undiscounted `return`, or `success` (0 or 1).
    variant_of: the task whose episodes it shows in another way, and whose reference scores and noise are its own too;
      empty where it is none. Datasets do not record it, and specs that differ in it only are equal.
  """

  name: str
  domain: str
  observation: Mapping[str, ArraySpec]
  action: ArraySpec
  max_steps: int
  score: Literal['return', 'success'] = 'return'
  variant_of: str = dataclasses.field(default='', compare=False)

  @property
  def task(self) -> str:
    """The name without the domain."""
    return self.name.partition('/')[2]

  def to_json(self) -> dict[str, Any]:
    fields = dataclasses.asdict(self)
    del fields['variant_of']
    return fields

  @classmethod
  def from_json(cls, fields: Mapping[str, Any]) -> 'TaskSpec':
    def array(spec):
      return ArraySpec(spec['kind'], tuple(spec['shape']), spec['num_values'])

    observation = {key: array(spec) for key, spec in fields['observation'].items()}
    return cls(**{**fields, 'observation': observation, 'action': array(fields['action'])})


@dataclasses.dataclass(frozen=True)
class StepResult:
  """What `Environment.step` returns. `success` is sticky: once true in an episode it stays true."""

  observation: Observation
  reward: float
  terminated: bool
  truncated: bool
  success: bool = False


class Environment(Protocol):
  """A simulator of one task behind one face. Not thread-safe; one process may hold many."""

  spec: TaskSpec

  def reset(self, seed: int) -> Observation:
    """Starts the episode that `seed` alone determines."""

  def step(self, action: np.ndarray) -> StepResult:
    """Takes an action that fits `spec.action`; raises InputError naming the task where it does not."""

  def render(self) -> np.ndarray | None:
    """uint8 [height, width, 3], or None where the task cannot be drawn without a display."""

  def close(self) -> None:
    """Frees the simulator."""


class Expert(Protocol):
  """A policy that solves one task. It may read the simulator's state, not only the observation."""

  def reset(self) -> None:
    """Call after `Environment.reset`."""

  def act(self, observation: Observation) -> np.ndarray:
    """The expert's action here. Always called once a step, also where another action is then executed."""
