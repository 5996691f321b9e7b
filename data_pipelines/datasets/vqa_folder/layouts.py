"""The layouts in which questions about pictures are kept."""

import collections
from collections.abc import Iterable, Iterator, Mapping, Sequence
import pathlib
from typing import Any

from data_pipelines.datasets.builder import Skip
from data_pipelines.datasets.captioned import BAD_ENTRY, PictureFinder, reason, stripped
from data_pipelines.datasets.files import json_lines, read_json
from data_pipelines.errors import InputError

Pair = Mapping[str, str]  # question and answer


def vqa_lists(paths: Sequence[pathlib.Path], finder: PictureFinder, skip: Skip) -> Iterator[tuple[pathlib.Path, Pair]]:
  """Pictures with a question and its answer, from JSON in the layout of VQAv2; a picture comes once a question.

  Args:
    paths: files with `questions` (`question_id`, `image_id`, `question`) and with `annotations` (`question_id`, and
      `multiple_choice_answer` or `answers` of several people, the commonest of which is taken), in any order.
    finder: of the pictures.
    skip: is told of annotations without a question's id, and of questions without an answer or a picture.

  Raises:
    InputError: a file is not JSON, or holds neither.
  """
  annotations: dict[Any, Mapping[str, Any]] = {}
  questions: list[tuple[pathlib.Path, Mapping[str, Any]]] = []
  for path in paths:
    content = read_json(path)
    try:
      if 'annotations' in content:
        annotations |= _by_question(path, content['annotations'], skip)
      else:
        questions += [(path, entry) for entry in content['questions']]
    except (KeyError, TypeError) as error:
      raise InputError(f'{path}: no questions or annotations in the layout of VQAv2 ({error!r}); move it out of the '
                       'folder') from error
  for path, entry in questions:
    try:
      pair = _pair(entry['question'], _answer(annotations[entry['question_id']]))
      yield finder.numbered(int(entry['image_id'])), pair
    except BAD_ENTRY as error:
      skip(f'{path}, {entry!r:.200}: {reason(error)}')


def question_lines(path: pathlib.Path, finder: PictureFinder, skip: Skip) -> Iterator[tuple[pathlib.Path, Pair]]:
  """Pictures with a question and its answer from lines of JSON; other lines are skipped."""
  for place, line in json_lines(path, skip):
    try:
      yield finder.named(str(line['image'])), _pair(line['question'], line['answer'])
    except (KeyError, InputError) as error:
      skip(f'{place}: {reason(error)}')


def _by_question(path: pathlib.Path, annotations: Iterable[Any], skip: Skip) -> dict[Any, Mapping[str, Any]]:
  found = {}
  for annotation in annotations:
    try:
      found[annotation['question_id']] = annotation
    except BAD_ENTRY as error:
      skip(f'{path}, {annotation!r:.200}: {reason(error)}')
  return found


def _answer(annotation: Mapping[str, Any]) -> Any:
  if 'multiple_choice_answer' in annotation:
    return annotation['multiple_choice_answer']
  counts = collections.Counter(answer['answer'] for answer in annotation['answers'])
  if not counts:
    raise InputError('its annotation has no answers')
  return counts.most_common(1)[0][0]


def _pair(question: Any, answer: Any) -> Pair:
  return {'question': stripped('question', question), 'answer': stripped('answer', answer)}
