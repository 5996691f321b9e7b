"""Which examples are held out: a pure function of the example, so that the split stays as the dataset grows."""

import hashlib


def hash_share(content: bytes) -> float:
  """A number in [0, 1), as good as random, the same wherever `content` is; below s: it is in the held-out share s.

  Equal examples fall into the same split, so none of the held-out ones is trained on.
  """
  return int.from_bytes(hashlib.sha256(content).digest()[:8], 'big') / 2**64
