"""Which tasks of a mixture are played, as what, and by which scores they are measured."""

from collections.abc import Mapping

import ml_collections

from data_pipelines.datasets.catalogue import Request, requests
from data_pipelines.environments.reference_scores import ReferenceScores, reference_scores
from data_pipelines.environments.registry import task_spec
from data_pipelines.environments.specs import TaskSpec
from data_pipelines.errors import InputError
from gato_jax.evaluation.scores import normalised_score


def as_trained(config: ml_collections.ConfigDict, trained: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The run's config with the caller's tasks, place of the data, acting and evaluation.

  What a task's entry shows of the past and of its own actions stays what training showed, if training had the entry.
  """
  result = trained.copy_and_resolve_references()
  with result.unlocked():
    result.acting, result.evaluation = config.acting, config.evaluation
    result.data.dir, result.data.environments = config.data.dir, config.data.environments
    result.data.mixture = config.data.mixture.copy_and_resolve_references()
  for name, entry in result.data.mixture.items():
    if name in trained.data.mixture:
      seen = trained.data.mixture[name]
      entry.update(window_timesteps=seen.window_timesteps, hide_actions=seen.hide_actions)
  return result


def request_named(config: ml_collections.ConfigDict, name: str) -> Request:
  """What the mixture asks for by this name."""
  return next(request for request in requests(config.data) if request.name == name)


def playable(config: ml_collections.ConfigDict) -> dict[str, Request]:
  """The control tasks that can be played, by their names in the mixture."""
  return {request.name: request for request in requests(config.data)
          if request.type.kind == 'control' and request.task_name}


def without_simulator(config: ml_collections.ConfigDict) -> list[str]:
  """The imported datasets that name no environment."""
  return [request.name for request in requests(config.data) if request.type.kind == 'control' and not request.task_name]


def task_specs(played: Mapping[str, Request]) -> dict[str, TaskSpec]:
  return {name: task_spec(request.task_name) for name, request in played.items()}


def references(specs: Mapping[str, TaskSpec]) -> dict[str, ReferenceScores]:
  """The tasks' reference scores; raises InputError where they leave no scale."""
  result = {name: reference_scores(spec.name) for name, spec in specs.items()}
  for name, reference in result.items():
    try:
      normalised_score(0.0, reference.random, reference.expert)
    except InputError as error:
      raise InputError(f'{name}: {error}') from error
  return result


def one_a_domain(specs: Mapping[str, TaskSpec]) -> dict[str, str]:
  """Domain -> its first task."""
  first: dict[str, str] = {}
  for name, spec in specs.items():
    first.setdefault(spec.domain, name)
  return first
