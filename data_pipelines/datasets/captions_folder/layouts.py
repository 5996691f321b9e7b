"""The layouts in which captioned pictures are kept."""

from collections.abc import Iterator, Mapping
import json
import pathlib
import tarfile
from typing import Any

from data_pipelines.datasets.builder import Skip
from data_pipelines.datasets.captioned import BAD_ENTRY, PICTURE_SUFFIXES, PictureFinder, PictureItem, reason, stripped
from data_pipelines.datasets.files import read_json
from data_pipelines.errors import InputError

_PICTURES = frozenset(suffix[1:] for suffix in PICTURE_SUFFIXES)
_CAPTIONS = ('txt', 'caption')
_READ = _PICTURES | {*_CAPTIONS, 'json'}


def text_beside(picture: pathlib.Path) -> pathlib.Path | None:
  """The .txt of the same name as a picture, if there is one."""
  text = picture.with_suffix('.txt')
  return text if text.is_file() else None


def coco(path: pathlib.Path, finder: PictureFinder, skip: Skip) -> Iterator[tuple[pathlib.Path, list[str]]]:
  """The pictures of one of COCO's lists with their captions, in the order of the list.

  Args:
    path: JSON with `images` (`id`, `file_name`) and `annotations` (`image_id`, `caption`). COCO has other lists, of
      boxes and of key points, in which nothing has a caption; they give nothing.
    finder: of the pictures.
    skip: is told of bad entries, and of pictures that are not there.

  Raises:
    InputError: it is not JSON of that layout.
  """
  content = read_json(path)
  try:
    images, annotations = list(content['images']), list(content['annotations'])
  except (KeyError, TypeError) as error:
    raise InputError(f'{path}: not a list in the layout of COCO ({error!r}); move it out of the folder') from error
  names: dict[Any, str] = {}
  for image in images:
    try:
      names[image['id']] = str(image['file_name'])
    except BAD_ENTRY as error:
      skip(f'{path}, {image!r:.200}: {reason(error)}')
  captions: dict[Any, list[str]] = {}
  for annotation in annotations:
    try:
      if 'caption' in annotation:
        caption = stripped('caption', annotation['caption'])
        captions.setdefault(annotation['image_id'], []).append(caption)
    except BAD_ENTRY as error:
      skip(f'{path}, {annotation!r:.200}: {reason(error)}')
  for image, of_image in captions.items():
    try:
      picture = finder.named(names.get(image, str(image)))
    except InputError as error:
      skip(f'{path}: {error}')
    else:
      yield picture, of_image


def webdataset(path: pathlib.Path, skip: Skip) -> Iterator[PictureItem]:
  """The captioned pictures of a tar file: members that follow each other and differ in their extension only."""
  sample: dict[str, bytes] = {}
  key = ''
  try:
    with tarfile.open(path, 'r|') as archive:
      for member in archive:
        stem, _, extension = member.name.rpartition('/')[2].partition('.')
        name = f'{path}:{member.name[:len(member.name) - len(extension)]}'
        if name != key:
          yield from _of_sample(key, sample, skip)
          key, sample = name, {}
        if member.isfile() and stem and extension.lower() in _READ:
          sample[extension.lower()] = archive.extractfile(member).read()
  except (tarfile.TarError, EOFError, OSError) as error:
    skip(f'{path}, after {key}: {error}')
  else:
    yield from _of_sample(key, sample, skip)


def _of_sample(place: str, sample: Mapping[str, bytes], skip: Skip) -> Iterator[PictureItem]:
  """A sample without a picture, as of a folder's name, is none."""
  pictures = [content for extension, content in sample.items() if extension in _PICTURES]
  if not pictures:
    return
  try:
    caption = _caption_of(sample)
  except (ValueError, RecursionError) as error:
    skip(f'{place}: {error}')
  else:
    yield PictureItem(place, pictures[0], [caption])


def _caption_of(sample: Mapping[str, bytes]) -> str:
  texts = [sample[extension] for extension in _CAPTIONS if extension in sample]
  described = json.loads(sample.get('json', b'{}'))
  caption = texts[0].decode() if texts else isinstance(described, dict) and described.get('caption')
  if not caption:
    raise InputError('no caption: no .txt, and no "caption" in a .json')
  return stripped('caption', caption)
