"""The Open Clip Art Library: drawings with their titles.

Next to `png/NAME.png` lies `svg/NAME.svg`, whose metadata hold the title. A title that many drawings share says
nothing about them ("Lemon SVG theme"), so they are left out.
"""

import collections
from collections.abc import Iterator
import functools
import pathlib
from xml.etree import ElementTree

from data_pipelines.datasets.builder import Skip
from data_pipelines.datasets.captioned import CaptionBuilder, PictureItem, read_picture
from data_pipelines.datasets.files import find_files

_MOST_OF_A_TITLE = 5
_TITLE = '{http://web.resource.org/cc/}Work/{http://purl.org/dc/elements/1.1/}title'


class Builder(CaptionBuilder, skip_registration=True):
  DESCRIPTION = __doc__

  def pictures(self, skip: Skip) -> Iterator[PictureItem]:
    titles = self._titles
    uses = collections.Counter(titles.values())
    for drawing, title in titles.items():
      if title and uses[title] <= _MOST_OF_A_TITLE:
        yield from read_picture(drawing, [title], skip)
    untitled, shared = uses[''], sum(count for title, count in uses.items() if title and count > _MOST_OF_A_TITLE)
    self.leave_out(f'{untitled} drawings without a title that can be read, {shared} with one that more than '
                   f'{_MOST_OF_A_TITLE} share')

  @functools.cached_property
  def _titles(self) -> dict[pathlib.Path, str]:
    root = pathlib.Path(self.request.path)
    drawings = find_files(str(root / 'png'), ('.png',))
    return {path: title_of((root / 'svg' / path.relative_to(root / 'png')).with_suffix('.svg')) for path in drawings}


def title_of(svg: pathlib.Path) -> str:
  """The title in the metadata of a drawing; empty if there is none."""
  try:
    title = ElementTree.parse(svg).find(f'.//{_TITLE}')
  except (OSError, ElementTree.ParseError):
    return ''
  return ' '.join((title.text or '').split()) if title is not None else ''
