"""Pictures as they are kept on disk, PNG, and as episodes show them: decoded only when looked at."""

from collections.abc import Iterator, Sequence
import contextlib
import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps

from data_pipelines.errors import InputError

_COMPRESSION = 1  # of 9: higher levels take several times as long and save about a tenth
_MOST_PIXELS = 2**26  # of a picture to be read: more is a mistake, or an attack


def encode_png(image: np.ndarray) -> bytes:
  """PNG of uint8 [height, width, 3]."""
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, 'PNG', compress_level=_COMPRESSION)
  return buffer.getvalue()


def decode_png(png: bytes) -> np.ndarray:
  """uint8 [height, width, 3]."""
  with Image.open(io.BytesIO(png)) as image:
    return np.asarray(image.convert('RGB'))


@contextlib.contextmanager
def open_picture(content: bytes) -> Iterator[Image.Image]:
  """Opens someone else's picture, of any format that Pillow reads, to be decoded in the `with`.

  Raises:
    InputError: it does not decode, in the `with` either, or is so large that it may be meant to exhaust memory.
  """
  try:
    with Image.open(io.BytesIO(content)) as file:
      if file.width * file.height > _MOST_PIXELS:
        raise InputError(f'a picture of {file.width} x {file.height} pixels, more than {_MOST_PIXELS:,}')
      yield file
  except InputError:
    raise
  except (Image.DecompressionBombError, OSError, SyntaxError, ValueError, struct.error, zlib.error) as error:
    # What Pillow raises for a broken file depends on its format.
    raise InputError(f'no picture that decodes ({error})') from error


def fit_picture(content: bytes, side: int) -> bytes:
  """Someone else's picture as PNG of side x side: scaled to fit, its proportions kept, centred on white.

  Transparency is shown on white as well. Of an animation, it is the first picture.

  Args:
    content: a file of any format that Pillow reads.
    side: pixels.

  Raises:
    InputError: it does not decode, or is so large that it may be meant to exhaust memory.
  """
  with open_picture(content) as file:
    file.draft('RGB', (side, side))  # JPEG need not be decoded at its full size
    picture = on_white(ImageOps.exif_transpose(file))
  canvas = Image.new('RGB', (side, side), 'white')
  # Not `ImageOps.contain`, which makes nothing of a picture that is much longer than it is wide.
  longer = max(picture.size)
  scaled = picture.resize([max(1, round(length / longer * side)) for length in picture.size])
  canvas.paste(scaled, ((side - scaled.width) // 2, (side - scaled.height) // 2))
  return encode_png(np.asarray(canvas))


def on_white(picture: Image.Image) -> Image.Image:
  """In RGB, whatever its mode; what is transparent is shown on white."""
  if picture.mode.startswith('I'):  # 16 bits of grey, which `convert` would cut off at 255
    picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
  if not picture.has_transparency_data:
    return picture.convert('RGB')
  picture = picture.convert('RGBA')
  return Image.alpha_composite(Image.new('RGBA', picture.size, 'white'), picture).convert('RGB')


def png_shape(png: bytes) -> tuple[int, int, int]:
  """Height, width and 3 of what `decode_png` gives, without decoding it."""
  with Image.open(io.BytesIO(png)) as image:
    return (image.height, image.width, 3)


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
