"""Scores one checkpoint: plays its tasks and asks its questions, in worker processes, but for what is kept already."""

from collections.abc import Callable, Mapping
import dataclasses
import pathlib
from typing import Any, NamedTuple

from rich.console import Console

from data_pipelines.datasets.catalogue import Request
from data_pipelines.environments.reference_scores import ReferenceScores, human_scores
from data_pipelines.environments.specs import TaskSpec
from gato_jax.evaluation import control
from gato_jax.evaluation.jobs import Job, run_jobs
from gato_jax.evaluation.kept import Checkpoint, KeptResults, language_key, task_key
from gato_jax.evaluation.language import LanguageScores, score_language
from gato_jax.evaluation.rollouts import Rollouts, cost
from gato_jax.evaluation.scores import TaskScore, task_score

LANGUAGE = 'pictures and text'
LANGUAGE_COST = 20_000  # tokens, as a task's cost
SHOWN = 8  # names of a list of them


class Scores(NamedTuple):
  """What one checkpoint can do.

  Attributes:
    tasks: in the mixture's order.
    language: pictures and text.
    crashes: of simulators, by task, where there were any; their episodes were played again.
    reused: names of what an earlier evaluation had finished.
  """

  tasks: dict[str, TaskScore]
  language: LanguageScores
  crashes: dict[str, int]
  reused: list[str]


class _Piece(NamedTuple):
  """One result: how it is made, what it follows from, and how it is read from JSON and written as it."""

  job: Job
  key: dict[str, Any]
  video: bool
  read: Callable[[dict[str, Any]], Any]


def score_checkpoint(
    checkpoint: Checkpoint,
    played: Mapping[str, Request],
    specs: Mapping[str, TaskSpec],
    references: Mapping[str, ReferenceScores],
    kept: KeptResults,
    videos: Mapping[str, pathlib.Path],
    console: Console,
) -> Scores:
  """Scores it, with a line for each task that ends; each result is kept as soon as it is there.

  Args:
    checkpoint: which one.
    played: the tasks, by their names in the mixture.
    specs: theirs.
    references: their reference scores, which the kept results do not depend on.
    kept: results of this checkpoint.
    videos: where to draw the first episode of a task.
    console: for the lines.
  """
  pieces = _pieces(checkpoint, played, specs, videos)
  results = _reuse(pieces, kept, console)
  reused = list(results)
  jobs = [piece.job for name, piece in pieces.items() if name not in results]
  for number, done in enumerate(run_jobs(jobs, checkpoint.config.evaluation.workers), start=1):
    piece = pieces[done.name]
    kept.write(done.name, piece.key, dataclasses.asdict(done.result), piece.video)
    results[done.name] = done.result
    line = done.name if done.name == LANGUAGE else _task_line(
        done.name, done.result, _task_score(specs[done.name], references[done.name], done.result))
    console.print(f'[{number}/{len(jobs)}] {line}, {done.seconds:.0f} s', markup=False, highlight=False)
  return Scores(
      {name: _task_score(spec, references[name], results[name]) for name, spec in specs.items()}, results[LANGUAGE],
      {name: results[name].crashes for name in specs if results[name].crashes}, reused)


def _pieces(checkpoint: Checkpoint, played: Mapping[str, Request], specs: Mapping[str, TaskSpec],
            videos: Mapping[str, pathlib.Path]) -> dict[str, _Piece]:
  workdir, step, _, config = checkpoint
  pieces = {
      name: _Piece(Job(name, cost(specs[name]), control.play_task,
                       (workdir, step, config, name, videos.get(name))),
                   task_key(checkpoint, request), name in videos, Rollouts.from_json)
      for name, request in played.items()}
  job = Job(LANGUAGE, LANGUAGE_COST, _score_language, (workdir, step, config))
  return {**pieces, LANGUAGE: _Piece(job, language_key(checkpoint), False, lambda fields: LanguageScores(**fields))}


def _score_language(workdir: str, step: int, config) -> LanguageScores:
  return score_language(control.load(workdir, step), config)


def _reuse(pieces: Mapping[str, _Piece], kept: KeptResults, console: Console) -> dict[str, Any]:
  """What is kept already, and says so; also what is kept and of no use."""
  found = {name: kept.read(name, piece.key, piece.video) for name, piece in pieces.items()}
  results = {name: pieces[name].read(fields) for name, fields in found.items() if fields is not None}
  if results:
    console.print(f'{len(results)} of {len(pieces)} were finished by an earlier evaluation of this checkpoint and are '
                  f'not played again (--again plays all): {_listed(results)}', markup=False, highlight=False)
  stale = {name: changes for name, piece in pieces.items()
           if name not in results and (changes := kept.differences(name, piece.key))}
  if stale:
    first = next(iter(stale))
    console.print(f'{len(stale)} were evaluated before, but otherwise, and are evaluated anew; {first}: '
                  f'{"; ".join(stale[first])}', markup=False, highlight=False)
  return results


def _task_score(spec: TaskSpec, reference: ReferenceScores, rollouts: Rollouts) -> TaskScore:
  return task_score(spec.domain, rollouts.scores, reference.random, reference.expert, human_scores(spec.name))


def _task_line(name: str, rollouts: Rollouts, score: TaskScore) -> str:
  crashes = f', {rollouts.crashes} simulator crashes played again' if rollouts.crashes else ''
  return f'{name}: {score.score:.2f}, normalised {score.normalised:.1f}{crashes}'


def _listed(names: Mapping[str, Any]) -> str:
  more = f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''
  return ', '.join(list(names)[:SHOWN]) + more
