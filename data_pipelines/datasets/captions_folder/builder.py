"""A folder of the user's own captioned pictures, in any of three layouts, which may lie side by side.

A picture and a .txt of the same name, which is its caption; JSON in the layout of COCO's captions, next to pictures
anywhere in the folder; tar files in the layout of WebDataset.
"""

from collections.abc import Iterator
import pathlib

from data_pipelines.datasets.builder import Skip
from data_pipelines.datasets.captioned import (
    PICTURE_SUFFIXES,
    CaptionBuilder,
    PictureFinder,
    PictureItem,
    read_picture,
)
from data_pipelines.datasets.captions_folder.layouts import coco, text_beside, webdataset
from data_pipelines.datasets.files import find_files
from data_pipelines.errors import InputError


class Builder(CaptionBuilder, skip_registration=True):
  DESCRIPTION = __doc__

  def pictures(self, skip: Skip) -> Iterator[PictureItem]:
    folder = self.request.path
    files = find_files(folder, (*PICTURE_SUFFIXES, '.json', '.tar'))
    finder = PictureFinder(folder, files)
    listed: set[pathlib.Path] = set()
    for path in (path for path in files if path.suffix.lower() == '.json'):
      for picture, captions in coco(path, finder, skip):
        listed.add(picture)
        yield from read_picture(picture, captions, skip)
    bare = 0
    for picture in finder.pictures:
      if text := text_beside(picture):
        yield from _with_text(picture, text, skip)
      else:
        bare += picture not in listed
    for path in (path for path in files if path.suffix.lower() == '.tar'):
      yield from webdataset(path, skip)
    if bare:
      self.leave_out(f'{bare} pictures without a caption')


def _with_text(picture: pathlib.Path, text: pathlib.Path, skip: Skip) -> Iterator[PictureItem]:
  try:
    caption = text.read_bytes().decode().strip()
    if not caption:
      raise InputError('empty')
  except (OSError, UnicodeDecodeError, InputError) as error:
    skip(f'{text}: {error}')
  else:
    yield from read_picture(picture, [caption], skip)
