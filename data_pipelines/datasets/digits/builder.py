"""Handwritten digits with captions: scikit-learn's 8x8 digits, each a picture of exactly one 16x16 patch."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
import tensorflow_datasets as tfds

from data_pipelines.datasets.builder import Example, Skip, SplitBuilder
from data_pipelines.datasets.pictures import encode_png

WORDS = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
_BRIGHTEST = 16  # the values of the source are 0..16


class Builder(SplitBuilder, skip_registration=True):
  DESCRIPTION = __doc__
  HELD_OUT_SHARE = 0.15
  COUNTED = 'captions'

  def features(self) -> Mapping[str, Any]:
    image = tfds.features.Image(shape=(16, 16, 3), encoding_format='png')
    return {'image': image, 'captions': tfds.features.Sequence(tfds.features.Text())}

  def items(self, skip: Skip) -> Iterator[tuple[bytes, tuple[np.ndarray, int]]]:
    del skip
    digits = load_digits()
    for values, digit in zip(digits.images, digits.target, strict=True):
      yield values.tobytes(), (values, digit)

  def example(self, item: tuple[np.ndarray, int]) -> Example:
    values, digit = item
    return {'image': encode_png(picture(values)), 'captions': [f'a handwritten {WORDS[digit]}']}


def picture(values: np.ndarray) -> np.ndarray:
  """Grey values 0..16 [8, 8] -> uint8 [16, 16, 3], every pixel drawn as 2x2."""
  grey = np.round(values * (255 / _BRIGHTEST)).astype(np.uint8)
  return np.repeat(np.kron(grey, np.ones((2, 2), np.uint8))[..., None], 3, axis=-1)
