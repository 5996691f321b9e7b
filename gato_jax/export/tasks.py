"""The control tasks that a model was trained on, as whoever plays them needs to know them."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from data_pipelines.datasets.episodes import ControlEpisode
from data_pipelines.environments.specs import TaskSpec
from data_pipelines.errors import InputError
from data_pipelines.sequences.tokenizer import SequenceTokenizer
from gato_jax.acting.prompts import demonstrations, prompt_steps
from gato_jax.export.weights import read_json

FILE = 'tasks.json'
PROMPTS = 'prompts.safetensors'
_TEXTS = 'texts'  # in the metadata of PROMPTS: JSON of what has no dtype there


@dataclasses.dataclass(frozen=True)
class KnownTask:
  """A task of the mixture.

  Attributes:
    spec: its observations and its action, in [-1, 1] if it is continuous.
    window_timesteps: longest window in training, 0: as long as the row.
    hide_actions: share of training's windows that hid the actions.
    action_bounds: what -1 and 1 stood for where actions were recorded, (low [A], high [A]); None: the simulator's own.
    random: score of a random policy; None where it is not known.
    expert: score of the expert.
    prompts: how many demonstrations there are to start an episode with.
  """

  spec: TaskSpec
  window_timesteps: int = 0
  hide_actions: float = 0.0
  action_bounds: tuple[tuple[float, ...], tuple[float, ...]] | None = None
  random: float | None = None
  expert: float | None = None
  prompts: int = 0

  def to_json(self) -> dict[str, Any]:
    return {**dataclasses.asdict(self), 'spec': self.spec.to_json()}

  @classmethod
  def from_json(cls, fields: Mapping[str, Any]) -> 'KnownTask':
    bounds = fields['action_bounds']
    return cls(**{**fields, 'spec': TaskSpec.from_json(fields['spec']),
                  'action_bounds': bounds and tuple(tuple(side) for side in bounds)})


def known_tasks(config: Any) -> tuple[dict[str, KnownTask], list[str]]:
  """The tasks of a config by their names in its mixture, and the names of those whose dataset is needed but not there.

  Reads `config.data`; a task without a simulator is known from its dataset only.
  """
  # TFDS is slow to import, and an export that is only read needs none of it.
  from data_pipelines.datasets.catalogue import requests
  from data_pipelines.datasets.sources import open_source
  from data_pipelines.environments.registry import task_spec

  tasks, missing = {}, []
  for request in requests(config.data):
    if request.type.kind != 'control':
      continue
    entry = config.data.mixture[request.entry]
    settings = {'window_timesteps': entry.window_timesteps, 'hide_actions': float(entry.hide_actions)}
    try:
      source = open_source(request, config.data.dir, 'train')
    except (OSError, ValueError, InputError):
      source = None
    if source is None and not request.task_name:
      missing.append(request.name)
      continue
    bounds = None if source is None else source.action_bounds
    tasks[request.name] = KnownTask(
        task_spec(request.task_name) if request.task_name else source.task, **settings, **_scores(request.task_name),
        action_bounds=bounds and tuple(tuple(map(float, side)) for side in bounds),
        prompts=0 if source is None else len(source.demonstrations()))
  return tasks, missing


def demonstrations_of(config: Any, name: str, count: int) -> list[ControlEpisode]:
  """The first demonstrations of a task of the mixture, from its dataset."""
  from data_pipelines.datasets.sources import open_source
  from gato_jax.evaluation.tasks import request_named

  return demonstrations(open_source(request_named(config, name), config.data.dir, 'train'), count)


def write_tasks(folder: pathlib.Path, tasks: Mapping[str, KnownTask]) -> None:
  """Writes `FILE`."""
  (folder / FILE).write_text(json.dumps({name: task.to_json() for name, task in tasks.items()}, indent=1))


def read_tasks(folder: pathlib.Path) -> dict[str, KnownTask]:
  """Reads what `write_tasks` wrote; InputError if it is not that."""
  content = read_json(folder / FILE)
  try:
    return {str(name): KnownTask.from_json(fields) for name, fields in content.items()}
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise InputError(f'{folder / FILE} describes no tasks ({error!r}); export again') from error


def shortened(tokenizer: SequenceTokenizer, task: TaskSpec, episode: ControlEpisode, tokens: int, patches: int,
              place: str) -> ControlEpisode:
  """As many of an episode's timesteps as fit into so many tokens and patches: all that a prompt can show of it."""
  first, runs = prompt_steps(tokenizer, task, episode, tokens, patches, place)
  kept = slice(first, first + len(runs))
  return ControlEpisode(
      {key: values[kept] for key, values in episode.observation.items()}, episode.action[kept],
      episode.expert_action[kept], episode.reward[kept], episode.episode_return, episode.success)


def write_prompts(folder: pathlib.Path, prompts: Iterator[tuple[str, Sequence[ControlEpisode]]]) -> int:
  """Writes the demonstrations of all tasks to `PROMPTS`; returns its bytes."""
  tensors, texts = {}, {}
  for name, episodes in prompts:
    for number, episode in enumerate(episodes):
      for key, values in _columns(episode).items():
        place = f'{name}/{number}/{key}'
        if isinstance(values, list):
          texts[place] = values
        else:
          tensors[place] = np.array(values, order='C')
  path = folder / PROMPTS
  save_file(tensors, path, metadata={_TEXTS: json.dumps(texts)})
  return path.stat().st_size


def read_prompts(folder: pathlib.Path, name: str, task: KnownTask, count: int) -> list[ControlEpisode]:
  """The first demonstrations of a task; none of the others is read. InputError where they are not there."""
  path = folder / PROMPTS
  try:
    with safe_open(path, framework='numpy') as file:
      texts = json.loads((file.metadata() or {}).get(_TEXTS, '{}'))
      return [_episode(file, texts, f'{name}/{number}', task.spec) for number in range(min(count, task.prompts))]
  except (AttributeError, KeyError, OSError, SafetensorError, TypeError, ValueError) as error:
    raise InputError(f'{path} has no demonstrations of {name} ({error}); export again') from error


def _columns(episode: ControlEpisode) -> dict[str, Any]:
  observation = {f'observation/{key}': values if isinstance(values, list) else np.asarray(values[:])
                 for key, values in episode.observation.items()}
  return {**observation, 'action': episode.action, 'expert_action': episode.expert_action, 'reward': episode.reward,
          'episode_return': np.float32(episode.episode_return), 'success': np.bool_(episode.success)}


def _episode(file: Any, texts: Mapping[str, list[str]], place: str, spec: TaskSpec) -> ControlEpisode:
  observation = {
      key: list(map(str, texts[f'{place}/observation/{key}'])) if item.kind == 'text'
      else file.get_tensor(f'{place}/observation/{key}') for key, item in spec.observation.items()}
  others = {key: file.get_tensor(f'{place}/{key}') for key in ('action', 'expert_action', 'reward')}
  return ControlEpisode(
      observation, **others, episode_return=float(file.get_tensor(f'{place}/episode_return')),
      success=bool(file.get_tensor(f'{place}/success')))


def _scores(task_name: str) -> dict[str, float]:
  from data_pipelines.environments.reference_scores import reference_scores

  try:
    scores = reference_scores(task_name) if task_name else None
  except InputError:
    return {}
  return {'random': scores.random, 'expert': scores.expert} if scores else {}
