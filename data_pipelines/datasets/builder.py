"""What all TFDS builders here share: made for one `Request`, ArrayRecord, records in the order they were made."""

import abc
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data_pipelines.datasets.catalogue import Request
from data_pipelines.datasets.splits import hash_share
from data_pipelines.errors import InputError

Example = Mapping[str, Any]
_SKIPS_BEFORE_SHARE = 20  # bad examples before the share of them is looked at, but for the end of a split


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
    config = tfds.core.BuilderConfig(name=request.config_name, version=request.type.version)
    super().__init__(data_dir=data_dir, config=config, file_format='array_record')

  @abc.abstractmethod
  def features(self) -> Mapping[str, Any]:
    """The features of an example."""

  def skip(self, problem: str) -> None:
    """Leaves a bad example out and counts it; `problem` names the example and what is wrong with it.

    Raises:
      InputError: so many were bad that the rest cannot be trusted.
    """
    self.dropped.append(problem)
    self._skipped += 1
    if self._skipped > _SKIPS_BEFORE_SHARE:
      self._check_skipped()

  def _check_skipped(self) -> None:
    if self._skipped > self._skip_share * (self._kept + self._skipped):
      raise InputError(
          f'{self.request.name}: {self._skipped} of {self._kept + self._skipped} examples are bad; last, '
          f'{self.dropped[-1]}. Mend them, or raise data.skip_share (it is {self._skip_share:g})')

  @abc.abstractmethod
  def examples(self) -> Mapping[str, Iterable[Example]]:
    """Split -> its examples. No split may be empty."""

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
    return {split: self._generate_examples(examples) for split, examples in self.examples().items()}

  def _generate_examples(self, examples: Iterable[Example]) -> Iterator[tuple[int, Example]]:
    for key, example in enumerate(examples):
      yield key, example
      self._kept += 1
      self._progress()
    self._check_skipped()
    self.info.metadata['dropped'] = self.dropped


class TextBuilder(RequestBuilder, skip_registration=True):
  """A dataset of documents."""

  HELD_OUT_SHARE = 0.02

  def features(self) -> Mapping[str, Any]:
    return {'text': tfds.features.Text()}

  @abc.abstractmethod
  def documents(self) -> Iterable[str]:
    """The documents in a fixed order."""

  def examples(self) -> Mapping[str, Iterable[Example]]:
    documents = list(self.documents())
    if len(documents) < 2:
      raise InputError(f'{self.request.name}: {len(documents)} documents; it takes two, as one is held out')
    shares = [hash_share(document.encode()) for document in documents]
    # However few there are, one is held out.
    limit = max(self.HELD_OUT_SHARE, np.nextafter(min(shares), 1))
    splits: dict[str, list[Example]] = {'train': [], 'heldout': []}
    for document, share in zip(documents, shares, strict=True):
      split = splits['heldout' if share < limit else 'train']
      if not self.request.episodes or len(split) < self.request.episodes:
        split.append({'text': document})
    return splits
