"""Other people's episodes as a dataset of our own.

They are converted once, in the processes that `prepare` builds with, and not read where they lie: a video, a Parquet
page or a TFDS step costs far more than a window of it is worth, and each time again; what is wrong with an episode is
found before training; and nothing downstream knows that there are other formats.
"""

import abc
from collections.abc import Iterator, Mapping
import functools
import itertools
from typing import Any

from data_pipelines.datasets.builder import Example
from data_pipelines.datasets.catalogue import Request
from data_pipelines.datasets.demonstrations import Demonstration
from data_pipelines.datasets.imports.conversion import convert
from data_pipelines.datasets.imports.items import Damage, Reader
from data_pipelines.datasets.imports.layout import Layout, make_layout
from data_pipelines.datasets.rlds import EpisodeBuilder, rlds_example, rlds_features
from data_pipelines.environments.registry import task_spec
from data_pipelines.environments.specs import ArraySpec, TaskSpec
from data_pipelines.errors import InputError


class ImportBuilder(EpisodeBuilder, skip_registration=True):
  """A dataset of the episodes of a `Reader`.

  metadata.json holds, beside what a dataset of our own has, the bounds of the action (`action_bounds`, which undo the
  scaling to [-1, 1]) and what was guessed (`notes`).
  """

  _longest = 0  # timesteps of the longest episode so far

  @abc.abstractmethod
  def open_reader(self) -> Reader:
    """Opens the request's path; raises InputError where it is no dataset of this format."""

  @functools.cached_property
  def _reader(self) -> Reader:
    return self.open_reader()

  @functools.cached_property
  def _layout(self) -> Layout:
    try:
      return make_layout(self._reader, self.request.mapping)
    except InputError as error:
      raise InputError(f'{self.request.name}: {error}') from error

  @property
  def spec(self) -> TaskSpec:
    layout = self._layout
    return TaskSpec(
        name=f'{self.request.dataset}/{self.request.path_name}',
        domain=self.request.dataset,
        observation={key: spec for key, (_, spec) in layout.observation.items()},
        action=layout.action,
        max_steps=self._longest,
        score='success' if layout.success else 'return',
    )

  def features(self) -> Mapping[str, Any]:
    # Pictures are kept in the encoding that they came in.
    return rlds_features(self.spec, picture_encoding=None)

  def episodes(self) -> Iterator[Example]:
    layout = self._layout
    if self.request.environment:
      _check_environment(self.request, layout)
    self.info.metadata.update(
        notes=list(layout.notes),
        action_bounds={'low': layout.low.tolist(), 'high': layout.high.tolist()} if len(layout.low) else None)
    for demonstration in itertools.islice(self._demonstrations(), self.request.episodes or None):
      self._longest = max(self._longest, demonstration.episode.length)
      yield rlds_example(self.spec, demonstration)
    if not self._longest:
      raise InputError(f'{self.request.name}: {self.request.path} has no good episode')

  def _demonstrations(self) -> Iterator[Demonstration]:
    for number, raw in enumerate(self._reader.episodes(self._layout.names)):
      if isinstance(raw, Damage):
        for _ in range(raw.episodes):
          self.skip(f'{raw.place}: {raw.problem}')
        continue
      try:
        demonstration = convert(raw, self._layout, self._reader.items, number)
      except (ValueError, TypeError) as error:  # NumPy's for values that make no array
        self.skip(f'{raw.place}: {error}')
        continue
      yield demonstration


def _check_environment(request: Request, layout: Layout) -> None:
  """Raises InputError where the environment to be evaluated on does not show and take what the dataset holds."""
  task = task_spec(request.environment)
  there = {f'observation.{key}': spec for key, spec in task.observation.items()} | {'action': task.action}
  here = {f'observation.{key}': spec for key, (_, spec) in layout.observation.items()} | {'action': layout.action}
  wrong = [f'{key} is {_told(there.get(key))} there, {_told(here.get(key))} here'
           for key in sorted(there.keys() | here.keys()) if there.get(key) != here.get(key)]
  if wrong:
    raise InputError(f'{request.name}: it cannot be evaluated on {request.environment}: {"; ".join(wrong)}. Mend the '
                     'mapping (image_side=0 leaves pictures as large as they are), or leave the environment out')


def _told(spec: ArraySpec | None) -> str:
  if spec is None:
    return 'missing'
  return f'{spec.kind} {spec.shape}' + (f' of {spec.num_values} values' if spec.kind == 'discrete' else '')
