"""Where a LeRobot dataset keeps each episode: version 2 has a file an episode, version 3 many in one."""

from collections.abc import Iterator, Mapping
import dataclasses
import pathlib
from typing import Any

from data_pipelines.datasets.files import json_lines
from data_pipelines.datasets.imports.items import Damage
from data_pipelines.datasets.imports.parquet import rows, schema_of
from data_pipelines.errors import InputError


@dataclasses.dataclass(frozen=True)
class VideoPart:
  """Frames of a camera: from `start`, in seconds, on."""

  file: pathlib.Path
  start: float


@dataclasses.dataclass(frozen=True)
class EpisodeFiles:
  """Where one episode is.

  Attributes:
    index: its number in the dataset.
    length: timesteps.
    table: the Parquet file that holds its steps.
    videos: camera -> its frames.
  """

  index: int
  length: int
  table: pathlib.Path
  videos: Mapping[str, VideoPart]


def episode_files(root: pathlib.Path, info: Mapping[str, Any], cameras: list[str]) -> list[EpisodeFiles]:
  """All episodes in order; raises InputError where the list of them cannot be read."""
  if info['codebase_version'].startswith('v2'):
    return [_version_2(root, info, cameras, row) for row in _json_lines(root / 'meta' / 'episodes.jsonl')]
  return [_version_3(root, info, cameras, row) for row in _parquet_rows(root / 'meta' / 'episodes')]


def task_names(root: pathlib.Path, info: Mapping[str, Any]) -> dict[int, str]:
  """task_index -> what is to be done, in words."""
  if info['codebase_version'].startswith('v2'):
    return {row['task_index']: row['task'] for row in _json_lines(root / 'meta' / 'tasks.jsonl')}
  names = {}
  for row in _parquet_rows(root / 'meta' / 'tasks.parquet'):
    index = row.pop('task_index')
    names[index] = next(value for value in row.values() if isinstance(value, str))  # pandas' index: its name varies
  return names


def _version_2(root: pathlib.Path, info: Mapping[str, Any], cameras: list[str], row: Mapping[str, Any]) -> EpisodeFiles:
  index = row['episode_index']
  fields = {'episode_index': index, 'episode_chunk': index // info['chunks_size']}
  videos = {camera: VideoPart(root / info['video_path'].format(video_key=camera, **fields), 0.0) for camera in cameras}
  return EpisodeFiles(index, row['length'], root / info['data_path'].format(**fields), videos)


def _version_3(root: pathlib.Path, info: Mapping[str, Any], cameras: list[str], row: Mapping[str, Any]) -> EpisodeFiles:
  def place(prefix: str) -> dict[str, int]:
    return {'chunk_index': row[f'{prefix}/chunk_index'], 'file_index': row[f'{prefix}/file_index']}

  videos = {
      camera: VideoPart(root / info['video_path'].format(video_key=camera, **place(f'videos/{camera}')),
                        row[f'videos/{camera}/from_timestamp'])
      for camera in cameras
  }
  table = root / info['data_path'].format(**place('data'))
  return EpisodeFiles(row['episode_index'], row['length'], table, videos)


def _json_lines(file: pathlib.Path) -> Iterator[dict[str, Any]]:
  def refuse(problem: str) -> None:
    raise InputError(problem)

  return (line for _, line in json_lines(file, refuse))


def _parquet_rows(path: pathlib.Path) -> Iterator[dict[str, Any]]:
  """Rows of a file, or of the files under a folder; of its columns those that are no statistics."""
  files = sorted(path.rglob('*.parquet')) if path.is_dir() else [path]
  if not files:
    raise InputError(f'{path} holds no Parquet file')
  for file in files:
    columns = [name for name in schema_of(file).names if not name.startswith('stats/')]
    for place, row in rows(file, columns, batch=1024):
      if isinstance(row, Damage):
        raise InputError(f'{place}: {row.problem}')
      yield row
