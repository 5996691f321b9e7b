"""Datasets without a simulator: what they hold, and what they hold out."""

import collections
import gzip
import json
import re
import tracemalloc

import numpy as np
import pytest

from data_pipelines.datasets.catalogue import Request
from data_pipelines.datasets.digits.builder import WORDS, picture
from data_pipelines.datasets.prose_folder.cleaning import Cleaner, mostly_letters, web_page
from data_pipelines.datasets.python_docs import builder as python_docs_builder
from data_pipelines.datasets.sources import defect
from data_pipelines.datasets.splits import hash_share, held_out_limit
from data_pipelines.datasets.text_files import LONGEST, documents, parts
from data_pipelines.errors import InputError
from tests.data_pipelines.dataset_cases import build


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
  assert len(heldout) and train.metadata['dropped'] == [f'{folder / "empty.txt"}: 1 empty']
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
    ('long.txt', b'a' * 70_000 + b'\n\n' + 'é'.encode('latin-1'), r'long.txt: not UTF-8 at byte 70002'),
    ('latin.jsonl', '{"text": "é"}'.encode('latin-1'), r'latin.jsonl:1: not UTF-8 at byte 10'),
    ('bad.jsonl', b'{"text": "a"}\n{"text": \n', r'bad.jsonl:2: not JSON \(Expecting value'),
    ('key.jsonl', b'{"body": "a"}\n', r'key.jsonl:1: it has no key "text"'),
    ('list.jsonl', b'["a"]\n', r'list.jsonl:1: a JSON list, not an object'),
    ('number.jsonl', b'{"text": 3}\n', r'number.jsonl:1: "text" is int, not a string'),
    ('half.jsonl', b'{"text": "a \\ud800"}\n', r'half.jsonl:1: not Unicode at character 2'),
    ('cut.jsonl.gz', gzip.compress(b'{"text": "a"}\n' * 9, mtime=0)[:-4], r'jsonl.gz, after line \d: Compressed'),
    ('cut.txt.gz', gzip.compress(b'zipped', mtime=0)[:-4], r'cut.txt.gz: Compressed file ended'),
])
def test_text_folder_skips_and_names_what_it_cannot_read(tmp_path, name, content, message):
  folder = write_folder(tmp_path / 'texts')
  (folder / name).write_bytes(content)
  request = Request('text_folder', path=str(folder))
  with pytest.raises(InputError, match=f'examples are bad; last, .*{message}'):
    build(request, tmp_path)
  assert 'is missing' in defect(request, str(tmp_path))
  train, heldout = build(request, tmp_path, skip_share=0.01)
  kept = {'a'} if name in ('bad.jsonl', 'cut.jsonl.gz') else {'a' * 70_000 + '\n\n'} if name == 'long.txt' else set()
  everything = {'Naïve café\n', *(f'line {i}' for i in range(200)), '# Title'}
  assert set(texts(train) + texts(heldout)) == everything | kept
  assert len(train.metadata['dropped']) == 1 and re.search(message, train.metadata['dropped'][0])


def test_text_folder_reads_parquet_and_gzip(tmp_path):
  pyarrow = pytest.importorskip('pyarrow')
  parquet = pytest.importorskip('pyarrow.parquet')
  folder = tmp_path / 'texts'
  folder.mkdir()
  values = [f'row {i}: é' for i in range(1000)]
  values[7], values[8] = None, ' '
  parquet.write_table(pyarrow.table({'id': range(1000), 'text': values}), folder / 'a.parquet', row_group_size=300)
  with gzip.open(folder / 'b.txt.gz', 'wb') as file:
    file.write('zipped é'.encode())
  train, heldout = build(Request('text_folder', path=str(folder)), tmp_path, skip_share=0.01)
  wanted = [*values[:7], *values[9:], 'zipped é']
  assert sorted(texts(train) + texts(heldout)) == sorted(wanted)
  assert texts(heldout) == [text for text in wanted if hash_share(text.encode()) < 0.02]
  assert train.metadata['dropped'] == [f'{folder}/a.parquet, row 7: "text": a value is missing',
                                       f'{folder}/a.parquet: 1 empty']


