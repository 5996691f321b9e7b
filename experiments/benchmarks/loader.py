"""How fast batches are made, and in how much memory: `gato-jax benchmark loader --config=FILE`, after `prepare`.

Prints one JSON line. For the mixture's datasets of numbers only (`state`), those with pictures (`pictures`), those of
text (`text`), for all of it (`whole`), and for all of it with every dataset ten times as long (`whole_longer`):

  tokens_per_second: filled positions by CPU second, all threads counted, so it is by core whatever else is running.
  wall_tokens_per_second: by second on the clock, with `data.read_threads` threads or `data.read_processes` processes.
  position_fill: share of the positions that are filled.
  peak_megabytes: most memory the process had, indexes, plan and cache of episodes included.
  episodes: of all datasets.

With `data.read_processes`, CPU seconds and memory are those of the process that takes the batches, as it does when it
trains: what bounds a host that has cores for any number of the others.

Each is measured in a process of its own, over ten seconds of CPU time, or on the clock if there are
`data.read_processes`, with indexes that are there already.
"""

from collections.abc import Callable, Sequence
import concurrent.futures
import copy
import dataclasses
import json
import multiprocessing
import os
import tempfile
import time
from typing import Any

import ml_collections
import numpy as np

from data_pipelines.datasets.episodes import Episode, EpisodeSource
from data_pipelines.datasets.prepare import open_sources, open_tokenizer
from data_pipelines.loader import Loader, make_loader
from data_pipelines.sequences.index import open_index
from data_pipelines.sequences.plan import dataset_of
from experiments.benchmarks.memory import peak_megabytes

SECONDS = 10.0
LONGER = 10
BATCH_SIZE = 8
_FIRST_BATCHES = 8  # not timed: threads start, modules load


@dataclasses.dataclass
class Repeated:
  """A dataset as long as `times` of it; every episode is another one to index, plan and cache.

  Attributes:
    source: the dataset.
    times: how often its episodes come.
    folder: its index is kept in, and so is the text's tokens.
  """

  source: EpisodeSource
  times: int
  folder: str

  def __post_init__(self):
    self.name, self.kind, self.task = self.source.name, self.source.kind, self.source.task
    self.part_timesteps = self.source.part_timesteps
    self.directory = os.path.join(self.folder, self.name)

  @property
  def noisy(self) -> np.ndarray:
    return np.tile(self.source.noisy, self.times)

  def __len__(self) -> int:
    return self.times * len(self.source)

  def __getitem__(self, index: int) -> Episode:
    return self.source[index % len(self.source)]

  def part(self, index: int, number: int) -> Episode:
    return self.source.part(index % len(self.source), number)


def main(config: ml_collections.ConfigDict, seconds: float = SECONDS) -> None:
  """Measures, each for so many seconds, and prints."""
  groups = {group: _entries(config.data, group) for group in ('state', 'pictures', 'text')}
  runs = {group: (names, 1) for group, names in groups.items() if names}
  whole = list(config.data.mixture)
  runs |= {'whole': (whole, 1), 'whole_longer': (whole, LONGER)}
  with tempfile.TemporaryDirectory() as folder:
    _apart(make_longer_indexes, config.data, LONGER, folder)
    result = {name: _apart(measure, config.data, entries, times, folder, seconds)
              for name, (entries, times) in runs.items()}
  print(json.dumps({'benchmark': 'loader', 'config': config.name, 'cache_megabytes': config.data.cache_megabytes,
                    'read_processes': config.data.read_processes, 'datasets': result}))


def _apart(work: Callable, *arguments: Any) -> Any:
  """What `work` returns in a process of its own."""
  with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:
    return pool.submit(work, *arguments).result()


def measure(data_config: Any, entries: Sequence[str], times: int, folder: str, seconds: float) -> dict[str, float]:
  """Times the loader of some of the mixture's entries, every dataset of which is repeated `times` times.

  Args:
    data_config: the config's `data` section.
    entries: keys of its mixture.
    times: how often the episodes of a dataset come.
    folder: holds the indexes of datasets that are repeated.
    seconds: to measure over.
  """
  config = copy.deepcopy(data_config)
  with config.unlocked():
    config.mixture = {name: data_config.mixture[name] for name in entries}
  sources = _sources(data_config, entries, times, folder)
  loader = make_loader(config, sources, open_tokenizer(data_config), seed=0, batch_size=BATCH_SIZE)
  for _ in range(_FIRST_BATCHES):
    next(loader)
  measured = _timed(loader, seconds, time.monotonic if config.read_processes else time.process_time)
  loader.close()
  return {**measured, 'position_fill': round(loader.report()['position_fill'], 4),
          'peak_megabytes': round(peak_megabytes()), 'episodes': sum(map(len, sources))}


def make_longer_indexes(data_config: Any, times: int, folder: str) -> None:
  """Makes the indexes of all datasets, repeated `times` times, as it takes memory that is not the loader's."""
  tokenizer = open_tokenizer(data_config)
  for source in _sources(data_config, list(data_config.mixture), times, folder):
    os.makedirs(source.directory)
    open_index(source, tokenizer)


def _sources(data_config: Any, entries: Sequence[str], times: int, folder: str) -> list[EpisodeSource]:
  """The datasets of some entries, repeated if `times` is more than 1."""
  sources = [source for source in open_sources(data_config, 'train') if dataset_of(source.name) in entries]
  return [Repeated(source, times, folder) for source in sources] if times > 1 else sources


def _timed(loader: Loader, seconds: float, clock: Callable[[], float]) -> dict[str, float]:
  tokens, cpu, wall, end = 0, time.process_time(), time.monotonic(), clock() + seconds
  while clock() < end:
    tokens += int((next(loader).segment_ids > 0).sum())
  return {'tokens_per_second': round(tokens / (time.process_time() - cpu)),
          'wall_tokens_per_second': round(tokens / (time.monotonic() - wall))}


def _entries(data_config: Any, group: str) -> list[str]:
  """The mixture's entries whose datasets are of a group."""
  groups = {dataset_of(source.name): _group(source) for source in open_sources(data_config, 'train')}
  return [name for name in data_config.mixture if groups[name] == group]


def _group(source: EpisodeSource) -> str:
  if source.kind == 'text':
    return 'text'
  pictures = source.kind != 'control' or any(spec.kind == 'image' for spec in source.task.observation.values())
  return 'pictures' if pictures else 'state'
