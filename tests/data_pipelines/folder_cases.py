"""Folders of pictures and texts in the layouts that are read, and what a dataset should find in them."""

import gzip
import io
import json
import tarfile

import numpy as np
from PIL import Image

SIDE = 32  # pixels of every picture


def encoded(image, file_format='PNG', **options):
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, file_format, **options)
  return buffer.getvalue()


def picture(seed, shape=(SIDE, SIDE, 3)):
  return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


def captioned_pictures(folder):
  """Every layout in one folder; gives the captions by picture, as the dataset should."""
  wanted = {}

  def add(image, *captions):
    wanted[image.tobytes()] = set(captions)
    return encoded(image)

  (folder / 'beside').mkdir(parents=True)
  for i in range(20):
    (folder / 'beside' / f'{i}.png').write_bytes(add(picture(i), f'number {i}, é'))
    (folder / 'beside' / f'{i}.txt').write_text(f'number {i}, é\n')
  (folder / 'train2014').mkdir()
  (folder / 'annotations').mkdir()
  images = [{'id': 100 + i, 'file_name': f'COCO_{i:03}.png'} for i in range(20)]
  annotations = [{'id': 5 * i + k, 'image_id': 100 + i, 'caption': f'coco {i}, {k}'}
                 for k in range(3) for i in range(20)]
  for i, image in enumerate(images):
    content = add(picture(100 + i), *(f'coco {i}, {k}' for k in range(3)))
    (folder / 'train2014' / image['file_name']).write_bytes(content)
  (folder / 'annotations' / 'captions.json').write_text(json.dumps({'images': images, 'annotations': annotations}))
  boxes = [{'id': 1, 'image_id': 100, 'bbox': [0, 0, 1, 1]}]
  (folder / 'annotations' / 'instances.json').write_text(json.dumps({'images': images, 'annotations': boxes}))
  with tarfile.open(folder / 'shard-000.tar', 'w') as archive:
    for i in range(20):
      members = {'jpeg' if i % 2 else 'png': add(picture(200 + i), f'tar {i}'), 'cls': b'3'}
      members |= {'json': json.dumps({'caption': f'tar {i}'}).encode()} if i % 3 else {'txt': f'tar {i}'.encode()}
      for extension, content in members.items():
        info = tarfile.TarInfo(f'shard/{i:04}.{extension}')
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
  return wanted


def questions_about_pictures(folder):
  """Both layouts; gives picture -> questions and answers."""
  wanted = {}
  (folder / 'val2014').mkdir(parents=True)
  questions, annotations = [], []
  for i in range(30):
    (folder / 'val2014' / f'COCO_val2014_{i:012}.png').write_bytes(encoded(picture(i)))
    wanted[picture(i).tobytes()] = {(f'what is {i}, {k}?', 'two words' if k else f'a{i}') for k in range(2)}
    for k in range(2):
      questions.append({'question_id': 10 * i + k, 'image_id': i, 'question': f'what is {i}, {k}?'})
      answers = [{'answer': 'wrong'}, {'answer': 'two words'}, {'answer': 'two words'}]
      annotations.append({'question_id': 10 * i + k, 'image_id': i}
                         | ({'answers': answers} if k else {'multiple_choice_answer': f'a{i}'}))
  (folder / 'questions.json').write_text(json.dumps({'data_subtype': 'val2014', 'questions': questions}))
  (folder / 'annotations.json').write_text(json.dumps({'annotations': annotations[::-1]}))
  lines = []
  for i in range(10):
    (folder / f'own{i}x.png').write_bytes(encoded(picture(50 + i)))
    wanted[picture(50 + i).tobytes()] = {('is it?', 'yes'), ('why?', f'for {i}')}
    lines += [{'image': f'own{i}x.png', 'question': 'is it?', 'answer': 'yes'},
              {'image': f'own{i}x.png', 'question': 'why?', 'answer': f' for {i} '}]
  (folder / 'own.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
  return wanted


def write_idx(path, array, cut=0):
  header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, '>i4').tobytes()
  content = gzip.compress(header + array.tobytes())
  path.write_bytes(content[: len(content) - cut])


def fashion_files(folder):
  folder.mkdir(exist_ok=True)
  rng = np.random.default_rng(0)
  arrays = {}
  for prefix, count in (('train', 30), ('t10k', 12)):
    images = rng.integers(256, size=(count, 28, 28), dtype=np.uint8)
    arrays[prefix] = images, rng.integers(10, size=count, dtype=np.uint8)
    write_idx(folder / f'{prefix}-images-idx3-ubyte.gz', arrays[prefix][0])
    write_idx(folder / f'{prefix}-labels-idx1-ubyte.gz', arrays[prefix][1])
  return arrays


SVG = '''<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><metadata>
<rdf:RDF xmlns:cc="http://web.resource.org/cc/" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><cc:Work rdf:about=""><dc:title>{}</dc:title><dc:publisher>
<cc:Agent><dc:title>Open Clip Art Library</dc:title></cc:Agent></dc:publisher></cc:Work></rdf:RDF></metadata></svg>'''



def stamps(folder):
  """Tux Paint's; gives the captions by picture."""
  (folder / 'animals').mkdir(parents=True)
  for i in range(40):
    (folder / 'animals' / f'{i}.png').write_bytes(encoded(picture(i)))
    (folder / 'animals' / f'{i}_mirror.png').write_bytes(encoded(picture(i)[:, ::-1]))
    (folder / 'animals' / f'{i}.txt').write_text(f'A cow, number {i}.\nfr.utf8=Une vache.\n')
  (folder / 'drawn.txt').write_text('A drawing.\n')
  return {picture(i).tobytes(): f'A cow, number {i}.' for i in range(40)}


def clip_art(folder):
  """Open Clip Art's; gives the captions by picture."""
  for kind in ('png', 'svg'):
    (folder / kind / 'signs').mkdir(parents=True)
  titles = [f'sign {i}' for i in range(20)] + ['five of these'] * 5 + ['Lemon theme'] * 6 + ['', None]
  for i, title in enumerate(titles):
    (folder / 'png' / 'signs' / f'{i}.png').write_bytes(encoded(picture(i)))
    (folder / 'svg' / 'signs' / f'{i}.svg').write_text('<svg' if title is None else SVG.format(title))
  return {picture(i).tobytes(): title for i, title in enumerate(titles[:25])}


def pages_with_pictures(folder, count=40):
  """Gives each page's texts and the bytes of its pictures."""
  (folder / 'images').mkdir(parents=True)
  lines, wanted = [], []
  rng = np.random.default_rng(0)
  for i in range(count):
    images = rng.integers(256, size=(i % 3, SIDE, SIDE, 3), dtype=np.uint8)
    names = [f'images/{i}_{k}.png' for k in range(len(images))]
    for name, image in zip(names, images, strict=True):
      (folder / name).write_bytes(encoded(image))
    lines.append({'texts': [f'é {i}', *[None] * len(names), 'end'], 'images': [None, *names, None]})
    texts = [f'é {i}', *[None] * len(names), 'end'] if names else [f'é {i}\n\nend']
    wanted.append((texts, images.tobytes()))
  (folder / 'pages.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
  return wanted
