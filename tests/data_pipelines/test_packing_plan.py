"""The packing plan: pure, full, within both capacities, true to the mixture, and whole timesteps only."""

import functools
import json
import logging
import time

import numpy as np
import pytest

from data_pipelines.datasets.episodes import TextDocument
from data_pipelines.environments.specs import ArraySpec
from data_pipelines.errors import InputError
from data_pipelines.sequences.index import EpisodeIndex, open_index
from data_pipelines.sequences.packing import BlockPacker
from data_pipelines.sequences.plan import PIECE, PackingPlan, Role, mixture_shares
from data_pipelines.sequences.windows import DocumentDrawer, Prompts, Segment, WindowDrawer
from data_pipelines.tokenization.vocabulary import Vocabulary
from tests.data_pipelines.token_cases import (
    CARTPOLE,
    DOCUMENTS,
    MemorySource,
    control_source,
    control_task,
    data_config,
    mixed_sources,
    random_episode,
    tokenizer,
)

SOURCES = mixed_sources()


@functools.cache
def indexes() -> tuple[EpisodeIndex, ...]:
  return tuple(open_index(source, tokenizer()) for source in SOURCES)


def make_plan(seed=0, **changes) -> PackingPlan:
  return PackingPlan(data_config(**changes), SOURCES, indexes(), seed)


@functools.cache
def many_rows() -> tuple[np.ndarray, ...]:
  plan = make_plan()
  return tuple(plan.row(i) for i in range(480))


def sizes(piece) -> tuple[int, int]:
  """Tokens and patches, counted from the episode itself."""
  run = tokenizer().tokenize(SOURCES[piece['source']], piece['episode']).window(piece['start'], piece['stop'])
  return len(run), len(run.patches)


def test_rows_depend_on_their_number_and_the_seed_alone():
  forward, backward, other = make_plan(), make_plan(), make_plan(seed=1)
  rows = [forward.row(i) for i in range(100)]
  for i in reversed(range(100)):
    np.testing.assert_array_equal(backward.row(i), rows[i])
  assert sum(len(other.row(i)) == len(rows[i]) and (other.row(i) == rows[i]).all() for i in range(100)) == 0
  assert rows[0].dtype == PIECE


@pytest.mark.parametrize('changes', [{}, {'patches_per_row': 24}, {'block_rows': 1}, {'sequence_length': 700}])
def test_capacities_are_kept(changes):
  plan = make_plan(**changes)
  config = data_config(**changes)
  for i in range(40):
    counts = np.array([sizes(piece) for piece in plan.row(i)])
    assert counts[:, 0].sum() <= config.sequence_length and counts[:, 1].sum() <= config.patches_per_row
    assert (counts[:, 0] > 0).all()


def test_rows_are_full_and_shares_are_the_mixtures():
  filled = np.zeros(len(SOURCES))
  for row in many_rows():
    for piece in row:
      filled[piece['source']] += sizes_by_index(piece)
  assert filled.sum() / (480 * 256) >= 0.998
  wanted = np.array([0.2, 0.15, 0.15, 0.2, 0.1, 0.05, 0.15])
  np.testing.assert_allclose(filled / filled.sum(), wanted, atol=0.01)


def test_long_windows_leave_small_and_picture_datasets_their_share():
  config = data_config(sequence_length=1024, patches_per_row=256, block_rows=64)
  for entry in config.mixture.values():
    entry.window_timesteps = 0
  plan = PackingPlan(config, SOURCES, indexes(), 0)
  filled = np.zeros(len(SOURCES))
  for i in range(640):
    for piece in plan.row(i):
      filled[piece['source']] += sizes_by_index(piece)
  assert filled.sum() / (640 * 1024) >= 0.998
  np.testing.assert_allclose(filled / filled.sum(), [0.2, 0.15, 0.15, 0.2, 0.1, 0.05, 0.15], atol=0.01)


