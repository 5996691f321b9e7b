"""Control suites in the RLDS layout: an episode is a nested dataset of steps (github.com/google-research/rlds).

A step holds an observation, the action taken there, and its reward and discount. An episode of T actions has T + 1
steps: the last one (`is_last`) holds the final observation; its action, reward and discount mean nothing and are zero.
It is `is_terminal` unless the episode was only cut off; if it is, the discount of the action before it is zero.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data_pipelines.datasets.builder import Example, RequestBuilder
from data_pipelines.datasets.demonstrations import Demonstration, demonstrations
from data_pipelines.datasets.pictures import encode_png
from data_pipelines.environments.registry import task_spec
from data_pipelines.environments.specs import ArraySpec, TaskSpec


class ControlBuilder(RequestBuilder, skip_registration=True):
  """Demonstrations of one task. metadata.json holds the task's spec and a table of the episodes."""

  def features(self) -> Mapping[str, Any]:
    return rlds_features(task_spec(self.request.task_name))

  def examples(self) -> Mapping[str, Iterable[Example]]:
    return {'train': self._episodes()}

  def _episodes(self) -> Iterator[Example]:
    spec = task_spec(self.request.task_name)
    table = EpisodeColumns()
    for demonstration in demonstrations(self.request, self.dropped):
      example = rlds_example(spec, demonstration)
      table.add(example)
      yield example
    self.info.metadata.update(task=spec.to_json(), episodes=table.columns)


class EpisodeColumns:
  """What metadata.json says of the episodes: `columns` has a value of each for every one."""

  def __init__(self):
    self.columns: dict[str, list] = {key: [] for key in ('length', 'agent', 'return', 'success', 'seed')}

  def __len__(self) -> int:
    return len(self.columns['length'])

  def add(self, example: Example) -> None:
    for key, column in self.columns.items():
      column.append(len(example['steps']['is_last']) - 1 if key == 'length' else example[key])


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
