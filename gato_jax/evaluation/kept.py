"""Results of a checkpoint, a file a task: what an evaluation that was interrupted had finished is not played again."""

from collections.abc import Mapping
import dataclasses
import importlib.metadata
import json
import pathlib
import shutil
from typing import Any, NamedTuple

import ml_collections

from data_pipelines.datasets.catalogue import Request, requests
from gato_jax.atomic import write_atomically
from gato_jax.config import changed_keys

_PLAYED_BY = ('seed', 'episodes', 'environments')  # keys of the section evaluation
_ASKED_BY = ('seed', 'examples', 'text_characters')
_SHOWN_BY = ('window_timesteps', 'hide_actions')  # keys of a mixture's entry


class Checkpoint(NamedTuple):
  """What is evaluated.

  Attributes:
    workdir: of the training run.
    step: which of its checkpoints.
    saved: when it was saved, which tells it from the same step of another run into the workdir.
    config: what it is evaluated with, see `gato_jax.evaluation.tasks.as_trained`.
  """

  workdir: str
  step: int
  saved: float
  config: ml_collections.ConfigDict


@dataclasses.dataclass(frozen=True)
class KeptResults:
  """The results below a folder. A result is there for whoever asks with the same key: all that determines it.

  Attributes:
    folder: of the checkpoint.
  """

  folder: pathlib.Path

  def read(self, name: str, key: Mapping[str, Any], video: bool = False) -> dict[str, Any] | None:
    """The result; None where there is none, it has another key, or it has no video and one is wanted."""
    kept = self._read(name)
    return kept['result'] if kept and kept['key'] == _json(key) and (kept['video'] or not video) else None

  def differences(self, name: str, key: Mapping[str, Any]) -> list[str]:
    """`key: old -> new` for what tells the kept result from the one that is asked for."""
    kept = self._read(name)
    return changed_keys(kept['key'], _json(key)) if kept else []

  def write(self, name: str, key: Mapping[str, Any], result: Mapping[str, Any], video: bool = False) -> None:
    """Keeps a result, in place of an older one of the name."""
    path = self._path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({'key': key, 'video': video, 'result': result}, indent=1) + '\n')

  def clear(self) -> None:
    """Forgets all results."""
    shutil.rmtree(self.folder, ignore_errors=True)

  def _path(self, name: str) -> pathlib.Path:
    return self.folder / 'results' / f'{name}.json'

  def _read(self, name: str) -> dict[str, Any] | None:
    try:
      kept = json.loads(self._path(name).read_text(encoding='utf-8'))
      return {field: kept[field] for field in ('key', 'video', 'result')}
    except (OSError, ValueError, KeyError, TypeError):  # none, or one that was damaged: it is made anew
      return None


def task_key(checkpoint: Checkpoint, request: Request) -> dict[str, Any]:
  """All that a task's scores follow from, for JSON."""
  entry = checkpoint.config.data.mixture[request.entry]
  return {**_common(checkpoint, _PLAYED_BY), 'request': dataclasses.asdict(request),
          'acting': checkpoint.config.acting.to_dict(), 'entry': {name: entry[name] for name in _SHOWN_BY}}


def language_key(checkpoint: Checkpoint) -> dict[str, Any]:
  """The same for the scores of pictures and text."""
  asked = [request for request in requests(checkpoint.config.data) if request.type.kind != 'control']
  return {**_common(checkpoint, _ASKED_BY),
          'requests': {request.name: dataclasses.asdict(request) for request in asked}}


def _common(checkpoint: Checkpoint, settings: tuple[str, ...]) -> dict[str, Any]:
  evaluation = checkpoint.config.evaluation
  return {
      'checkpoint': {'step': checkpoint.step, 'saved': checkpoint.saved},
      'evaluation': {name: evaluation[name] for name in settings},
      'accelerator': not evaluation.workers,  # rounds otherwise than a CPU core
      'data_dir': checkpoint.config.data.dir,
      'versions': {name: importlib.metadata.version(name) for name in ('gato_jax', 'jax')},
  }


def _json(key: Mapping[str, Any]) -> dict[str, Any]:
  """As it is read back: tuples are lists there."""
  return json.loads(json.dumps(key))
