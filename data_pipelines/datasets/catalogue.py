"""Which datasets there are, and which of them a mixture asks for. Imports no simulator and no TFDS."""

from collections.abc import Mapping
import dataclasses
import difflib
import hashlib
import os
import re
from typing import Any

from data_pipelines.datasets.episodes import SourceKind
from data_pipelines.datasets.mapping import KeyMapping
from data_pipelines.environments import registry
from data_pipelines.environments.registry import task_spec
from data_pipelines.errors import InputError

SEED_LIMIT = 1_000_000  # demonstrations have environment seeds below it; evaluation plays on seeds from it on
CLEAN_AGENT = 'scripted expert'
NOISY_AGENT = 'noisy scripted expert'


@dataclasses.dataclass(frozen=True)
class DatasetType:
  """What is known of a dataset before it is built.

  Attributes:
    kind: which of the episode classes it holds.
    episodes: how many a control task gets if the mixture does not say; 0: all there are.
    row: the row of the paper's Table 1 that it stands for, or stands in for.
    licence: of the data, or of the simulator that makes it.
    path: what its files are, if it is read from files of the user's own; empty: it comes from packages.
    seconds: rough time to build one episode (control) or the dataset (others); the slowest are started first.
    picture_size: pixels a side that its pictures are fitted to, if the mixture does not say; 0: they stay as they are.
    version: raise it when the same request would give other records.
    folder: `data_pipelines.datasets.<folder>.builder.Builder` builds it; empty: the dataset's name.
  """

  kind: SourceKind
  episodes: int = 0
  seconds: float = 1.0
  row: str = ''
  licence: str = ''
  path: str = ''
  picture_size: int = 0
  version: str = '1.0.0'
  folder: str = ''

  @property
  def imported(self) -> bool:
    """Whether it holds control episodes that someone else recorded."""
    return self.kind == 'control' and bool(self.path)


DATASETS: Mapping[str, DatasetType] = {
    'classic_control': DatasetType('control', episodes=100, seconds=0.1, row='classic control', licence='MIT'),
    'dm_control': DatasetType('control', episodes=100, seconds=0.3, row='DM Control Suite', licence='Apache-2.0'),
    'dm_control_pixels': DatasetType(
        'control', episodes=100, seconds=2, row='DM Control Suite Pixels', licence='Apache-2.0'),
    'dm_control_random_small': DatasetType(
        'control', episodes=100, seconds=0.5, row='DM Control Suite Random Small', licence='Apache-2.0'),
    'dm_control_random_large': DatasetType(
        'control', episodes=100, seconds=0.5, row='DM Control Suite Random Large', licence='Apache-2.0'),
    'modular_rl': DatasetType('control', episodes=100, seconds=0.3, row='Modular RL', licence='MIT'),
    'metaworld': DatasetType('control', episodes=100, seconds=0.3, row='Meta-World', licence='MIT'),
    'babyai': DatasetType('control', episodes=100, seconds=0.1, row='BabyAI', licence='Apache-2.0'),
    'sokoban': DatasetType('control', episodes=100, seconds=0.2, row='Sokoban', licence='Apache-2.0'),
    'fetch': DatasetType('control', episodes=100, seconds=0.2, row='RGB Stacking simulator', licence='MIT'),
    'atari': DatasetType('control', episodes=20, seconds=5, row='ALE Atari', licence='GPL-2.0'),
    'atari_extended': DatasetType('control', episodes=20, seconds=5, row='ALE Atari Extended', licence='GPL-2.0'),
    'procgen': DatasetType('control', episodes=50, seconds=3, row='Procgen', licence='MIT'),
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
    # Other people's control episodes. Their rows of Table 1 are as many as their robots.
    'rlds': DatasetType('control', seconds=60, path='a prepared folder, or its catalogue name', folder='rlds_folder'),
    'minari': DatasetType('control', seconds=60, path='the folder of a Minari dataset'),
    'jat': DatasetType('control', seconds=60, path='the folder of a task in the layout of JAT'),
    'lerobot': DatasetType('control', seconds=60, path='a LeRobot dataset, version 2 or 3'),
    'recorded': DatasetType('control', seconds=20, path='what EpisodeWriter wrote'),
    'text_folder': DatasetType(
        'text', seconds=20, row='MassiveText', licence="the files'", path='the folder of your texts'),
    'prose_folder': DatasetType(
        'text', seconds=60, row='MassiveText', licence="the files'", path='the folder of texts to pick the prose from'),
}
_SPLIT = ('rlds', 'jat')  # imported ones of which a split can be named
# Of an environment module of the user's own.
_OWN_SUITE = DatasetType('control', episodes=100, licence='your own', folder='own_suite')


