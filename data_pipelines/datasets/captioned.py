"""What the datasets of captioned pictures and of questions about pictures share."""

import abc
from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import pathlib
import re
from typing import Any

import tensorflow_datasets as tfds

from data_pipelines.datasets.builder import Example, Skip, SplitBuilder
from data_pipelines.datasets.files import within
from data_pipelines.datasets.pictures import fit_picture
from data_pipelines.errors import InputError

PICTURE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.webp', '.gif', '.bmp', '.tif', '.tiff', '.ppm')
BAD_ENTRY = (KeyError, TypeError, ValueError)  # what reading an entry of a list raises; InputError is a ValueError


@dataclasses.dataclass(frozen=True)
class PictureItem:
  """A picture with what is said about it.

  Attributes:
    place: where it comes from, for messages.
    content: the file, still encoded.
    texts: its captions, or its questions and answers in the layout of TFDS.
  """

  place: str
  content: bytes
  texts: Sequence[Any]


class PictureBuilder(SplitBuilder, skip_registration=True):
  """Pictures from files, fitted to the request's size. A record is a picture with all that is said about it."""

  HELD_OUT_SHARE = 0.05

  @abc.abstractmethod
  def pictures(self, skip: Skip) -> Iterator[PictureItem]:
    """The pictures in a fixed order; `skip` as in `items`."""

  def items(self, skip: Skip) -> Iterator[tuple[bytes, PictureItem]]:
    for item in self.pictures(skip):
      yield item.content, item

  def example(self, item: PictureItem) -> Example:
    try:
      return {'image': fit_picture(item.content, self.request.picture_side), self.COUNTED: item.texts}
    except InputError as error:
      raise InputError(f'{item.place}: {error}') from error

  def _picture_feature(self) -> tfds.features.Image:
    return tfds.features.Image(shape=(self.request.picture_side, self.request.picture_side, 3), encoding_format='png')


class CaptionBuilder(PictureBuilder, skip_registration=True):
  """Pictures with one or more captions."""

  COUNTED = 'captions'

  def features(self) -> Mapping[str, Any]:
    return {'image': self._picture_feature(), 'captions': tfds.features.Sequence(tfds.features.Text())}


class QuestionBuilder(PictureBuilder, skip_registration=True):
  """Pictures with one or more questions and answers."""

  COUNTED = 'questions'

  def features(self) -> Mapping[str, Any]:
    question = {'question': tfds.features.Text(), 'answer': tfds.features.Text()}
    return {'image': self._picture_feature(), 'questions': tfds.features.Sequence(question)}


def stripped(name: str, text: Any) -> str:
  """The text without the space around it; raises InputError where it is none, or empty, or no Unicode."""
  if not isinstance(text, str) or not text.strip():
    raise InputError(f'{name} is {text!r}, not a text')
  try:
    text.encode()
  except UnicodeEncodeError as error:  # JSON can spell half of a surrogate pair
    raise InputError(f'{name} is not Unicode at character {error.start}') from error
  return text.strip()


def reason(error: Exception) -> str:
  """What is wrong with an entry, of one of BAD_ENTRY."""
  return f'there is no {error}' if isinstance(error, KeyError) else str(error)


def read_picture(path: pathlib.Path, texts: Sequence[Any], skip: Skip) -> Iterator[PictureItem]:
  """The picture of a file, or none if it cannot be read."""
  try:
    yield PictureItem(str(path), path.read_bytes(), texts)
  except OSError as error:
    skip(f'{path}: {error}')


class PictureFinder:
  """Finds pictures in a folder by what lists of captions and questions call them.

  Args:
    folder: the names are relative to it.
    files: the files in it.

  Attributes:
    pictures: those of the files that are pictures.
  """

  def __init__(self, folder: str, files: Sequence[pathlib.Path]):
    self.pictures = [path for path in files if path.name.lower().endswith(PICTURE_SUFFIXES)]
    self._folder = folder
    self._named: dict[str, list[pathlib.Path]] = {}
    self._numbered: dict[int, list[pathlib.Path]] = {}
    for path in self.pictures:
      self._named.setdefault(path.name, []).append(path)
      if digits := re.search(r'\d+$', path.stem):
        self._numbered.setdefault(int(digits[0]), []).append(path)

  def named(self, name: str) -> pathlib.Path:
    """The picture of a name, with its folders or without them; raises InputError if there is none, or more than one."""
    try:
      return within(self._folder, name)
    except InputError:
      return self._only(self._named.get(pathlib.PurePath(name).name, []), repr(name))

  def numbered(self, number: int) -> pathlib.Path:
    """The picture whose name ends in a number, as `COCO_train2014_000000000042.jpg`; raises as `named`."""
    return self._only(self._numbered.get(number, []), f'whose name ends in {number}')

  def _only(self, found: Sequence[pathlib.Path], which: str) -> pathlib.Path:
    if len(found) != 1:
      raise InputError(f'there are {len(found)} pictures {which} in {self._folder}, want one')
    return found[0]
