"""The layouts in which questions about pictures are kept."""

import collections
from collections.abc import Iterator, Mapping, Sequence
import pathlib
from typing import Any

from data_pipelines.datasets.builder import Skip
from data_pipelines.datasets.captioned import PictureFinder
from data_pipelines.datasets.files import json_lines, read_json
from data_pipelines.errors import InputError

Pair = Mapping[str, str]  # question and answer


def vqa_lists(paths: Sequence[pathlib.Path], finder: PictureFinder, skip: Skip) -> Iterator[tuple[pathlib.Path, Pair]]:
  """Pictures with a question and its answer, from JSON in the layout of VQAv2; a picture comes once a question.

  Args:
    paths: files with `questions` (`question_id`, `image_id`, `question`) and with `annotations` (`question_id`, and
      `multiple_choice_answer` or `answers` of several people, the commonest of which is taken), in any order.
    finder: of the pictures.
    skip: is told of questions without an answer or a picture.

  Raises:
    InputError: a file is not JSON, or holds neither.
  """
  answers: dict[Any, str] = {}
  questions: list[tuple[pathlib.Path, Mapping[str, Any]]] = []
  for path in paths:
    content = read_json(path)
    try:
      if 'annotations' in content:
        answers |= {entry['question_id']: _answer(entry) for entry in content['annotations']}
      else:
        questions += [(path, entry) for entry in content['questions']]
    except (KeyError, TypeError, IndexError) as error:
      raise InputError(f'{path}: no questions or annotations in the layout of VQAv2 ({error!r}); move it out of the '
                       'folder') from error
  for path, entry in questions:
    try:
      yield finder.numbered(int(entry['image_id'])), _pair(entry['question'], answers[entry['question_id']])
    except (KeyError, TypeError, ValueError) as error:  # InputError is a ValueError
      skip(f'{path}, {entry!r:.200}: {_reason(error)}')


def question_lines(path: pathlib.Path, finder: PictureFinder, skip: Skip) -> Iterator[tuple[pathlib.Path, Pair]]:
  """Pictures with a question and its answer from lines of JSON; other lines are skipped."""
  for place, line in json_lines(path, skip):
    try:
      yield finder.named(str(line['image'])), _pair(line['question'], line['answer'])
    except (KeyError, InputError) as error:
      skip(f'{place}: {_reason(error)}')


def _answer(annotation: Mapping[str, Any]) -> str:
  if 'multiple_choice_answer' in annotation:
    return annotation['multiple_choice_answer']
  return collections.Counter(answer['answer'] for answer in annotation['answers']).most_common(1)[0][0]


def _pair(question: Any, answer: Any) -> Pair:
  for name, text in (('question', question), ('answer', answer)):
    if not isinstance(text, str) or not text.strip():
      raise InputError(f'{name} is {text!r}, not a text')
  return {'question': question.strip(), 'answer': answer.strip()}


def _reason(error: Exception) -> str:
  return f'there is no {error}' if isinstance(error, KeyError) else str(error)