def sizes_by_index(piece) -> int:
  if SOURCES[piece['source']].kind == 'text':
    return int(piece['stop'] - piece['start'])
  index = indexes()[piece['source']]
  first = index.step_starts[piece['episode']]
  return int(index.token_starts[first + piece['stop']] - index.token_starts[first + piece['start']])


def test_index_agrees_with_the_tokens():
  rng = np.random.default_rng(0)
  for row in rng.choice(480, 12, replace=False):
    for piece in many_rows()[row]:
      assert sizes_by_index(piece) == sizes(piece)[0]


def test_without_text_windows_fill_the_gaps():
  sources = SOURCES[:-1]
  config = data_config()
  del config.mixture['python_docs']
  plan = PackingPlan(config, sources, indexes()[:-1], 0)
  assert sum(sizes_by_index(piece) for i in range(96) for piece in plan.row(i)) / (96 * 256) >= 0.97


def test_every_row_holds_a_mixture():
  tasks = [len(set(row['source'])) for row in many_rows()]
  assert np.mean(tasks) > 3


def test_no_place_in_a_block_is_for_one_kind_of_row():
  text = [sum(sizes_by_index(piece) for piece in row if piece['source'] == 6) for row in many_rows()]
  by_place = np.reshape(text, (-1, 16)).mean(axis=0)
  deviation = np.std(text) / (len(text) / 16)**0.5
  assert np.abs(by_place - np.mean(text)).max() < 4 * deviation


def test_windows_keep_to_their_limit_and_to_their_episode():
  limits = {1: 1, 2: 1, 3: 3}
  for row in many_rows():
    for piece in row:
      index = indexes()[piece['source']]
      assert 0 <= piece['start'] < piece['stop'] <= index.lengths[piece['episode']]
      if piece['role'] == Role.WINDOW and piece['source'] in limits:
        assert piece['stop'] - piece['start'] <= limits[piece['source']]


def test_prompts():
  windows = prompts = from_end = hidden = 0
  for row in many_rows():
    windows_before = np.cumsum(row['role'] == Role.WINDOW) - (row['role'] == Role.WINDOW)
    assert row['segment'].tolist() == (windows_before + 1).tolist()  # a window ends its segment
    for i, piece in enumerate(row):
      if piece['role'] == Role.WINDOW:
        windows += piece['source'] in (1, 2)
        hidden += bool(piece['hide_actions'])
        assert not piece['hide_actions'] or piece['source'] in (1, 2)
        continue
      window = row[i + 1]
      assert window['segment'] == piece['segment'] and window['role'] == Role.WINDOW
      assert window['source'] == piece['source'] and window['episode'] != piece['episode']
      assert piece['episode'] % 3 != 1  # never a noisy one
      assert SOURCES[piece['source']].kind == 'control' and not piece['hide_actions']
      assert sizes_by_index(piece) <= 128
      prompts += piece['source'] in (1, 2)
      from_end += piece['source'] in (1, 2) and piece['stop'] == indexes()[piece['source']].lengths[piece['episode']]
  assert windows > 500
  assert prompts / windows == pytest.approx(0.25, abs=0.05)
  assert from_end / prompts == pytest.approx(0.5, abs=0.12)
  assert hidden / windows == pytest.approx(0.5, abs=0.06)


def drawer(prompts=None, **settings) -> WindowDrawer:
  """Of 50 episodes of 40 timesteps, 7 tokens each."""
  index = EpisodeIndex(np.full(50, 40), np.full(2000, 7, np.int32), np.zeros(50, np.int32), np.zeros(50, np.float32))
  return WindowDrawer(0, index, 1024, 0, prompts=prompts, **settings)


def test_window_starts_are_uniform_over_timesteps():
  segments = drawer(window_timesteps=1).draw(np.random.default_rng(0), 7 * 40_000)
  starts = np.bincount([segment.start for segment in segments], minlength=40)
  assert len(starts) == 40 and starts.min() > 850 and starts.max() < 1150


