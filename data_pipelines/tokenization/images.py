"""Pictures as 16x16 patches with their place in the picture (paper section 2.1, appendix C.3)."""

import functools

import numpy as np

from data_pipelines.errors import InputError

PATCH_SIZE = 16
INTERVAL_BINS = 128


def patchify(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Cuts pictures into patches in raster order.

  A side that is no multiple of 16 is padded with zeros at the right or bottom: BabyAI's 56x56 view of 8-pixel tiles
  becomes 64x64, exactly 2x2 tiles to a patch.

  Args:
    image: uint8 [..., height, width, 3].

  Returns:
    patches, uint8 [..., p, 16, 16, 3], and their intervals, uint8 [p, 2, 2]: ((row from, to), (column from, to)) in
    128ths of the padded height and width, as in `patch_intervals`.

  Raises:
    InputError: not uint8, or not height x width x 3.
  """
  image = np.asarray(image)
  if image.dtype != np.uint8 or image.ndim < 3 or image.shape[-1] != 3 or 0 in image.shape[-3:]:
    raise InputError(f'a picture must be uint8 [height, width, 3], got {image.dtype} {list(image.shape)}')
  *leading, height, width, channels = image.shape
  rows, columns = -(-height // PATCH_SIZE), -(-width // PATCH_SIZE)
  padded = np.zeros((*leading, rows * PATCH_SIZE, columns * PATCH_SIZE, channels), np.uint8)
  padded[..., :height, :width, :] = image
  grid = padded.reshape(*leading, rows, PATCH_SIZE, columns, PATCH_SIZE, channels).swapaxes(-4, -3)
  patches = grid.reshape(*leading, rows * columns, PATCH_SIZE, PATCH_SIZE, channels)
  return patches, patch_intervals(height, width)


def unpatchify(patches: np.ndarray, height: int, width: int) -> np.ndarray:
  """The inverse of `patchify`: uint8 [..., height, width, 3], the padding cut off."""
  rows, columns = -(-height // PATCH_SIZE), -(-width // PATCH_SIZE)
  leading = patches.shape[:-4]
  grid = patches.reshape(*leading, rows, columns, PATCH_SIZE, PATCH_SIZE, 3).swapaxes(-4, -3)
  return grid.reshape(*leading, rows * PATCH_SIZE, columns * PATCH_SIZE, 3)[..., :height, :width, :]


@functools.lru_cache
def patch_intervals(height: int, width: int) -> np.ndarray:
  """Quantised intervals of a picture's patches in raster order, uint8 [p, 2, 2]; read-only.

  Ends are round(128 x), half up, so 5 columns end at 26, 51, 77, 102 and 128.
  """
  rows, columns = -(-height // PATCH_SIZE), -(-width // PATCH_SIZE)
  row_ends = np.floor(INTERVAL_BINS * np.arange(rows + 1) / rows + 0.5)
  column_ends = np.floor(INTERVAL_BINS * np.arange(columns + 1) / columns + 0.5)
  intervals = np.empty((rows, columns, 2, 2), np.uint8)
  intervals[..., 0, 0], intervals[..., 0, 1] = row_ends[:-1, None], row_ends[1:, None]
  intervals[..., 1, 0], intervals[..., 1, 1] = column_ends[:-1], column_ends[1:]
  intervals = intervals.reshape(rows * columns, 2, 2)
  intervals.flags.writeable = False
  return intervals
