"""A folder of pages of text with pictures in it: .jsonl, a page a line, in the layout of MMC4 or of OBELICS.

The files of the pictures, in the same folder, are named in the lines. A page with a picture that is not there or does
not decode is a bad one. A record holds a page's stretches of text, its pictures, and for each of its parts whether it
is a picture.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data_pipelines.datasets.builder import Example, Skip, SplitBuilder
from data_pipelines.datasets.files import find_files, json_lines, within
from data_pipelines.datasets.pages_folder.layouts import PageLine, page_of_line
from data_pipelines.datasets.pictures import fit_picture
from data_pipelines.errors import InputError


class Builder(SplitBuilder, skip_registration=True):
  DESCRIPTION = __doc__

  def features(self) -> Mapping[str, Any]:
    side = self.request.picture_side
    image = tfds.features.Image(shape=(side, side, 3), encoding_format='png')
    return {
        'texts': tfds.features.Sequence(tfds.features.Text()),
        'images': tfds.features.Sequence(image),
        'is_picture': tfds.features.Sequence(np.bool_),
    }

  def items(self, skip: Skip) -> Iterator[tuple[bytes, tuple[str, PageLine]]]:
    for path in find_files(self.request.path, ('.jsonl', '.jsonl.gz')):
      for place, line in json_lines(path, skip):
        try:
          page = page_of_line(line)
          yield '\n'.join(page.texts).encode(), (place, page)
        except ValueError as error:  # InputError, or text that is no Unicode
          skip(f'{place}: {error}')

  def example(self, item: tuple[str, PageLine]) -> Example:
    place, page = item
    return {
        'texts': page.texts,
        'images': [self._picture(place, name) for name in page.pictures],
        'is_picture': page.is_picture,
    }

  def _picture(self, place: str, name: str) -> bytes:
    try:
      return fit_picture(within(self.request.path, name).read_bytes(), self.request.picture_side)
    except (InputError, OSError) as error:
      raise InputError(f'{place}: picture {name!r}: {error}') from error
