"""Handwritten digits with captions: scikit-learn's 8x8 digits, each a picture of exactly one 16x16 patch."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
import tensorflow_datasets as tfds

from data_pipelines.datasets.builder import Example, RequestBuilder
from data_pipelines.datasets.pictures import encode_png
from data_pipelines.datasets.splits import hash_share

WORDS = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
_HELD_OUT_SHARE = 0.15
_BRIGHTEST = 16  # the values of the source are 0..16


class Builder(RequestBuilder, skip_registration=True):
  DESCRIPTION = __doc__

  def features(self) -> Mapping[str, Any]:
    image = tfds.features.Image(shape=(16, 16, 3), encoding_format='png')
    return {'image': image, 'caption': tfds.features.Text()}

  def examples(self) -> Mapping[str, Iterable[Example]]:
    splits: dict[str, list[Example]] = {'train': [], 'heldout': []}
    digits = load_digits()
    for values, digit in zip(digits.images, digits.target, strict=True):
      split = splits['heldout' if hash_share(values.tobytes()) < _HELD_OUT_SHARE else 'train']
      if not self.request.episodes or len(split) < self.request.episodes:
        split.append({'image': encode_png(picture(values)), 'caption': f'a handwritten {WORDS[digit]}'})
    return splits


def picture(values: np.ndarray) -> np.ndarray:
  """Grey values 0..16 [8, 8] -> uint8 [16, 16, 3], every pixel drawn as 2x2."""
  grey = np.round(values * (255 / _BRIGHTEST)).astype(np.uint8)
  return np.repeat(np.kron(grey, np.ones((2, 2), np.uint8))[..., None], 3, axis=-1)
