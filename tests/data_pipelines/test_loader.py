"""Batches, against a slow derivation of every number from the raw episodes; order, resuming and sharding."""

import dataclasses
import math
import os
import pathlib
import time

import numpy as np
import pytest

from data_pipelines.errors import InputError
from data_pipelines.loader import make_loader, open_indexes
from data_pipelines.sequences.index import make_indexes, open_index
from data_pipelines.sequences.plan import PackingPlan
from data_pipelines.sequences.rows import EpisodeCache, PackedBatch
from data_pipelines.sequences.tokens import (
    ACTION_POSITION,
    DOCUMENT_POSITION,
    SEPARATOR_POSITION,
)
from tests.data_pipelines.token_cases import CARTPOLE, control_source, data_config, mixed_sources, tokenizer

SOURCES = mixed_sources()
BATCH = 8


def make(**settings):
  config = settings.pop('config', None) or data_config()
  return make_loader(config, SOURCES, tokenizer(), **{'seed': 3, 'batch_size': BATCH, **settings})


def assert_same(ours: PackedBatch, theirs: PackedBatch):
  for name, a, b in zip(PackedBatch._fields, ours, theirs, strict=True):
    np.testing.assert_array_equal(a, b, err_msg=name)


def slow_continuous(x, companded: bool) -> int:
  c = math.copysign(math.log(100 * abs(float(x)) + 1) / math.log(25601), x) if companded else float(x)
  return 1024 + min(1023, math.floor((min(max(c, -1), 1) + 1) / 2 * 1024))


def slow_patches(image):
  """(pixels, row interval, column interval) of each patch in raster order."""
  height, width = (math.ceil(side / 16) for side in image.shape[:2])
  padded = np.zeros((height * 16, width * 16, 3), np.uint8)
  padded[:image.shape[0], :image.shape[1]] = image
  for row in range(height):
    for column in range(width):
      yield (padded[16 * row:16 * row + 16, 16 * column:16 * column + 16],
             [round(128 * row / height), round(128 * (row + 1) / height)],
             [round(128 * column / width), round(128 * (column + 1) / width)])


def slow_step(source, episode, step, hide):
  """(input id, label or None, local position, patch or None) of each token of one timestep, by the paper's rules."""
  real, text = tokenizer().vocabulary, tokenizer().text_tokenizer
  if source.kind != 'control':
    yield from ((real.patch_id, None, i, patch) for i, patch in enumerate(slow_patches(episode.image)))
    if source.kind == 'caption':
      words, trained = text.encode(episode.caption, end=True), 0
    else:
      asked = text.encode(f'Q: {episode.question} A:')
      words, trained = [*asked, *text.encode(f' {episode.answer}', end=True)], len(asked)
    yield from ((word, word if i >= trained else None, DOCUMENT_POSITION, None) for i, word in enumerate(words))
    return
  place = 0
  for key in sorted(source.task.observation):
    value, kind = episode.observation[key][step], source.task.observation[key].kind
    if kind == 'image':
      items = [(real.patch_id, None, patch) for patch in slow_patches(value)]
    elif kind == 'text':
      items = [(word, word, None) for word in text.encode(value)]
    else:
      items = [(slow_continuous(x, True) if kind == 'continuous' else x, None, None) for x in np.ravel(value)]
    for token, label, patch in items:
      yield token, label, place, patch
      place += 1
  yield real.separator_id, None, SEPARATOR_POSITION, None
  for executed, expert in zip(np.ravel(episode.action[step]), np.ravel(episode.expert_action[step]), strict=True):
    ids = executed, expert
    if source.task.action.kind == 'continuous':
      ids = slow_continuous(executed, False), slow_continuous(expert, False)
    yield (real.hidden_action_id if hide else ids[0]), ids[1], ACTION_POSITION, None


