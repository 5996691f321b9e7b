"""Pictures as they are kept on disk, PNG, and as episodes show them: decoded only when looked at."""

from collections.abc import Sequence
import io

import numpy as np
from PIL import Image

_COMPRESSION = 1  # of 9: higher levels take several times as long and save about a tenth


def encode_png(image: np.ndarray) -> bytes:
  """PNG of uint8 [height, width, 3]."""
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, 'PNG', compress_level=_COMPRESSION)
  return buffer.getvalue()


def decode_png(png: bytes) -> np.ndarray:
  """uint8 [height, width, 3]."""
  with Image.open(io.BytesIO(png)) as image:
    return np.asarray(image.convert('RGB'))


class LazyImages(Sequence):
  """T pictures of one size. An index or a slice decodes those pictures and no others.

  `images[3]` is uint8 [height, width, 3]; `images[3:5]` is uint8 [2, height, width, 3].
  """

  def __init__(self, pngs: Sequence[bytes], shape: tuple[int, int, int]):
    self._pngs = pngs
    self.shape = (len(pngs), *shape)

  def __len__(self) -> int:
    return len(self._pngs)

  @property
  def nbytes(self) -> int:
    """Memory it holds, compressed."""
    return sum(map(len, self._pngs))

  def __getitem__(self, index: int | slice) -> np.ndarray:
    if not isinstance(index, slice):
      return decode_png(self._pngs[index])
    images = [decode_png(png) for png in self._pngs[index]]
    return np.stack(images) if images else np.zeros((0, *self.shape[1:]), np.uint8)
