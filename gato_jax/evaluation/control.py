"""Plays one task of the mixture with trained weights."""

from collections.abc import Callable
import dataclasses
import functools
import pathlib

import ml_collections

from data_pipelines.datasets.catalogue import Request, requests
from data_pipelines.datasets.sources import open_source
from data_pipelines.environments.action_bounds import Bounds, RescaledActions
from data_pipelines.environments.registry import has_expert, make, register, task_spec
from data_pipelines.environments.specs import Environment, TaskSpec
from gato_jax.acting.engine import engine_of
from gato_jax.acting.policy import Policy
from gato_jax.acting.prompts import demonstrations
from gato_jax.evaluation.rollouts import Rollouts, play
from gato_jax.evaluation.videos import frame_interval, write_gif
from gato_jax.training.restore import Trained, load_trained

load = functools.lru_cache(maxsize=1)(load_trained)  # a process plays many tasks with the same weights


def play_task(
    workdir: str, step: int, config: ml_collections.ConfigDict, name: str, video: pathlib.Path | None
) -> Rollouts:
  """Plays `evaluation.episodes` episodes of a task, on seeds from `evaluation.seed` on.

  Args:
    workdir: of the training run.
    step: which of its checkpoints.
    config: sections data, acting and evaluation are read.
    name: of the task, as the mixture has it.
    video: where to write a GIF of the first episode; None: nowhere.

  Returns:
    What was played. Its frames stay here; `video` is not written where the task cannot be drawn.
  """
  settings = config.evaluation
  request = next(request for request in requests(config.data) if request.name == name)
  spec = task_spec(request.task_name)
  environments = min(settings.environments, settings.episodes)
  # The groups do not depend on the workers: a sum may round differently in a batch of another size.
  batch_size, groups = (environments + 1) // 2, min(2, environments)
  policies = [make_policy(load(workdir, step), config, request, batch_size) for _ in range(groups)]
  seeds = range(settings.seed, settings.seed + settings.episodes)
  rollouts = play(
      policies, spec.name, _maker(request, config), seeds, _prompts(config, request),
      workers=settings.environment_workers, frame_every=frame_interval(spec.max_steps) if video else 0)
  if rollouts.frames:
    write_gif(rollouts.frames, video)
  return dataclasses.replace(rollouts, frames=())


def make_policy(trained: Trained, config: ml_collections.ConfigDict, request: Request, batch_size: int) -> Policy:
  """A policy that sees at play what the task's entry in the mixture made it see in training."""
  entry = config.data.mixture[request.entry]
  task = task_spec(request.task_name)
  return Policy(
      engine_of(trained.model), trained.tokenizer, task, batch_size=batch_size,
      sequence_length=config.data.sequence_length, patches_per_row=config.data.patches_per_row,
      window_timesteps=entry.window_timesteps, hide_actions=entry.hide_actions, acting=config.acting)


def cost(spec: TaskSpec) -> float:
  """Tokens of a longest episode, about: what the time to play it goes by."""
  observation = sum(item.size // 256 if item.kind == 'image' else item.size for item in spec.observation.values())
  return spec.max_steps * (observation + 1 + spec.action.size)


def _maker(request: Request, config: ml_collections.ConfigDict) -> Callable[[], Environment]:
  """Makes the task's environment; of an imported dataset, with the actions that its data have."""
  bounds = None if request.played else open_source(request, config.data.dir, 'train').action_bounds
  return functools.partial(_make, request.task_name, tuple(config.data.environments), bounds)


def _make(task_name: str, modules: tuple[str, ...], bounds: Bounds | None) -> Environment:
  register(modules)  # this may be a process of its own
  environment = make(task_name)
  return environment if bounds is None else RescaledActions(environment, bounds)


def _prompts(config: ml_collections.ConfigDict, request: Request):
  if not config.acting.prompt or request.played and not has_expert(request.task_name):
    return None
  return demonstrations(open_source(request, config.data.dir, 'train'), config.evaluation.episodes)