def test_damaged_parquet(tmp_path):
  pyarrow = pytest.importorskip('pyarrow')
  parquet = pytest.importorskip('pyarrow.parquet')
  folder = tmp_path / 'texts'
  folder.mkdir()
  path = folder / 'a.parquet'
  rng = np.random.default_rng(0)
  values = [rng.bytes(100).hex() for _ in range(1000)]
  parquet.write_table(pyarrow.table({'text': values}), path, row_group_size=100, compression='gzip')
  start = parquet.ParquetFile(path).metadata.row_group(4).column(0).data_page_offset
  content = bytearray(path.read_bytes())
  content[start + 200:start + 400] = bytes(200)
  path.write_bytes(content)
  request = Request('text_folder', path=str(folder))
  with pytest.raises(InputError, match='100 of .* examples are bad; last, .*a.parquet, rows 400 to 499: '):
    build(request, tmp_path)
  train, heldout = build(request, tmp_path, skip_share=0.3)
  assert sorted(texts(train) + texts(heldout)) == sorted(values[:400] + values[500:])
  path.write_bytes(content[:-50])
  with pytest.raises(InputError, match='a.parquet: not a readable Parquet file .*; move it out of the folder'):
    build(request, tmp_path / 'cut', skip_share=0.5)
  parquet.write_table(pyarrow.table({'body': ['a', 'b']}), path)
  with pytest.raises(InputError, match='a.parquet: it has no column "text" but body'):
    build(request, tmp_path / 'other', skip_share=0.5)


def test_text_larger_than_what_may_be_kept_streams(tmp_path):
  folder = tmp_path / 'texts'
  folder.mkdir()
  line = 'the quick brown fox jumps over the lazy dog ' * 20
  with open(folder / 'large.jsonl', 'w') as file:
    for i in range(6_000):  # 5 MB
      file.write(json.dumps({'text': f'{i} {line}'}) + '\n')
  with open(folder / 'large.txt', 'w') as file:
    for i in range(6_000):
      file.write(f'{i} {line}\n')
  tracemalloc.start()
  total = 0
  for path in sorted(folder.iterdir()):
    for document in documents(path, None):
      total += len(document)
      assert len(document) <= 2 * LONGEST
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  numbers = sum(len(str(i)) + 1 for i in range(6_000))
  assert total == 2 * (6_000 * len(line) + numbers) + 6_000 and peak < 1.5e6


def test_long_documents_are_cut_at_line_ends_and_nothing_is_lost():
  rng = np.random.default_rng(0)
  lines = ['x' * int(n) for n in rng.integers(1, 3000, 400)]
  for text in ('\n'.join(lines), ' '.join(lines), ''.join(lines), 'short', ''):
    pieces = list(parts(text))
    assert ''.join(pieces) == text and max(map(len, pieces)) <= LONGEST
    assert len(pieces) <= 1 + 1.1 * len(text) / LONGEST
    for mark in ('\n', ' '):
      assert mark not in text or all(piece.endswith(mark) for piece in pieces[:-1])


def test_text_folder_needs_files(tmp_path):
  with pytest.raises(InputError, match='there is no folder'):
    build(Request('text_folder', path=str(tmp_path / 'none')), tmp_path)
  (tmp_path / 'empty').mkdir()
  with pytest.raises(InputError, match='holds no .txt'):
    build(Request('text_folder', path=str(tmp_path / 'empty')), tmp_path)
  (tmp_path / 'empty' / 'one.txt').write_text('alone')
  with pytest.raises(InputError, match='text_folder: 1 examples, all alike; it takes two that differ'):
    build(Request('text_folder', path=str(tmp_path / 'empty')), tmp_path)
  (tmp_path / 'empty' / 'two.jsonl').write_text('{"body": "another"}')
  with pytest.raises(InputError, match='all alike.*; of what could not be read, last, .*two.jsonl:1: it has no key'):
    build(Request('text_folder', path=str(tmp_path / 'empty')), tmp_path)


def test_hash_share_is_uniform_and_fixed():
  shares = np.array([hash_share(str(i).encode()) for i in range(4000)])
  assert 0 <= shares.min() and shares.max() < 1
  assert abs(np.mean(shares < 0.1) - 0.1) < 0.02
  # The first eight bytes of the SHA-256 of nothing are e3b0c44298fc1c14.
  assert hash_share(b'') == 0xE3B0C44298FC1C14 / 2**64


