"""Datasets without a simulator: what they hold, and what they hold out."""

import collections
import importlib
import json

import numpy as np
import pytest

from data_pipelines.datasets.catalogue import Request
from data_pipelines.datasets.digits.builder import WORDS, picture
from data_pipelines.datasets.python_docs import builder as python_docs_builder
from data_pipelines.datasets.sources import defect, open_source
from data_pipelines.datasets.splits import hash_share
from data_pipelines.errors import InputError


def build(request, directory):
  """Builds in this process; both splits."""
  module = importlib.import_module(f'data_pipelines.datasets.{request.dataset}.builder')
  builder = module.Builder(request, str(directory), progress=lambda: None)
  builder.download_and_prepare(download_dir=directory / 'downloads')
  return open_source(request, str(directory), 'train'), open_source(request, str(directory), 'heldout')


def texts(source):
  return [source[index].text for index in range(len(source))]


def test_digits_are_one_patch_each_and_captioned_in_words(tmp_path):
  datasets = pytest.importorskip('sklearn.datasets')
  train, heldout = build(Request('digits'), tmp_path)
  assert len(train) + len(heldout) == 1797 and 0.12 < len(heldout) / 1797 < 0.18
  digits = datasets.load_digits()
  expected = collections.Counter(f'a handwritten {WORDS[digit]}' for digit in digits.target)
  examples = [source[index] for source in (train, heldout) for index in range(len(source))]
  assert collections.Counter(example.caption for example in examples) == expected
  bytes_of = [{source[index].image.tobytes() for index in range(len(source))} for source in (train, heldout)]
  assert not bytes_of[0] & bytes_of[1]
  assert examples[0].image.shape == (16, 16, 3) and examples[0].image.dtype == np.uint8
  assert {example.image.tobytes() for example in examples} == {picture(values).tobytes() for values in digits.images}
  np.testing.assert_array_equal(picture(digits.images[0])[::2, 1::2, 2], np.round(digits.images[0] * 255 / 16))


def test_easy_vqa_keeps_every_question_under_its_picture(tmp_path):
  easy_vqa = pytest.importorskip('easy_vqa')
  image_module = pytest.importorskip('PIL.Image')
  train, heldout = build(Request('easy_vqa', episodes=150), tmp_path)
  assert len(train) == len(heldout) == 150
  for source, questions, paths in ((train, easy_vqa.get_train_questions(), easy_vqa.get_train_image_paths()),
                                   (heldout, easy_vqa.get_test_questions(), easy_vqa.get_test_image_paths())):
    rows = sorted(zip(questions[2], questions[0], questions[1], strict=True), key=lambda row: row[0])[:150]
    for index, (image_id, question, answer) in enumerate(rows):
      example = source[index]
      assert (example.question, example.answer) == (question, answer)
      np.testing.assert_array_equal(example.image, np.asarray(image_module.open(paths[image_id])))
    assert sorted(source.texts()) == sorted(text for _, question, answer in rows for text in (question, answer))


def test_python_docs_hold_topics_and_docstrings_once(tmp_path):
  train, heldout = build(Request('python_docs'), tmp_path)
  documents = texts(train) + texts(heldout)
  assert len(set(documents)) == len(documents) > 300
  assert sum(map(len, documents)) > 2_000_000
  assert any(document.startswith('The "assert" statement') for document in documents)
  assert any('\nJSON (JavaScript Object Notation)' in document for document in documents)
  assert 0.02 < len(heldout) / len(documents) < 0.1
  paragraphs = collections.Counter(  # of modules: a name, then its docstring
      paragraph.split('\n', 1)[-1] for document in documents for paragraph in document.split('\n\n'))
  assert paragraphs['Return self+value.'] <= 1


def test_docstrings_follow_the_source_and_are_not_repeated(tmp_path):
  path = tmp_path / 'shapes.py'
  path.write_text('''"""All about shapes and areas."""
import nowhere

class Square:
  """A figure with four equal sides."""

  def area(self):
    """The side multiplied by itself."""

  def short(self):
    """Too short."""

class Cube(Square):
  """A figure with four equal sides."""

async def draw():
  """Puts a shape on the screen, later."""
''')
  seen = set()
  assert list(python_docs_builder.docstrings(path, seen)) == [
      'shapes\nAll about shapes and areas.',
      'Square\nA figure with four equal sides.',
      'area\nThe side multiplied by itself.',
      'draw\nPuts a shape on the screen, later.',
  ]
  assert not list(python_docs_builder.docstrings(path, seen))


