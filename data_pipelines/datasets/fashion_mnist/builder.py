"""Fashion-MNIST: grey pictures of clothes, 28 x 28, with their class as caption, from its four idx files."""

from collections.abc import Iterable, Iterator, Mapping
import gzip
import pathlib
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data_pipelines.datasets.builder import Example, RequestBuilder
from data_pipelines.datasets.files import UNREADABLE
from data_pipelines.datasets.pictures import encode_png
from data_pipelines.errors import InputError

CAPTIONS = ('a t-shirt', 'trousers', 'a pullover', 'a dress', 'a coat', 'a sandal', 'a shirt', 'a sneaker', 'a bag',
            'an ankle boot')
_SPLITS = {'train': 'train', 'heldout': 't10k'}
_SIDE = 28
_UINT8 = 8  # the type code of an idx file


class Builder(RequestBuilder, skip_registration=True):
  DESCRIPTION = __doc__

  def features(self) -> Mapping[str, Any]:
    image = tfds.features.Image(shape=(_SIDE, _SIDE, 3), encoding_format='png')
    return {'image': image, 'captions': tfds.features.Sequence(tfds.features.Text())}

  def examples(self) -> Mapping[str, Iterable[Example]]:
    return {split: self._pictures(split, prefix) for split, prefix in _SPLITS.items()}

  def _pictures(self, split: str, prefix: str) -> Iterator[Example]:
    folder = pathlib.Path(self.request.path)
    images = read_idx(folder / f'{prefix}-images-idx3-ubyte.gz')
    labels = read_idx(folder / f'{prefix}-labels-idx1-ubyte.gz')
    if images.shape != (*labels.shape, _SIDE, _SIDE) or labels.max() >= len(CAPTIONS):
      raise InputError(f'{folder}, {prefix}: pictures of shape {images.shape} with labels of shape {labels.shape} up '
                       f'to {labels.max()} are not those of Fashion-MNIST')
    kept = slice(self.request.episodes or None)
    self.info.metadata.setdefault('captions', {})[split] = [1] * len(labels[kept])
    for image, label in zip(images[kept], labels[kept], strict=True):
      yield {'image': encode_png(np.repeat(image[..., None], 3, axis=-1)), 'captions': [CAPTIONS[label]]}


def read_idx(path: pathlib.Path) -> np.ndarray:
  """The array of an idx file, uint8.

  The format: two zero bytes, the code of the type, the number of axes; their sizes, big-endian int32; the values.

  Raises:
    InputError: it is not there, cut off, or not of uint8.
  """
  try:
    content = gzip.decompress(path.read_bytes())
  except UNREADABLE as error:
    raise InputError(f'{path}: cannot be read ({error})') from error
  axes = content[3] if len(content) > 3 else 0
  start = 4 + 4 * axes
  shape = tuple(np.frombuffer(content[4:start], '>i4').tolist()) if len(content) >= start else ()
  if content[:3] != bytes((0, 0, _UINT8)) or len(shape) != axes or len(content) - start != np.prod(shape, dtype=int):
    raise InputError(f'{path}: {len(content)} bytes that are no whole idx file of uint8')
  return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
