"""Attention maps and the map of episodes, against what the model's own parts say."""

import numpy as np
import pytest

from data_pipelines.errors import InputError
from data_pipelines.sequences.tokens import ACTION_POSITION
from gato_jax.acting.inputs import lay_out
from gato_jax.evaluation.attention_maps import attention_maps
from gato_jax.evaluation.episode_map import EpisodeMap, episode_map, mean_activations, project
from gato_jax.evaluation.probing import Room, open_subject
from gato_jax.pages.report_inside import neighbour_shares
from tests.gato_jax import probing_cases


@pytest.fixture(scope='module')
def subject():
  return probing_cases.subject()


def test_windows_are_as_long_as_there_is_room(subject):
  source = subject.sources[3]  # 16 patches a timestep, and missions of different lengths
  episode = subject.trained.tokenizer.tokenize(source, 0)
  sizes = np.diff(episode.step_ends, prepend=0)

  def fits(room, start, stop):
    return (sizes[start:stop].sum() <= room.tokens and 16 * (stop - start) <= room.patches
            and (not room.timesteps or stop - start <= room.timesteps))

  for room in (Room(100, 99), Room(1000, 50), Room(1000, 1000, 4), Room(10, 99), Room(10**6, 10**6)):
    for step in range(episode.length):
      stop = room.stop(episode, step)
      assert fits(room, step, stop) and (stop == episode.length or not fits(room, step, stop + 1))
      start = room.start(episode, step + 1)
      assert fits(room, start, step + 1) and (start == 0 or not fits(room, start - 1, step + 1))


def test_attention_is_of_the_token_that_predicts_the_action_on_the_steps_own_picture(subject):
  maps = [each for each in attention_maps(subject) if each.source == 'babyai/go-to']
  assert len(maps) == 4 and maps[0].step == 0 and maps[0].layers == (0, 1, 2)
  source = subject.sources[3]
  episode = subject.trained.tokenizer.tokenize(source, 0)
  assert maps[-1].step == episode.length - 1
  for each in maps:
    picture = np.asarray(source[0].observation['image'][each.step])
    np.testing.assert_array_equal(each.pictures[0][:56, :56], picture)
    assert each.pictures[0].shape == (64, 64, 3) and not each.pictures[0][56:].any()
    window = episode.window(max(0, each.step - 2), each.step + 1)  # the entry shows three timesteps
    query = np.flatnonzero(window.local_positions == ACTION_POSITION)[-1] - 1
    inputs = lay_out([window], 128, len(window.patches))
    weights = np.asarray(subject.probe.attention(inputs, np.array([query])))[:, 0]
    np.testing.assert_allclose(each.weights[0], weights[..., window.patch_positions[-16:]], atol=1e-6)
    np.testing.assert_array_equal(each.cells[0][5], [[0.25, 0.5], [0.25, 0.5]])


def test_attention_of_a_question_is_of_the_token_before_the_answer(subject):
  first = next(each for each in attention_maps(subject) if each.source == 'easy_vqa')
  asked = subject.sources[4][0]
  window = subject.trained.tokenizer.question(asked.image, asked.question)
  inputs = lay_out([window], 64, 16)
  weights = np.asarray(subject.probe.attention(inputs, np.array([len(window) - 1])))[:, 0]
  np.testing.assert_allclose(first.weights[0], weights[..., :16], atol=1e-6)
  assert 'digits' not in {each.source for each in attention_maps(subject)}  # one patch: nowhere else to look


def test_without_pictures_there_is_no_attention_to_show():
  subject = probing_cases.subject()
  with pytest.raises(InputError, match='pictures'):
    attention_maps(probing_cases.Subject(subject.trained, subject.sources[:3], []))


def test_activations_are_means_over_the_tokens_alone(subject):
  episodes = [subject.trained.tokenizer.tokenize(subject.sources[i], 0) for i in (0, 3, 6)]
  windows = [episode.window(0, stop) for episode, stop in zip(episodes, (9, 2, 40), strict=True)]
  together = mean_activations(subject.probe, windows, 2)
  for window, mean in zip(windows, together, strict=True):
    alone = subject.probe.hidden(lay_out([window], len(window), len(window.patches)), 2)
    np.testing.assert_allclose(mean, np.asarray(alone)[0].mean(axis=0), atol=1e-5)


def test_clusters_stay_together_on_the_map():
  pytest.importorskip('sklearn')
  rng = np.random.default_rng(0)
  centres = 20 * rng.normal(size=(3, 60))
  points = project(np.concatenate([centre + rng.normal(size=(20, 60)) for centre in centres]))
  assert points.shape == (60, 2) and points.min() == 0 and points.max() == 1
  names = [name for name in ('a/x', 'a/y', 'b') for _ in range(20)]
  assert neighbour_shares(EpisodeMap(names, [], points, 1, {})) == {'a/x': (1, 1), 'a/y': (1, 1), 'b': (1, 1)}


def test_neighbours_of_another_task_of_the_same_dataset_count_for_the_dataset():
  points = np.array([[i, 0.0] for i in range(6)] + [[100.0 + i, 0] for i in range(6)])
  names = ['a/x', 'a/y'] * 3 + ['b'] * 6
  shares = neighbour_shares(EpisodeMap(names, [], points, 1, {}))
  assert shares == {'a/x': (pytest.approx(0.4), 1), 'a/y': (pytest.approx(0.4), 1), 'b': (1, 1)}


def test_the_map_has_every_dataset(subject):
  pytest.importorskip('sklearn')
  drawn = episode_map(subject)
  assert {name: drawn.names.count(name) for name in set(drawn.names)} == {
      'dm_control/cartpole': 20, 'metaworld/reach': 20, 'metaworld/push': 20, 'babyai/go-to': 20, 'easy_vqa': 40,
      'digits': 10, 'python_docs': 30}
  assert drawn.layer == 1 and drawn.points.shape == (160, 2) and not drawn.left_out
  again = episode_map(subject)
  np.testing.assert_array_equal(again.points, drawn.points)


def test_a_dataset_that_does_not_fit_is_named():
  pytest.importorskip('sklearn')
  drawn = episode_map(probing_cases.subject(patches_per_row=8))
  assert set(drawn.left_out) == {'babyai/go-to', 'easy_vqa'}


def test_without_a_checkpoint_it_says_so(tmp_path):
  with pytest.raises(InputError):
    open_subject(str(tmp_path), [str(tmp_path)])