def dataset_type(name: str) -> DatasetType:
  """What is known of a dataset; a suite that was registered is one too.

  Raises:
    InputError: there is no such dataset.
  """
  if name in DATASETS:
    return DATASETS[name]
  if name in registry.SUITES:
    return _OWN_SUITE
  nearest = difflib.get_close_matches(name, DATASETS, n=1)
  hint = f'did you mean {nearest[0]!r}?' if nearest else f'there are: {", ".join(DATASETS)}'
  raise InputError(f'unknown dataset {name!r}; {hint}')


@dataclasses.dataclass(frozen=True)
class Request:
  """One dataset that is asked for. Everything its records depend on is here, and so is in the name of its directory.

  Data of other settings lie in another directory: nothing is overwritten, and nothing else can be read by mistake.

  Attributes:
    dataset: a key of DATASETS, or the domain of a registered suite.
    task: control: the task without its domain, e.g. `cartpole-swingup`; imported: the part of `path` that tells it from
      the entry's others, if it has several; else empty.
    episodes: played: how many episodes; others: at most so many examples a split, 0 for all.
    noise: played: share of the episodes with noise injected.
    seed: played: what the episodes' seeds are drawn from.
    path: where the user's files are, for a dataset that reads them.
    picture_size: pixels a side of its pictures; 0: the dataset's default.
    entry: the key of the mixture that asks for it, where that is not `dataset`; the records do not depend on it.
    mapping: imported: which of its items are what.
    environment: imported: the task, as the registry of environments names it, that it is evaluated on; empty: none.
    modules: where environments of the user's own are defined; whoever gets a request registers them.
    module_digest: played on one of those: what tells the state of its file, policy included.
  """

  dataset: str
  task: str = ''
  episodes: int = 0
  noise: float = 0.0
  seed: int = 0
  path: str = ''
  picture_size: int = 0
  entry: str = ''
  mapping: KeyMapping = KeyMapping()
  environment: str = ''
  modules: tuple[str, ...] = ()
  module_digest: str = ''

  @property
  def type(self) -> DatasetType:
    return dataset_type(self.dataset)

  @property
  def played(self) -> bool:
    """Whether its episodes are played by an expert here."""
    return self.type.kind == 'control' and not self.type.path

  @property
  def name(self) -> str:
    """The name of its source: the mixture's key, and the task after a slash if it has one."""
    entry = self.entry or self.dataset
    return f'{entry}/{self.task}' if self.task else entry

  @property
  def task_name(self) -> str:
    """Control: the task's name in the registry of environments; empty where it has no simulator."""
    return f'{self.dataset}/{self.task}' if self.played else self.environment

  @property
  def picture_side(self) -> int:
    """Pixels a side that pictures are fitted to."""
    return self.picture_size or self.type.picture_size

  @property
  def config_name(self) -> str:
    """The settings in words, for the TFDS config and so for the directory."""
    if self.played:
      settings = f'{self.task}-episodes{self.episodes}-noise{self.noise:g}-seed{self.seed}'
      return f'{settings}-{self.module_digest}' if self.module_digest else settings
    amount = f'first{self.episodes}' if self.episodes else 'all'
    if self.picture_side:
      amount += f'-{self.picture_side}px'
    if not self.path:
      return amount
    digest = hashlib.sha256(f'{os.path.normpath(self.path)}{self.mapping.digest}'.encode()).hexdigest()[:8]
    return f'{self.path_name}-{digest}-{amount}'

  @property
  def path_name(self) -> str:
    """The last folder of the path that has a name and no version number, in plain characters."""
    folders = os.path.normpath(self.path).split(os.sep)
    named = [folder for folder in folders if not re.fullmatch(r'v?[0-9.]+', folder)] or folders
    return re.sub('[^A-Za-z0-9]+', '_', named[-1])

  @property
  def seconds(self) -> float:
    """A guess of how long it takes to build."""
    return self.type.seconds * (self.episodes if self.played else 1)

  def directory(self, data_dir: str) -> str:
    return os.path.join(data_dir, self.dataset, self.config_name, self.type.version)


def weighted_entries(mixture: Mapping[str, Any]) -> dict[str, Any]:
  """The entries of a mixture by name, without those of weight 0: they are left out of everything."""
  return {name: entry for name, entry in mixture.items() if entry.weight != 0}


