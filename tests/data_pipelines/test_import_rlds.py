"""RLDS datasets with the catalogue's structures, read through features.json and tokenised."""

import io
import json
import pathlib
import shutil
import struct

from array_record.python.array_record_module import ArrayRecordReader
import numpy as np
from PIL import Image
import pytest
import tensorflow_datasets as tfds

from data_pipelines.datasets import rlds
from data_pipelines.datasets.catalogue import Request
from data_pipelines.datasets.imports.items import Damage, RawEpisode
from data_pipelines.datasets.mapping import KeyMapping
from data_pipelines.datasets.rlds_folder.builder import Builder
from data_pipelines.datasets.rlds_folder.reader import RLDSReader
from data_pipelines.datasets.rlds_folder.records import READERS
from data_pipelines.datasets.sources import defect
from data_pipelines.environments.action_bounds import from_unit
from data_pipelines.environments.specs import ArraySpec
from data_pipelines.errors import InputError
from tests.data_pipelines.rlds_cases import (
    STRUCTURES,
    Prepared,
    build,
    generated_episodes,
    prepare_folder,
    steps,
    vector,
)
from tests.data_pipelines.token_cases import tokenizer

# What a user would write beside the path; the other datasets need nothing.
MAPPINGS = {
    'bc_z': KeyMapping(
        observation=('image', 'present/xyz', 'present/axis_angle', 'present/sensed_close'),
        action=('future/xyz_residual[0:3]', 'future/axis_angle_residual[0:3]', 'future/target_close[0:1]')),
    'robomimic_ph': KeyMapping(action_low=(-1.0,), action_high=(1.0,)),
}
# Observation and action as they should be understood.
CONTINUOUS, DISCRETE = 'continuous', 'discrete'
EXPECTED = {
    'rlu_atari': ({'observation': ('image', (84, 84, 3))}, (DISCRETE, ())),
    'rlu_dmlab_seekavoid_arena01': (
        {'pixels': ('image', (72, 96, 3)), 'last_action': (DISCRETE, ()), 'last_reward': (CONTINUOUS, ())},
        (DISCRETE, ())),
    'rlu_control_suite': ({'position': (CONTINUOUS, (3,)), 'velocity': (CONTINUOUS, (2,))}, (CONTINUOUS, (1,))),
    'd4rl_mujoco_hopper': ({'observation': (CONTINUOUS, (11,))}, (CONTINUOUS, (3,))),
    'language_table': (
        {'effector_target_translation': (CONTINUOUS, (2,)), 'effector_translation': (CONTINUOUS, (2,)),
         'rgb': ('image', (72, 128, 3)), 'instruction': ('text', ())}, (CONTINUOUS, (2,))),
    'bridge': (
        {'image': ('image', (96, 128, 3)), 'state': (CONTINUOUS, (7,)), 'instruction': ('text', ())},
        (CONTINUOUS, (8,))),
    'bc_z': (
        {'image': ('image', (103, 128, 3)), 'present/xyz': (CONTINUOUS, (3,)), 'present/axis_angle': (CONTINUOUS, (3,)),
         'present/sensed_close': (CONTINUOUS, (1,)), 'instruction': ('text', ())}, (CONTINUOUS, (7,))),
    'locomotion': ({'observation': (CONTINUOUS, (111,))}, (CONTINUOUS, (8,))),
}
BLOCKS = 'put the red block to the left of the blue one'


def spelled(text):
  """As Language-Table has it: UTF-8 in 512 numbers."""
  return np.pad(np.frombuffer(text.encode(), np.uint8).astype(np.int32), (0, 512 - len(text)))


def episodes_of(name):
  episodes = generated_episodes(name, last_action=name == 'bridge')
  if name == 'language_table':
    for episode in episodes:
      for step in episode['steps']:
        step['observation']['instruction'] = spelled(BLOCKS)
  return episodes


