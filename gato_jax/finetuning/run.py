"""One run of a fine-tuning study: trains on a few episodes of a task and plays it as training goes on (appendix E)."""

import contextlib
import json
import os
import pathlib
import shutil
from typing import Any, NamedTuple

import jax
import ml_collections

from gato_jax.acting.engine import make_engine
from gato_jax.acting.policy import Policy
from gato_jax.atomic import write_atomically
from gato_jax.config import without_readers
from gato_jax.evaluation.control import make_policies, play_policies
from gato_jax.evaluation.tasks import request_named
from gato_jax.training.checkpoint_place import FOLDER as CHECKPOINTS_FOLDER
from gato_jax.training.loop import Evaluation, train
from gato_jax.training.restore import tokenizer_of
from gato_jax.training.state import define_model

RESULT_FILE = 'result.json'
COMPILATIONS_FOLDER = 'compilations'


class Point(NamedTuple):
  """What tells a run from the study's others.

  Attributes:
    task: a control task's name in the mixture.
    source: name of the weights that it starts from.
    workdir: the run that they are of; empty: they are random.
    step: of its checkpoint.
    episodes: to train on.
    repetition: which draw of them, and which seed.
    saved: when the checkpoint was saved, which tells it from the same step of another run into the workdir.
  """

  task: str
  source: str
  workdir: str
  step: int
  episodes: int
  repetition: int
  saved: float = 0.0

  @property
  def folder(self) -> str:
    return os.path.join(self.task, self.source, f'{self.episodes}-{self.repetition}')


def run_config(config: ml_collections.ConfigDict, point: Point) -> ml_collections.ConfigDict:
  """The config of a run. A model that has but one task to do needs no prompt to know which."""
  request = request_named(config, point.task)
  entry = config.data.mixture[request.entry].copy_and_resolve_references()
  entry.update(tasks=(request.task,) if entry.tasks else (), task_weights=(), subset=point.episodes,
               subset_of_best=config.finetuning.best_episodes, subset_seed=point.repetition)
  result = config.copy_and_resolve_references()
  with result.unlocked():
    result.data.mixture = ml_collections.ConfigDict({request.entry: entry})
  result.seed = config.seed + point.repetition
  result.data.prompt.share = 0.0
  result.acting.prompt = False
  result.training.update(init_from=point.workdir, checkpoint_every=result.training.steps, checkpoint_dir='')
  return result


def fine_tune(config: ml_collections.ConfigDict, point: Point, study: str) -> dict[str, Any]:
  """Trains, and plays every `finetuning.evaluate_every` steps; what a run that was killed has left is removed.

  Args:
    config: of the whole study.
    point: which run.
    study: its folder; the run gets one below it, with its metrics, its log and its result.

  Returns:
    `settings`, see `settings_of`, and `evaluations`: `step` and `scores`, one an episode.

  Raises:
    InputError: what `train` finds wrong, or a simulator that keeps failing.
  """
  folder = pathlib.Path(study) / point.folder
  shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir(parents=True)
  if not jax.config.jax_compilation_cache_dir:  # the runs of a study differ in numbers, hardly in programs
    jax.config.update('jax_compilation_cache_dir', str(pathlib.Path(study, COMPILATIONS_FOLDER).resolve()))
  settings = run_config(config, point)
  tokenizer = tokenizer_of(settings if point.workdir else config)
  player = Player(settings, point.task, tokenizer)
  with open(folder / 'log.txt', 'w') as log, contextlib.redirect_stdout(log):
    train(settings, str(folder), evaluation=Evaluation(config.finetuning.evaluate_every, player.play),
          tokenizer=tokenizer)
  shutil.rmtree(folder / CHECKPOINTS_FOLDER)  # a study has many runs, and of each only the curve is asked for
  result = {'settings': settings_of(config, point), 'evaluations': player.evaluations}
  write_atomically(folder / RESULT_FILE, json.dumps(result, indent=1))
  return result


def finished(config: ml_collections.ConfigDict, point: Point, study: str) -> dict[str, Any] | None:
  """The result of a run that was made before with the same settings, or None."""
  path = pathlib.Path(study) / point.folder / RESULT_FILE
  result = json.loads(path.read_text()) if path.exists() else None
  same = result and without_readers(result['settings']) == settings_of(config, point)  # older results have all of data
  return result if same else None


def settings_of(config: ml_collections.ConfigDict, point: Point) -> dict[str, Any]:
  """All that a run's scores depend on, as JSON gives it back."""
  settings = without_readers(run_config(config, point).to_dict())
  sections = {name: settings[name] for name in ('seed', 'data', 'model', 'training', 'acting', 'evaluation')}
  source = {'step': point.step, 'saved': point.saved}
  return json.loads(json.dumps({**sections, 'evaluate_every': config.finetuning.evaluate_every, 'source': source}))


class Player:
  """Plays with the weights that training has at the time; each evaluation has seeds of its own.

  Attributes:
    evaluations: what `fine_tune` returns of them.
  """

  def __init__(self, config: ml_collections.ConfigDict, task: str, tokenizer):
    self._config, self._tokenizer = config, tokenizer
    self._request = request_named(config, task)
    self._definition = define_model(config.model, tokenizer.vocabulary)
    self._policies: list[Policy] = []
    self.evaluations: list[dict[str, Any]] = []

  def play(self, step: int, parameters: Any) -> None:
    """Plays `evaluation.episodes` episodes with these parameters, on one device."""
    device = jax.local_devices()[0]
    model = self._definition.build(jax.device_put(parameters, device))
    engine = make_engine(model)
    if not self._policies:
      self._engine = engine
      self._policies = make_policies(engine, self._tokenizer, self._config, self._request)
    self._engine.state = engine.state  # the same programs with other numbers
    settings = self._config.evaluation
    seed = settings.seed + len(self.evaluations) * settings.episodes
    rollouts = play_policies(self._policies, self._config, self._request, seed)
    self.evaluations.append({'step': step, 'scores': list(rollouts.scores)})
    print(f'step {step}: scores {rollouts.scores}', flush=True)
