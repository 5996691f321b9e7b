"""The layouts in which pages of text and pictures are kept."""

from collections.abc import Iterable, Iterator, Mapping
import dataclasses
import itertools
from typing import Any

from data_pipelines.errors import InputError


@dataclasses.dataclass(frozen=True)
class PageLine:
  """One page.

  Attributes:
    texts: its stretches of text, no two of them next to each other.
    pictures: names of files.
    is_picture: of each part in order, whether it is the next of the pictures or of the texts.
  """

  texts: list[str]
  pictures: list[str]
  is_picture: list[bool]


def page_of_line(line: Mapping[str, Any]) -> PageLine:
  """The page of one JSON object.

  MMC4: `text_list` of sentences; `image_info` with `image_name` and `matched_text_index`, the sentence that the picture
  precedes. OBELICS: `texts` and `images`, equally long, of which one is null at each place.

  Raises:
    InputError: it is neither, or has no text.
  """
  try:
    parts, joint = (_mmc4(line), ' ') if 'text_list' in line else (_obelics(line), '\n\n')
    page = _page(parts, joint)
  except (KeyError, TypeError, AttributeError) as error:
    raise InputError(f'not a page in the layout of MMC4 or OBELICS ({error!r})') from error
  if not page.texts:
    raise InputError('a page without text')
  return page


def _mmc4(line: Mapping[str, Any]) -> Iterator[tuple[bool, str]]:
  pictures: dict[int, list[str]] = {}
  for info in line['image_info']:
    pictures.setdefault(info['matched_text_index'], []).append(info['image_name'])
  if strays := set(pictures) - set(range(len(line['text_list']))):
    raise InputError(f'matched_text_index {min(strays)} is no place in text_list')
  for place, sentence in enumerate(line['text_list']):
    yield from ((True, name) for name in pictures.get(place, ()))
    yield False, sentence


def _obelics(line: Mapping[str, Any]) -> Iterator[tuple[bool, str]]:
  texts, images = line['texts'], line['images']
  if len(texts) != len(images):
    raise InputError(f'{len(texts)} texts and {len(images)} images, want as many')
  for text, image in zip(texts, images, strict=True):
    if (text is None) == (image is None):
      raise InputError('text and image are both there, or both null, at one place')
    yield (False, text) if image is None else (True, image)


def _page(parts: Iterable[tuple[bool, str]], joint: str) -> PageLine:
  """Joins stretches of text that follow each other and leaves out empty ones."""
  texts, pictures, is_picture = [], [], []
  stripped = ((kind, content.strip()) for kind, content in parts)
  kept = ((kind, content) for kind, content in stripped if content or kind)
  for kind, group in itertools.groupby(kept, key=lambda part: part[0]):
    contents = [content for _, content in group]
    if kind:
      pictures += contents
      is_picture += [True] * len(contents)
    else:
      texts.append(joint.join(contents))
      is_picture.append(False)
  return PageLine(texts, pictures, is_picture)
