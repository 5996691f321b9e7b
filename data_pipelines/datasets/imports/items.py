"""What every reader of other people's episodes gives, whatever their format on disk."""

from collections.abc import Collection, Iterator, Mapping, Sequence
import dataclasses
from typing import Any, Literal, Protocol

import numpy as np


@dataclasses.dataclass(frozen=True)
class Item:
  """What a dataset says of one item of its episodes.

  Attributes:
    kind: `number` (floats), `integer` (booleans too), `image`, `text`, or `other`, which has no tokens.
    shape: of one step's value; of an image height, width, channels, each None where it is not said.
    num_values: integers are in [0, num_values); 0: not said.
    low: least values that a number can have, shaped like it; None: not said.
    high: greatest values, likewise.
    stacked: an image's channels are successive grey frames, the oldest first.
    lossy: an image that is not encoded was compressed with loss, and may be again.
  """

  kind: Literal['number', 'integer', 'image', 'text', 'other']
  shape: tuple[int | None, ...] = ()
  num_values: int = 0
  low: np.ndarray | None = None
  high: np.ndarray | None = None
  stacked: bool = False
  lossy: bool = False

  @property
  def size(self) -> int:
    return int(np.prod([side or 1 for side in self.shape], dtype=int))


@dataclasses.dataclass(frozen=True)
class RawEpisode:
  """One episode as it was recorded.

  Attributes:
    place: where it is, for messages.
    items: name -> its values step by step: an array, a list of strings, or a sequence of pictures, each encoded (bytes)
      or uint8 [height, width, channels]. Observations may have one step more than actions: the final one. A string
      alone holds for the whole episode, and so does a number.
    terminated: whether the episode ended by itself; False where it was cut off, or nobody says.
  """

  place: str
  items: Mapping[str, Any]
  terminated: bool = False


@dataclasses.dataclass(frozen=True)
class Damage:
  """Episodes that cannot be read: where, how many, and why."""

  place: str
  problem: str
  episodes: int = 1


class Reader(Protocol):
  """Reads a dataset of some format.

  Attributes:
    items: name -> what is said of it. Observations are named `observation` or `observation.<key>`, likewise actions;
      nested keys have dots.
    last_step: `action` or `observation`, as in `KeyMapping`; empty: the format does not say.
  """

  items: Mapping[str, Item]
  last_step: str

  def episodes(self, names: Collection[str]) -> Iterator[RawEpisode | Damage]:
    """All episodes in a fixed order, with these items and no others."""


Pictures = Sequence[bytes | np.ndarray]
