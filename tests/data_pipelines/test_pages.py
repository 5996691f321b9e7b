"""Pages of text and pictures: read, tokenized, cut, packed."""

import functools
import json
import re

import numpy as np
import pytest

from data_pipelines.datasets.catalogue import Request
from data_pipelines.datasets.episodes import Page
from data_pipelines.datasets.pages_folder.layouts import page_of_line
from data_pipelines.errors import InputError
from data_pipelines.loader import make_loader
from data_pipelines.sequences.index import open_index
from data_pipelines.sequences.pages import PageDrawer
from data_pipelines.sequences.plan import PackingPlan
from data_pipelines.sequences.tokens import DOCUMENT_POSITION
from tests.data_pipelines.dataset_cases import build
from tests.data_pipelines.folder_cases import SIDE, encoded, pages_with_pictures
from tests.data_pipelines.token_cases import DOCUMENTS, MemorySource, data_config, mixed_sources, tokenizer

P = (SIDE // 16) ** 2  # patches of a picture


def random_page(rng, parts):
  is_picture = rng.random(parts) < 0.4
  is_picture[0] = False
  texts = [None if picture else DOCUMENTS[rng.integers(30)][: int(rng.integers(5, 400))] for picture in is_picture]
  return Page(texts, rng.integers(256, size=(int(is_picture.sum()), SIDE, SIDE, 3), dtype=np.uint8))


@functools.cache
def pages():
  rng = np.random.default_rng(3)
  return MemorySource('pages', 'pages', [random_page(rng, int(rng.integers(1, 12))) for _ in range(40)])


@functools.cache
def index():
  return open_index(pages(), tokenizer())


def elements(page):
  """The page's tokens one by one, made independently: (id, is text, place in the picture, patch)."""
  text, found, picture = tokenizer().text_tokenizer, [], 0
  for part in page.texts:
    if part is not None:
      found += [(int(i), True, DOCUMENT_POSITION, None) for i in text.encode(part)]
      continue
    for place in range(P):
      row, column = 16 * (place // 2), 16 * (place % 2)
      patch = page.images[picture][row:row + 16, column:column + 16]
      found.append((tokenizer().vocabulary.patch_id, False, place, patch))
    picture += 1
  return [*found, (text.end_id, True, DOCUMENT_POSITION, None)]


def assert_is(run, wanted):
  assert run.tokens.tolist() == run.labels.tolist() == [element[0] for element in wanted]
  assert run.loss_mask.tolist() == [element[1] for element in wanted]
  assert run.local_positions.tolist() == [element[2] for element in wanted]
  places = [i for i, element in enumerate(wanted) if element[3] is not None]
  assert run.patch_positions.tolist() == places and len(run.patches) == len(run.patch_intervals) == len(places)
  for patch, interval, place in zip(run.patches, run.patch_intervals, places, strict=True):
    np.testing.assert_array_equal(patch, wanted[place][3])
    row, column = divmod(wanted[place][2], 2)
    assert interval.tolist() == [[64 * row, 64 * row + 64], [64 * column, 64 * column + 64]]


def test_text_and_pictures_keep_their_order_and_text_alone_is_predicted():
  for page in [*pages().episodes[:10], Page(['only text'], np.zeros((0, 0, 0, 3), np.uint8)),
               Page([None, 'a', None, None], random_page(np.random.default_rng(1), 30).images[:3])]:
    assert_is(tokenizer().page(page), elements(page))


def test_windows_hold_the_pictures_between_their_ends():
  page = next(page for page in pages().episodes if len(page.images) > 3)
  tokenized, wanted = tokenizer().tokenize(MemorySource('x', 'pages', [page]), 0), elements(page)
  inside = {place for place, element in enumerate(wanted) if element[3] is not None and element[2]}
  ends = [place for place in range(len(wanted) + 1) if place not in inside]
  rng = np.random.default_rng(0)
  for _ in range(60):
    start, stop = sorted(rng.choice(ends, 2, replace=False).tolist())
    assert_is(tokenized.window(start, stop), wanted[start:stop])


def test_a_page_whose_pictures_do_not_fit_its_places_is_named():
  page = Page(['a', None], np.zeros((2, SIDE, SIDE, 3), np.uint8))
  with pytest.raises(InputError, match='web, episode 0: a page with 2 pictures has 1 places'):
    tokenizer().tokenize(MemorySource('web', 'pages', [page]), 0)


def test_index_counts_tokens_and_patches():
  wanted = [elements(page) for page in pages().episodes]
  assert index().lengths.tolist() == list(map(len, wanted)) and index().tokens == sum(map(len, wanted))
  assert index().patches == P * sum(len(page.images) for page in pages().episodes)
  flat = [element for page in wanted for element in page]
  assert index().picture_starts.tolist() == [i for i, element in enumerate(flat) if element[3] is not None
                                             and element[2] == 0]


@functools.cache
def flat_places():
  """For each page, whether each of its tokens is a patch, and whether it is one but the first of a picture."""
  flags = [np.array([(patch is not None, patch is not None and place > 0) for _, _, place, patch in elements(page)])
           for page in pages().episodes]
  return [(of_page[:, 0], of_page[:, 1]) for of_page in flags]


def check(segment, tokens, patches):
  is_patch, inside = flat_places()[segment.episode]
  assert 0 <= segment.start < segment.stop <= len(is_patch)
  assert not inside[segment.start] and (segment.stop == len(inside) or not inside[segment.stop])
  assert segment.tokens == segment.stop - segment.start <= tokens
  assert segment.patches == is_patch[segment.start:segment.stop].sum() <= patches


@pytest.mark.parametrize(('tokens', 'patches'), [(256, 96), (64, 96), (256, 5), (20, 4), (2000, 400)])
def test_windows_keep_to_both_capacities_and_cut_no_picture(tokens, patches):
  drawer = PageDrawer(0, index(), tokens, patches)
  rng = np.random.default_rng(0)
  segments = drawer.draw(rng, 40_000)
  for segment in segments:
    check(segment, tokens, patches)
    room, slots = int(rng.integers(1, tokens + 1)), int(rng.integers(patches + 1))
    part, rest = drawer.split(segment, room, slots)
    if part is None:
      # Not two tokens fit, or a picture stands first that does not.
      is_patch, _ = flat_places()[segment.episode]
      assert rest is None and (room < 2 or is_patch[segment.start:segment.start + 2].any())
      continue
    check(part, room, slots)
    assert part.start == segment.start
    if part.stop == segment.stop:
      assert rest is None and part == segment
      continue
    check(rest, tokens, patches)
    assert (rest.start, rest.stop) == (part.stop, segment.stop)
    # It is cut no earlier than it has to be: the next token, or the picture that it begins, does not fit.
    is_patch, _ = flat_places()[segment.episode]
    more = P if is_patch[part.stop] else 1
    assert part.tokens + more > room or part.patches + P * is_patch[part.stop] > slots


def test_pages_that_fit_come_whole_and_all_tokens_evenly():
  drawer = PageDrawer(0, index(), 5000, 5000)
  for segment in drawer.draw(np.random.default_rng(0), 20_000):
    assert (segment.start, segment.stop) == (0, index().lengths[segment.episode])
  texts = [' '.join(DOCUMENTS)[:size] for size in (6000, 500, 50, 20, 200)]
  web = open_index(MemorySource('web', 'pages', [Page([text], np.zeros((0, 0, 0, 3), np.uint8)) for text in texts]),
                   tokenizer())
  assert web.lengths.max() > 1000 and 2 < web.lengths.min() < 20
  seen = np.zeros(web.timesteps)
  for segment in PageDrawer(0, web, 100, 0).draw(np.random.default_rng(0), 400_000):
    first = web.step_starts[segment.episode]
    seen[first + segment.start:first + segment.stop] += 1
  assert seen.min() > 0.7 * seen.mean() and seen.max() < 1.3 * seen.mean()


def page_config(**changes):
  config = data_config(**changes)
  config.mixture['pages'] = config.mixture['digits']
  return config


def test_rows_with_pages_are_full_and_shares_are_the_mixtures():
  sources = [*mixed_sources(), pages()]
  loader = make_loader(page_config(block_rows=32), sources, tokenizer(), seed=0, batch_size=16)
  vocabulary = tokenizer().vocabulary
  for _ in range(30):
    batch = next(loader)
    ours = batch.sources == 7
    assert ((batch.tokens == vocabulary.patch_id) == (np.arange(256) == batch.patch_positions[..., None]).any(1)).all()
    # What is predicted next is text, and all text but a segment's first.
    follows = ours[:, :-1] & (batch.segment_ids[:, 1:] == batch.segment_ids[:, :-1])
    text = batch.tokens[:, 1:] != vocabulary.patch_id
    assert (batch.loss_weights[:, :-1][follows] == text[follows]).all()
    assert (batch.targets[:, :-1][follows & text] == batch.tokens[:, 1:][follows & text]).all()
  report = loader.report()
  assert report['position_fill'] > 0.99
  for name, share in report['wanted_shares'].items():
    assert report['shares'][name] == pytest.approx(share, abs=0.02), name


def test_rows_of_pages_alone():
  config = page_config()
  config.mixture = {'pages': config.mixture['pages']}
  plan = PackingPlan(config, [pages()], [index()], 0)
  filled = sum(int(piece['stop'] - piece['start']) for i in range(64) for piece in plan.row(i))
  assert filled / (64 * 256) > 0.97


def test_pictures_larger_than_a_row():
  config = page_config(patches_per_row=3)
  config.mixture = {'pages': config.mixture['pages']}
  with pytest.raises(InputError, match=r'pages, episode \d+: one timestep needs 4 patches, a row has 3'):
    PackingPlan(config, [pages()], [index()], 0)


def test_layouts():
  mmc4 = {'text_list': ['One.', 'Two.', ' ', 'Three.'],
          'image_info': [{'image_name': name, 'matched_text_index': place}
                         for name, place in (('b.png', 3), ('a.png', 0), ('c.png', 3))]}
  page = page_of_line(mmc4)
  assert (page.texts, page.pictures) == (['One. Two.', 'Three.'], ['a.png', 'b.png', 'c.png'])
  assert page.is_picture == [True, False, True, True, False]
  obelics = {'texts': ['One.', 'Two.', None, 'Three.', None], 'images': [None, None, 'a.png', None, 'b.png']}
  page = page_of_line(obelics)
  assert (page.texts, page.pictures) == (['One.\n\nTwo.', 'Three.'], ['a.png', 'b.png'])
  assert page.is_picture == [False, True, False, True]


@pytest.mark.parametrize(('line', 'message'), [
    ({'text': 'a'}, 'not a page in the layout of MMC4 or OBELICS'),
    ({'texts': ['a', None], 'images': [None]}, '2 texts and 1 images'),
    ({'texts': ['a'], 'images': ['a.png']}, 'both there, or both null'),
    ({'texts': [None], 'images': ['a.png']}, 'a page without text'),
    ({'text_list': ['a'], 'image_info': [{'image_name': 'a.png', 'matched_text_index': 1}]}, 'text_index 1 is no'),
    ({'texts': ['a', 3], 'images': [None, None]}, 'not a page'),
])
def test_lines_that_are_no_page(line, message):
  with pytest.raises(InputError, match=message):
    page_of_line(line)


def key(page):
  return [text or '' for text in page[0]], page[1]


def test_pages_folder(tmp_path):
  wanted = pages_with_pictures(tmp_path / 'own')
  train, heldout = build(Request('pages_folder', path=str(tmp_path / 'own'), picture_size=SIDE), tmp_path)
  found = [(list(page.texts), page.images[:].tobytes()) for source in (train, heldout)
           for page in (source[i] for i in range(len(source)))]
  assert sorted(found, key=key) == sorted(wanted, key=key) and len(heldout)
  assert train.kind == 'pages' and len(open_index(train, tokenizer()).lengths) == len(train)
  assert set(train.texts()) == {text for i in range(len(train)) for text in train[i].texts if text}


@pytest.mark.parametrize(('name', 'message'), [
    ('images/none.png', "pages.jsonl:41: picture 'images/none.png': there is no 'images/none.png' in"),
    ('torn.png', "pages.jsonl:41: picture 'torn.png': no picture that decodes"),
    ('../secret.png', "pages.jsonl:41: picture '../secret.png': there is no '../secret.png' in"),
    ('zero\0.png', r"pages.jsonl:41: picture 'zero\x00.png': there is no 'zero\x00.png' in"),
    (None, 'pages.jsonl:41: text and image are both there, or both null'),
])
def test_pages_folder_skips_and_names_what_is_bad(tmp_path, name, message):
  folder = tmp_path / 'own'
  wanted = pages_with_pictures(folder)
  (folder / 'torn.png').write_bytes(encoded(np.zeros((SIDE, SIDE, 3), np.uint8))[:-30])
  (tmp_path / 'secret.png').write_bytes(encoded(np.zeros((SIDE, SIDE, 3), np.uint8)))
  with open(folder / 'pages.jsonl', 'a') as file:
    file.write(json.dumps({'texts': ['a', None], 'images': [None, name]}))
  request = Request('pages_folder', path=str(folder), picture_size=SIDE)
  with pytest.raises(InputError, match=f'examples are bad; last, .*{re.escape(message)}'):
    build(request, tmp_path)
  train, heldout = build(request, tmp_path, skip_share=0.1)
  assert len(train) + len(heldout) == len(wanted) and len(train.metadata['dropped']) == 1
