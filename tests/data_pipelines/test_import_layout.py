"""Mappings: what can be said, what is refused, and where it stands in a mixture."""

import numpy as np
import pytest

from data_pipelines.datasets.catalogue import requests
from data_pipelines.datasets.imports.items import Item, RawEpisode
from data_pipelines.datasets.imports.layout import Part, make_layout
from data_pipelines.datasets.mapping import KeyMapping
from data_pipelines.environments.specs import ArraySpec
from data_pipelines.errors import InputError
from tests.data_pipelines.test_datasets_prepare import data_config, entry


class TwoEpisodes:
  """A `Reader` of what is in memory."""

  last_step = ''
  items = {
      'observation.joints': Item('number', (3,)), 'observation.embedding': Item('number', (512,)),
      'observation.sound': Item('other'), 'action.arm': Item('number', (2,)), 'action.grip': Item('integer', (), 2),
      'action.goal': Item('number', (2, 2)), 'reward': Item('number'), 'note': Item('text'),
  }

  def episodes(self, names):
    for sign in (1, -1):
      rows = {
          'action.arm': sign * np.array([[1.0, 2.0], [3.0, -4.0], [0.0, 0.0]]),
          'action.goal': sign * np.arange(12.0).reshape(3, 2, 2) * [[[1]], [[1]], [[0]]],
          'action.grip': np.array([1, 1, 0]), 'reward': np.array([1.0, 2.0, np.nan])}
      yield RawEpisode(f'{sign}', {name: rows[name] for name in names})


def layout(**mapping):
  return make_layout(TwoEpisodes(), KeyMapping(**mapping))


def test_what_is_guessed():
  guessed = layout()
  assert guessed.observation == {'joints': ('observation.joints', ArraySpec('continuous', (3,)))}
  assert guessed.action == ArraySpec('continuous', (7,)) and guessed.last_step == 'observation'
  np.testing.assert_array_equal(guessed.low, [-3, -4, 0, -4, -5, -6, -7])
  np.testing.assert_array_equal(guessed.high, [3, 4, 1, 4, 5, 6, 7])
  assert [note.split(':')[0] for note in guessed.notes] == [
      'observation.embedding is not observed', 'observation.sound is not observed', 'action.arm', 'action.goal']


def test_what_is_said_counts():
  said = layout(observation=('embedding',), text='note', action=('goal[1:3]', 'grip'), action_low=(-8.0, -9.0, 0.0),
                action_high=(8.0, 9.0, 1.0), last_step='action')
  assert said.observation == {'embedding': ('observation.embedding', ArraySpec('continuous', (512,))),
                              'instruction': ('note', ArraySpec('text'))}
  assert said.parts == (Part('action.goal', 1, 3), Part('action.grip', 0, 1)) and said.last_step == 'action'
  np.testing.assert_array_equal(said.low, [-8, -9, 0])
  assert layout(action=('grip',)).action == ArraySpec('discrete', (), 2)
  np.testing.assert_array_equal(layout(action_low=(-9.0,), action_high=(9.0,)).high, [9] * 7)


@pytest.mark.parametrize(('mapping', 'message'), [
    (dict(observation=('joint',)), "mapping.observation names 'joint', which is not there; there are action.arm"),
    (dict(observation=('sound',)), 'observation.sound is neither numbers nor a picture nor text'),
    (dict(action=('note',)), 'note is text, not numbers'),
    (dict(action=('arm[1:5]',)), 'takes numbers 1 to 5 of 2'),
    (dict(action_low=(0.0, 0.0), action_high=(1.0, 1.0)), 'action_low has 2 numbers; the action has 7'),
    (dict(success='won'), "mapping.success names 'won'"),
])
def test_mappings_that_do_not_fit(mapping, message):
  with pytest.raises(InputError, match=message):
    layout(**mapping)


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(actoin=('a',)), "has no key 'actoin'; did you mean 'action'"),
    (dict(action=(1,)), 'takes a tuple of item names'),
    (dict(action_low=('a',), action_high=(1,)), 'takes a tuple of numbers'),
    (dict(action_low=(0.0,)), 'action_low has 1 numbers and action_high 0'),
    (dict(action_low=(1.0,), action_high=(1.0,)), 'every action_low must be below'),
    (dict(last_step='none'), "last_step is 'none'"),
    (dict(image_side='large'), 'takes a value like 128'),
    (dict(image_side=-1), 'image_side is -1; it must be 0 or more'),
    (dict(action_values=-18), 'action_values is -18; it must be 0 or more'),
])
def test_mappings_that_are_wrong(settings, message):
  with pytest.raises(InputError, match=message):
    KeyMapping.from_settings(settings, 'data.mixture.arm.mapping')


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(dataset='rlds'), 'path is empty: name a prepared folder'),
    (dict(dataset='rlds', path='a', noise=0.5), 'episodes that were recorded are what they are'),
    (dict(dataset='rlds', path='a', tasks=('b', 'b')), 'names a task twice'),
    (dict(dataset='lerobot', path='a', mapping=dict(split='test')), "split is 'test', but of a lerobot dataset all"),
    (dict(dataset='rlds', path='a', environment='dm_control/cartpole-swingu'), "did you mean 'dm_control/cartpole-sw"),
    (dict(dataset='digits', mapping=dict(image_side=64)), 'mapping and environment are for imported episodes'),
])
def test_entries_that_are_wrong(settings, message):
  with pytest.raises(InputError, match=message):
    requests(data_config('data', robot=entry(**settings)))


def test_home_in_a_path(monkeypatch, tmp_path):
  monkeypatch.setenv('HOME', str(tmp_path))
  mixture = dict(doors=entry(dataset='minari', path='~/door'), text_folder=entry(path='~/texts'))
  assert [request.path for request in requests(data_config('data', **mixture))] == [
      f'{tmp_path}/door', f'{tmp_path}/texts']


def test_an_entry_of_several_datasets():
  games = entry(dataset='rlds', path='/data/rlu_atari', tasks=('Pong_run_1', 'Qbert_run_1'),
                mapping=dict(action_values=18))
  pong, qbert = requests(data_config('data', atari=games))
  assert (pong.name, pong.path, pong.mapping.action_values) == ('atari/Pong_run_1', '/data/rlu_atari/Pong_run_1', 18)
  assert pong.directory('d') != qbert.directory('d') and pong.task_name == '' and not pong.played