@pytest.mark.parametrize('name', STRUCTURES)
def test_catalogue_structures_become_tasks(name, tmp_path):
  episodes = episodes_of(name)
  path = prepare_folder(tmp_path / 'theirs', name, episodes)
  request = Request('rlds', path=path, mapping=MAPPINGS.get(name, KeyMapping()))
  source = build(Builder, request, tmp_path / 'ours')
  assert len(source) == len(episodes) and source.metadata['dropped'] == []
  if name in EXPECTED:
    observation, action = EXPECTED[name]
    assert {key: (spec.kind, spec.shape) for key, spec in source.task.observation.items()} == observation
    assert (source.task.action.kind, source.task.action.shape) == action
  episode, theirs = source[1], episodes[1]['steps']
  T = len(theirs) - (name != 'bridge')  # there the last step has an action too
  assert episode.length == T
  np.testing.assert_allclose(episode.reward, [step['reward'] for step in theirs[:T]], rtol=1e-6)
  np.testing.assert_allclose(original_action(source, episode), [joined(name, step) for step in theirs[:T]], atol=1e-5)
  if 'instruction' in source.task.observation:
    assert set(episode.observation['instruction']) == {BLOCKS}
  for key, spec in source.task.observation.items():
    if spec.kind in (CONTINUOUS, DISCRETE):
      nested = isinstance(theirs[0]['observation'], dict)
      seen = [step['observation'][key] if nested else step['observation'] for step in theirs[:T]]
      np.testing.assert_allclose(episode.observation[key], seen, rtol=1e-6)
  tokens = tokenizer().tokenize(source, 1)
  assert tokens.length == T


def original_action(source, episode):
  if source.task.action.kind == DISCRETE:
    return episode.action
  return from_unit(episode.action, source.metadata['action_bounds']['low'], source.metadata['action_bounds']['high'])


def joined(name, step):
  """The action of a step as the mapping should have joined it."""
  action = step['action']
  if name == 'bc_z':
    return np.concatenate([action['future/xyz_residual'][:3], action['future/axis_angle_residual'][:3],
                           action['future/target_close'][:1]])
  if isinstance(action, dict):
    return np.concatenate([np.ravel(action[key]).astype(float) for key in sorted(action)])
  return action


def test_pictures_are_theirs(tmp_path):
  """Grey is repeated; what has its size already keeps its bytes; what is too large is the mean of its pixels."""
  episodes = generated_episodes('rlu_atari')
  source = build(Builder, Request('rlds', path=prepare_folder(tmp_path / 'theirs', 'rlu_atari', episodes)), tmp_path)
  grey = np.asarray(Image.open(io.BytesIO(episodes[0]['steps'][2]['observation'])))
  np.testing.assert_array_equal(source[0].observation['observation'][2], np.repeat(grey[..., None], 3, axis=-1))
  episodes = generated_episodes('rlu_dmlab_seekavoid_arena01')
  path = prepare_folder(tmp_path / 'theirs', 'rlu_dmlab_seekavoid_arena01', episodes)
  source = build(Builder, Request('rlds', path=path), tmp_path)
  assert source[0].observation['pixels']._pngs[1] == episodes[0]['steps'][1]['observation']['pixels']
  source = build(Builder, Request('rlds', path=path, mapping=KeyMapping(image_side=48)), tmp_path)
  pixels = np.asarray(Image.open(io.BytesIO(episodes[0]['steps'][1]['observation']['pixels']))).astype(float)
  means = pixels.reshape(36, 2, 48, 2, 3).mean(axis=(1, 3))
  assert np.abs(source[0].observation['pixels'][1] - means).max() <= 1


def test_what_is_guessed_or_left_out_is_said(tmp_path):
  path = prepare_folder(tmp_path / 'theirs', 'bridge', generated_episodes('bridge'))
  notes = build(Builder, Request('rlds', path=path), tmp_path).metadata['notes']
  assert any(note.startswith('observation.natural_language_embedding is not observed: 512 numbers') for note in notes)
  assert sum('least and greatest values in the data' in note for note in notes) == 3  # not of the gripper: 0 and 1


def control_episodes(count=4, length=6):
  structure = {'steps': tfds.features.Dataset({
      'observation': {'place': vector(2)}, 'action': vector(2), 'reward': np.float32, 'is_terminal': np.bool_}),
      'won': np.bool_}
  rng = np.random.default_rng(0)
  episodes = []
  for number in range(count):
    features = tfds.features.FeaturesDict(structure)
    all_steps = steps(features, rng, length)
    for step in all_steps:
      del step['is_first'], step['is_last']
    episodes.append({'steps': all_steps, 'won': number % 2 == 0})
  return structure, episodes


def imported(tmp_path, structure, episodes, name='theirs', skip_share=0.5, **mapping):
  path = prepare_folder(tmp_path, name, episodes, structure)
  return build(Builder, Request('rlds', path=path, mapping=KeyMapping(**mapping)), tmp_path, skip_share)


