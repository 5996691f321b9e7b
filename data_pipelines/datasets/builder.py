"""What all TFDS builders here share: made for one `Request`, ArrayRecord, records in the order they were made."""

import abc
from collections.abc import Callable, Iterable, Iterator, Mapping
import itertools
import os
from typing import Any, Protocol

import tensorflow_datasets as tfds

from data_pipelines.datasets.catalogue import Request
from data_pipelines.datasets.files import fingerprint
from data_pipelines.datasets.splits import hash_share, held_out_limit
from data_pipelines.errors import InputError

Example = Mapping[str, Any]
_HOPELESS = 1000  # bad examples, if they are more than the good ones


class Skip(Protocol):
  """Takes note of bad examples; see `RequestBuilder.skip`."""

  def __call__(self, problem: str, examples: int = 1) -> None: ...


class RequestBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Builds the dataset of one request at `request.directory(data_dir)`.

  A subclass names `DESCRIPTION`, and gives the features and the examples of each split. What a reader should know
  without decoding records goes to `self.info.metadata`, which TFDS writes to metadata.json.
  """

  DESCRIPTION = ''

  def __init__(self, request: Request, data_dir: str, progress: Callable[[], None], skip_share: float = 0.0):
    """`progress` is called after each example; at most `skip_share` of a dataset's examples may be bad."""
    self.name = request.dataset  # TFDS would take the folder's, which several datasets may share
    self.request = request
    self.dropped: list[str] = []  # a line for everything that was left out, and why
    self._progress = progress
    self._skip_share = skip_share
    self._kept = 0
    self._skipped = 0
    self._last_problem = ''
    config = tfds.core.BuilderConfig(name=request.config_name, version=request.type.version)
    super().__init__(data_dir=data_dir, config=config, file_format='array_record')

  @abc.abstractmethod
  def features(self) -> Mapping[str, Any]:
    """The features of an example."""

  def skip(self, problem: str, examples: int = 1) -> None:
    """Leaves a bad example, or several, out and counts them; `problem` names them and what is wrong with them.

    Whether they are too many is known when all are read, as bad ones often come together; but of very many the build
    does not wait for the end.

    Raises:
      InputError: there is no hope for the rest.
    """
    self.dropped.append(problem)
    self._last_problem = problem
    self._skipped += examples
    if self._skipped > _HOPELESS and self._skipped > self._kept:
      self._check_skipped()

  def leave_out(self, what: str) -> None:
    """Says what is left out though it is not bad. What is said again, as when files are read again, counts once."""
    if what not in self.dropped:
      self.dropped.append(what)

  def _check_skipped(self) -> None:
    """Raises InputError where so many examples were bad that the rest cannot be trusted."""
    if self._skipped > self._skip_share * (self._kept + self._skipped):
      raise InputError(
          f'{self.request.name}: {self._skipped} of {self._kept + self._skipped} examples are bad; last, '
          f'{self._last_problem}. Mend them, or raise data.skip_share (it is {self._skip_share:g})')

  @abc.abstractmethod
  def examples(self) -> Mapping[str, Iterable[Example]]:
    """Split -> its examples. No split may be empty."""

  def records(self, example: Example) -> Iterable[Example]:
    """What is written of an example: it alone, unless a subclass says otherwise."""
    return (example,)

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
        builder=self,
        description=self.DESCRIPTION,
        features=tfds.features.FeaturesDict(self.features()),
        metadata=tfds.core.MetadataDict(),
        disable_shuffling=True,
    )

  def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, Example]]]:
    del dl_manager
    if os.path.isdir(self.request.path):
      self.info.metadata['fingerprint'] = fingerprint(self.request.path)
    splits = self.examples()
    last = list(splits)[-1]
    return {split: self._generate_examples(examples, split == last) for split, examples in splits.items()}

  def _generate_examples(self, examples: Iterable[Example], last: bool) -> Iterator[tuple[int, Example]]:
    keys = itertools.count()
    for example in examples:
      for record in self.records(example):
        yield next(keys), record
      self._kept += 1
      self._progress()
    if last:
      self._check_skipped()
    self.info.metadata['dropped'] = self.dropped


class SplitBuilder(RequestBuilder, skip_registration=True):
  """A dataset of which some is held out, by a hash of its content. Its files are read anew for each split.

  So nothing has to be kept in memory, however large they are.
  """

  HELD_OUT_SHARE = 0.02
  COUNTED = ''  # a list in every example, whose lengths go to metadata[COUNTED][split]

  @abc.abstractmethod
  def items(self, skip: Skip) -> Iterator[tuple[bytes, Any]]:
    """What examples are made of, in a fixed order, each after the content that decides its split.

    Args:
      skip: is told what cannot be read, and of how many examples.
    """

  @abc.abstractmethod
  def example(self, item: Any) -> Example:
    """The example of an item; raises InputError if the item is bad."""

  def examples(self) -> Mapping[str, Iterable[Example]]:
    try:
      limit = held_out_limit((content for content, _ in self.items(self._remember)), self.HELD_OUT_SHARE)
    except InputError as error:
      bad = f'; of what could not be read, last, {self._last_problem}' if self._last_problem else ''
      raise InputError(f'{self.request.name}: {error}{bad}') from error
    return {'train': self._split('train', limit), 'heldout': self._split('heldout', limit)}

  def _remember(self, problem: str, examples: int = 1) -> None:
    """Skips, as another pass counts."""
    self._last_problem = problem

  def _split(self, split: str, limit: float) -> Iterator[Example]:
    held_out = split == 'heldout'
    counts = []
    # Each pass meets the same bad items; they count once.
    for content, item in self.items(self._remember if held_out else self.skip):
      if (hash_share(content) < limit) != held_out:
        continue
      try:
        example = self.example(item)
      except InputError as error:
        self.skip(str(error))
        continue
      counts.append(len(example[self.COUNTED]) if self.COUNTED else 1)
      yield example
      if len(counts) == self.request.episodes:
        break
    if not counts:
      raise InputError(f'{self.request.name}: all examples of the {split} split are bad; last, '
                       f'{self._last_problem}')
    if self.COUNTED:
      self.info.metadata.setdefault(self.COUNTED, {})[split] = counts


class TextBuilder(SplitBuilder, skip_registration=True):
  """A dataset of documents."""

  def features(self) -> Mapping[str, Any]:
    return {'text': tfds.features.Text()}

  @abc.abstractmethod
  def documents(self, skip: Skip) -> Iterable[str]:
    """The documents in a fixed order; `skip` as in `items`."""

  def items(self, skip: Skip) -> Iterator[tuple[bytes, str]]:
    for document in self.documents(skip):
      yield document.encode(), document

  def example(self, item: str) -> Example:
    return {'text': item}