def test_both_splits_get_an_example_however_few_there_are():
  contents = [str(i).encode() for i in range(3000)]
  low = [content for content in contents if hash_share(content) < 0.02]
  high = [content for content in contents if hash_share(content) >= 0.02]
  read = []
  assert held_out_limit((read.append(content) or content for content in contents), 0.02) == 0.02
  assert len(read) < 500  # no more than it takes
  for few in (high[:2], high[:9], low[:2], low[:5], [low[0], high[0]], [high[0]] * 3 + [high[1]]):
    limit = held_out_limit(few, 0.02)
    below = {content for content in few if hash_share(content) < limit}
    assert 0 < len(below) < len(set(few)) and (set(few) & set(low) >= below or not set(few) & set(low))
  for alike in ([], high[:1], high[:1] * 5):
    with pytest.raises(InputError, match='all alike'):
      held_out_limit(alike, 0.02)


PROSE = 'The north wind and the sun were disputing which was the stronger, when a traveller came along, {}.'
PAGE = """<html><head><title>Head</title><style>p {{ color: red }}</style></head><body><nav>Menu of the page</nav>
<h1>A title</h1><p>{}<p>Second &amp; <b>bold</b>
line<br>broken<br><br>off<pre>code = {{1}}</pre><ul><li>One</li><li>Two</li></ul><script>var x;</script>Last</body>"""


def test_web_pages_are_read_block_by_block():
  blocks = [' '.join(block.split()) for block in re.split(r'\n\s*\n', web_page(PAGE.format('First.')))]
  assert [block for block in blocks if block] == [
      'A title', 'First.', 'Second & bold line broken', 'off', 'One', 'Two', 'Last']
  assert web_page('<p>Unclosed <nav>menu</nav> text').split() == ['Unclosed', 'text']
  assert web_page('<head><title>never closed<body>Text') == 'Text'


def test_a_page_that_cannot_be_parsed_is_skipped_and_named(tmp_path):
  folder = tmp_path / 'prose'
  folder.mkdir()
  paragraphs = [PROSE.format(f'number {i}') for i in range(100)]
  for i, paragraph in enumerate(paragraphs):
    (folder / f'{i}.html').write_text(PAGE.format(paragraph))
  (folder / 'bad.html').write_text(PAGE.format('<![foo[x]]>'))
  request = Request('prose_folder', path=str(folder))
  with pytest.raises(InputError, match='examples are bad; last, .*bad.html: not HTML'):
    build(request, tmp_path)
  train, heldout = build(request, tmp_path, skip_share=0.1)
  assert sorted(texts(train) + texts(heldout)) == sorted(paragraphs)
  assert [line for line in train.metadata['dropped'] if re.search('bad.html: not HTML', line)]


def test_prose_is_long_mostly_letters_and_not_repeated():
  cleaner = Cleaner()
  text = '\n\n'.join([PROSE.format('one'), 'Short.', '0123456789 ' * 12, PROSE.format('two').replace(' ', '\n', 3),
                        PROSE.format('one').replace(' ', '  ')])
  assert list(cleaner.paragraphs(text)) == [PROSE.format('one'), PROSE.format('two')]
  assert list(cleaner.paragraphs(text.replace('\n', '\r\n'))) == []
  assert cleaner.report() == 'of 10 paragraphs, 2 under 80 characters, 2 that are not mostly letters, 4 repeated'
  assert mostly_letters('abcd 1') and not mostly_letters('abc 1 2') and mostly_letters('дом')


def test_prose_folder_reads_texts_and_web_pages(tmp_path):
  folder = tmp_path / 'prose'
  folder.mkdir()
  paragraphs = [PROSE.format(f'number {i}') for i in range(900)]
  for i in range(0, 300, 3):
    (folder / f'{i}.txt').write_text('\n\n'.join(['Title', *paragraphs[i:i + 3]]))
  (folder / 'page.html').write_text(PAGE.format('<p>'.join(paragraphs[290:600])))
  (folder / 'lines.jsonl').write_text(''.join(json.dumps({'text': text}) + '\n' for text in paragraphs[600:]))
  with gzip.open(folder / 'page.htm.gz', 'wt') as file:
    file.write(PAGE.format(paragraphs[0]))
  train, heldout = build(Request('prose_folder', path=str(folder)), tmp_path)
  found = [paragraph for text in texts(train) + texts(heldout) for paragraph in text.split('\n\n')]
  assert sorted(found) == sorted(paragraphs) and len(heldout)
  assert all(len(text) <= LONGEST for text in texts(train))
  # 290 to 299 come twice, and 0; of each page six other blocks, of each .txt its title.
  assert train.metadata['dropped'] == [
      'of 1023 paragraphs, 112 under 80 characters, 0 that are not mostly letters, 11 repeated']