def test_bounds_that_are_given_scale_and_refuse(tmp_path):
  structure, episodes = control_episodes()
  episodes[2]['steps'][3]['action'] = np.array([0.5, 2.5], np.float32)
  source = imported(tmp_path, structure, episodes, action_low=(-2.0, -1.0), action_high=(2.0, 1.0), success='won')
  assert source.metadata['dropped'] == [
      'theirs-train.array_record-00000-of-00001, record 2: the action is 2.5 at step 3, component 1, outside [-1, 1]']
  assert len(source) == 3 and source.task.score == 'success'
  np.testing.assert_array_equal(source.table.success, [True, False, False])
  expected = [step['action'] / [2, 1] for step in episodes[0]['steps'][:-1]]
  np.testing.assert_allclose(source[0].action, expected, atol=1e-6)
  np.testing.assert_array_equal(source.demonstrations(), [0])


def test_what_an_episode_has_once_can_be_observed_at_every_step(tmp_path):
  structure, episodes = control_episodes()
  structure |= {'level': np.int64, 'weight': np.float32}
  for number, episode in enumerate(episodes):
    episode |= {'level': 2 * number, 'weight': 0.5 * number}
  source = imported(tmp_path, structure, episodes, observation=('place', 'won', 'level', 'weight'))
  assert source.metadata['dropped'] == []
  wanted = {'won': ArraySpec('discrete', (), 2), 'level': ArraySpec('discrete', (), 7),
            'weight': ArraySpec('continuous')}
  for key, spec in wanted.items():
    assert source.task.observation[f'episode.{key}'] == spec
    for number, episode in enumerate(episodes):
      np.testing.assert_array_equal(source[number].observation[f'episode.{key}'], [episode[key]] * 5)


@pytest.mark.parametrize(('damage', 'message'), [
    (lambda steps: steps.clear(), 'it has no timesteps'),
    (lambda steps: steps[2]['observation'].update(place=np.array([1, np.nan], np.float32)),
     'observation.place is not finite at step 2'),
    (lambda steps: steps[1].update(action=np.array([np.inf, 0], np.float32)), 'the action is not finite at step 1'),
    (lambda steps: steps[1].update(reward=np.float32(np.nan)), 'reward is not finite at step 1'),
    (lambda steps: steps.__delitem__(slice(1, None)), 'it has one observation and no action'),
])
def test_bad_episodes_are_named_and_left_out(tmp_path, damage, message):
  structure, episodes = control_episodes()
  damage(episodes[1]['steps'])
  source = imported(tmp_path, structure, episodes, last_step='observation')
  assert len(source) == 3
  assert source.metadata['dropped'] == [f'theirs-train.array_record-00000-of-00001, record 1: {message}']
  assert np.abs(source[0].action).max() <= 1


def test_what_was_imported_once_can_be_imported_again(tmp_path, monkeypatch):
  """Our own layout, in which an episode lies in several records."""
  structure, episodes = control_episodes()
  monkeypatch.setattr(rlds, 'PART_TOKENS', 10)
  source = imported(tmp_path / 'first', structure, episodes, action_low=(-2.0, -1.0), action_high=(2.0, 1.0),
                    success='won')
  records = tfds.builder_from_directory(source.directory).info.splits['train'].num_examples
  assert records > len(source) == 4
  request = Request('rlds', path=source.directory, mapping=KeyMapping(
      action=('action',), action_low=(-1.0, -1.0), action_high=(1.0, 1.0), success='episode.success',
      last_step='observation'))
  again = build(Builder, request, tmp_path / 'again')
  assert len(again) == 4 and not again.metadata['dropped']
  np.testing.assert_array_equal(again.table.success, source.table.success)
  for index in range(4):
    np.testing.assert_allclose(again[index].action, source[index].action, atol=1e-6)
    for key, values in source[index].observation.items():
      np.testing.assert_array_equal(again[index].observation[key][:], values[:])
  file, = pathlib.Path(source.directory).glob('*.array_record*')
  reader = RLDSReader(source.directory, '')
  whole = list(reader.episodes(['reward']))
  read = READERS[tfds.core.FileFormat.ARRAY_RECORD]

  def with_one_replaced(lost, instead):
    return lambda *place: (instead if number == lost else content for number, content in enumerate(read(*place)))

  for lost in range(3):  # the start, the middle and the end of the first episode
    place = f'{file.name}, record {lost}'
    for instead in (b'torn', Damage(place, 'cannot be read')):
      monkeypatch.setattr(reader, '_read', with_one_replaced(lost, instead))
      first, *others = reader.episodes(['reward'])
      assert isinstance(first, Damage) and first.place == place
      for ours, theirs in zip(others, whole[1:], strict=True):
        np.testing.assert_array_equal(ours.items['reward'], theirs.items['reward'])
  for slices, missing in (('train[:2]', 'end'), ('train[1:3]', 'start')):
    damage, = RLDSReader(source.directory, slices).episodes(['reward'])
    assert damage.problem == f'the {missing} of this episode is missing, which lies in several records'


