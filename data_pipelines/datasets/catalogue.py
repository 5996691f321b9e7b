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
    row: the row of the paper's Table 1 that it stands for, or stands in for.
    licence: of the data, or of the simulator that makes it.
    path: what its files are, if it is read from files of the user's own; empty: it comes from packages.
    seconds: rough time to build one episode (control) or the dataset (others); the slowest are started first.
    picture_size: pixels a side that its pictures are fitted to, if the mixture does not say; 0: they stay as they are.
    version: raise it when the same request would give other records.
  """

  kind: SourceKind
  episodes: int = 0
  seconds: float = 1.0
  row: str = ''
  licence: str = ''
  path: str = ''
  picture_size: int = 0
  version: str = '1.0.0'


DATASETS: Mapping[str, DatasetType] = {
    'classic_control': DatasetType('control', episodes=100, seconds=0.1, row='classic control', licence='MIT'),
    'dm_control': DatasetType('control', episodes=100, seconds=0.3, row='DM Control Suite', licence='Apache-2.0'),
    'metaworld': DatasetType('control', episodes=100, seconds=0.3, row='Meta-World', licence='MIT'),
    'babyai': DatasetType('control', episodes=100, seconds=0.02, row='BabyAI', licence='Apache-2.0'),
    'easy_vqa': DatasetType('vqa', seconds=5, row='VQAv2', licence='MIT'),
    'digits': DatasetType('caption', seconds=3, row='MS-COCO Captions', licence='BSD-3-Clause', version='1.1.0'),
    'fashion_mnist': DatasetType(
        'caption', seconds=30, row='MS-COCO Captions', licence='MIT', path='the folder of its four idx files'),
    'tuxpaint_stamps': DatasetType(
        'caption', seconds=30, row='Conceptual Captions', licence='GPL-2', path='the folder of its stamps',
        picture_size=96),
    'openclipart': DatasetType(
        'caption', seconds=300, row='Conceptual Captions', licence='public domain',
        path='the folder of its folders png and svg', picture_size=96),
    'captions_folder': DatasetType(
        'caption', seconds=60, row='ALIGN', licence="the files'", path='the folder of your captioned pictures',
        picture_size=224),
    'vqa_folder': DatasetType(
        'vqa', seconds=60, row='OKVQA', licence="the files'", path='the folder of your pictures and questions',
        picture_size=224),
    'pages_folder': DatasetType(
        'pages', seconds=60, row='M3W', licence="the files'", path='the folder of your pages and their pictures',
        picture_size=224),
    'python_docs': DatasetType('text', seconds=10, row='MassiveText', licence='PSF-2.0'),
    'text_folder': DatasetType(
        'text', seconds=20, row='MassiveText', licence="the files'", path='the folder of your texts'),
    'prose_folder': DatasetType(
        'text', seconds=60, row='MassiveText', licence="the files'", path='the folder of texts to pick the prose from'),
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
    path: where the user's files are, for a dataset that reads them.
    picture_size: pixels a side of its pictures; 0: the dataset's default.
    entry: the key of the mixture that asks for it, where that is not `dataset`; the records do not depend on it.
  """

  dataset: str
  task: str = ''
  episodes: int = 0
  noise: float = 0.0
  seed: int = 0
  path: str = ''
  picture_size: int = 0
  entry: str = ''

  @property
  def type(self) -> DatasetType:
    return DATASETS[self.dataset]

  @property
  def name(self) -> str:
    """The name of its source: the mixture's key, and the task after a slash if it has one."""
    entry = self.entry or self.dataset
    return f'{entry}/{self.task}' if self.task else entry

  @property
  def task_name(self) -> str:
    """Control: the task's name in the registry of environments."""
    return f'{self.dataset}/{self.task}'

  @property
  def picture_side(self) -> int:
    """Pixels a side that pictures are fitted to."""
    return self.picture_size or self.type.picture_size

  @property
  def config_name(self) -> str:
    """The settings in words, for the TFDS config and so for the directory."""
    if self.task:
      return f'{self.task}-episodes{self.episodes}-noise{self.noise:g}-seed{self.seed}'
    amount = f'first{self.episodes}' if self.episodes else 'all'
    if self.picture_side:
      amount += f'-{self.picture_side}px'
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
    data_config: a config with `mixture` (name -> entry with dataset, tasks, episodes, noise, path,
      picture_size) and `seed`.

  Raises:
    InputError: an unknown dataset, a control dataset without tasks or with a task twice, settings that do not apply.
  """
  result = []
  for name, entry in data_config.mixture.items():
    where = f'data.mixture.{name}'
    dataset = entry.dataset or name
    if dataset not in DATASETS:
      nearest = difflib.get_close_matches(dataset, DATASETS, n=1)
      hint = f'did you mean {nearest[0]!r}?' if nearest else f'there are: {", ".join(DATASETS)}'
      raise InputError(f'{where}: unknown dataset {dataset!r}; {hint}')
    if entry.episodes < 0:
      raise InputError(f'{where}.episodes is {entry.episodes}; it must be 0 (the default) or more')
    if DATASETS[dataset].kind == 'control':
      result += _control_requests(where, name, dataset, entry, data_config.seed)
    else:
      result.append(_other_request(where, name, dataset, entry))
  if not result:
    raise InputError('data.mixture is empty: name at least one dataset')
  return result


def _control_requests(where: str, name: str, dataset: str, entry: Any, seed: int) -> list[Request]:
  if not entry.tasks:
    raise InputError(f'{where}.tasks is empty: name the tasks to train on')
  if len(set(entry.tasks)) < len(entry.tasks):
    raise InputError(f'{where}.tasks names a task twice: {", ".join(entry.tasks)}')
  if not 0 <= entry.noise < 1:
    raise InputError(f'{where}.noise is {entry.noise}; it must be in [0, 1): prompts are episodes without noise')
  if entry.path:
    raise InputError(f'{where}.path is set, but a control dataset is generated, not read: leave it empty')
  episodes = entry.episodes or DATASETS[dataset].episodes
  result = [Request(dataset, task, episodes, entry.noise, seed, entry=name) for task in entry.tasks]
  for request in result:
    task_spec(request.task_name)  # raises where there is no such task
  return result


def _other_request(where: str, name: str, dataset: str, entry: Any) -> Request:
  if entry.tasks or entry.noise:
    raise InputError(f'{where}: tasks and noise are for control datasets: leave them out')
  files = DATASETS[dataset].path
  if bool(entry.path) != bool(files):
    remedy = f'name {files}' if files else f'{dataset} comes from a package and has no path'
    raise InputError(f'{where}.path is {entry.path!r}: {remedy}')
  size = getattr(entry, 'picture_size', 0)  # a run that is older than the key has none
  if size < 0 or (size and not DATASETS[dataset].picture_size):
    remedy = 'it is a number of pixels' if size < 0 else f'the pictures of {dataset}, if any, stay as they are'
    raise InputError(f'{where}.picture_size is {size}: {remedy}; leave it at 0')
  return Request(dataset, episodes=entry.episodes, path=entry.path, picture_size=size, entry=name)