def slow_row(pieces, config) -> PackedBatch:
  real, L = tokenizer().vocabulary, config.sequence_length
  out = {name: [0] * L for name in ('loss_weights', 'segment_ids', 'positions', 'local_positions', 'sources')}
  out['tokens'], labels = [real.padding_id] * L, [None] * L
  patches = np.zeros((config.patches_per_row, 16, 16, 3), np.uint8)
  patch_positions = [L] * config.patches_per_row
  intervals = np.zeros((config.patches_per_row, 2, 2), np.uint8)
  place = slot = within = 0
  for n, piece in enumerate(pieces):
    source = SOURCES[piece['source']]
    episode = source[int(piece['episode'])]
    if n == 0 or piece['segment'] != pieces[n - 1]['segment']:
      within = 0
    if source.kind == 'text':
      words = tokenizer().text_tokenizer.encode(episode.text, end=True)[piece['start']:piece['stop']]
      tokens = [(word, word, DOCUMENT_POSITION, None) for word in words]
    else:
      tokens = [token for step in range(piece['start'], piece['stop'])
                for token in slow_step(source, episode, step, piece['hide_actions'])]
    for token, label, local, patch in tokens:
      out['tokens'][place], labels[place] = token, label
      out['segment_ids'][place], out['sources'][place] = piece['segment'], piece['source']
      out['positions'][place], out['local_positions'][place] = within, local
      if patch is not None:
        patches[slot], intervals[slot], patch_positions[slot] = patch[0], patch[1:], place
        slot += 1
      place, within = place + 1, within + 1
  out['targets'] = [real.padding_id] * L
  for i in range(L - 1):
    if labels[i + 1] is not None and out['segment_ids'][i] == out['segment_ids'][i + 1]:
      out['targets'][i], out['loss_weights'][i] = labels[i + 1], 1
  return PackedBatch(**out, patches=patches, patch_positions=patch_positions, patch_intervals=intervals)


@pytest.mark.parametrize('changes', [{}, {'sequence_length': 601, 'patches_per_row': 200}])
def test_every_number_of_a_batch(changes):
  config = data_config(**changes)
  loader = make(config=config)
  loader.set_state(5)
  batch = next(loader)
  plan = PackingPlan(config, SOURCES, [open_index(source, tokenizer()) for source in SOURCES], seed=3)
  kinds = set()
  for i in range(BATCH):
    pieces = plan.row(5 * BATCH + i)
    kinds |= {(SOURCES[piece['source']].kind, bool(piece['hide_actions']), int(piece['role'])) for piece in pieces}
    assert_same(PackedBatch(*(array[i] for array in batch)), slow_row(pieces, config))
  assert {('control', False, 0), ('control', True, 0), ('control', False, 1), ('text', False, 0)} <= kinds
  assert any(kind == 'vqa' for kind, *_ in kinds)


def test_shapes_and_types():
  loader = make()
  batch = next(loader)
  config = data_config()
  B, L, P = BATCH, config.sequence_length, config.patches_per_row
  wanted = PackedBatch(*[((B, L), np.int32)] * 2, ((B, L), np.float32), *[((B, L), np.int32)] * 3, ((B, L), np.int16),
                       ((B, P, 16, 16, 3), np.uint8), ((B, P), np.int32), ((B, P, 2, 2), np.uint8))
  assert isinstance(batch, PackedBatch)
  for name, array, (shape, dtype) in zip(PackedBatch._fields, batch, wanted, strict=True):
    assert (array.shape, array.dtype) == (shape, dtype), name
  assert loader.source_names == tuple(source.name for source in SOURCES)


def test_nothing_is_predicted_across_segments_or_into_padding():
  loader = make()
  for _ in range(10):
    batch = next(loader)
    ends = np.diff(batch.segment_ids, axis=1, append=0) != 0
    assert not batch.loss_weights[ends].any() and not batch.loss_weights[batch.segment_ids == 0].any()
    assert (batch.positions[:, 1:][ends[:, :-1]] == 0).all()
    assert (batch.targets[batch.loss_weights == 0] == tokenizer().vocabulary.padding_id).all()


@pytest.mark.parametrize('hosts', [
    ((0, 1, 2, 3), (4, 5, 6, 7)), ((0, 1), (2, 3), (4, 5), (6, 7)), ((0, 5), (1, 2, 3, 4, 6, 7))])
