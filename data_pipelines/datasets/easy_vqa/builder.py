"""Questions about pictures of coloured shapes: the easy-vqa package's own pictures, questions and splits.

A record is a picture with all its questions, so that a picture is kept once.
"""

from collections.abc import Iterable, Iterator, Mapping
import itertools
import pathlib
from typing import Any

import easy_vqa
import tensorflow_datasets as tfds

from data_pipelines.datasets.builder import Example, RequestBuilder


class Builder(RequestBuilder, skip_registration=True):
  DESCRIPTION = __doc__

  def features(self) -> Mapping[str, Any]:
    question = {'question': tfds.features.Text(), 'answer': tfds.features.Text()}
    image = tfds.features.Image(shape=(64, 64, 3), encoding_format='png')
    return {'image': image, 'questions': tfds.features.Sequence(question)}

  def examples(self) -> Mapping[str, Iterable[Example]]:
    return {
        'train': self._pictures('train', easy_vqa.get_train_questions(), easy_vqa.get_train_image_paths()),
        'heldout': self._pictures('heldout', easy_vqa.get_test_questions(), easy_vqa.get_test_image_paths()),
    }

  def _pictures(self, split: str, questions: tuple[list, list, list], paths: Mapping[int, str]) -> Iterator[Example]:
    rows = sorted(zip(questions[2], questions[0], questions[1], strict=True), key=lambda row: row[0])
    counts = []
    for image_id, group in itertools.groupby(rows[: self.request.episodes or None], key=lambda row: row[0]):
      pairs = [{'question': question, 'answer': answer} for _, question, answer in group]
      counts.append(len(pairs))
      yield {'image': pathlib.Path(paths[image_id]).read_bytes(), 'questions': pairs}
    self.info.metadata.setdefault('questions', {})[split] = counts
