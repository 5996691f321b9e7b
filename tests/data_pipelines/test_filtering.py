"""Filtering by return: the expert's windowed mean, which episodes pass, and that rows hold no others."""

import dataclasses
import logging

import numpy as np
import pytest

from data_pipelines.errors import InputError
from data_pipelines.loader import make_loader, open_indexes
from data_pipelines.sequences.filtering import drawn_episodes, expert_return, good_episodes
from data_pipelines.sequences.index import TokenStarts, open_index
from data_pipelines.sequences.plan import PackingPlan, Role
from tests.data_pipelines.token_cases import CARTPOLE, GO_TO, control_source, data_config, mixed_sources, tokenizer


def good(returns, share, noisy=()):
  return good_episodes(np.array(returns, np.float32), np.isin(np.arange(len(returns)), noisy), share).tolist()


@pytest.mark.parametrize('episodes, width', [(1, 1), (9, 1), (40, 4), (199, 19), (12_000, 1000)])
def test_expert_return_is_the_best_window_of_successive_episodes(episodes, width):
  returns = np.random.default_rng(episodes).normal(10, 5, episodes)
  slow = max(returns[i:i + width].mean() for i in range(episodes - width + 1))
  assert expert_return(returns) == pytest.approx(slow)


def test_episodes_below_the_share_are_left_out():
  returns = [100, 85, 80, 79, 0, -50]  # six episodes: windows of one, so the expert is at 100
  assert good(returns, 0.8) == [True, True, True, False, False, False]
  assert all(good(returns, 0))


def test_a_negative_expert_is_given_the_same_slack():
  assert good([-100, -119, -121], 0.8) == [True, True, False]


def test_noisy_demonstrations_neither_judge_nor_are_judged():
  assert good([500, 100, 10, 30], 0.8, noisy=(0, 2)) == [True, True, True, False]
  assert all(good([1, 9], 1.0, noisy=(0, 1)))


def test_fewer_drawn_episodes_are_a_part_of_more_and_among_the_best():
  scores = np.random.default_rng(0).permutation(50).astype(np.float32)
  draws = [set(np.flatnonzero(drawn_episodes(scores, count, 20, seed=3))) for count in (1, 3, 5, 20)]
  assert [len(draw) for draw in draws] == [1, 3, 5, 20]
  assert draws[0] < draws[1] < draws[2] < draws[3]
  assert {scores[i] for i in draws[3]} == set(range(30, 50))
  others = [set(np.flatnonzero(drawn_episodes(scores, 5, 0, seed))) for seed in range(3)]
  assert len(set(map(frozenset, others))) == 3 and max(set().union(*others)) >= 20
  with pytest.raises(InputError, match='21 episodes are to be drawn from 20'):
    drawn_episodes(scores, 21, 20, seed=3)


@pytest.mark.parametrize('share, returns, match', [(1.1, [1], 'from 0 to 1'), (0.8, [1, np.nan], 'without a return')])
def test_bad_input(share, returns, match):
  with pytest.raises(InputError, match=match):
    good(returns, share)


def filtered_case():
  """A mixture in which every third CartPole episode is poor, and the config that leaves those out."""
  sources = mixed_sources()
  sources[0].episodes = [dataclasses.replace(episode, episode_return=-9.0 if i % 3 == 0 else 50.0)
                         for i, episode in enumerate(sources[0].episodes)]
  config = data_config()
  config.mixture['dm_control'].min_return_share = 0.8
  return sources, config


def test_rows_hold_no_filtered_episode_and_all_others(caplog):
  sources, config = filtered_case()
  with caplog.at_level(logging.WARNING):
    loader = make_loader(config, sources, tokenizer(), seed=0, batch_size=8)
  assert '7 of 20 episodes are left out' in caplog.text
  assert loader.report()['filtered'] == {source.name: 7 * (source is sources[0]) for source in sources}
  index = open_index(sources[0], tokenizer())
  kept = index.select(index.scores > 0)
  others = [open_index(source, tokenizer()) for source in sources[1:]]
  plan = PackingPlan(config, sources, [kept, *others], 0)
  drawn = {int(piece['episode']) for i in range(300) for piece in plan.row(i) if piece['source'] == 0}
  assert drawn == {i for i in range(20) if i % 3}
  prompts = {int(piece['episode']) for i in range(300) for piece in plan.row(i)
             if piece['source'] == 0 and piece['role'] == Role.PROMPT}
  assert len(prompts) > 2 and prompts <= {i for i in range(20) if i % 3 == 2}  # those with 1 are noisy
  next(loader)  # lengths of index and episode agree, or this raises


