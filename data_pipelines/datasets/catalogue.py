"""Which datasets there are, and which of them a mixture asks for. Imports no simulator and no TFDS."""

from collections.abc import Mapping
import dataclasses
import difflib
import hashlib
import os
import re
from typing import Any

from data_pipelines.datasets.episodes import SourceKind
from data_pipelines.environments.registry import task_spec
from data_pipelines.errors import InputError

SEED_LIMIT = 1_000_000  # demonstrations have environment seeds below it; evaluation plays on seeds from it on
CLEAN_AGENT = 'scripted expert'
NOISY_AGENT = 'noisy scripted expert'


@dataclasses.dataclass(frozen=True)
class DatasetType:
  """What is known of a dataset before it is built; its builder is `data_pipelines.datasets.<name>.builder.Builder`.

  Attributes:
    kind: which of the episode classes it holds.
    episodes: how many a control task gets if the mixture does not say; 0: all there are.
    seconds: rough time to build one episode (control) or the dataset (others); the slowest are started first.
    version: raise it when the same request would give other records.
  """

  kind: SourceKind
  episodes: int = 0
  seconds: float = 1.0
  version: str = '1.0.0'


DATASETS: Mapping[str, DatasetType] = {
    'classic_control': DatasetType('control', episodes=100, seconds=0.1),
    'dm_control': DatasetType('control', episodes=100, seconds=0.3),
    'metaworld': DatasetType('control', episodes=100, seconds=0.3),
    'babyai': DatasetType('control', episodes=100, seconds=0.02),
    'easy_vqa': DatasetType('vqa', seconds=5),
    'digits': DatasetType('caption', seconds=3),
    'python_docs': DatasetType('text', seconds=10),
    'text_folder': DatasetType('text', seconds=20),
}


@dataclasses.dataclass(frozen=True)
class Request:
  """One dataset that is asked for. Everything its records depend on is here, and so is in the name of its directory.

  Data of other settings lie in another directory: nothing is overwritten, and nothing else can be read by mistake.

  Attributes:
    dataset: a key of DATASETS.
    task: control: the task without its domain, e.g. `cartpole-swingup`; else empty.
    episodes: control: how many episodes; others: at most so many examples a split, 0 for all.
    noise: control: share of the episodes with noise injected.
    seed: control: what the episodes' seeds are drawn from.
    path: text_folder: where the user's files are.
  """

  dataset: str
  task: str = ''
  episodes: int = 0
  noise: float = 0.0
  seed: int = 0
  path: str = ''

  @property
  def type(self) -> DatasetType:
    return DATASETS[self.dataset]

  @property
  def name(self) -> str:
    """The name of its source: `dataset/task`, or the dataset."""
    return f'{self.dataset}/{self.task}' if self.task else self.dataset

  @property
  def config_name(self) -> str:
    """The settings in words, for the TFDS config and so for the directory."""
    if self.task:
      return f'{self.task}-episodes{self.episodes}-noise{self.noise:g}-seed{self.seed}'
    amount = f'first{self.episodes}' if self.episodes else 'all'
    if not self.path:
      return amount
    path = os.path.normpath(self.path)
    digest = hashlib.sha256(path.encode()).hexdigest()[:8]
    return f'{re.sub("[^A-Za-z0-9]+", "_", os.path.basename(path))}-{digest}-{amount}'

  @property
  def seconds(self) -> float:
    """A guess of how long it takes to build."""
    return self.type.seconds * (self.episodes if self.task else 1)

  def directory(self, data_dir: str) -> str:
    return os.path.join(data_dir, self.dataset, self.config_name, self.type.version)


def requests(data_config: Any) -> list[Request]:
  """The datasets of a mixture, in its order.

  Args:
    data_config: a config with `mixture` (dataset -> entry with tasks, episodes, noise, path) and `seed`.

  Raises:
    InputError: an unknown dataset, a control dataset without tasks or with a task twice, settings that do not apply.
  """
  result = []
  for dataset, entry in data_config.mixture.items():
    if dataset not in DATASETS:
      nearest = difflib.get_close_matches(dataset, DATASETS, n=1)
      hint = f'did you mean {nearest[0]!r}?' if nearest else f'there are: {", ".join(DATASETS)}'
      raise InputError(f'data.mixture.{dataset}: unknown dataset; {hint}')
    if entry.episodes < 0:
      raise InputError(f'data.mixture.{dataset}.episodes is {entry.episodes}; it must be 0 (the default) or more')
    if DATASETS[dataset].kind == 'control':
      result += _control_requests(dataset, entry, data_config.seed)
    else:
      result.append(_other_request(dataset, entry))
  if not result:
    raise InputError('data.mixture is empty: name at least one dataset')
  return result


def _control_requests(dataset: str, entry: Any, seed: int) -> list[Request]:
  where = f'data.mixture.{dataset}'
  if not entry.tasks:
    raise InputError(f'{where}.tasks is empty: name the tasks to train on')
  if len(set(entry.tasks)) < len(entry.tasks):
    raise InputError(f'{where}.tasks names a task twice: {", ".join(entry.tasks)}')
  if not 0 <= entry.noise < 1:
    raise InputError(f'{where}.noise is {entry.noise}; it must be in [0, 1): prompts are episodes without noise')
  if entry.path:
    raise InputError(f'{where}.path is set, but a control dataset is generated, not read: leave it empty')
  episodes = entry.episodes or DATASETS[dataset].episodes
  result = [Request(dataset, task, episodes, entry.noise, seed) for task in entry.tasks]
  for request in result:
    task_spec(request.name)  # raises where there is no such task
  return result


def _other_request(dataset: str, entry: Any) -> Request:
  where = f'data.mixture.{dataset}'
  if entry.tasks or entry.noise:
    raise InputError(f'{where}: tasks and noise are for control datasets: leave them out')
  if bool(entry.path) != (dataset == 'text_folder'):
    remedy = 'name the folder of your .txt, .md or .jsonl files' if not entry.path else 'only text_folder has a path'
    raise InputError(f'{where}.path is {entry.path!r}: {remedy}')
  return Request(dataset, episodes=entry.episodes, path=entry.path)
