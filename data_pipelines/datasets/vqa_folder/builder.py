"""A folder of the user's own pictures with questions and answers, in either of two layouts.

JSON in the layout of VQAv2 and OKVQA: a file of questions and one of annotations, next to pictures whose names end in
their ids. Or .jsonl, a question a line: {"image": FILE, "question": ..., "answer": ...}.
"""

from collections.abc import Iterator
import pathlib

from data_pipelines.datasets.builder import Skip
from data_pipelines.datasets.captioned import (
    PICTURE_SUFFIXES,
    PictureFinder,
    PictureItem,
    QuestionBuilder,
    read_picture,
)
from data_pipelines.datasets.files import find_files
from data_pipelines.datasets.vqa_folder.layouts import Pair, question_lines, vqa_lists


class Builder(QuestionBuilder, skip_registration=True):
  DESCRIPTION = __doc__

  def pictures(self, skip: Skip) -> Iterator[PictureItem]:
    folder = self.request.path
    files = find_files(folder, (*PICTURE_SUFFIXES, '.json', '.jsonl', '.jsonl.gz'))
    finder = PictureFinder(folder, files)
    asked: dict[pathlib.Path, list[Pair]] = {}
    for picture, pair in vqa_lists([path for path in files if path.suffix.lower() == '.json'], finder, skip):
      asked.setdefault(picture, []).append(pair)
    for path in files:
      if path.name.lower().endswith(('.jsonl', '.jsonl.gz')):
        for picture, pair in question_lines(path, finder, skip):
          asked.setdefault(picture, []).append(pair)
    for picture, pairs in sorted(asked.items()):
      yield from read_picture(picture, pairs, skip)
    bare = len(set(finder.pictures) - set(asked))
    if bare:
      self.leave_out(f'{bare} pictures that nothing is asked about')
