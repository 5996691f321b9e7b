"""Other people's pictures, whatever their encoding and channels, as uint8 [height, width, 3]."""

import io

import numpy as np
from PIL import Image

from data_pipelines.datasets.imports.items import Item
from data_pipelines.datasets.pictures import encode_png

_JPEG_QUALITY = 95


def picture_size(picture: bytes | np.ndarray) -> tuple[int, int] | None:
  """Height and width, from the header of an encoded one; None where it has none."""
  if isinstance(picture, np.ndarray):
    return picture.shape[0], picture.shape[1]
  try:
    with Image.open(io.BytesIO(picture)) as image:
      return image.height, image.width
  except OSError:
    return None


def encoded_picture(picture: bytes | np.ndarray, item: Item, size: tuple[int, int], scaled: tuple[int, int]) -> bytes:
  """The picture as PNG, or as JPEG if it was compressed with loss already.

  Args:
    picture: encoded, or uint8 [height, width] or [height, width, channels].
    item: what is said of it.
    size: height and width that it must have.
    scaled: height and width that it gets.

  Raises:
    ValueError: it does not decode, or is no picture of that size.
  """
  pixels, encoding = (picture, None) if isinstance(picture, np.ndarray) else _decoded(picture)
  rgb = _rgb(pixels, item.stacked)
  if rgb.shape[:2] != size:
    raise ValueError(f'it is {rgb.shape[0]}x{rgb.shape[1]}, the first one {size[0]}x{size[1]}')
  if size != scaled:
    rgb = np.asarray(Image.fromarray(rgb).resize(scaled[::-1], Image.Resampling.BOX))
  elif encoding and pixels.shape[2:] == (3,):
    return picture
  if encoding != 'JPEG' and not item.lossy:
    return encode_png(rgb)
  buffer = io.BytesIO()
  Image.fromarray(rgb).save(buffer, 'JPEG', quality=_JPEG_QUALITY)
  return buffer.getvalue()


def _decoded(picture: bytes) -> tuple[np.ndarray, str | None]:
  """uint8 [height, width] or [height, width, channels], and PNG or JPEG if that is its encoding."""
  try:
    with Image.open(io.BytesIO(picture)) as image:
      known = image.mode in ('L', 'RGB', 'RGBA')
      pixels = np.asarray(image if known else image.convert('RGB'))
      return pixels, image.format if known and image.format in ('PNG', 'JPEG') else None
  except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # Pillow's for a damaged file
    raise ValueError(f'it does not decode ({error})') from error


def _rgb(pixels: np.ndarray, stacked: bool) -> np.ndarray:
  """Grey is repeated, alpha is dropped; of stacked frames the three newest become red, green and blue."""
  if pixels.dtype != np.uint8:
    raise ValueError(f'it is {pixels.dtype}, not uint8')
  if pixels.ndim == 2:
    pixels = pixels[..., None]
  if pixels.ndim != 3 or pixels.shape[-1] not in (1, 3, 4):
    raise ValueError(f'it has the shape {pixels.shape}')
  if pixels.shape[-1] == 1:
    return np.repeat(pixels, 3, axis=-1)
  return np.ascontiguousarray(pixels[..., -3:] if stacked else pixels[..., :3])