def test_the_global_batch_does_not_depend_on_the_hosts(hosts):
  whole = make()
  parts = [make(local_rows=rows) for rows in hosts]
  order = np.argsort(np.concatenate(hosts))
  for _ in range(4):
    joined = [np.concatenate(arrays)[order] for arrays in zip(*(next(part) for part in parts), strict=True)]
    assert_same(PackedBatch(*joined), next(whole))


def test_resuming_is_exact_also_on_other_hosts():
  whole = make()
  batches = [next(whole) for _ in range(9)]
  state = make()
  for _ in range(6):
    next(state)
  assert state.get_state() == 6
  half = make(local_rows=range(BATCH // 2, BATCH))
  for loader, rows in ((make(), slice(None)), (half, slice(BATCH // 2, None))):
    loader.set_state(state.get_state())
    for step in (6, 7, 8):
      assert_same(next(loader), PackedBatch(*(array[rows] for array in batches[step])))
    assert loader.get_state() == 9
  whole.set_state(0)
  assert_same(next(whole), batches[0])


def test_threads_change_nothing():
  loaders = [make(config=data_config(read_threads=threads)) for threads in (0, 1, 3)]
  for _ in range(5):
    first, *others = [next(loader) for loader in loaders]
    for other in others:
      assert_same(first, other)


def test_report():
  loader = make()
  batches = [next(loader) for _ in range(60)]
  report = loader.report()
  filled = np.concatenate([batch.segment_ids for batch in batches]) > 0
  assert report['position_fill'] == pytest.approx(filled.mean()) and report['position_fill'] > 0.98
  slots = np.concatenate([batch.patch_positions for batch in batches]) < data_config().sequence_length
  assert report['patch_fill'] == pytest.approx(slots.mean())
  sources = np.concatenate([batch.sources for batch in batches])[filled]
  for number, source in enumerate(SOURCES):
    assert report['shares'][source.name] == pytest.approx((sources == number).mean())
    assert report['shares'][source.name] == pytest.approx(report['wanted_shares'][source.name], abs=0.02)
  segments = np.concatenate([batch.segment_ids.max(axis=1) for batch in batches])
  assert report['segments_per_row'] == pytest.approx(segments.mean())


def test_cache_keeps_to_its_budget_and_reads_once_while_it_holds():
  source = control_source(CARTPOLE, 10, 40)
  cache = EpisodeCache([source], tokenizer(), megabytes=1)
  for number in [*range(10), *range(10)]:
    cache.window(0, number, 0, 1)
  assert source.reads == 10
  one = tokenizer().tokenize(source, 0).nbytes
  small = EpisodeCache([source], tokenizer(), megabytes=2.5 * one / 2**20)
  source.episodes = [source.episodes[0]] * 10
  source.reads = 0
  for number in (0, 1, 0, 2, 0, 1):  # 0 is used again and again, so 1 has to go for 2
    small.window(0, number, 0, 1)
  assert source.reads == 4


def in_parts(timesteps):
  return [dataclasses.replace(source, part_timesteps=timesteps) if source.kind == 'control' else source
          for source in SOURCES]


@pytest.mark.parametrize('hide_actions', [False, True])
def test_windows_of_parts_are_those_of_the_whole(hide_actions):
  rng = np.random.default_rng(0)
  for number, source in enumerate(in_parts(7)[:4]):
    cache = EpisodeCache(in_parts(7), tokenizer(), megabytes=8)
    whole = tokenizer().tokenize(source, 3)
    bounds = np.sort(rng.integers(whole.length + 1, size=(60, 2))).tolist()
    for start, stop in [(0, 7), (7, 14), (6, 8), (0, whole.length), *((a, b) for a, b in bounds if a < b)]:
      ours, theirs = cache.window(number, 3, start, stop, hide_actions), whole.window(start, stop, hide_actions)
      for field in dataclasses.fields(theirs):
        a, b = getattr(ours, field.name), getattr(theirs, field.name)
        np.testing.assert_array_equal(a, b, err_msg=field.name)
        assert a.dtype == b.dtype


def test_a_window_reads_no_more_parts_than_it_touches():
  source = dataclasses.replace(SOURCES[0], part_timesteps=10, reads=0)
  cache = EpisodeCache([source], tokenizer(), megabytes=8)
  cache.window(0, 2, 13, 18)
  assert source.reads == 1
  cache.window(0, 2, 10, 31)
  assert source.reads == 3


def test_parts_change_nothing():
  whole = make()
  parts = make_loader(data_config(), in_parts(5), tokenizer(), seed=3, batch_size=BATCH)
  for _ in range(4):
    assert_same(next(parts), next(whole))


def text_on_disk(directory):
  return [dataclasses.replace(source, directory=str(directory), reads=0) if source.kind == 'text' else source
          for source in SOURCES]


def test_text_on_disk_is_read_once_and_then_from_its_tokens(tmp_path, caplog):
  def batches(sources, count=4):
    loader = make_loader(data_config(), sources, tokenizer(), seed=3, batch_size=BATCH)
    return [next(loader) for _ in range(count)]

  whole = batches(SOURCES)
  damages = [lambda path: None, lambda path: path.write_bytes(path.read_bytes()[:-2]), pathlib.Path.unlink]
  for damage in [*damages, lambda path: None]:
    sources = text_on_disk(tmp_path)
    for ours, theirs in zip(batches(sources), whole, strict=True):
      assert_same(ours, theirs)
    path, = tmp_path.glob('*.tokens')
    assert path.stat().st_size == 2 * open_index(SOURCES[-1], tokenizer()).timesteps  # 1,024 subwords fit into uint16
    reads = sources[-1].reads
    batches(sources, 12)
    assert sources[-1].reads == reads + 3  # the three that stand for all when the index is looked for
    damage(path)
    assert set(os.listdir(tmp_path)) <= {path.name, f'{path.stem}.npz'}
  path.unlink()
  make_indexes(text_on_disk(tmp_path)[-1:], tokenizer(), workers=1)
  assert path.exists()
  assert 'could not be kept' not in caplog.text
  for ours, theirs in zip(batches(text_on_disk(tmp_path / 'gone')), whole, strict=True):
    assert_same(ours, theirs)
  assert 'the tokens of text could not be kept' in caplog.text


def test_indexes_are_parsed_by_one_thread_at_a_time(tmp_path, monkeypatch):
  sources = []
  for number, source in enumerate(control_source(CARTPOLE, 3, 9) for _ in range(6)):
    (tmp_path / str(number)).mkdir()
    sources.append(dataclasses.replace(source, name=f'classic_control/{number}', directory=str(tmp_path / str(number))))
  config = data_config(read_threads=4)
  made, _ = open_indexes(config, sources, tokenizer())
  load, now, most = np.load, [], []

  def slow_load(path):
    now.append(path)
    most.append(len(now))
    time.sleep(0.02)
    now.remove(path)
    return load(path)

  monkeypatch.setattr(np, 'load', slow_load)
  kept, _ = open_indexes(config, sources, tokenizer())
  assert most == [1] * 6
  for ours, theirs in zip(kept, made, strict=True):
    np.testing.assert_array_equal(ours.step_tokens, theirs.step_tokens)


def test_errors_in_the_data_reach_the_caller():
  sources = mixed_sources()
  sources[1].episodes[4].observation['state'][3, 17] = np.nan
  with pytest.raises(InputError, match="metaworld/reach, episode 4: observation 'state': NaN.*3, 17"):
    make_loader(data_config(), sources, tokenizer(), seed=0, batch_size=8)


def test_an_index_that_lies_is_noticed():
  sources = mixed_sources()
  loader = make_loader(data_config(read_threads=0), sources, tokenizer(), seed=0, batch_size=8)
  sources[4].episodes = [type(sources[4].episodes[0])(e.image, e.question * 9, e.answer) for e in sources[4].episodes]
  with pytest.raises(InputError, match='longer than its index says'):
    for _ in range(20):
      next(loader)