def test_a_subset_is_drawn_from_what_passes_the_filter():
  sources, config = filtered_case()
  vars(config.mixture['dm_control']).update(subset=3, subset_of_best=0, subset_seed=1)
  indexes, filtered = open_indexes(config, sources, tokenizer())
  assert filtered[0] == 17
  assert len(set(indexes[0].selected)) == 3 and all(number % 3 for number in indexes[0].selected)
  assert indexes[0].lengths.tolist() == [sources[0][int(number)].length for number in indexes[0].selected]
  config.mixture['dm_control'].subset = 14
  with pytest.raises(InputError, match='dm_control/cartpole: 14 episodes are to be drawn from 13'):
    open_indexes(config, sources, tokenizer())
  other = next(source for source in sources if source.kind != 'control')
  config.mixture[other.name].subset = 2
  with pytest.raises(InputError, match='only episodes of control'):
    open_indexes(config, [other], tokenizer())


def test_success_is_the_score_of_a_task_that_is_scored_by_it():
  source = control_source(dataclasses.replace(CARTPOLE, score='success'), 4, 20)
  source.episodes = [dataclasses.replace(episode, success=i != 2) for i, episode in enumerate(source.episodes)]
  index = open_index(source, tokenizer())
  assert index.scores.tolist() == [1, 1, 0, 1]
  assert good_episodes(index.scores, np.zeros(4, bool), 0.8).tolist() == [True, True, False, True]


def test_a_filter_that_fails_names_the_dataset():
  sources, config = filtered_case()
  config.mixture['dm_control'].min_return_share = 2
  with pytest.raises(InputError, match='dm_control/cartpole: min_return_share is 2'):
    make_loader(config, sources, tokenizer(), seed=0, batch_size=8)
  other = next(source for source in sources if source.kind != 'control')
  config.mixture[other.name].min_return_share, config.mixture['dm_control'].min_return_share = 0.8, 0.0
  with pytest.raises(InputError, match=f'data.mixture.{other.name}.min_return_share is 0.8, but only episodes of con'):
    make_loader(config, sources, tokenizer(), seed=0, batch_size=8)


def test_selecting_episodes_whose_timesteps_differ_in_length():
  source = control_source(GO_TO, 9, 20)
  index = open_index(source, tokenizer())
  assert len(index.step_tokens) == index.timesteps > 9  # a mission changes from step to step
  kept = np.arange(9) % 2 == 1
  part = index.select(kept)
  for place, number in enumerate((1, 3, 5, 7)):
    assert part.number(place) == number
    steps = np.diff(tokenizer().tokenize(source, number).step_ends, prepend=0)
    first, last = part.step_starts[place:place + 2]
    np.testing.assert_array_equal(np.diff(part.token_starts[first:last + 1]), steps)
  assert part.tokens == sum(len(tokenizer().tokenize(source, i).tokens) for i in (1, 3, 5, 7))


def test_computed_token_starts_are_those_of_the_array():
  rng = np.random.default_rng(0)
  lengths, each = rng.integers(1, 9, 40), rng.integers(1, 6, 40).astype(np.int32)
  array = np.concatenate([[0], np.cumsum(np.repeat(each, lengths))])
  starts = TokenStarts(np.concatenate([[0], np.cumsum(lengths)]), each)
  np.testing.assert_array_equal(starts[np.arange(len(array))], array)
  wanted = np.arange(-5, array[-1] + 6)
  for side in ('left', 'right'):
    np.testing.assert_array_equal(np.searchsorted(starts, wanted, side), np.searchsorted(array, wanted, side))


def test_timesteps_of_one_length_take_no_memory():
  index = open_index(control_source(CARTPOLE, 10, 200), tokenizer())
  assert index.timesteps > 1000 and len(index.step_tokens) == 10
