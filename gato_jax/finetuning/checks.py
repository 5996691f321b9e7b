"""What a fine-tuning study asks for, looked at before anything is trained."""

from collections.abc import Sequence
from typing import NamedTuple

import ml_collections

from data_pipelines.datasets.catalogue import Request, requests
from data_pipelines.datasets.sources import open_source
from data_pipelines.errors import InputError
from gato_jax.config import changed_keys
from gato_jax.evaluation.control import check_seed
from gato_jax.evaluation.tasks import references, task_specs
from gato_jax.named_runs import named_runs
from gato_jax.training.checkpoint import parameter_reader
from gato_jax.training.compatibility import config_of
from gato_jax.training.restore import tokenizer_of

# Of section model: what may be another in fine-tuning.
FREE_KEYS = ('stochastic_depth', 'dropout', 'remat', 'attention', 'dtype')


class Source(NamedTuple):
  """Weights to start from: a run's, at its newest step; or random ones, without workdir and step.

  Attributes:
    tasks: that the run was trained on, as the registry of environments names them.
    saved: when its checkpoint was saved, seconds since the epoch.
  """

  name: str
  workdir: str = ''
  step: int = 0
  tasks: frozenset[str] = frozenset()
  saved: float = 0.0


def open_sources(texts: Sequence[str], config: ml_collections.ConfigDict) -> list[Source]:
  """Reads what `--from` says: `NAME=WORKDIR` or `NAME`.

  Raises:
    InputError: none, a name twice, a run without a checkpoint, or one of another model or vocabulary; no tokenizer for
      random weights.
  """
  if config.training.init_from:
    raise InputError('training.init_from is set; of a study, --from=NAME=WORKDIR says what runs start from')
  named = named_runs('--from', texts, name_alone=True)
  return [_open_source(name, workdir, config) if workdir else _random_weights(name, config)
          for name, workdir in named.items()]


def check_study(config: ml_collections.ConfigDict, sources: Sequence[Source]) -> list[str]:
  """Returns the names of the control tasks in the mixture.

  Raises:
    InputError: tasks that cannot be played, that a source was trained on, or of which too few episodes are built;
      settings that leave nothing to do.
  """
  settings = config.finetuning
  check_seed(config)
  if min(settings.episodes, default=0) < 1 or settings.repetitions < 1 or settings.smoothing < 1:
    raise InputError('finetuning.episodes, repetitions and smoothing must be at least 1')
  if not 0 < settings.evaluate_every <= config.training.steps:
    raise InputError(f'finetuning.evaluate_every is {settings.evaluate_every}; it must be from 1 to training.steps, '
                     f'{config.training.steps}')
  asked = requests(config.data)
  for request in asked:
    if not request.task_name:
      raise InputError(f'data.mixture.{request.entry}: {request.name} cannot be played; a study needs tasks that can')
    _check_unseen(request, sources)
    _check_episodes(request, config)
  references(task_specs({request.name: request for request in asked}))  # raises where there is no scale
  return [request.name for request in asked]


def _open_source(name: str, workdir: str, config: ml_collections.ConfigDict) -> Source:
  with parameter_reader(workdir) as reader:
    step, saved, trained = reader.step, reader.run['goodput']['at'], config_of(reader.run)
  for section, old, new in (('model', trained.model, config.model),
                            ('data.vocabulary', trained.data.vocabulary, config.data.vocabulary)):
    old, new = ({key: value for key, value in keys.to_dict().items() if key not in FREE_KEYS} for keys in (old, new))
    if changes := changed_keys(old, new, f'{section}.'):
      raise InputError(f'--from={name}={workdir} is of another model than the config (trained -> config): '
                       f'{"; ".join(changes)}. Set these keys to what it was trained with')
  tasks = frozenset(request.task_name for request in requests(trained.data))
  return Source(name, workdir, step, tasks, saved)


def _random_weights(name: str, config: ml_collections.ConfigDict) -> Source:
  tokenizer_of(config)  # raises where `prepare` has not made it
  return Source(name)


def _check_unseen(request: Request, sources: Sequence[Source]) -> None:
  for source in sources:
    if request.task_name in source.tasks:
      raise InputError(f'{request.task_name} is no held-out task: --from={source.name}={source.workdir} was trained on '
                       'it. Take it out of data.mixture; to go on training on it, use `gato-jax train` with '
                       '--config.training.init_from')


def _check_episodes(request: Request, config: ml_collections.ConfigDict) -> None:
  settings, built = config.finetuning, len(open_source(request, config.data.dir, 'train'))
  usable = min(built, settings.best_episodes or built)
  if max(settings.episodes) > usable:
    raise InputError(f'finetuning.episodes asks for {max(settings.episodes)}, but of {request.name} {built} are built '
                     f'and the best {usable} are drawn from: raise data.mixture.{request.entry}.episodes and '
                     'finetuning.best_episodes, or ask for fewer')