def test_prompt_lengths_are_uniform_and_half_come_from_the_end():
  prompts = Prompts(np.arange(50), 1.0, 0.5, 140, 0)
  segments = drawer(prompts, window_timesteps=1).draw(np.random.default_rng(0), 1_000_000)
  from_end = [segment.prompt_stop == 40 for segment in segments]
  lengths = np.bincount([segment.prompt_stop - segment.prompt_start for segment in segments
                         if segment.prompt_stop == 40 or segment.prompt_start < 20], minlength=21)
  # 7..13 tokens of budget are one timestep, as are 1..6, of which there must be one; 140 alone are twenty.
  assert lengths[0] == 0 and lengths[1] / len(from_end) == pytest.approx(13 / 140, rel=0.2)
  assert lengths[2:20].max() / lengths[2:20].min() < 1.5 and lengths[21:].sum() == 0
  # Half from the end, and of the others those that run into it: mean length 10 steps of 40 possible starts.
  assert 0.55 < np.mean(from_end) < 0.7


def test_prompts_are_of_other_episodes_or_there_are_none():
  for episodes in ([7], [3, 7]):
    segments = drawer(Prompts(np.array(episodes), 1.0, 0.5, 140, 0)).draw(np.random.default_rng(0), 100_000)
    prompted = [segment for segment in segments if segment.prompt_stop > segment.prompt_start]
    assert len(prompted) == len(segments) - (len(episodes) == 1) * sum(segment.episode == 7 for segment in segments)
    assert {segment.prompt_episode for segment in prompted} == set(episodes)
    assert all(segment.prompt_episode != segment.episode for segment in prompted)
  assert all(segment.prompt_stop == 0 for segment in drawer(Prompts(np.zeros(0, int), 1.0, 0.5, 140, 0)).draw(
      np.random.default_rng(0), 10_000))


def test_draws_have_the_wanted_size_in_expectation():
  rng = np.random.default_rng(0)
  totals = [sum(segment.tokens for segment in drawer().draw(rng, 300)) for _ in range(2000)]
  assert np.mean(totals) == pytest.approx(300, rel=0.02)


def test_cut_windows_lose_nothing():
  whole = drawer().draw(np.random.default_rng(3), 4000)
  assert any(segment.tokens > 100 for segment in whole)
  for segment in whole:
    part, rest = drawer().split(segment, 100, 0)
    assert part.tokens <= 100 and part.tokens == 7 * (part.stop - part.start)
    if segment.tokens <= 100:
      assert part == segment and rest is None
    else:
      assert part.tokens == 98 and part.tokens + rest.tokens == segment.tokens
      assert (part.start, rest.start, rest.stop) == (segment.start, part.stop, segment.stop)
  assert drawer().split(whole[0], 6, 0) == (None, None)


def test_planning_is_fast():
  plan = make_plan(block_rows=64)
  plan.row(0)
  start = time.process_time()
  for block in range(1, 6):
    plan.row(64 * block)
  assert (time.process_time() - start) / 5 < 0.1


@pytest.mark.parametrize(('source', 'changes', 'message'), [
    (0, {'sequence_length': 6}, 'dm_control/cartpole, episode 0: one timestep needs 7 positions, a row has 6'),
    (3, {'patches_per_row': 15}, 'babyai/go-to, episode 0: one timestep needs 16 patches, a row has 15; .*patches_per'),
    (4, {'sequence_length': 20}, r'easy_vqa, episode \d+: one timestep needs \d+ positions, a row has 20'),
])
def test_a_timestep_longer_than_a_row(source, changes, message):
  config = data_config(**changes)
  config.mixture = {SOURCES[source].name.partition('/')[0]: config.mixture['dm_control']}
  with pytest.raises(InputError, match=message):
    PackingPlan(config, [SOURCES[source]], [indexes()[source]], 0)


def test_a_task_too_large_for_any_prompt_is_named(caplog):
  with caplog.at_level(logging.WARNING):
    make_plan()
    assert 'without prompts' not in caplog.text
    make_plan(patches_per_row=24)  # of which a prompt may have half
  (record,) = (record for record in caplog.records if 'without prompts' in record.message)
  assert 'babyai/go-to: a timestep has' in record.message and '16 patches, a prompt at most 128 and 12' in (
      record.message)


