"""What there is to train on: every dataset of the catalogue and what of it is built in a data directory."""

from collections.abc import Iterator, Sequence
import dataclasses
import json
import os
import pathlib
import types
from typing import Any

import tensorflow_datasets as tfds

from data_pipelines.datasets.catalogue import DATASETS, DatasetType, Request, dataset_type, entry_shares, requests
from data_pipelines.datasets.sources import defect
from data_pipelines.datasets.staging import INCOMPLETE, local_path
from data_pipelines.datasets.table_1 import ROWS
from data_pipelines.environments.reference_scores import reference_scores
from data_pipelines.environments.registry import SUITES, task_names, task_spec, trained_tasks
from data_pipelines.environments.specs import ArraySpec
from data_pipelines.errors import InputError
from data_pipelines.sequences.index import latest_index

_NOTHING = '-'


@dataclasses.dataclass(frozen=True)
class BuiltDataset:
  """One directory that `prepare` made.

  Attributes:
    directory: where it lies.
    task: control: the name of its task; else empty.
    episodes: number of them, all splits together; of documents, captions or questions, if it is none of control.
    tokens: of all its episodes in its newest index, which training makes; None: it has none yet.
    patches: likewise.
    size: bytes on disk.
  """

  directory: str
  task: str
  episodes: int
  tokens: int | None
  patches: int | None
  size: int


def built_datasets(dataset: str, data_dir: str) -> list[BuiltDataset]:
  """What is built of a dataset, whatever its settings, the newest first; of storage elsewhere, what is copied."""
  found = pathlib.Path(local_path(data_dir), dataset).glob('*/*/metadata.json')
  newest_first = sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)
  return [_built(path.parent) for path in newest_first if not path.parent.name.startswith(INCOMPLETE)]


def _built(directory: pathlib.Path) -> BuiltDataset:
  metadata = json.loads((directory / 'metadata.json').read_text())
  index = latest_index(str(directory))
  return BuiltDataset(
      directory=str(directory),
      task=metadata['task']['name'] if 'task' in metadata else '',
      episodes=_episodes(directory, metadata),
      tokens=index and index.tokens,
      patches=index and index.patches,
      size=sum(file.stat().st_size for file in directory.iterdir()),
  )


def _episodes(directory: pathlib.Path, metadata: Any) -> int:
  if 'episodes' in metadata:
    return len(metadata['episodes']['length'])
  for counted in ('questions', 'captions'):
    if counted in metadata:
      return sum(map(sum, metadata[counted].values()))
  info = json.loads((directory / 'dataset_info.json').read_text())
  return sum(int(length) for split in info['splits'] for length in split['shardLengths'])


def datasets_table(data_dir: str) -> list[tuple[str, ...]]:
  """A row a dataset, registered suites included, under a header: its kind, row of Table 1, tasks, what is built of
  it, and licence."""
  header = ('dataset', 'kind', "Table 1's row", 'tasks', 'built', 'episodes', 'tokens', 'patches', 'size', 'licence')
  return [header, *(_dataset_row(name, dataset_type(name), data_dir) for name in dict.fromkeys([*DATASETS, *SUITES]))]


def _dataset_row(name: str, kind: DatasetType, data_dir: str) -> tuple[str, ...]:
  built = built_datasets(name, data_dir)
  tasks = len(task_names(name)) if name in SUITES else 0
  return (
      name, kind.kind, kind.row or _NOTHING, str(tasks or _NOTHING),
      (str(len({each.task for each in built})) if tasks else 'yes') if built else 'no', *_amounts(built),
      kind.licence or "the files'")


def _amounts(built: Sequence[BuiltDataset]) -> tuple[str, ...]:
  """Episodes, tokens, patches and size in words."""
  if not built:
    return (_NOTHING,) * 4
  size = sum(each.size for each in built)
  tokens = patches = 'not counted'
  if all(each.tokens is not None for each in built):
    tokens, patches = (f'{sum(getattr(each, what) for each in built):,}' for what in ('tokens', 'patches'))
  return f'{sum(each.episodes for each in built):,}', tokens, patches, f'{size / 1e6:,.1f} MB'


def tasks_table(data_dir: str, domain: str = '') -> list[tuple[str, ...]]:
  """A row a control task, under a header: what it is scored by, its reference scores, and what is built of it.

  Raises:
    InputError: there is no such domain.
  """
  rows = [('task', 'trained', 'score', 'random', 'expert', 'episodes', 'tokens', 'patches', 'size')]
  task_names(domain or None)  # raises where there is no such domain
  for suite in [domain] if domain else SUITES:
    built = built_datasets(suite, data_dir)
    trained = set(trained_tasks(suite))
    for task in task_names(suite):
      spec = task_spec(task)
      part = [each for each in built if each.task == task]
      rows.append((task, 'yes' if spec.task in trained else 'no', spec.score, *_scores(task),
                   *_amounts(part)))
  return rows


