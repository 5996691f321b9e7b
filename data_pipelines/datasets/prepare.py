"""Makes the datasets of a mixture, their text tokenizer and their indexes, once; opens what was made."""

from collections.abc import Iterator, Sequence
import dataclasses
import hashlib
import itertools
import os
from typing import Any, Literal

from data_pipelines.datasets.beam import build_on_beam
from data_pipelines.datasets.building import build_all
from data_pipelines.datasets.catalogue import Request, requests
from data_pipelines.datasets.sources import RecordSource, defect, open_source
from data_pipelines.datasets.staging import fetch, local_path, push
from data_pipelines.environments.registry import has_expert
from data_pipelines.errors import InputError
from data_pipelines.sequences.index import make_indexes
from data_pipelines.sequences.tokenizer import SequenceTokenizer
from data_pipelines.tokenization.text import TextTokenizer, train_text_tokenizer
from data_pipelines.tokenization.vocabulary import Vocabulary

_SAMPLE_CHARACTERS = 8_000_000  # of text to learn subwords from; every dataset gets an equal share


def prepare(data_config: Any, *, workers: int, beam_runner: str = '', beam_options: str = '') -> None:
  """Builds the mixture's datasets that are missing, half-written or out of date, then the tokenizer and the indexes.

  What is there is left as it is, so that a run that was stopped goes on where it was. The result depends on
  `data_config` alone, not on who builds it.

  Args:
    data_config: the config's section `data`; `seed` decides the demonstrations.
    workers: processes to build with.
    beam_runner: if given, datasets are built on Apache Beam instead, by this runner.
    beam_options: the runner's own, as on a command line.

  Raises:
    InputError: a bad mixture, an expert that keeps failing, a file that cannot be read, a package that is missing.
  """
  asked = requests(data_config)
  _require_experts(asked)
  # Entries that differ in what is read of the data alone share a directory, which one worker builds.
  wanted = list({request.directory(data_config.dir): request for request in asked}.values())
  problems = {request: defect(request, data_config.dir) for request in wanted}
  missing = [request for request in wanted if problems[request]]
  print(f'{len(wanted) - len(missing)} of {len(wanted)} datasets are there already in {data_config.dir}')
  for request in missing:
    if os.path.isdir(local_path(request.directory(data_config.dir))):
      print(f'{request.name}: building again, as {problems[request]}')
  if beam_runner and missing:
    build_on_beam(missing, data_config.dir, data_config.skip_share, beam_runner, beam_options)
  else:
    build_all(missing, data_config.dir, workers, data_config.skip_share)
  sources = open_sources(data_config, 'train')
  path = _tokenizer_path(data_config)
  if missing or not os.path.exists(fetch(path)):
    print(f'learning {data_config.vocabulary.text_size} subwords')
    _train_tokenizer(sources, data_config.vocabulary.text_size, local_path(path))
    push(path)
  make_indexes(sources, open_tokenizer(data_config), workers)
  for request in wanted:
    push(request.directory(data_config.dir), only_new=True)


def _require_experts(wanted: Sequence[Request]) -> None:
  """Raises InputError where demonstrations are asked for of a task that can only be evaluated."""
  for request in wanted:
    if request.played and not has_expert(request.task_name):
      raise InputError(f'data.mixture.{request.entry}.tasks: {request.task_name} has no expert to make demonstrations '
                       'of; it can be evaluated, but not prepared: leave it out')


def open_sources(data_config: Any, split: Literal['train', 'heldout']) -> list[RecordSource]:
  """One source a task or dataset, in the mixture's order. Control tasks have no held-out split: they are played.

  Raises:
    InputError: a dataset is missing, half-written or out of date.
  """
  wanted = [request for request in requests(data_config) if split == 'train' or request.type.kind != 'control']
  return [open_source(request, data_config.dir, split) for request in wanted]


def open_tokenizer(data_config: Any) -> SequenceTokenizer:
  """The tokenizer of a mixture's datasets; raises InputError where `prepare` has not made it."""
  text_tokenizer = TextTokenizer.load(fetch(_tokenizer_path(data_config)))
  layout = {field.name: getattr(data_config.vocabulary, field.name) for field in dataclasses.fields(Vocabulary)}
  return SequenceTokenizer(Vocabulary(**layout), text_tokenizer, data_config.mask_question)


def _tokenizer_path(data_config: Any) -> str:
  """Where the model for these texts and this size lies."""
  key = [str(data_config.vocabulary.text_size), *(request.directory('') for request in requests(data_config))]
  digest = hashlib.sha256('\n'.join(key).encode()).hexdigest()[:12]
  return os.path.join(data_config.dir, 'tokenizers', f'{digest}.model')


def _train_tokenizer(sources: Sequence[RecordSource], size: int, path: str) -> None:
  each = _SAMPLE_CHARACTERS // len(sources)
  names = (source.name for source in sources)  # so that there is something to learn from, whatever the mixture
  tokenizer = train_text_tokenizer(itertools.chain(names, *(_sample(source, each) for source in sources)), size)
  os.makedirs(os.path.dirname(path), exist_ok=True)
  tokenizer.save(f'{path}.incomplete')
  os.replace(f'{path}.incomplete', path)


def _sample(source: RecordSource, characters: int) -> Iterator[str]:
  """The first texts of a source, up to so many characters."""
  for text in source.texts():
    yield text[:characters]
    characters -= len(text)
    if characters <= 0:
      return
