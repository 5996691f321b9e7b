"""Reads RLDS datasets (github.com/google-research/rlds) that TFDS prepared; no TensorFlow, no builder's code."""

from collections.abc import Collection, Iterator, Mapping, Sequence
import itertools
import os
import pathlib
import re
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2, tf_feature_pb2

from data_pipelines.datasets.imports.items import Damage, Item, RawEpisode
from data_pipelines.datasets.prepared import FEATURES_FILE, open_builder, refuse_foreign_classes
from data_pipelines.datasets.rlds_folder.records import READERS
from data_pipelines.errors import InputError

_TERMINAL = 'steps/is_terminal'
_FIRST, _LAST = 'steps/is_first', 'steps/is_last'


class RLDSReader:
  """A `Reader` of one split. An item's name is its path in the steps, with dots; what an episode has once, `episode.*`.

  Args:
    path: the folder of a version, or one above it that holds no other; or a name of the catalogue, `name/config`, that
      was prepared in TFDS's own data directory.
    split: as TFDS slices them; empty: `train`, or the only one.
  """

  last_step = ''  # RLDS has an observation there, but not all who say that they follow it

  def __init__(self, path: str, split: str):
    builder = _open(path)
    self._read = READERS[builder.info.file_format]
    self._instructions = _split(builder, path, split).file_instructions
    self._in_parts = 'part_timesteps' in builder.info.metadata  # ours: an episode in several records
    features = builder.info.features
    steps = [name for name, feature in features.items() if isinstance(feature, tfds.features.Dataset)]
    if steps != ['steps'] or not isinstance(features['steps'].feature, tfds.features.FeaturesDict):
      raise InputError(f'{path}: no RLDS dataset, which has a dataset of steps in each episode; it has '
                       f'{", ".join(features)}')
    self._features = dict(_leaves(features['steps'].feature, (), 'steps/'))
    self._features |= {f'episode.{name}': leaf for name, leaf in _leaves(
        tfds.features.FeaturesDict({key: value for key, value in features.items() if key != 'steps'}), (), '')}
    self.items: Mapping[str, Item] = {name: _item(feature) for name, (_, feature) in self._features.items()}

  def episodes(self, names: Collection[str]) -> Iterator[RawEpisode | Damage]:
    parts: list[_Part] = []
    for part in self._parts(names):
      if parts and not _goes_on(parts, part):
        yield _joined(parts)
        parts.clear()
      parts.append(part)
    if parts:
      yield _joined(parts)

  def _parts(self, names: Collection[str]) -> Iterator['_Part']:
    """Every record."""
    for part in self._instructions:
      first, stop = part.skip, part.skip + part.take
      for record, content in enumerate(self._read(os.fspath(part.filename), first, stop), start=first):
        place = f'{os.path.basename(part.filename)}, record {record}'
        yield _Part(content) if isinstance(content, Damage) else self._parsed(place, content, names)

  def _parsed(self, place: str, content: bytes, names: Collection[str]) -> '_Part':
    try:
      features = tf_example_pb2.Example.FromString(content).features.feature
      episode = self._episode(place, features, names)
      if not self._in_parts:
        return _Part(episode, True, True)
      return _Part(episode, *(bool(features[name].int64_list.value[end]) for name, end in ((_FIRST, 0), (_LAST, -1))))
    except Exception as error:  # protocol buffers, zlib and NumPy each have their own for a damaged record
      return _Part(Damage(place, f'cannot be read ({type(error).__name__}: {error})'))

  def _episode(self, place: str, example: Mapping[str, tf_feature_pb2.Feature], names: Collection[str]) -> RawEpisode:
    items = {}
    for name in names:
      key, feature = self._features[name]
      values = _values(example[key], feature)
      items[name] = values[0] if name.startswith('episode.') else values
    ends = example[_TERMINAL].int64_list.value if _TERMINAL in example else ()
    return RawEpisode(place, items, terminated=bool(len(ends) and ends[-1]))


class _Part(NamedTuple):
  """A record; of a damaged one nobody knows whether an episode starts or ends in it."""

  content: RawEpisode | Damage
  first: bool = False
  last: bool = False

  @property
  def damaged(self) -> bool:
    return isinstance(self.content, Damage)


def _goes_on(parts: Sequence[_Part], part: _Part) -> bool:
  """Whether a record belongs to the episode of the ones before; a damaged one does where that has no end yet."""
  return not parts[-1].last and not parts[-1].damaged if part.damaged else not part.first


def _joined(parts: Sequence[_Part]) -> RawEpisode | Damage:
  """The episode of successive records; damage, where one of them is damaged or missing."""
  damage = next((part.content for part in parts if part.damaged), None)
  if damage:
    return damage
  first, last = parts[0], parts[-1]
  if not first.first or not last.last:
    what = 'start' if not first.first else 'end'
    return Damage(first.content.place, f'the {what} of this episode is missing, which lies in several records')
  if len(parts) == 1:
    return first.content
  items = {name: values if name.startswith('episode.')
           else _one_after_the_other([part.content.items[name] for part in parts])
           for name, values in first.content.items.items()}
  return RawEpisode(first.content.place, items, last.content.terminated)


