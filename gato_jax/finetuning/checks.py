"""What a fine-tuning study asks for, looked at before anything is trained."""

from collections.abc import Sequence
from typing import NamedTuple

import ml_collections

from data_pipelines.datasets.catalogue import Request, requests, weighted_entries
from data_pipelines.datasets.sources import open_source
from data_pipelines.errors import InputError
from gato_jax.config import changed_keys
from gato_jax.evaluation.rollouts import check_seed
from gato_jax.evaluation.tasks import references, task_specs
from gato_jax.named_runs import named_runs
from gato_jax.training.checkpoint_reading import parameter_reader
from gato_jax.training.compatibility import config_of
from gato_jax.training.restore import tokenizer_of

# Of section model: what may be another in fine-tuning.
FREE_KEYS = ('stochastic_depth', 'dropout', 'remat', 'attention', 'dtype')


class Source(NamedTuple):
  """Weights to start from: a run's, at its newest step; or random ones, without workdir and step.

  Attributes:
    name: of the line of the plot.
    entry: of the mixture, whose tasks alone start from them; empty: all tasks do.
    tasks: that the run was trained on, as the registry of environments names them.
    saved: when its checkpoint was saved, seconds since the epoch.
  """

  name: str
  workdir: str = ''
  step: int = 0
  tasks: frozenset[str] = frozenset()
  saved: float = 0.0
  entry: str = ''

  @property
  def flag(self) -> str:
    """What asked for it."""
    return f'--from={self.name}{"@" if self.entry else ""}{self.entry}={self.workdir}'


def open_sources(texts: Sequence[str], config: ml_collections.ConfigDict) -> list[Source]:
  """Reads what `--from` says: `NAME=WORKDIR`, `NAME`, or `NAME@ENTRY=WORKDIR` for each entry of the mixture.

  Raises:
    InputError: none, a name twice, an entry that the mixture has not, a run without a checkpoint, or one of another
      model or vocabulary; no tokenizer for random weights.
  """
  if config.training.init_from:
    raise InputError('training.init_from is set; of a study, --from=NAME=WORKDIR says what runs start from')
  named, entries, sources = named_runs('--from', texts, of_study=True), weighted_entries(config.data.mixture), []
  for line, workdir in named.items():
    name, of_entry, entry = line.partition('@')
    if of_entry and name in named:
      raise InputError(f'--from={name} says what all tasks start from, and --from={line} says it again: give {name} '
                       'either once, or once for each entry')
    if of_entry and entry not in entries:
      raise InputError(f'--from={line}: data.mixture has no entry {entry!r} to train on; it has {", ".join(entries)}')
    sources.append(_open_source(name, entry, workdir, config) if workdir else _random_weights(name, config))
  return sources


def check_study(config: ml_collections.ConfigDict, sources: Sequence[Source]) -> dict[str, list[Source]]:
  """Returns the weights that each control task of the mixture starts from, by its name, one a line of the plot.

  Raises:
    InputError: tasks that cannot be played, that a line has no weights for, that these were trained on, or of which
      too few episodes are built; settings that leave nothing to do.
  """
  settings = config.finetuning
  check_seed(config.evaluation.seed)
  if min(settings.episodes, default=0) < 1 or settings.repetitions < 1 or settings.smoothing < 1:
    raise InputError('finetuning.episodes, repetitions and smoothing must be at least 1')
  if not 0 < settings.evaluate_every <= config.training.steps:
    raise InputError(f'finetuning.evaluate_every is {settings.evaluate_every}; it must be from 1 to training.steps, '
                     f'{config.training.steps}')
  asked, started = requests(config.data), {}
  for request in asked:
    if not request.task_name:
      raise InputError(f'data.mixture.{request.entry}: {request.name} cannot be played; a study needs tasks that can')
    started[request.name] = _sources_of(request, sources)
    _check_unseen(request, started[request.name])
    _check_episodes(request, config)
  references(task_specs({request.name: request for request in asked}))  # raises where there is no scale
  return started


def _open_source(name: str, entry: str, workdir: str, config: ml_collections.ConfigDict) -> Source:
  with parameter_reader(workdir) as reader:
    step, saved, trained = reader.step, reader.run['goodput']['at'], config_of(reader.run)
  source = Source(name, workdir, step, frozenset(request.task_name for request in requests(trained.data)), saved, entry)
  for section, old, new in (('model', trained.model, config.model),
                            ('data.vocabulary', trained.data.vocabulary, config.data.vocabulary)):
    old, new = ({key: value for key, value in keys.to_dict().items() if key not in FREE_KEYS} for keys in (old, new))
    if changes := changed_keys(old, new, f'{section}.'):
      raise InputError(f'{source.flag} is of another model than the config (trained -> config): '
                       f'{"; ".join(changes)}. Set these keys to what it was trained with')
  return source


def _random_weights(name: str, config: ml_collections.ConfigDict) -> Source:
  tokenizer_of(config)  # raises where `prepare` has not made it
  return Source(name)


def _sources_of(request: Request, sources: Sequence[Source]) -> list[Source]:
  result = {source.name: source for source in sources if source.entry in ('', request.entry)}
  for source in sources:
    if source.name not in result:
      raise InputError(f'--from={source.name}@... has no weights for {request.name}: give also '
                       f'--from={source.name}@{request.entry}=WORKDIR')
  return list(result.values())


def _check_unseen(request: Request, sources: Sequence[Source]) -> None:
  for source in sources:
    if request.task_name in source.tasks:
      raise InputError(f'{request.task_name} is no held-out task: {source.flag} was trained on it. '
                       'Take it out of data.mixture; to go on training on it, use `gato-jax train` with '
                       '--config.training.init_from')


def _check_episodes(request: Request, config: ml_collections.ConfigDict) -> None:
  settings, built = config.finetuning, len(open_source(request, config.data.dir, 'train'))
  usable = min(built, settings.best_episodes or built)
  if max(settings.episodes) > usable:
    raise InputError(f'finetuning.episodes asks for {max(settings.episodes)}, but of {request.name} {built} are built '
                     f'and the best {usable} are drawn from: raise data.mixture.{request.entry}.episodes and '
                     'finetuning.best_episodes, or ask for fewer')