def test_too_many_bad_episodes_stop_the_import(tmp_path):
  structure, episodes = control_episodes()
  for episode in episodes[1:]:
    episode['steps'].clear()
  with pytest.raises(InputError, match='rlds: 3 of 4 examples are bad; last, .*record 3: it has no timesteps'):
    imported(tmp_path, structure, episodes)


def test_pictures_that_do_not_decode_or_change_their_size(tmp_path):
  episodes = generated_episodes('rlu_atari', count=5)
  episodes[1]['steps'][2]['observation'] = episodes[1]['steps'][2]['observation'][:60]
  path = pathlib.Path(prepare_folder(tmp_path, 'rlu_atari', episodes))
  source = build(Builder, Request('rlds', path=str(path)), tmp_path, 0.5)
  assert len(source) == 4
  assert 'record 1: observation, picture 2: no picture that decodes' in source.metadata['dropped'][0]


def test_a_truncated_file_loses_its_own_episodes_only(tmp_path):
  structure, episodes = control_episodes(count=6)
  path = pathlib.Path(prepare_folder(tmp_path, 'theirs', episodes, structure))
  file = next(path.glob('*.array_record*'))
  # Two shards: the same file twice, the second one cut off.
  shutil.copy(file, path / 'theirs-train.array_record-00001-of-00002')
  file.rename(path / 'theirs-train.array_record-00000-of-00002')
  cut = path / 'theirs-train.array_record-00001-of-00002'
  cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
  info = path / 'dataset_info.json'
  info.write_text(info.read_text().replace('"6"', '"6",\n        "6"'))
  source = build(Builder, Request('rlds', path=str(path)), tmp_path, 0.5)
  assert len(source) == 6 and len(source.metadata['dropped']) == 6
  assert source.metadata['dropped'][0].startswith('theirs-train.array_record-00001-of-00002: cannot be read')


def as_tfrecord(path):
  """The same records in TFRecord's frames, their checksums zero."""
  file = next(path.glob('*.array_record*'))
  reader = ArrayRecordReader(str(file))
  frames = [struct.pack('<QI', len(record), 0) + record + bytes(4) for record in reader.read_all()]
  file.unlink()
  info = path / 'dataset_info.json'
  info.write_text(info.read_text().replace('array_record', 'tfrecord'))
  target = path / file.name.replace('array_record', 'tfrecord')
  target.write_bytes(b''.join(frames))
  return target, frames


def test_tfrecord_files_are_read_and_what_is_cut_off_is_counted(tmp_path):
  structure, episodes = control_episodes(count=6)
  path = pathlib.Path(prepare_folder(tmp_path, 'theirs', episodes, structure))
  expected = build(Builder, Request('rlds', path=str(path)), tmp_path / 'first')
  file, frames = as_tfrecord(path)
  source = build(Builder, Request('rlds', path=str(path)), tmp_path / 'second')
  for index in range(6):
    np.testing.assert_array_equal(source[index].action, expected[index].action)
    np.testing.assert_array_equal(source[index].observation['place'], expected[index].observation['place'])
  halves = RLDSReader(str(path), 'train[50%:]').episodes(['reward'])
  assert [episode.place[-8:] for episode in halves] == ['record 3', 'record 4', 'record 5']
  file.write_bytes(b''.join(frames)[:-len(frames[-1]) - 9])
  source = build(Builder, Request('rlds', path=str(path)), tmp_path / 'third', 0.5)
  assert len(source) == 4 and len(source.metadata['dropped']) == 2
  assert source.metadata['dropped'][0].endswith('cannot be read on: it ends in record 4')
  file.write_bytes(frames[0] + b'\xff' * 40)
  assert [type(episode) for episode in RLDSReader(str(path), '').episodes(['reward'])] == [RawEpisode, Damage]