def test_the_longest_timestep_is_named():
  task = control_task('x/mission', ArraySpec('discrete', (), 2), mission=ArraySpec('text'))
  episodes = [random_episode(task, 5, np.random.default_rng(0)) for _ in range(3)]
  episodes[1].observation['mission'][2] = 'go to the red ball ' * 20
  source = MemorySource(task.name, 'control', episodes, task)
  config = data_config(sequence_length=64, mixture={'x': data_config().mixture['dm_control']})
  with pytest.raises(InputError, match='x/mission, episode 1: one timestep needs .* set data.sequence_length to'):
    PackingPlan(config, [source], [open_index(source, tokenizer())], 0)


def test_bad_mixtures():
  config = data_config()
  with pytest.raises(InputError, match=r"\['python_docs'\] have no dataset"):
    PackingPlan(config, SOURCES[:-1], indexes()[:-1], 0)
  del config.mixture['babyai']
  with pytest.raises(InputError, match=r"\['babyai'\] no weight"):
    PackingPlan(config, SOURCES, indexes(), 0)
  config = data_config()
  config.mixture['babyai'].weight = -1
  with pytest.raises(InputError, match='weights must be'):
    PackingPlan(config, SOURCES, indexes(), 0)
  empty = MemorySource('babyai', 'text', [])
  with pytest.raises(InputError, match='is empty'):
    PackingPlan(data_config(mixture={'babyai': config.mixture['dm_control']}), [empty],
                [open_index(empty, tokenizer())], 0)


def test_an_entry_of_weight_0_needs_no_dataset():
  config = data_config()
  config.mixture['python_docs'].weight = 0
  shares = mixture_shares(config.mixture, SOURCES[:-1])
  assert shares.sum() == pytest.approx(1) and len(shares) == len(SOURCES) - 1
  with pytest.raises(InputError, match=r"\['python_docs'\] no weight"):
    mixture_shares(config.mixture, SOURCES)


def test_task_weights_divide_a_datasets_share():
  config = data_config()
  tasks = [i for i, source in enumerate(SOURCES) if source.name.startswith('dm_control/')]
  equal = mixture_shares(config.mixture, SOURCES)
  config.mixture['dm_control'].task_weights = tuple(range(1, len(tasks) + 1))
  shares = mixture_shares(config.mixture, SOURCES)
  np.testing.assert_allclose(shares[tasks], equal[tasks].sum() * np.arange(1, len(tasks) + 1) / sum(
      range(1, len(tasks) + 1)))
  np.testing.assert_allclose(np.delete(shares, tasks), np.delete(equal, tasks))
  config.mixture['dm_control'].task_weights = (1,) * (len(tasks) + 1)
  with pytest.raises(InputError, match=f'dm_control.task_weights .* needs {len(tasks)} numbers'):
    mixture_shares(config.mixture, SOURCES)


def test_too_few_patch_slots_are_said(caplog):
  with caplog.at_level(logging.WARNING):
    make_plan()
    assert not caplog.records
    make_plan(patches_per_row=16)
  assert 'fall short' in caplog.text


def test_index_is_kept_until_data_or_tokenizer_change(tmp_path, caplog):
  source = control_source(CARTPOLE, 6, 20)
  source.directory = str(tmp_path)
  index = open_index(source, tokenizer())
  assert index.lengths.tolist() == [episode.length for episode in source.episodes]
  assert set(index.step_tokens) == {7} and index.scores.tolist() == [len(e.action) for e in source.episodes]
  source.reads = 0
  again = open_index(source, tokenizer())
  assert source.reads == 3 and len(list(tmp_path.iterdir())) == 1
  for name in ('lengths', 'step_tokens', 'step_patches', 'scores'):
    np.testing.assert_array_equal(getattr(again, name), getattr(index, name))
  (path,) = tmp_path.iterdir()
  with np.load(path) as arrays:
    assert Vocabulary.from_json(json.loads(str(arrays['vocabulary']))) == tokenizer().vocabulary
  path.write_bytes(path.read_bytes()[:100])
  np.testing.assert_array_equal(open_index(source, tokenizer()).lengths, index.lengths)
  assert 'damaged' in caplog.text
  source.episodes = [source.episodes[1], *source.episodes[1:]]
  assert open_index(source, tokenizer()).lengths[0] == source.episodes[1].length
  assert len(list(tmp_path.iterdir())) == 2


