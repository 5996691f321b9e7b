"""Pictures of the user's own with captions and questions: every layout, and what is wrong with some of them."""

import gzip
import io
import json
import re
import tarfile

import numpy as np
from PIL import Image
import pytest

from data_pipelines.datasets.captioned import PICTURE_SUFFIXES
from data_pipelines.datasets.catalogue import DATASETS, Request, requests
from data_pipelines.datasets.fashion_mnist.builder import CAPTIONS
from data_pipelines.datasets.imports.items import Item
from data_pipelines.datasets.imports.pictures import encoded_picture, picture_size
from data_pipelines.datasets.pictures import decode_png, fit_picture
from data_pipelines.datasets.splits import hash_share
from data_pipelines.errors import InputError
from tests.data_pipelines.dataset_cases import build, data_config, entry
from tests.data_pipelines.folder_cases import (
  SIDE,
  captioned_pictures,
  clip_art,
  encoded,
  fashion_files,
  picture,
  questions_about_pictures,
  stamps,
  write_idx,
)


def examples(*sources):
  return [source[index] for source in sources for index in range(len(source))]


def test_pictures_are_fitted_whole_and_centred_on_white():
  image = picture(0, (SIDE // 2, SIDE, 3))
  fitted = decode_png(fit_picture(encoded(image), SIDE))
  assert fitted.shape == (SIDE, SIDE, 3)
  np.testing.assert_array_equal(fitted[8:24], image)
  assert (fitted[:8] == 255).all() and (fitted[24:] == 255).all()
  large = np.kron(picture(1, (SIDE, SIDE // 4, 3)), np.ones((4, 4, 1), np.uint8))  # 128 high, 32 wide
  fitted = decode_png(fit_picture(encoded(large), SIDE))
  assert (fitted[:, :12] == 255).all() and (fitted[:, 20:] == 255).all()
  inner = fitted[:, 12:20].astype(int) - picture(1, (SIDE, SIDE // 4, 3))  # each pixel was drawn as 4 x 4
  assert np.abs(inner).mean() < 20


@pytest.mark.parametrize('mode', ['RGBA', 'LA', 'P', 'RGB with a transparent colour'])
def test_transparency_is_white(mode):
  left = np.zeros((SIDE, SIDE, 4), np.uint8)
  left[:, : SIDE // 2] = (200, 200, 200, 255)
  left[:, SIDE // 2 :] = (10, 10, 10, 0)
  image = Image.fromarray(left)
  buffer = io.BytesIO()
  if mode == 'P':
    image.quantize(4).save(buffer, 'PNG')
  elif mode.startswith('RGB '):
    Image.fromarray(left[..., :3]).save(buffer, 'PNG', transparency=(10, 10, 10))
  else:
    image.convert(mode).save(buffer, 'PNG')
  fitted = decode_png(fit_picture(buffer.getvalue(), SIDE))
  assert (fitted[:, : SIDE // 2] == 200).all() and (fitted[:, SIDE // 2 :] == 255).all()


def test_grey_of_sixteen_bits_turned_and_moving_pictures():
  deep = (np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE) * 64)[::-1]
  fitted = decode_png(fit_picture(encoded(np.ascontiguousarray(deep)), SIDE))
  np.testing.assert_array_equal(fitted[..., 0], deep // 256)
  exif = Image.Exif()
  exif[0x0112] = 6  # the camera was turned to the right
  image = np.zeros((SIDE, SIDE, 3), np.uint8)
  image[: SIDE // 2] = 255  # light above
  fitted = decode_png(fit_picture(encoded(image, 'JPEG', exif=exif, quality=95), SIDE))
  assert fitted[:, SIDE - 8 :].min() > 200 and fitted[:, :8].max() < 50
  frames = [Image.new('RGB', (SIDE, SIDE), colour) for colour in ('red', 'blue')]
  buffer = io.BytesIO()
  frames[0].save(buffer, 'GIF', save_all=True, append_images=frames[1:])
  assert (decode_png(fit_picture(buffer.getvalue(), SIDE)) == (255, 0, 0)).all()


@pytest.mark.parametrize('size', [(600, 1), (1, 600)])
def test_a_line_is_drawn_as_a_line(size):
  line = np.zeros((*size[::-1], 3), np.uint8)
  dark = (decode_png(fit_picture(encoded(line), SIDE)) == 0).all(axis=-1)
  assert dark.sum() == SIDE and dark.all(axis=0 if size[0] == 1 else 1).sum() == 1


@pytest.mark.parametrize('content', [
    b'', b'no picture', encoded(picture(0))[:-40], encoded(picture(0, (99, 99, 3)), 'JPEG')[:900],
    encoded(picture(0)).replace(b'IDAT', b'IDOT'),
])
def test_what_does_not_decode_is_an_input_error(content):
  with pytest.raises(InputError, match='no picture that decodes'):
    fit_picture(content, SIDE)
  with pytest.raises(InputError, match='no picture that decodes'):
    encoded_picture(content, Item('image', (None, None, None)), (SIDE, SIDE), (SIDE, SIDE))


@pytest.mark.parametrize('side', [8_300, 13_500])  # Pillow's own limit is beyond the first and below the second
def test_pictures_that_would_fill_the_memory_are_refused(side):
  buffer = io.BytesIO()
  Image.new('1', (side, side)).save(buffer, 'PNG')
  assert len(buffer.getvalue()) < 200_000
  with pytest.raises(InputError, match='pixels'):
    fit_picture(buffer.getvalue(), SIDE)
  with pytest.raises(InputError, match='pixels'):
    encoded_picture(buffer.getvalue(), Item('image', (None, None, None)), (side, side), (SIDE, SIDE))
  assert picture_size(buffer.getvalue()) is None


def test_imported_pictures_are_kept_or_read_as_others_are():
  def imported(content, **item):
    return encoded_picture(content, Item('image', (None, None, None), **item), (SIDE, SIDE), (SIDE, SIDE))

  colours = picture(0)
  for content in (encoded(colours), encoded(colours, 'JPEG')):
    assert imported(content) is content
  deep = np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE) * 64
  np.testing.assert_array_equal(decode_png(imported(encoded(deep)))[..., 1], deep // 256)
  clear = np.dstack([colours, np.full((SIDE, SIDE), 255, np.uint8)])
  clear[:, : SIDE // 2, 3] = 0
  for content in (encoded(clear), clear):
    read = decode_png(imported(content))
    assert (read[:, : SIDE // 2] == 255).all()
    np.testing.assert_array_equal(read[:, SIDE // 2 :], colours[:, SIDE // 2 :])
  np.testing.assert_array_equal(decode_png(imported(encoded(clear), stacked=True)), clear[..., 1:])


def test_captions_folder_reads_every_layout(tmp_path):
  wanted = captioned_pictures(tmp_path / 'own')
  (tmp_path / 'own' / 'bare.png').write_bytes(encoded(picture(999)))
  request = Request('captions_folder', path=str(tmp_path / 'own'), picture_size=SIDE)
  train, heldout = build(request, tmp_path)
  found = {}
  for source in (train, heldout):
    for example in examples(source):
      found.setdefault(example.image.tobytes(), set()).add(example.caption)
      held_out = hash_share(encoded(example.image)) < 0.05
      assert held_out == (source is heldout)
  assert found == wanted and len(heldout) and len(train) + len(heldout) == 20 + 60 + 20
  assert sorted(train.texts()) == sorted(example.caption for example in examples(train))
  assert train.metadata['dropped'] == ['1 pictures without a caption']


def lost_with(damage):
  lost = {'picture': 3, 'text': 3, 'empty': 3, 'missing': 103, 'ambiguous': 103, 'escape': 103}.get(damage)
  return set() if lost is None else {picture(lost).tobytes()}


@pytest.mark.parametrize(('damage', 'message'), [
    ('picture', r'beside/3.png: no picture that decodes'),
    ('text', r'beside/3.txt: .* invalid continuation byte'),
    ('empty', r'beside/3.txt: empty'),
    ('missing', r"captions.json: there are 0 pictures 'COCO_003.png' in "),
    ('ambiguous', r"captions.json: there are 2 pictures 'COCO_003.png' in "),
    ('escape', r"captions.json: there are 0 pictures '../secret.png' in "),
    ('tar', r'shard-000.tar, after .*/shard-000.tar:shard/00\d\d.: unexpected end of data'),
    ('no caption', r'shard-000.tar:shard/0099.: no caption'),
    ('{"caption": "half \\ud800"}', r'shard-000.tar:shard/0099.: caption is not Unicode at character 5'),
    ('[' * 100_000, r'shard-000.tar:shard/0099.: maximum recursion depth'),
])
def test_captions_folder_skips_and_names_what_is_bad(tmp_path, damage, message):
  folder = tmp_path / 'own'
  wanted = captioned_pictures(folder)
  coco = folder / 'annotations' / 'captions.json'
  if damage == 'picture':
    (folder / 'beside' / '3.png').write_bytes(b'\x89PNG torn')
  elif damage in ('text', 'empty'):
    (folder / 'beside' / '3.txt').write_bytes(b'caf\xe9 au lait' if damage == 'text' else b' \n')
  elif damage == 'missing':
    (folder / 'train2014' / 'COCO_003.png').unlink()
  elif damage == 'ambiguous':
    (folder / 'beside' / 'COCO_003.png').write_bytes(encoded(picture(7)))
  elif damage == 'escape':
    (tmp_path / 'secret.png').write_bytes(encoded(picture(7)))
    coco.write_text(coco.read_text().replace('COCO_003.png', '../secret.png'))
  elif damage == 'tar':
    archive = folder / 'shard-000.tar'
    archive.write_bytes(archive.read_bytes()[:50_000])
  else:
    with tarfile.open(folder / 'shard-000.tar', 'a') as archive:
      archive.addfile(tarfile.TarInfo('shard/0099.png'), io.BytesIO())
      if damage != 'no caption':
        described = tarfile.TarInfo('shard/0099.json')
        described.size = len(damage)
        archive.addfile(described, io.BytesIO(damage.encode()))
  request = Request('captions_folder', path=str(folder), picture_size=SIDE)
  with pytest.raises(InputError, match=f'examples are bad; last, .*{message}'):
    build(request, tmp_path)
  train, heldout = build(request, tmp_path, skip_share=0.1)
  assert len([line for line in train.metadata['dropped'] if re.search(message, line)]) == 1
  found = {example.image.tobytes() for example in examples(train, heldout)}
  if damage == 'tar':
    in_tar = [picture(200 + i).tobytes() in found for i in range(20)]
    assert 5 < sum(in_tar) < 20 and in_tar == sorted(in_tar, reverse=True)
    found |= {picture(200 + i).tobytes() for i in range(20)}
  assert found == set(wanted) - lost_with(damage)


def test_lists_that_are_none_stop_the_build(tmp_path):
  captioned_pictures(tmp_path / 'own')
  for content, message in ((b'{', 'not a readable JSON'), (b'{"questions": []}', 'not a list in the layout of COCO'),
                           (b'[1]', 'not a list in the layout of COCO')):
    (tmp_path / 'own' / 'other.json').write_bytes(content)
    with pytest.raises(InputError, match=f'other.json: {message}'):
      build(Request('captions_folder', path=str(tmp_path / 'own')), tmp_path, skip_share=0.5)


@pytest.mark.parametrize(('key', 'entry', 'message'), [
    ('annotations', {'image_id': 100}, None),  # of boxes, say
    ('annotations', {'image_id': 100, 'caption': ' '}, "caption is ' ', not a text"),
    ('annotations', {'caption': 'of nothing'}, "there is no 'image_id'"),
    ('annotations', None, "None: argument of type 'NoneType'"),
    ('annotations', {'image_id': 100, 'caption': 'half \ud800'}, 'caption is not Unicode at character 5'),
    ('annotations', {'image_id': 'half \ud800', 'caption': 'a'}, "there are 0 pictures 'half \\ud800'"),
    ('annotations', {'image_id': 'x' * 300, 'caption': 'a'}, "there are 0 pictures 'xxx"),
    ('images', {'id': 1}, "there is no 'file_name'"),
])
def test_one_bad_entry_of_a_list_of_captions_is_skipped(tmp_path, key, entry, message):
  wanted = captioned_pictures(tmp_path / 'own')
  path = tmp_path / 'own' / 'annotations' / 'captions.json'
  content = json.loads(path.read_text())
  content[key].append(entry)
  path.write_text(json.dumps(content))
  train, heldout = build(Request('captions_folder', path=str(tmp_path / 'own'), picture_size=SIDE), tmp_path,
                         skip_share=0.1)
  found = {}
  for example in examples(train, heldout):
    found.setdefault(example.image.tobytes(), set()).add(example.caption)
  assert found == wanted
  problems = train.metadata['dropped']
  assert len(problems) == (message is not None) and all(message in problem for problem in problems)


def test_vqa_folder_reads_both_layouts(tmp_path):
  wanted = questions_about_pictures(tmp_path / 'own')
  request = Request('vqa_folder', path=str(tmp_path / 'own'), picture_size=SIDE)
  train, heldout = build(request, tmp_path)
  found = {}
  for source in (train, heldout):
    for example in examples(source):
      found.setdefault(example.image.tobytes(), set()).add((example.question, example.answer))
      assert (hash_share(encoded(example.image)) < 0.05) == (source is heldout)
  assert found == wanted and len(train) + len(heldout) == 80 and len(heldout)
  assert train.metadata['dropped'] == []


@pytest.mark.parametrize(('line', 'message'), [
    ({'image': 'own1x.png', 'question': 'is it?'}, "own.jsonl:21: there is no 'answer'"),
    ({'image': 'none.png', 'question': 'a', 'answer': 'b'}, "own.jsonl:21: there are 0 pictures 'none.png'"),
    ({'image': 'own1x.png', 'question': 'is it?', 'answer': 3}, 'own.jsonl:21: answer is 3, not a text'),
    ({'image': 'own1x.png', 'question': ' ', 'answer': 'b'}, "own.jsonl:21: question is ' ', not a text"),
    ({'image': 'own1x.png', 'question': 'a\ud800', 'answer': 'b'}, 'own.jsonl:21: question is not Unicode at char'),
    ({'image': 'zero\0.png', 'question': 'a', 'answer': 'b'}, r"own.jsonl:21: there are 0 pictures 'zero\\x00.png'"),
    ({'image_id': 77, 'question_id': 1, 'question': 'a'}, 'questions.json, .* are 0 pictures whose name ends in 77'),
    ({'image_id': 1, 'question_id': 7, 'question': 'a'}, 'questions.json, .* there is no 7'),
])
def test_vqa_folder_skips_and_names_what_is_bad(tmp_path, line, message):
  wanted = questions_about_pictures(tmp_path / 'own')
  if 'image' in line:
    with open(tmp_path / 'own' / 'own.jsonl', 'a') as file:
      file.write(json.dumps(line))
  else:
    path = tmp_path / 'own' / 'questions.json'
    content = json.loads(path.read_text())
    content['questions'].append(line)
    path.write_text(json.dumps(content))
  request = Request('vqa_folder', path=str(tmp_path / 'own'), picture_size=SIDE)
  with pytest.raises(InputError, match=message):
    build(request, tmp_path)
  train, heldout = build(request, tmp_path, skip_share=0.1)
  assert len(train) + len(heldout) == sum(map(len, wanted.values()))
  assert len(train.metadata['dropped']) == 1 and re.search(message, train.metadata['dropped'][0])


@pytest.mark.parametrize(('annotation', 'message', 'lost'), [
    ({'question_id': 0, 'answers': []}, 'its annotation has no answers', 1),
    ({'question_id': 0, 'answers': None}, "'NoneType' object is not iterable", 1),
    ({'question_id': 0}, "there is no 'answers'", 1),
    ({'answers': [{'answer': 'a'}]}, "there is no 'question_id'", 0),
    ('a', 'string indices must be integers', 0),
])
def test_one_bad_annotation_is_skipped(tmp_path, annotation, message, lost):
  wanted = questions_about_pictures(tmp_path / 'own')
  path = tmp_path / 'own' / 'annotations.json'
  content = json.loads(path.read_text())
  content['annotations'].append(annotation)
  path.write_text(json.dumps(content))
  train, heldout = build(Request('vqa_folder', path=str(tmp_path / 'own'), picture_size=SIDE), tmp_path,
                         skip_share=0.1)
  assert len(train) + len(heldout) == sum(map(len, wanted.values())) - lost
  problem, = train.metadata['dropped']
  assert message in problem


def test_fashion_mnist_keeps_its_pictures_classes_and_splits(tmp_path):
  arrays = fashion_files(tmp_path / 'idx')
  sources = build(Request('fashion_mnist', path=str(tmp_path / 'idx')), tmp_path)
  for source, (images, labels) in zip(sources, (arrays['train'], arrays['t10k']), strict=True):
    assert len(source) == len(labels)
    for example, image, label in zip(examples(source), images, labels, strict=True):
      np.testing.assert_array_equal(example.image, np.stack([image] * 3, axis=-1))
      assert example.caption == CAPTIONS[label]
  assert CAPTIONS[1] == 'trousers' and CAPTIONS[9] == 'an ankle boot' and len(set(CAPTIONS)) == 10
  train, heldout = build(Request('fashion_mnist', path=str(tmp_path / 'idx'), episodes=5), tmp_path)
  assert len(train) == len(heldout) == 5


@pytest.mark.parametrize('damage', ['cut', 'short', 'labels', 'missing', 'type'])
def test_fashion_mnist_refuses_damaged_files(tmp_path, damage):
  arrays = fashion_files(tmp_path / 'idx')
  path = tmp_path / 'idx' / 'train-images-idx3-ubyte.gz'
  if damage == 'missing':
    path.unlink()
  elif damage == 'cut':
    write_idx(path, arrays['train'][0], cut=20)
  elif damage == 'short':
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-3]))
  elif damage == 'type':
    path.write_bytes(gzip.compress(b'\0\0\x0d\1' + bytes(4)))
  else:
    write_idx(tmp_path / 'idx' / 'train-labels-idx1-ubyte.gz', arrays['train'][1] + 1)
  with pytest.raises(InputError, match='train'):
    build(Request('fashion_mnist', path=str(tmp_path / 'idx')), tmp_path)


def test_tuxpaint_stamps_take_the_english_line(tmp_path):
  wanted = stamps(tmp_path / 'stamps')
  request = Request('tuxpaint_stamps', path=str(tmp_path / 'stamps'), picture_size=SIDE)
  sources = build(request, tmp_path)
  found = {example.image.tobytes(): example.caption for example in examples(*sources)}
  assert found == wanted
  assert sources[0].metadata['dropped'] == ['1 stamps without a PNG']


def test_openclipart_keeps_titles_that_say_something(tmp_path):
  wanted = clip_art(tmp_path / 'clipart')
  sources = build(Request('openclipart', path=str(tmp_path / 'clipart'), picture_size=SIDE), tmp_path)
  found = {example.image.tobytes(): example.caption for example in examples(*sources)}
  assert found == wanted
  assert sources[0].metadata['dropped'] == [
      '2 drawings without a title that can be read, 6 with one that more than 5 share']


def test_picture_sizes_are_checked_and_move_the_directory(tmp_path):
  (request,) = requests(data_config(tmp_path, captions_folder=entry(path='own')))
  (small,) = requests(data_config(tmp_path, captions_folder=entry(path='own', picture_size=64)))
  assert (request.picture_side, small.picture_side) == (224, 64)
  assert request.directory('') != small.directory('') != Request('captions_folder', path='own').directory('')
  assert request.directory('') == Request('captions_folder', path='own', picture_size=224).directory('')
  for mixture, message in ((dict(digits=entry(picture_size=64)), 'the pictures of digits, if any, stay as they are'),
                           (dict(captions_folder=entry(path='own', picture_size=-1)), 'a number of pixels')):
    with pytest.raises(InputError, match=f'picture_size is .*{message}'):
      requests(data_config(tmp_path, **mixture))


def test_datasets_of_pictures_from_files_say_their_size():
  folders = {name for name in DATASETS if DATASETS[name].picture_size}
  assert folders == {'captions_folder', 'vqa_folder', 'pages_folder', 'tuxpaint_stamps', 'openclipart'}
  assert all(suffix == suffix.lower() and suffix.startswith('.') for suffix in PICTURE_SUFFIXES)
