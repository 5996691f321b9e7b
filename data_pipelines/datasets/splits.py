"""Which examples are held out: a pure function of the example, so that the split stays as the dataset grows."""

from collections.abc import Iterable
import hashlib

import numpy as np

from data_pipelines.errors import InputError


def hash_share(content: bytes) -> float:
  """A number in [0, 1), as good as random, the same wherever `content` is; below s: it is in the held-out share s.

  Equal examples fall into the same split, so none of the held-out ones is trained on.
  """
  return int.from_bytes(hashlib.sha256(content).digest()[:8], 'big') / 2**64


def held_out_limit(contents: Iterable[bytes], share: float) -> float:
  """Examples whose `hash_share` is below it are held out: `share`, or as much as gives both splits an example.

  Reads no more contents than it takes to see one on either side of `share`.

  Raises:
    InputError: there are no two examples that differ.
  """
  count, lowest, highest = 0, 1.0, 0.0
  for content in contents:
    count += 1
    place = hash_share(content)
    lowest, highest = min(lowest, place), max(highest, place)
    if lowest < share <= highest:
      return share
  if lowest >= highest:
    raise InputError(f'{count} examples, all alike; it takes two that differ, as one is held out')
  return float(np.nextafter(lowest, 1)) if lowest >= share else highest