def _scores(task: str) -> tuple[str, str]:
  try:
    scores = reference_scores(task)
  except InputError:
    return 'not measured', 'not measured'
  return f'{scores.random:.4g}', f'{scores.expert:.4g}'


def totals() -> str:
  """How much there is to train on, in a line."""
  suites = [domain for domain in SUITES if trained_tasks(domain)]
  tasks = sum(len(trained_tasks(domain)) for domain in suites)
  covered = set(ROWS).intersection(kind.row for kind in DATASETS.values())
  others = [name for name, kind in DATASETS.items() if kind.kind != 'control']
  return (f'{tasks} control tasks to train on in {len(suites)} domains, {len(others)} sources of text and pictures; '
          f"{len(covered)} of Table 1's {len(ROWS)} rows")


def description(name: str, data_dir: str) -> Iterator[str]:
  """What is known of a dataset, or of a control task `dataset/task`, in lines.

  Raises:
    InputError: there is no such dataset or task.
  """
  dataset, _, task = name.partition('/')
  kind = dataset_type(dataset)
  yield f'{name}: {kind.kind}, licence {kind.licence or "of the files"}, stands for {kind.row or "no row"} of Table 1'
  if kind.path:
    yield f'reads {kind.path}: name it in the mixture, {dataset!r}: mixture_entry(weight, path=...)'
  names: Sequence[str] = [name] if task else task_names(dataset) if dataset in SUITES else []
  for each in names:
    spec = task_spec(each)
    items = ', '.join(f'{key} {_shape(item)}' for key, item in sorted(spec.observation.items()))
    yield f'{each}: {items} -> {_shape(spec.action)}; at most {spec.max_steps} steps, scored by {spec.score}'
  for built in built_datasets(dataset, data_dir):
    if not task or built.task == name:
      episodes, tokens, patches, size = _amounts([built])
      yield f'{built.directory}: {episodes} episodes, {tokens} tokens, {patches} patches, {size}'


def _shape(spec: ArraySpec) -> str:
  values = f' of {spec.num_values}' if spec.num_values else ''
  return f'{spec.kind}{list(spec.shape) if spec.shape else ""}{values}'


def mixture_table(data_config: Any) -> tuple[list[tuple[str, ...]], int]:
  """A row an entry of a mixture, under a header: its share, what fills it, and what of that is missing.

  Entries of weight 0 are left out. Where the files that a dataset is made from are not there either, it says so.

  Returns:
    the rows, and how many entries are not complete.
  """
  rows, missing = [('entry', 'share', 'dataset', 'path', 'sources', 'missing', 'why')], 0
  for name, share in entry_shares(data_config.mixture).items():
    entry = data_config.mixture[name]
    problems, sources = _problems(data_config, name, entry)
    missing += bool(problems)
    rows.append((name, f'{share:.2%}', entry.dataset or name, entry.path or _NOTHING,
                 str(sources), str(len(problems)), problems[0] if problems else ''))
  return rows, missing


def _problems(data_config: Any, name: str, entry: Any) -> tuple[list[str], int]:
  """What is wrong with the datasets of one entry, and how many there are."""
  try:
    alone = types.SimpleNamespace(mixture={name: entry}, seed=data_config.seed,
                                  environments=getattr(data_config, 'environments', ()))
    wanted = requests(alone)
  except InputError as error:
    return [str(error)], 0
  problems = [problem for request in wanted if (problem := _problem(request, data_config.dir))]
  return problems, len(wanted)


def _problem(request: Request, data_dir: str) -> str | None:
  """What keeps a dataset from being read; if it cannot be built either for want of its files, that."""
  problem = defect(request, data_dir)
  if problem and request.path and not _source_exists(request):
    problem = f'source not found: {request.path}'
  return problem and f'{request.name}: {problem}'


def _source_exists(request: Request) -> bool:
  """Whether there is something at a request's path, which for RLDS can be a name among TFDS's prepared datasets."""
  prepared = os.path.join(tfds.core.constants.DATA_DIR, request.path.partition(':')[0])
  return os.path.exists(request.path) or (request.dataset == 'rlds' and os.path.isdir(prepared))


def aligned(rows: Sequence[Sequence[str]]) -> str:
  """Rows of cells as text, in columns; those of numbers to the right."""
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return '\n'.join(
      '  '.join(cell.rjust(width) if cell.lstrip('-')[:1].isdigit() else cell.ljust(width)
                for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
