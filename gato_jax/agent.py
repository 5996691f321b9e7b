"""A trained model as evaluators use it: `gato_jax.load`, a policy for any environment, captions, answers, text."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import copy
import functools
import math
import pathlib
import threading
from typing import Any

import numpy as np

from data_pipelines.datasets.episodes import ControlEpisode
from data_pipelines.environments.action_bounds import rescaled
from data_pipelines.environments.dm_env_spaces import as_space, is_dm_env
from data_pipelines.environments.gymnasium_spaces import ActionSpace, ObservationSpace
from data_pipelines.environments.simulation import check_action, check_observation
from data_pipelines.environments.specs import TaskSpec
from data_pipelines.errors import InputError
from data_pipelines.sequences.tokenizer import SequenceTokenizer
from data_pipelines.tokenization.images import PATCH_SIZE
from gato_jax.acting.decoding import Engine
from gato_jax.acting.generation import Generator, Sampling
from gato_jax.acting.policy import Policy
from gato_jax.export.config import FILE as CONFIG
from gato_jax.export.tasks import KnownTask, demonstrations_of, known_tasks, read_prompts, read_tasks

Prompt = ControlEpisode | Sequence[tuple[Any, Any]]
_PROMPTS = 10  # of a known task, that episodes take in turns


def load(path: str, step: int | None = None) -> 'Agent':
  """The agent of an exported folder, or of a training workdir.

  Args:
    path: the folder.
    step: of a workdir's checkpoint; None: the newest readable one.

  Raises:
    InputError: there is no model, or it is damaged.
  """
  # Not at the top: `export.runner` makes agents where none of this is installed.
  from gato_jax.acting.engine import make_engine
  from gato_jax.export.loading import load_export
  from gato_jax.training.restore import load_trained

  def agent(trained, tasks, read):
    return Agent(make_engine(trained.model), trained.tokenizer, trained.config, tasks, read, trained.step)

  folder = pathlib.Path(path)
  if (folder / CONFIG).is_file():
    return agent(load_export(folder), read_tasks(folder), functools.partial(read_prompts, folder))
  if not folder.is_dir():
    raise InputError(f'{path} is no folder; name an exported one or the workdir of a training run')
  trained = load_trained(path, step)
  tasks, _ = known_tasks(trained.config)
  return agent(trained, tasks, lambda name, task, count: demonstrations_of(trained.config, name, count))


class Agent:
  """One model. Safe to use from several threads.

  Attributes:
    tasks: the control tasks it was trained on, by name.
    step: of the training it comes from.
  """

  def __init__(self, engine: Engine, tokenizer: SequenceTokenizer, config: Any, tasks: Mapping[str, KnownTask],
               read_prompts: Callable[[str, KnownTask, int], list[ControlEpisode]], step: int):
    self.tasks = tasks
    self.step = step
    self._engine = engine
    self._tokenizer = tokenizer
    self._config = config
    self._read_prompts = read_prompts
    self._generators: dict[Sampling, Generator] = {}
    self._lock = threading.Lock()

  def policy(self, observation_space: Any = None, action_space: Any = None, prompt: Prompt | None = None, *,
             task: str = '', batch_size: int = 1, seed: int = 0, temperature: float | None = None) -> 'AgentPolicy':
    """A policy for an environment, one that training has seen or another.

    Args:
      observation_space: gymnasium's, or dm_env's observation spec; may be left out for a known `task`.
      action_space: likewise; actions come back as it has them, without it in [-1, 1] of what the task was trained on.
      prompt: a demonstration to start each episode with: an episode, or (observation, action) pairs as the spaces have
        them. A known task has prompts of its own, which are the default; `()` for none.
      task: the name of the known task that this is, see `tasks`: it is then played as training showed it.
      batch_size: B, episodes played at once.
      seed: of the sampling, of the first episode.
      temperature: of the sampling, 0 is greedy; None: as the config has it.

    Raises:
      InputError: a space has no tokens, the task is not known, or the spaces are not the task's.
    """
    known = self._known(task) if task else None
    if known is None and (observation_space is None or action_space is None):
      raise InputError('a policy needs observation_space and action_space, or the name of a known task: '
                       + ', '.join(self.tasks))
    spaces = _Spaces(known, observation_space, action_space)
    policy = self._policy(spaces.task, known, batch_size, temperature)
    if prompt is not None:
      prompts = [spaces.episode(prompt)] if len(_steps(prompt)) else []
    else:
      prompts = self._prompts(task, known, _PROMPTS)
    return AgentPolicy(policy, spaces, prompts, seed)

  def rows(self, task: str, spec: TaskSpec | None, batch_size: int, prompts: int = _PROMPTS
          ) -> tuple[Callable[[], Policy], TaskSpec, list[ControlEpisode]]:
    """For servers and evaluation, who deal in observations and actions, not in an environment's own values.

    Args:
      task: a known task, or empty.
      spec: of another one.
      batch_size: B, rows of a policy.
      prompts: demonstrations at most.

    Returns:
      what makes a policy, or raises InputError where the task cannot be tokens; the task's spec; and demonstrations to
      start its episodes with.

    Raises:
      InputError: the task is not known, or there is neither task nor spec.
    """
    known = self._known(task) if task else None
    spec = known.spec if known else spec
    if spec is None:
      raise InputError('name a known task, or give the spec of another one')
    return functools.partial(self._policy, spec, known, batch_size, None), spec, self._prompts(task, known, prompts)

  @property
  def picture_side(self) -> int:
    """Pixels a side of the largest square picture that a row of the model has room for, at most 224."""
    return min(224, PATCH_SIZE * math.isqrt(self._config.data.patches_per_row))

  def caption(self, image: np.ndarray, seed: int = 0, **sampling: Any) -> str:
    """Of a uint8 [height, width, 3] picture; `sampling` as in `Sampling`."""
    return self._generator(sampling).caption([_picture(image)], seed)[0]

  def answer(self, image: np.ndarray, question: str, seed: int = 0, **sampling: Any) -> str:
    """To a question about a picture."""
    return self._generator(sampling).answer([_picture(image)], [question], seed)[0]

  def complete(self, text: str, seed: int = 0, **sampling: Any) -> str:
    """What the text goes on with."""
    return self._generator(sampling).complete([text], seed)[0]

  def stream(self, text: str, seed: int = 0, **sampling: Any) -> Iterator[str]:
    """What `complete` gives, piece by piece as it is written."""
    return self._generator(sampling).stream(text, seed)

  def _policy(self, spec: TaskSpec, known: KnownTask | None, batch_size: int, temperature: float | None) -> Policy:
    config, acting = self._config, copy.deepcopy(self._config.acting)
    if temperature is not None:
      acting.temperature = temperature
    return Policy(
        self._engine, self._tokenizer, spec, batch_size=batch_size,
        sequence_length=config.data.sequence_length, patches_per_row=config.data.patches_per_row,
        window_timesteps=known.window_timesteps if known else 0, hide_actions=known.hide_actions if known else 0.0,
        acting=acting)

  def _prompts(self, task: str, known: KnownTask | None, count: int) -> list[ControlEpisode]:
    if known is None or not known.prompts or not self._config.acting.prompt:
      return []
    return self._read_prompts(task, known, min(count, known.prompts))

  def _known(self, task: str) -> KnownTask:
    if task not in self.tasks:
      raise InputError(f'task {task!r} was not trained on; there are {", ".join(self.tasks) or "none"}. Give the '
                       'spaces of an environment of your own, and no name')
    return self.tasks[task]

  def _generator(self, sampling: Mapping[str, Any]) -> Generator:
    settings = Sampling(**sampling)
    with self._lock:
      if settings not in self._generators:
        self._generators[settings] = Generator(
            self._engine, self._tokenizer, sequence_length=self._config.data.sequence_length, batch_size=1,
            sampling=settings)
      return self._generators[settings]


class AgentPolicy:
  """Plays B episodes of one task at once. Its methods wait for each other.

  Attributes:
    batch_size: B.
  """

  def __init__(self, policy: Policy, spaces: '_Spaces', prompts: Sequence[ControlEpisode], seed: int):
    self.batch_size = policy.batch_size
    self._policy = policy
    self._spaces = spaces
    self._prompts = prompts
    self._lock = threading.Lock()
    for row in range(self.batch_size):
      self.reset(seed + row, row)

  def reset(self, seed: int = 0, row: int = 0) -> None:
    """Starts an episode in a row, while the others go on; it begins with the prompt `row` modulo their number.

    Args:
      seed: of the sampling.
      row: in [0, B).
    """
    prompt = self._prompts[row % len(self._prompts)] if self._prompts else None
    with self._lock:
      self._policy.start(row, seed, prompt)

  def act(self, observation: Any) -> Any:
    """The action to take, as the action space has it.

    Args:
      observation: one, as the observation space has it. With B above 1 a list of them, None where an episode has ended;
        so are then the actions.

    Raises:
      InputError: an observation does not fit its space, or there is not one for each row.
    """
    rows = [observation] if self.batch_size == 1 else list(observation)
    if len(rows) != self.batch_size:
      raise InputError(f'{len(rows)} observations for the {self.batch_size} rows of this policy; give one for each, '
                       'None where an episode has ended')
    observations = [None if row is None else self._spaces.observation(row) for row in rows]
    with self._lock:
      chosen = self._policy.act(observations)
    actions = [None if row is None else self._spaces.action(action) for row, action in zip(rows, chosen, strict=True)]
    return actions[0] if self.batch_size == 1 else actions


class _Spaces:
  """Between an environment's values and the tokens' ones.

  Args:
    known: the task, if it is known.
    observation_space: may be None for a known task: its values are then observations already.
    action_space: likewise.
  """

  def __init__(self, known: KnownTask | None, observation_space: Any, action_space: Any):
    self._observation = None if observation_space is None else ObservationSpace(_space(observation_space))
    self._action = None if action_space is None else ActionSpace(_space(action_space))
    if known is None:
      assert self._observation is not None and self._action is not None
      known = KnownTask(TaskSpec('your/task', 'your', self._observation.specs, self._action.spec, max_steps=1))
    self.task = known.spec
    self._recorded = known.action_bounds
    if self._observation is not None:
      self._require('observation', self._named(self._observation.specs), self.task.observation)
    if self._action is not None:
      self._require('action', self._action.spec, self.task.action)

  def observation(self, value: Any) -> Any:
    """The observation that a value of the space is; raises InputError where it is none."""
    observation = value if self._observation is None else self._named(self._observation.from_space(value))
    check_observation(self.task, observation)
    return observation

  def _named(self, observation: Mapping[str, Any]) -> Mapping[str, Any]:
    """With the task's key where there is but one: what it is called is no matter."""
    if len(observation) == len(self.task.observation) == 1:
      return dict(zip(self.task.observation, observation.values(), strict=True))
    return observation

  def _require(self, what: str, own: Any, want: Any) -> None:
    if own != want:
      raise InputError(f'{self.task.name}: the {what} space is {own}, training had {want}; leave out `task`, or give '
                       'the environment that it was trained with')

  def action(self, action: np.ndarray) -> Any:
    if self._action is None:
      return action
    if self._recorded:
      action = rescaled(action, self._recorded, (self._action.low, self._action.high))
    return self._action.to_space(action)

  def _from_space(self, action: Any) -> np.ndarray:
    if self._action is None:
      return action
    own = self._action.from_space(action)
    return rescaled(own, (self._action.low, self._action.high), self._recorded) if self._recorded else own

  def episode(self, prompt: Prompt) -> ControlEpisode:
    """The prompt as an episode; raises InputError where an observation or an action of it does not fit."""
    if isinstance(prompt, ControlEpisode):
      return prompt
    observations = [self.observation(observation) for observation, _ in prompt]
    actions = np.stack([check_action(self.task, self._from_space(action)) for _, action in prompt])
    items = {key: [row[key] for row in observations] for key in self.task.observation}
    columns = {key: values if self.task.observation[key].kind == 'text' else np.stack(values)
               for key, values in items.items()}
    return ControlEpisode(columns, actions, actions, np.zeros(len(actions), np.float32), 0.0, True)


def _space(space: Any) -> Any:
  return as_space(space) if is_dm_env(space) else space


def _steps(prompt: Prompt) -> Sequence[Any] | np.ndarray:
  return prompt.action if isinstance(prompt, ControlEpisode) else prompt


def _picture(image: Any) -> np.ndarray:
  array = np.asarray(image)
  if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] != 3:
    raise InputError(f'a picture is uint8 [height, width, 3]; this is {array.dtype} {list(array.shape)}')
  return array