def entry_shares(mixture: Mapping[str, Any]) -> dict[str, float]:
  """The entries' shares of the positions, by name."""
  entries = weighted_entries(mixture)
  total = sum(entry.weight for entry in entries.values())
  return {name: entry.weight / total for name, entry in entries.items()}


def requests(data_config: Any) -> list[Request]:
  """The datasets of a mixture, in its order; not those of entries with weight 0.

  Args:
    data_config: a config with `mixture` (name -> entry with weight, dataset, tasks, episodes, noise, path,
      picture_size, mapping, environment), `seed` and `environments`, which are registered.

  Raises:
    InputError: an unknown dataset, a control dataset without tasks or with a task twice, settings that do not apply.
  """
  result = []
  modules = tuple(getattr(data_config, 'environments', ()))  # a run that is older than the key has none
  registry.register(modules)
  for name, entry in weighted_entries(data_config.mixture).items():
    where = f'data.mixture.{name}'
    dataset = entry.dataset or name
    try:
      kind = dataset_type(dataset)
    except InputError as error:
      raise InputError(f'{where}: {error}') from error
    if entry.episodes < 0:
      raise InputError(f'{where}.episodes is {entry.episodes}; it must be 0 (the default) or more')
    # A run that is older than these keys has none.
    mapping = KeyMapping.from_settings(getattr(entry, 'mapping', {}), f'{where}.mapping')
    environment = getattr(entry, 'environment', '')
    if kind.imported:
      whole = Request(dataset, episodes=entry.episodes, path=os.path.expanduser(entry.path), entry=name,
                      mapping=mapping, environment=environment, modules=modules)
      result += _import_requests(where, whole, entry)
      continue
    if mapping != KeyMapping() or environment:
      raise InputError(f'{where}: mapping and environment are for imported episodes: leave them out')
    if kind.kind == 'control':
      result += _control_requests(where, name, dataset, entry, data_config.seed, modules)
    else:
      result.append(_other_request(where, name, dataset, entry))
  if not result:
    raise InputError('data.mixture is empty: name at least one dataset, and give it a weight above 0')
  return result


def _control_requests(where: str, name: str, dataset: str, entry: Any, seed: int,
                      modules: tuple[str, ...]) -> list[Request]:
  if not entry.tasks:
    raise InputError(f'{where}.tasks is empty: name the tasks to train on')
  _refuse_repeated_tasks(where, entry)
  if not 0 <= entry.noise < 1:
    raise InputError(f'{where}.noise is {entry.noise}; it must be in [0, 1): prompts are episodes without noise')
  if entry.path:
    raise InputError(f'{where}.path is set, but a control dataset is generated, not read: leave it empty')
  episodes = entry.episodes or dataset_type(dataset).episodes
  digest = '' if dataset in DATASETS else registry.module_digest(dataset)
  result = [Request(dataset, task, episodes, entry.noise, seed, entry=name, modules=modules, module_digest=digest)
            for task in entry.tasks]
  for request in result:
    task_spec(request.task_name)  # raises where there is no such task
  return result


def _import_requests(where: str, whole: Request, entry: Any) -> list[Request]:
  """One request for each task, whose files are `path/task`, or one for `path` itself."""
  _refuse_repeated_tasks(where, entry)
  if entry.noise:
    raise InputError(f'{where}.noise is {entry.noise}, but episodes that were recorded are what they are: leave it out')
  if not whole.path:
    raise InputError(f'{where}.path is empty: name {whole.type.path}')
  if whole.mapping.split and whole.dataset not in _SPLIT:
    raise InputError(f'{where}.mapping.split is {whole.mapping.split!r}, but of a {whole.dataset} dataset all episodes '
                     'are read: leave it out')
  result = [
      dataclasses.replace(
          whole, task=task, path=os.path.join(whole.path, task),
          environment=whole.environment and f'{whole.environment}/{task}')
      for task in entry.tasks
  ] or [whole]
  for request in result:
    if request.environment:
      task_spec(request.environment)
  return result


def _refuse_repeated_tasks(where: str, entry: Any) -> None:
  if len(set(entry.tasks)) < len(entry.tasks):
    raise InputError(f'{where}.tasks names a task twice: {", ".join(entry.tasks)}')


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
  path = os.path.expanduser(entry.path)
  return Request(dataset, episodes=entry.episodes, path=path, picture_size=size, entry=name)
