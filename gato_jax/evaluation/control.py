"""Plays one task of the mixture with trained weights."""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import pathlib

import ml_collections

from data_pipelines.datasets.catalogue import Request
from data_pipelines.datasets.sources import open_source
from data_pipelines.environments.registry import has_expert, task_spec
from data_pipelines.environments.specs import Environment
from data_pipelines.sequences.tokenizer import SequenceTokenizer
from gato_jax.acting.decoding import Engine
from gato_jax.acting.engine import engine_of
from gato_jax.acting.policy import Policy
from gato_jax.acting.prompts import demonstrations
from gato_jax.evaluation.rollouts import Rollouts, environment_maker, group_sizes, play
from gato_jax.evaluation.tasks import request_named
from gato_jax.evaluation.videos import frame_interval, write_gif
from gato_jax.training.restore import load_trained

load = functools.lru_cache(maxsize=1)(load_trained)  # a process plays many tasks with the same weights


def play_task(
    workdir: str, step: int, config: ml_collections.ConfigDict, name: str, video: pathlib.Path | None = None
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
  request = request_named(config, name)
  trained = load(workdir, step)
  policies = make_policies(engine_of(trained.model), trained.tokenizer, config, request)
  rollouts = play_policies(policies, config, request, config.evaluation.seed, bool(video))
  if rollouts.frames:
    write_gif(rollouts.frames, video)
  return dataclasses.replace(rollouts, frames=())


def make_policies(
    engine: Engine, tokenizer: SequenceTokenizer, config: ml_collections.ConfigDict, request: Request
) -> list[Policy]:
  """Two, one for each half of the environments; they see what the task's entry in the mixture showed in training."""
  entry = config.data.mixture[request.entry]
  return [
      Policy(
          engine, tokenizer, task_spec(request.task_name), batch_size=batch_size,
          sequence_length=config.data.sequence_length, patches_per_row=config.data.patches_per_row,
          window_timesteps=entry.window_timesteps, hide_actions=entry.hide_actions, acting=config.acting)
      for batch_size in group_sizes(min(config.evaluation.environments, config.evaluation.episodes))]


def play_policies(
    policies: Sequence[Policy], config: ml_collections.ConfigDict, request: Request, seed: int, frames: bool = False
) -> Rollouts:
  """Plays `evaluation.episodes` episodes of a task, on seeds from `seed` on, with pictures of the first if asked."""
  settings, spec = config.evaluation, task_spec(request.task_name)
  return play(
      policies, spec.name, _maker(request, config), range(seed, seed + settings.episodes), _prompts(config, request),
      workers=settings.environment_workers, frame_every=frame_interval(spec.max_steps) if frames else 0)


def _maker(request: Request, config: ml_collections.ConfigDict) -> Callable[[], Environment]:
  """Makes the task's environment; of an imported dataset, with the actions that its data have."""
  bounds = None if request.played else open_source(request, config.data.dir, 'train').action_bounds
  return environment_maker(request.task_name, config.data.environments, bounds)


def _prompts(config: ml_collections.ConfigDict, request: Request):
  if not config.acting.prompt or request.played and not has_expert(request.task_name):
    return None
  return demonstrations(open_source(request, config.data.dir, 'train'), config.evaluation.episodes)