def _one_after_the_other(values: Sequence[Any]) -> Any:
  if isinstance(values[0], np.ndarray):
    return np.concatenate(values)
  return list(itertools.chain.from_iterable(values))


def _open(path: str) -> tfds.core.DatasetBuilder:
  try:
    builder = open_builder(_version_folder(path)) if os.path.isdir(path) else _open_by_name(path)
  except InputError:
    raise
  except Exception as error:  # TFDS has several for a folder that is not whole
    raise InputError(f'{path}: TFDS cannot open it ({error}); copy or prepare it again') from error
  if builder.info.file_format not in READERS:
    raise InputError(
        f'{builder.data_path} is {builder.info.file_format.value}, which needs TensorFlow. Convert it once: '
        f'pip install "gato_jax[tf]"; tfds convert_format --dataset_version_dir={builder.data_path} '
        f'--out_file_format=array_record --out_dir=NEW_FOLDER; and name the new folder')
  return builder


def _version_folder(path: str) -> pathlib.Path:
  root = pathlib.Path(path)
  folders = [file.parent for depth in ('', '*/', '*/*/') for file in sorted(root.glob(depth + FEATURES_FILE))]
  if len(folders) != 1:
    found = ', '.join(str(folder.relative_to(root)) for folder in folders)
    raise InputError(f'{path} holds {f"several datasets, name one: {found}" if found else "no " + FEATURES_FILE}')
  return folders[0]


def _open_by_name(name: str) -> tfds.core.DatasetBuilder:
  if dataset := re.match(r'\w+', name):
    # Of all its configs and versions, as TFDS says which it takes only once it has opened it.
    for file in pathlib.Path(tfds.core.constants.DATA_DIR, dataset[0]).expanduser().rglob(FEATURES_FILE):
      refuse_foreign_classes(file.parent)
  try:
    return tfds.core.read_only_builder.builder_from_files(name)
  except (tfds.core.DatasetNotFoundError, ValueError) as error:  # ValueError: what is no name, as gs://bucket/folder
    raise InputError(
        f'there is no folder {name}, nor a prepared dataset of that name in {tfds.core.constants.DATA_DIR} (set '
        f'TFDS_DATA_DIR if yours are elsewhere). If it is in the catalogue: pip install "gato_jax[tf]"; tfds build '
        f'{name} --file_format=array_record') from error


def _split(builder: tfds.core.DatasetBuilder, path: str, split: str) -> Any:
  splits = builder.info.splits
  name = split or ('train' if 'train' in splits or len(splits) != 1 else next(iter(splits)))
  try:
    return splits[name]
  except (KeyError, ValueError) as error:
    raise InputError(f'{path} has no split {name!r}; set mapping.split to one of {", ".join(splits)}') from error


def _leaves(features: tfds.features.FeaturesDict, path: tuple[str, ...],
            prefix: str) -> Iterator[tuple[str, tuple[str, tfds.features.FeatureConnector]]]:
  """(name with dots, (key in a record, feature)) of all that is nested, sorted: features.json has no order."""
  for key, feature in sorted(features.items()):
    if isinstance(feature, tfds.features.FeaturesDict):
      yield from _leaves(feature, (*path, key), prefix)
    else:
      yield '.'.join((*path, key)), (prefix + '/'.join((*path, key)), feature)


def _item(feature: tfds.features.FeatureConnector) -> Item:
  match feature:
    case tfds.features.Image() if feature.np_dtype == np.uint8:
      return Item('image', feature.shape)
    case tfds.features.ClassLabel():
      return Item('integer', (), feature.num_classes or 0)
    case tfds.features.Tensor() if None not in feature.shape:
      return _tensor_item(feature)
  return Item('other')


def _tensor_item(feature: tfds.features.Tensor) -> Item:
  kind = np.dtype(feature.np_dtype).kind
  if kind == 'O':
    return Item('other' if feature.shape else 'text')
  if kind == 'u' and len(feature.shape) == 3 and feature.shape[-1] in (1, 3, 4):
    return Item('image', feature.shape)
  if kind == 'b':
    return Item('integer', feature.shape, 2)
  return Item('integer' if kind in 'iu' else 'number', feature.shape)


def _values(values: tf_feature_pb2.Feature, feature: tfds.features.FeatureConnector) -> Any:
  """All steps of an item."""
  if isinstance(feature, tfds.features.Image):
    return list(values.bytes_list.value)
  dtype = np.dtype(feature.np_dtype)
  if dtype.kind == 'O':
    return list(values.bytes_list.value)
  if values.HasField('bytes_list'):  # a tensor with an encoding of its own
    return np.array([feature.decode_example_np(value) for value in values.bytes_list.value])
  flat = values.float_list.value if values.HasField('float_list') else values.int64_list.value
  return np.array(flat, dtype).reshape(-1, *feature.shape)