def write_folder(folder, documents=200):
  folder.mkdir()
  (folder / 'deep').mkdir()
  (folder / 'a.txt').write_text('Naïve café\n')
  (folder / 'deep' / 'b.md').write_text('# Title')
  (folder / 'c.jsonl').write_text(''.join(json.dumps({'text': f'line {i}'}) + '\n' for i in range(documents)))
  (folder / 'ignored.csv').write_bytes(b'\xff')
  return folder


def test_text_folder_reads_every_document_into_one_split(tmp_path):
  folder = write_folder(tmp_path / 'texts')
  (folder / 'empty.txt').write_text(' \n')
  train, heldout = build(Request('text_folder', path=str(folder)), tmp_path)
  everything = ['Naïve café\n', *(f'line {i}' for i in range(200)), '# Title']
  assert sorted(texts(train) + texts(heldout)) == sorted(everything)
  assert texts(heldout) == [text for text in everything if hash_share(text.encode()) < 0.02]
  assert len(heldout) and train.metadata['dropped'] == [f'{folder / "empty.txt"}: empty']
  assert list(train.texts()) == texts(train)


def test_text_folder_holds_out_one_of_few_and_stops_at_the_limit(tmp_path):
  folder = tmp_path / 'few'
  folder.mkdir()
  for i in range(3):
    (folder / f'{i}.txt').write_text(f'document {i}')
  train, heldout = build(Request('text_folder', path=str(folder)), tmp_path)
  assert (len(train), len(heldout)) == (2, 1)
  train, heldout = build(Request('text_folder', path=str(folder), episodes=1), tmp_path)
  assert (len(train), len(heldout)) == (1, 1)


def test_text_folder_notices_changed_files(tmp_path):
  folder = write_folder(tmp_path / 'texts')
  request = Request('text_folder', path=str(folder))
  build(request, tmp_path)
  assert defect(request, str(tmp_path)) is None
  (folder / 'new.txt').write_text('more')
  assert 'have changed' in defect(request, str(tmp_path))


@pytest.mark.parametrize(('name', 'content', 'message'), [
    ('latin.txt', 'café'.encode('latin-1'), r'latin.txt: not UTF-8 at byte 3'),
    ('bad.jsonl', b'{"text": "a"}\n{"text": \n', r'bad.jsonl:2: not a JSON object with the key "text"'),
    ('key.jsonl', b'{"body": "a"}\n', r'key.jsonl:1: not a JSON object with the key "text"'),
    ('list.jsonl', b'["a"]\n', r'list.jsonl:1: not a JSON object with the key "text"'),
    ('number.jsonl', b'{"text": 3}\n', r'number.jsonl:1: "text" is int, not a string'),
])
def test_text_folder_names_the_file_it_cannot_read(tmp_path, name, content, message):
  folder = write_folder(tmp_path / 'texts')
  (folder / name).write_bytes(content)
  request = Request('text_folder', path=str(folder))
  with pytest.raises(InputError, match=message):
    build(request, tmp_path)
  assert 'is missing' in defect(request, str(tmp_path))


def test_text_folder_needs_files(tmp_path):
  with pytest.raises(InputError, match='there is no folder'):
    build(Request('text_folder', path=str(tmp_path / 'none')), tmp_path)
  (tmp_path / 'empty').mkdir()
  with pytest.raises(InputError, match='holds no .txt'):
    build(Request('text_folder', path=str(tmp_path / 'empty')), tmp_path)
  (tmp_path / 'empty' / 'one.txt').write_text('alone')
  with pytest.raises(InputError, match='1 documents; it takes two'):
    build(Request('text_folder', path=str(tmp_path / 'empty')), tmp_path)


def test_hash_share_is_uniform_and_fixed():
  shares = np.array([hash_share(str(i).encode()) for i in range(4000)])
  assert 0 <= shares.min() and shares.max() < 1
  assert abs(np.mean(shares < 0.1) - 0.1) < 0.02
  # The first eight bytes of the SHA-256 of nothing are e3b0c44298fc1c14.
  assert hash_share(b'') == 0xE3B0C44298FC1C14 / 2**64
