"""The rubber stamps of Tux Paint: small photos and drawings of single things, with a line in English for each.

The .txt beside a stamp begins with that line; translations follow. Of stamps that are only drawn as SVG, and of
mirror images, nothing is read.
"""

from collections.abc import Iterator

from data_pipelines.datasets.builder import Skip
from data_pipelines.datasets.captioned import CaptionBuilder, PictureItem, read_picture
from data_pipelines.datasets.files import find_files


class Builder(CaptionBuilder, skip_registration=True):
  DESCRIPTION = __doc__

  def pictures(self, skip: Skip) -> Iterator[PictureItem]:
    no_png = 0
    for text in find_files(self.request.path, ('.txt',)):
      picture = text.with_suffix('.png')
      if not picture.is_file():
        no_png += 1
        continue
      caption = text.read_bytes().partition(b'\n')[0].decode('utf-8', errors='replace').strip()
      if not caption or '\ufffd' in caption:
        skip(f'{text}: no English line in UTF-8')
      else:
        yield from read_picture(picture, [caption], skip)
    if no_png:
      self.leave_out(f'{no_png} stamps without a PNG')
