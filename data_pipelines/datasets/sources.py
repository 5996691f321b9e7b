"""Random access to the datasets on disk. An episode's record is parsed in one pass and its pictures stay encoded.

TFDS itself decodes the steps of an episode one after the other; here each feature becomes one array.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import itertools
import json
import os
from typing import Any

from array_record.python.array_record_module import ArrayRecordReader
import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2, tf_feature_pb2

from data_pipelines.datasets.catalogue import NOISY_AGENT, Request
from data_pipelines.datasets.episodes import (
  WHOLE,
  CaptionedImage,
  ControlEpisode,
  Episode,
  ImageQuestion,
  Page,
  SourceKind,
  TextDocument,
)
from data_pipelines.datasets.files import fingerprint
from data_pipelines.datasets.pictures import LazyImages, decode_png, png_shape
from data_pipelines.datasets.prepared import open_builder
from data_pipelines.datasets.staging import fetch, local_path
from data_pipelines.environments.action_bounds import Bounds
from data_pipelines.environments.registry import task_spec
from data_pipelines.environments.specs import ArraySpec, TaskSpec
from data_pipelines.errors import InputError

Features = Mapping[str, tf_feature_pb2.Feature]  # of one record: `steps/action` -> its values, all steps in one list
_METADATA_FILE = 'metadata.json'
_SCALAR = ArraySpec('continuous')


class RecordSource:
  """What the sources share: the records of one split. See `EpisodeSource`; safe in threads and to pickle.

  Attributes:
    metadata: what the builder left to be known without reading a record, but for the tables that became arrays.
  """

  kind: SourceKind
  task: TaskSpec | None = None
  part_timesteps = WHOLE

  def __init__(self, name: str, directory: str, split: str):
    self.name = name
    self.directory = directory
    self.split = split
    with open(os.path.join(directory, _METADATA_FILE)) as file:
      self.metadata = json.load(file)
    raw = tfds.decode.DeserializeMethod.RAW_BYTES
    self._records = open_builder(directory).as_data_source(split, deserialize_method=raw)

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index: int) -> Episode:
    return self._episode(self._checked(index))

  def part(self, index: int, number: int) -> Episode:
    """See `EpisodeSource`."""
    del number  # there is but one
    return self[index]

  @property
  def noisy(self) -> np.ndarray:
    """bool [episodes], whether noise was injected."""
    return np.zeros(len(self), bool)

  def texts(self) -> Iterator[str]:
    """All text of the split, to learn subwords from. Reads the records, decodes no picture."""
    for record in range(len(self._records)):
      yield from self._texts(self._features(record))

  def _checked(self, index: int) -> int:
    if not 0 <= index < len(self):
      raise IndexError(f'{self.name} has {len(self)} episodes, none at {index}')
    return int(index)

  def _features(self, record: int) -> Features:
    return tf_example_pb2.Example.FromString(self._records[record]).features.feature

  def _episode(self, index: int) -> Episode:
    raise NotImplementedError

  def _texts(self, features: Features) -> Iterable[str]:
    raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class EpisodeTable:
  """What is known of N episodes without reading them.

  Attributes:
    length: int32 [N], timesteps.
    episode_return: float32 [N].
    success: bool [N].
    noisy: bool [N], whether noise was injected.
    seed: int64 [N], of the environment.
  """

  length: np.ndarray
  episode_return: np.ndarray
  success: np.ndarray
  noisy: np.ndarray
  seed: np.ndarray


class ControlSource(RecordSource):
  """Episodes of one task.

  Attributes:
    table: all episodes at a glance.
    action_bounds: what -1 and 1 stood for where a continuous action was recorded, [A] each; None where it was made
      here, in units of its own.
  """

  kind: SourceKind = 'control'

  def __init__(self, name: str, directory: str, split: str):
    super().__init__(name, directory, split)
    if problem := _layout_problem(self.metadata):
      raise InputError(f'{directory} {problem}; run `gato-jax prepare` with its config')
    self.task = TaskSpec.from_json(self.metadata['task'])
    self.part_timesteps = self.metadata['part_timesteps']
    bounds = self.metadata.get('action_bounds')
    self.action_bounds: Bounds | None = bounds and (np.array(bounds['low']), np.array(bounds['high']))
    columns = self.metadata.pop('episodes')  # as arrays they take a tenth of the memory
    self.table = EpisodeTable(
        length=np.array(columns['length'], np.int32),
        episode_return=np.array(columns['return'], np.float32),
        success=np.array(columns['success'], bool),
        noisy=np.array([agent == NOISY_AGENT for agent in columns['agent']]),
        seed=np.array(columns['seed'], np.int64),
    )
    parts = -(-self.table.length // self.part_timesteps)
    self._first_records = np.concatenate([[0], np.cumsum(parts, dtype=np.int64)])  # of each episode

  def __len__(self) -> int:
    return len(self.table.length)

  def part(self, index: int, number: int) -> ControlEpisode:
    """See `EpisodeSource`. Reads one record."""
    record = int(self._first_records[self._checked(index)]) + number
    left = int(self.table.length[index]) - number * self.part_timesteps
    return self._read(index, range(record, record + 1), min(left, self.part_timesteps))

  def texts(self) -> Iterator[str]:
    """As of any source, each text of an episode once."""
    keys = [f'steps/observation/{key}' for key, spec in self.task.observation.items() if spec.kind == 'text']
    for first, stop in itertools.pairwise(self._first_records.tolist() if keys else ()):
      records = [self._features(record) for record in range(first, stop)]
      for key in keys:
        yield from dict.fromkeys(itertools.chain.from_iterable(_strings(features[key]) for features in records))

  @property
  def noisy(self) -> np.ndarray:
    return self.table.noisy

  def demonstrations(self) -> np.ndarray:
    """Indexes of the episodes fit for a prompt at play: free of noise and successful.

    A task that is scored by return knows no success: there, the better half of the episodes free of noise.
    """
    clean = ~self.table.noisy
    if self.task.score == 'success':
      return np.flatnonzero(clean & self.table.success)
    median = np.median(self.table.episode_return[clean])
    return np.flatnonzero(clean & (self.table.episode_return >= median))

  def _episode(self, index: int) -> ControlEpisode:
    first, stop = self._first_records[index:index + 2].tolist()
    return self._read(index, range(first, stop), int(self.table.length[index]))

  def _read(self, index: int, records: Iterable[int], T: int) -> ControlEpisode:
    """The first T timesteps of some records of an episode."""
    features = [self._features(record) for record in records]

    def column(key: str, spec: ArraySpec) -> Any:
      return _array([each[f'steps/{key}'] for each in features], spec, T)

    return ControlEpisode(
        observation={key: column(f'observation/{key}', spec) for key, spec in self.task.observation.items()},
        action=column('action', self.task.action),
        expert_action=column('expert_action', self.task.action),
        reward=column('reward', _SCALAR),
        episode_return=float(self.table.episode_return[index]),
        success=bool(self.table.success[index]),
    )


class TextSource(RecordSource):
  """Documents."""

  kind: SourceKind = 'text'

  def _episode(self, index: int) -> TextDocument:
    return TextDocument(_strings(self._features(index)['text'])[0])

  def _texts(self, features: Features) -> Iterable[str]:
    return _strings(features['text'])


class PictureSource(RecordSource):
  """Pictures with texts. An episode is one of them with its picture, a record is a picture with all of its texts."""

  COUNTED = ''  # what the metadata say there are how many of in a record

  def __init__(self, name: str, directory: str, split: str):
    super().__init__(name, directory, split)
    self._ends = np.cumsum(self.metadata.pop(self.COUNTED)[split])
    self._latest: tuple[int, np.ndarray, list] | None = None

  def __len__(self) -> int:
    return int(self._ends[-1])

  def _look(self, index: int) -> tuple[np.ndarray, Any]:
    """The picture of an episode, and what is said about it."""
    record = int(np.searchsorted(self._ends, index, side='right'))
    latest = self._latest  # whoever reads in order asks for a picture many times
    if latest is None or latest[0] != record:
      features = self._features(record)
      latest = record, decode_png(features['image'].bytes_list.value[0]), self._said(features)
      self._latest = latest
    return latest[1], latest[2][index - int(self._ends[record])]  # counted from the picture's last text, so negative

  def _said(self, features: Features) -> list:
    raise NotImplementedError


class CaptionSource(PictureSource):
  """Pictures with captions."""

  kind: SourceKind = 'caption'
  COUNTED = 'captions'

  def _episode(self, index: int) -> CaptionedImage:
    return CaptionedImage(*self._look(index))

  def _said(self, features: Features) -> list[str]:
    return _strings(features['captions'])

  def _texts(self, features: Features) -> Iterable[str]:
    return self._said(features)


class QuestionSource(PictureSource):
  """Questions about pictures."""

  kind: SourceKind = 'vqa'
  COUNTED = 'questions'

  def _episode(self, index: int) -> ImageQuestion:
    image, (question, answer) = self._look(index)
    return ImageQuestion(image, question, answer)

  def _said(self, features: Features) -> list[tuple[str, str]]:
    return list(zip(_strings(features['questions/question']), _strings(features['questions/answer']), strict=True))

  def _texts(self, features: Features) -> Iterable[str]:
    yield from _strings(features['questions/question'])
    yield from _strings(features['questions/answer'])


class PageSource(RecordSource):
  """Pages of text and pictures."""

  kind: SourceKind = 'pages'

  def _episode(self, index: int) -> Page:
    features = self._features(index)
    texts = iter(_strings(features['texts']))
    pngs = list(features['images'].bytes_list.value)
    shape = png_shape(pngs[0]) if pngs else (0, 0, 3)
    parts = [None if is_picture else next(texts) for is_picture in features['is_picture'].int64_list.value]
    return Page(parts, LazyImages(pngs, shape))

  def _texts(self, features: Features) -> Iterable[str]:
    return _strings(features['texts'])


_SOURCES: Mapping[SourceKind, type[RecordSource]] = {
    source.kind: source for source in (ControlSource, TextSource, CaptionSource, QuestionSource, PageSource)
}


def open_source(request: Request, data_dir: str, split: str) -> RecordSource:
  """Opens one split of a dataset.

  Raises:
    InputError: it is missing, half-written or made for another version of the task.
  """
  if problem := defect(request, data_dir):
    raise InputError(f'dataset {request.name}: {problem}; run `gato-jax prepare --config=...` with this config')
  return open_directory(request.type.kind, request.name, local_path(request.directory(data_dir)), split)


def open_directory(kind: SourceKind, name: str, directory: str, split: str) -> RecordSource:
  """Opens one split of what lies in a directory, whatever was asked for when it was built."""
  return _SOURCES[kind](name, directory, split)


def defect(request: Request, data_dir: str) -> str | None:
  """Why a dataset cannot be read as it lies there, or None. What is on storage elsewhere is copied first."""
  directory = fetch(request.directory(data_dir))
  if not os.path.isdir(directory):
    return f'{directory} is missing'
  try:
    splits = open_builder(directory).info.splits
    for path in itertools.chain.from_iterable(split.filepaths for split in splits.values()):
      ArrayRecordReader(os.fspath(path)).close()  # the index is at the end of the file: without it, this raises
    with open(os.path.join(directory, _METADATA_FILE)) as file:
      metadata = json.load(file)
  except Exception as error:  # TFDS, protocol buffers and ArrayRecord each have their own for a damaged file
    return f'{directory} is half-written ({error})'
  if request.type.kind == 'control' and (problem := _layout_problem(metadata)):
    return f'{directory} {problem}'
  if request.task_name and not _plays(request, metadata['task']):
    return f'{directory} was made when the task had other observations or actions'
  if request.path and os.path.isdir(request.path) and metadata.get('fingerprint') != fingerprint(request.path):
    return f'the files of {request.path} have changed since {directory} was made'
  return None


def _layout_problem(metadata: Mapping[str, Any]) -> str | None:
  """Why the records of a control dataset cannot be found, or None."""
  if 'part_timesteps' not in metadata:
    return 'was made by an older version, with whole episodes as records'
  return None


def _plays(request: Request, task: Mapping[str, Any]) -> bool:
  """Whether the task of a dataset is the one that its environment has now."""
  spec = json.loads(json.dumps(task_spec(request.task_name).to_json()))
  keys = spec if request.played else ('observation', 'action')
  return all(task[key] == spec[key] for key in keys)


def _array(records: Sequence[tf_feature_pb2.Feature], spec: ArraySpec, T: int) -> Any:
  """The first T steps of a feature whose steps lie one after the other, in as many records as it takes."""
  if spec.kind == 'image':
    return LazyImages([png for feature in records for png in feature.bytes_list.value][:T], spec.shape)
  if spec.kind == 'text':
    return [text for feature in records for text in _strings(feature)][:T]
  if spec.kind == 'continuous':
    arrays = [np.array(feature.float_list.value, np.float32) for feature in records]
  else:
    arrays = [np.array(feature.int64_list.value, np.int32) for feature in records]
  return np.concatenate(arrays).reshape(-1, *spec.shape)[:T]


def _strings(feature: tf_feature_pb2.Feature) -> list[str]:
  return [value.decode() for value in feature.bytes_list.value]
