"""Episodes in the RLDS layout: an episode is a nested dataset of steps (github.com/google-research/rlds).

A step holds an observation, the action taken there, and its reward and discount. An episode of T actions has T + 1
steps: the last one (`is_last`) holds the final observation; its action, reward and discount mean nothing and are zero.
It is `is_terminal` unless the episode was only cut off; if it is, the discount of the action before it is zero.

A long episode lies in several records, one after the other, of `part_timesteps` timesteps each, so that a window of it
can be read without the rest; the last of them has the final step. Flags are those of the episode: a record whose first
step is not `is_first` goes on with the one before it. What is said of the episode is said in each of its records.
"""

import abc
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data_pipelines.datasets.builder import Example, RequestBuilder
from data_pipelines.datasets.demonstrations import Demonstration, demonstrations
from data_pipelines.datasets.pictures import encode_png
from data_pipelines.environments.registry import task_spec
from data_pipelines.environments.specs import ArraySpec, TaskSpec
from data_pipelines.tokenization.vocabulary import token_count

PART_TOKENS = 1024  # of a record: about a row's, so that a window is read in one or two
_TEXT_TOKENS = 16  # of a text whose length nobody knows beforehand: a mission's


class EpisodeBuilder(RequestBuilder, skip_registration=True):
  """Episodes of one task. metadata.json holds its spec, a table of the episodes, and the timesteps of a record."""

  @property
  @abc.abstractmethod
  def spec(self) -> TaskSpec:
    """The task; `max_steps` is looked at when all episodes are made."""

  @abc.abstractmethod
  def episodes(self) -> Iterator[Example]:
    """What `rlds_example` makes of each episode."""

  def examples(self) -> Mapping[str, Iterable[Example]]:
    return {'train': self._listed_episodes()}

  def records(self, example: Example) -> Iterable[Example]:
    return episode_parts(example, part_timesteps(self.spec))

  def _listed_episodes(self) -> Iterator[Example]:
    table = EpisodeColumns()
    for example in self.episodes():
      table.add(example)
      yield example
    self.info.metadata.update(
        task=self.spec.to_json(), part_timesteps=part_timesteps(self.spec), episodes=table.columns)


class ControlBuilder(EpisodeBuilder, skip_registration=True):
  """Demonstrations of one task."""

  @property
  def spec(self) -> TaskSpec:
    return task_spec(self.request.task_name)

  def features(self) -> Mapping[str, Any]:
    return rlds_features(self.spec)

  def episodes(self) -> Iterator[Example]:
    for demonstration in demonstrations(self.request, self.dropped):
      yield rlds_example(self.spec, demonstration)


class EpisodeColumns:
  """What metadata.json says of the episodes: `columns` has a value of each for every one."""

  def __init__(self):
    self.columns: dict[str, list] = {key: [] for key in ('length', 'agent', 'return', 'success', 'seed')}

  def __len__(self) -> int:
    return len(self.columns['length'])

  def add(self, example: Example) -> None:
    for key, column in self.columns.items():
      column.append(len(example['steps']['is_last']) - 1 if key == 'length' else example[key])


def part_timesteps(spec: TaskSpec) -> int:
  """Timesteps of a record, of about PART_TOKENS tokens together."""
  items = *spec.observation.values(), spec.action
  return max(1, PART_TOKENS // sum(token_count(item, _TEXT_TOKENS) for item in items))


def episode_parts(example: Example, timesteps: int) -> Iterator[Example]:
  """The records of an episode: so many of its timesteps each, the last one with what is left and the final step."""
  steps = example['steps']
  length = len(steps['is_last']) - 1
  for start in range(0, length, timesteps):
    stop = start + timesteps if start + timesteps < length else length + 1
    yield {**example, 'steps': _part(steps, slice(start, stop))}


def _part(values: Any, part: slice) -> Any:
  """The part of each column of steps, which may be nested."""
  return {key: _part(item, part) for key, item in values.items()} if isinstance(values, Mapping) else values[part]


def rlds_features(spec: TaskSpec, picture_encoding: str | None = 'png') -> Mapping[str, Any]:
  """The features of an episode; `picture_encoding` None: whatever its pictures come in."""
  steps = {
      'observation': {key: _feature(item, picture_encoding) for key, item in spec.observation.items()},
      'action': _feature(spec.action),
      'expert_action': _feature(spec.action),
      'reward': np.float32,
      'discount': np.float32,
      'is_first': np.bool_,
      'is_last': np.bool_,
      'is_terminal': np.bool_,
  }
  text = tfds.features.Text()
  episode = {'task': text, 'agent': text, 'return': np.float32, 'success': np.bool_, 'seed': np.int64}
  return {'steps': tfds.features.Dataset(steps), **episode}


def rlds_example(spec: TaskSpec, demonstration: Demonstration) -> Example:
  """The episode as TFDS takes it: the T + 1 steps are given as arrays, pictures encoded, as PNG if they are not yet."""
  episode = demonstration.episode
  T = episode.length
  step = np.arange(T + 1)
  steps = {
      'observation': {key: _observation(key, item, demonstration) for key, item in spec.observation.items()},
      'action': _with_last_step(episode.action),
      'expert_action': _with_last_step(episode.expert_action),
      'reward': _with_last_step(episode.reward),
      'discount': (step < T - int(demonstration.terminated)).astype(np.float32),
      'is_first': step == 0,
      'is_last': step == T,
      'is_terminal': (step == T) & demonstration.terminated,
  }
  return {
      'steps': steps,
      'task': spec.name,
      'agent': demonstration.agent,
      'return': float(episode.episode_return),
      'success': bool(episode.success),
      'seed': demonstration.seed,
  }


def _observation(key: str, spec: ArraySpec, demonstration: Demonstration) -> Any:
  values = [*demonstration.episode.observation[key], demonstration.final_observation[key]]
  if spec.kind == 'image':
    return [image if isinstance(image, bytes) else encode_png(image) for image in values]
  return values if spec.kind == 'text' else np.stack(values)


def _with_last_step(array_T: np.ndarray) -> np.ndarray:
  return np.concatenate([array_T, np.zeros_like(array_T[:1])])


def _feature(spec: ArraySpec, picture_encoding: str | None = 'png') -> Any:
  if spec.kind == 'image':
    return tfds.features.Image(shape=spec.shape, encoding_format=picture_encoding)
  if spec.kind == 'text':
    return tfds.features.Text()
  return tfds.features.Tensor(shape=spec.shape, dtype=np.float32 if spec.kind == 'continuous' else np.int32)
