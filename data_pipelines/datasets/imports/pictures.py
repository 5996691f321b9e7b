"""Other people's pictures, whatever their encoding and channels, as uint8 [height, width, 3]."""

import io

import numpy as np
from PIL import Image

from data_pipelines.datasets.imports.items import Item
from data_pipelines.datasets.pictures import encode_png, on_white, open_picture
from data_pipelines.errors import InputError

_JPEG_QUALITY = 95


def picture_size(picture: bytes | np.ndarray) -> tuple[int, int] | None:
  """Height and width, from the header of an encoded one; None where it has none."""
  if isinstance(picture, np.ndarray):
    return picture.shape[0], picture.shape[1]
  try:
    with open_picture(picture) as file:
      return file.height, file.width
  except InputError:
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
  encoding = None
  if isinstance(picture, np.ndarray):
    rgb = _rgb(_of_pixels(picture), item.stacked)
  else:
    with open_picture(picture) as file:
      encoding = file.format
      as_it_is = file.mode == 'RGB' and not file.has_transparency_data and encoding in ('PNG', 'JPEG')
      rgb = _rgb(file, item.stacked)
  if rgb.shape[:2] != size:
    raise ValueError(f'it is {rgb.shape[0]}x{rgb.shape[1]}, the first one {size[0]}x{size[1]}')
  if size != scaled:
    rgb = np.asarray(Image.fromarray(rgb).resize(scaled[::-1], Image.Resampling.BOX))
  elif encoding and as_it_is:
    return picture
  if encoding != 'JPEG' and not item.lossy:
    return encode_png(rgb)
  buffer = io.BytesIO()
  Image.fromarray(rgb).save(buffer, 'JPEG', quality=_JPEG_QUALITY)
  return buffer.getvalue()


def _of_pixels(pixels: np.ndarray) -> Image.Image:
  if pixels.dtype != np.uint8:
    raise ValueError(f'it is {pixels.dtype}, not uint8')
  if pixels.ndim == 3 and pixels.shape[-1] == 1:
    pixels = pixels[..., 0]
  if pixels.ndim != 2 and (pixels.ndim != 3 or pixels.shape[-1] not in (3, 4)):
    raise ValueError(f'it has the shape {pixels.shape}')
  return Image.fromarray(pixels)


def _rgb(picture: Image.Image, stacked: bool) -> np.ndarray:
  """uint8 [height, width, 3]; of four stacked frames the three newest become red, green and blue."""
  if stacked and picture.mode == 'RGBA':
    return np.ascontiguousarray(np.asarray(picture)[..., -3:])
  return np.asarray(on_white(picture))