def test_an_index_that_cannot_be_kept_leaves_no_file(tmp_path, caplog, monkeypatch):
  def full(file, **columns):
    raise OSError('no space left')

  source = control_source(CARTPOLE, 6, 20)
  source.directory = str(tmp_path)
  monkeypatch.setattr(np, 'savez_compressed', full)
  assert open_index(source, tokenizer()).lengths.tolist() == [episode.length for episode in source.episodes]
  assert 'could not be kept (no space left)' in caplog.text and not list(tmp_path.iterdir())


@pytest.mark.parametrize(('settings', 'message'), [
    ({'window_timesteps': -1}, 'dm_control.window_timesteps is -1; it must be 0'),
    ({'hide_actions': 1.5}, 'dm_control.hide_actions is 1.5; it is a share'),
])
def test_settings_of_windows_that_are_out_of_bounds(settings, message):
  config = data_config()
  vars(config.mixture['dm_control']).update(settings)
  with pytest.raises(InputError, match=f'data.mixture.{message}'):
    make_plan(mixture=config.mixture)


def text_index(lengths) -> EpisodeIndex:
  count = len(lengths)
  return EpisodeIndex(np.array(lengths), np.zeros(0, np.int32), np.zeros(count, np.int32), np.zeros(count, np.float32))


@pytest.mark.parametrize('room', [2, 20, 64])
def test_every_token_of_text_is_drawn_as_often_as_any_other(room):
  lengths = [3, 1, 40, 20, 7, 90]
  drawer, rng = DocumentDrawer(4, text_index(lengths)), np.random.default_rng(0)
  drawn, tokens = [np.zeros(length, int) for length in lengths], []
  for _ in range(20_000):
    segment = drawer.draw_within(rng, room)
    assert 0 <= segment.start < segment.stop <= lengths[segment.episode] and segment.source == 4
    assert segment.tokens == segment.stop - segment.start <= room
    assert segment.tokens == lengths[segment.episode] or lengths[segment.episode] > room
    drawn[segment.episode][segment.start:segment.stop] += 1
    tokens.append(segment.tokens)
  assert np.mean(tokens) == pytest.approx(drawer.mean_tokens(room), rel=0.02)
  counts = np.concatenate(drawn)
  np.testing.assert_allclose(counts, counts.mean(), rtol=6 / counts.mean()**0.5)  # of Poisson's deviations


def test_text_datasets_get_their_shares_however_long_their_documents():
  drawers = [DocumentDrawer(source, text_index(lengths)) for source, lengths in enumerate(([40] * 99, [20_000], [300]))]
  shares, filled, rng = np.array([0.5, 0.4, 0.1]), np.zeros(3), np.random.default_rng(0)
  for _ in range(20):
    packer = BlockPacker(32, 512, 0, rng)
    gaps = [Segment(int(tokens), 0, 0, 0, 0, 0, 0, 0, False, 3) for tokens in rng.integers(200, 510, size=32)]
    packer.place(gaps, [])
    packer.fill_with_text(drawers, shares)
    for segment in sum(packer.rows, []):
      filled[segment.source:segment.source + 1] += segment.tokens
  np.testing.assert_allclose(filled / filled.sum(), shares, atol=0.02)


def test_index_of_text_counts_tokens():
  source = MemorySource('python_docs', 'text', [TextDocument(text) for text in DOCUMENTS[:3]])
  index = open_index(source, tokenizer())
  assert index.lengths.tolist() == [len(tokenizer().document(text)) for text in DOCUMENTS[:3]]
  assert len(index.step_tokens) == 0 and np.isnan(index.scores).all()