def test_folders_names_and_formats_that_cannot_be_read(tmp_path):
  structure, episodes = control_episodes(count=1)
  path = pathlib.Path(prepare_folder(tmp_path / 'one', 'theirs', episodes, structure))
  reader = RLDSReader(str(path.parent), '')  # of the one version under it
  assert set(reader.items) == {'observation.place', 'action', 'reward', 'is_terminal', 'episode.won'}
  shutil.copytree(path, path.parent / '2.0.0')
  with pytest.raises(InputError, match='several datasets, name one: 1.0.0, 2.0.0'):
    RLDSReader(str(path.parent), '')
  with pytest.raises(InputError, match='holds no features.json'):
    RLDSReader(str(empty_folder(tmp_path)), '')
  with pytest.raises(InputError, match="has no split 'tests'; set mapping.split to one of train"):
    RLDSReader(str(path), 'tests')
  with pytest.raises(InputError, match='nor a prepared dataset of that name.*tfds build rlu_atari'):
    RLDSReader('rlu_atari', '')
  with pytest.raises(InputError, match='nor a prepared dataset of that name'):
    RLDSReader('gs://bucket/robots', '')
  info = path / 'dataset_info.json'
  info.write_text(info.read_text().replace('array_record', 'riegeli'))
  with pytest.raises(InputError, match='is riegeli, which needs TensorFlow.*tfds convert_format'):
    RLDSReader(str(path), '')
  for damage in (lambda: info.write_text('{}'), info.unlink):
    damage()
    with pytest.raises(InputError, match='TFDS cannot open it .*; copy or prepare it again'):
      RLDSReader(str(path), '')


@pytest.mark.parametrize('hide', [
    lambda name: {'pythonClassName': name}, lambda name: {'python_class_name': name}, lambda name: {'type': name},
    lambda name: {'pythonClassName': 'tensorflow_datasets.x.Y', 'json': {'json': json.dumps([{'type': name}])}}])
def test_code_that_a_dataset_names_is_not_run(hide, tmp_path, monkeypatch):
  structure, episodes = control_episodes(count=1)
  path = pathlib.Path(prepare_folder(tmp_path / 'one', 'theirs', episodes, structure))
  (path / 'a_dataset_of_theirs.py').write_text('raise SystemExit("ran")')
  monkeypatch.syspath_prepend(path)
  features = json.loads((path / 'features.json').read_text())
  features['featuresDict']['features']['extra'] = hide('a_dataset_of_theirs.Feature')
  (path / 'features.json').write_text(json.dumps(features))
  monkeypatch.setattr(tfds.core.constants, 'DATA_DIR', str(tmp_path / 'one'))
  for folder_or_name in (str(path), 'theirs', 'theirs:1.0.0'):
    with pytest.raises(InputError, match='wants the code of a_dataset_of_theirs.Feature, which is not run'):
      RLDSReader(folder_or_name, '')


def empty_folder(tmp_path):
  (tmp_path / 'empty').mkdir()
  return tmp_path / 'empty'


def test_what_is_no_rlds(tmp_path):
  path = prepare_folder(tmp_path, 'digits', [{'label': 3}], {'label': np.int64})
  with pytest.raises(InputError, match='no RLDS dataset.*it has label'):
    RLDSReader(path, '')


def test_changed_files_are_noticed(tmp_path):
  structure, episodes = control_episodes()
  path = prepare_folder(tmp_path, 'theirs', episodes, structure)
  request = Request('rlds', path=path)
  build(Builder, request, tmp_path)
  assert defect(request, str(tmp_path)) is None
  (pathlib.Path(path) / 'features.json').touch()
  assert 'have changed since' in defect(request, str(tmp_path))


def test_other_mappings_lie_elsewhere():
  one = Request('rlds', path='a/1.0.0')
  other = Request('rlds', path='a/1.0.0', mapping=KeyMapping(image_side=64))
  assert one.directory('data') != other.directory('data')
  assert one.config_name.startswith('a-')


def test_integers_without_a_limit_become_discrete_only_where_they_count(tmp_path):
  structure = {'steps': tfds.features.Dataset({
      'observation': {'room': np.int64, 'clock': np.int64, 'offset': np.int64}, 'action': np.int64})}
  episodes = [{'steps': [{'observation': {'room': t % 3, 'clock': 5000 * t, 'offset': t - 2}, 'action': t % 4}
                         for t in range(5)]} for _ in range(2)]
  source = imported(tmp_path, structure, episodes)
  assert source.task.observation == {'room': ArraySpec(DISCRETE, (), 3), 'clock': ArraySpec(CONTINUOUS),
                                     'offset': ArraySpec(CONTINUOUS)}
  assert source.task.action == ArraySpec(DISCRETE, (), 4)
  assert not source[0].reward.any()


def test_a_catalogue_name_is_found_in_the_data_directory(tmp_path):
  structure, episodes = control_episodes()
  builder = Prepared('my_robot', structure, episodes, data_dir=str(tmp_path))
  builder.download_and_prepare(download_dir=str(tmp_path / 'downloads'))
  tfds.core.add_data_dir(str(tmp_path))
  assert 'action' in RLDSReader('my_robot', '').items
