"""Minari, JAT and recorded episodes: made with their own tools where they have some, and read back."""

import multiprocessing
import os
import pathlib
import signal
import time

import numpy as np
import pytest

from data_pipelines.datasets.catalogue import Request
from data_pipelines.datasets.jat.builder import Builder as JATBuilder
from data_pipelines.datasets.mapping import KeyMapping
from data_pipelines.datasets.minari.builder import Builder as MinariBuilder
from data_pipelines.datasets.recorded.builder import Builder as RecordedBuilder
from data_pipelines.datasets.recorded.writer import EpisodeWriter
from data_pipelines.environments.specs import ArraySpec
from data_pipelines.errors import InputError
from tests.data_pipelines.rlds_cases import build, in_own_units
from tests.data_pipelines.token_cases import tokenizer

# Minari


def collect(monkeypatch, tmp_path, make, name, episodes=3):
  """A dataset of random actions, made by Minari's own collector; returns its folder and itself."""
  minari = pytest.importorskip('minari')
  monkeypatch.setenv('MINARI_DATASETS_PATH', str(tmp_path))
  environment = minari.DataCollector(make(), record_infos=False)
  environment.action_space.seed(0)
  for seed in range(episodes):
    environment.reset(seed=seed)
    for _ in range(5 + seed):
      _, _, terminated, truncated, _ = environment.step(environment.action_space.sample())
      if terminated or truncated:
        break
  dataset = environment.create_dataset(dataset_id=f'{name}-v0')
  environment.close()
  return str(tmp_path / f'{name}-v0'), dataset


def space_environment(observation_space, action_space):
  gymnasium = pytest.importorskip('gymnasium')

  class Sampler(gymnasium.Env):
    """Shows random values of a space."""

    def __init__(self):
      self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed=None, options=None):
      self.observation_space.seed(seed)
      self._steps = 0
      return self.observation_space.sample(), {}

    def step(self, action):
      self._steps += 1
      return self.observation_space.sample(), float(self._steps), self._steps == 6, False, {}

  return Sampler


def test_minari_box_and_discrete(monkeypatch, tmp_path):
  gymnasium = pytest.importorskip('gymnasium')
  path, dataset = collect(monkeypatch, tmp_path, lambda: gymnasium.make('CartPole-v1'), 'cartpole')
  source = build(MinariBuilder, Request('minari', path=path), tmp_path / 'ours')
  assert source.task.observation == {'observation': ArraySpec('continuous', (4,))}
  assert source.task.action == ArraySpec('discrete', (), 2) and len(source) == 3
  theirs = dataset[1]
  np.testing.assert_allclose(source[1].observation['observation'], theirs.observations[:-1], rtol=1e-6)
  np.testing.assert_array_equal(source[1].action, theirs.actions)
  np.testing.assert_array_equal(source[1].reward, theirs.rewards)


def test_minari_dict_text_pictures_and_box_actions(monkeypatch, tmp_path):
  spaces = pytest.importorskip('gymnasium').spaces
  observation = spaces.Dict({
      'camera': spaces.Box(0, 255, (16, 32, 3), np.uint8),
      'inner': spaces.Dict({'mode': spaces.Discrete(5, start=2), 'place': spaces.Box(-9, 9, (2,), np.float32)}),
      'mission': spaces.Text(12),
  })
  action = spaces.Dict({'arm': spaces.Box(-2, 6, (3,), np.float32), 'grip': spaces.Discrete(3)})
  path, dataset = collect(monkeypatch, tmp_path, space_environment(observation, action), 'robot')
  source = build(MinariBuilder, Request('minari', path=path), tmp_path / 'ours')
  assert source.task.observation == {
      'camera': ArraySpec('image', (16, 32, 3)), 'inner.mode': ArraySpec('discrete', (), 5),
      'inner.place': ArraySpec('continuous', (2,)), 'mission': ArraySpec('text')}
  assert source.metadata['action_bounds'] == {'low': [-2, -2, -2, 0], 'high': [6, 6, 6, 2]}
  assert source.metadata['notes'] == []
  theirs, ours = dataset[2], source[2]
  T = len(theirs)
  assert ours.observation['mission'] == list(theirs.observations['mission'][:T])
  np.testing.assert_array_equal(ours.observation['inner.mode'], theirs.observations['inner']['mode'][:T] - 2)
  np.testing.assert_array_equal(ours.observation['camera'][:], theirs.observations['camera'][:T])
  np.testing.assert_allclose(
      in_own_units(source, ours), np.column_stack([theirs.actions['arm'], theirs.actions['grip']]), atol=1e-5)
  assert tokenizer().tokenize(source, 2).length == T


def test_minari_discrete_observations_and_many_discrete_actions(monkeypatch, tmp_path):
  spaces = pytest.importorskip('gymnasium').spaces
  make = space_environment(spaces.Discrete(7), spaces.MultiDiscrete([3, 5]))
  path, dataset = collect(monkeypatch, tmp_path, make, 'grid')
  source = build(MinariBuilder, Request('minari', path=path), tmp_path / 'ours')
  assert source.task.observation == {'observation': ArraySpec('discrete', (), 7)}
  np.testing.assert_allclose(in_own_units(source, source[0]), dataset[0].actions, atol=1e-5)


def test_what_is_no_minari_dataset(tmp_path):
  with pytest.raises(InputError, match='is no Minari dataset: it has no data/metadata.json'):
    MinariBuilder(Request('minari', path=str(tmp_path)), str(tmp_path / 'ours'), progress=lambda: None)


# JAT


def jat_folder(tmp_path, rows, types, split='train'):
  arrow = pytest.importorskip('pyarrow')
  parquet = pytest.importorskip('pyarrow.parquet')
  table = arrow.table({name: arrow.array([row[name] for row in rows], kind) for name, kind in types(arrow).items()})
  tmp_path.mkdir(exist_ok=True)
  parquet.write_table(table, tmp_path / f'{split}-00000-of-00001.parquet')
  return str(tmp_path)


def mujoco_rows(count=3):
  rng = np.random.default_rng(0)
  return [{'continuous_observations': rng.normal(size=(T, 27)).astype(np.float32).tolist(),
           'continuous_actions': rng.uniform(-3, 3, (T, 8)).astype(np.float32).tolist(),
           'rewards': rng.normal(size=T).astype(np.float32).tolist()} for T in range(4, 4 + count)]


def mujoco_types(arrow):
  vectors = arrow.list_(arrow.list_(arrow.float32()))
  return {'continuous_observations': vectors, 'continuous_actions': vectors, 'rewards': arrow.list_(arrow.float32())}


def test_jat_mujoco(tmp_path):
  rows = mujoco_rows()
  path = jat_folder(tmp_path / 'mujoco-ant', rows, mujoco_types)
  source = build(JATBuilder, Request('jat', path=path), tmp_path)
  assert source.task.name == 'jat/mujoco_ant'
  assert source.task.observation == {'continuous_observations': ArraySpec('continuous', (27,))}
  for index, row in enumerate(rows):
    np.testing.assert_array_equal(source[index].observation['continuous_observations'], row['continuous_observations'])
    np.testing.assert_allclose(in_own_units(source, source[index]), row['continuous_actions'], atol=1e-5)
    assert source.table.episode_return[index] == pytest.approx(sum(row['rewards']), rel=1e-5)


def test_jat_atari_pictures_of_four_frames(tmp_path):
  rng = np.random.default_rng(0)
  frames = rng.integers(256, size=(3, 84, 84, 4), dtype=np.uint8)
  row = {'image_observations': [{'bytes': png_of(frame), 'path': None} for frame in frames],
         'discrete_actions': [3, 0, 17], 'rewards': [0.0, 1.0, -1.0]}

  def types(arrow):
    picture = arrow.struct({'bytes': arrow.binary(), 'path': arrow.string()})
    return {'image_observations': arrow.list_(picture), 'discrete_actions': arrow.list_(arrow.int64()),
            'rewards': arrow.list_(arrow.float32())}

  path = jat_folder(tmp_path / 'atari-pong', [row, row], types)
  source = build(JATBuilder, Request('jat', path=path, mapping=KeyMapping(action_values=18)), tmp_path)
  assert source.task.observation == {'image_observations': ArraySpec('image', (84, 84, 3))}
  assert source.task.action == ArraySpec('discrete', (), 18)
  np.testing.assert_array_equal(source[1].observation['image_observations'][:], frames[..., 1:])
  np.testing.assert_array_equal(source[1].action, [3, 0, 17])


def png_of(image):
  import io

  from PIL import Image
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, 'PNG')
  return buffer.getvalue()


def test_jat_babyai(tmp_path):
  """Missions, a flat discrete observation and discrete actions."""
  row = {'text_observations': ['go to the red ball'] * 2, 'discrete_observations': [[0, 5, 1], [2, 2, 9]],
         'discrete_actions': [1, 6], 'rewards': [0.0, 0.9]}

  def types(arrow):
    return {'text_observations': arrow.list_(arrow.string()), 'discrete_actions': arrow.list_(arrow.int64()),
            'discrete_observations': arrow.list_(arrow.list_(arrow.int64())), 'rewards': arrow.list_(arrow.float32())}

  path = jat_folder(tmp_path / 'babyai-go-to', [row], types)
  source = build(JATBuilder, Request('jat', path=path), tmp_path)
  assert source.task.observation == {'text_observations': ArraySpec('text'),
                                     'discrete_observations': ArraySpec('discrete', (3,), 10)}
  assert source[0].observation['text_observations'] == ['go to the red ball'] * 2
  np.testing.assert_array_equal(source[0].observation['discrete_observations'], row['discrete_observations'])


def test_jat_rows_that_are_ragged_or_of_another_shape(tmp_path):
  rows = mujoco_rows(6)
  rows[1]['continuous_observations'].pop()
  rows[1]['continuous_observations'].pop()
  rows[2]['continuous_actions'][1].pop()
  rows[3] = {key: [] for key in rows[3]}
  rows[4]['continuous_observations'] = [step[:20] for step in rows[4]['continuous_observations']]
  path = jat_folder(tmp_path / 'ant', rows, mujoco_types)
  source = build(JATBuilder, Request('jat', path=path), tmp_path, 0.7)
  assert len(source) == 2
  ragged, inner, empty, changed = source.metadata['dropped']
  assert 'row 1: it is ragged: 5 of action, 3 of observation.continuous_observations' in ragged
  assert inner.endswith('row 2: action is ragged: its steps differ in shape')
  assert 'row 3: it has no timesteps' in empty
  assert 'row 4: observation.continuous_observations has the shape (20,)' in changed


def test_a_missing_value_costs_its_own_row_only(tmp_path):
  rows = mujoco_rows(10)
  rows[0]['rewards'] = rows[3]['continuous_actions'] = None
  path = jat_folder(tmp_path / 'ant', rows, mujoco_types)
  source = build(JATBuilder, Request('jat', path=path), tmp_path, 0.2)
  np.testing.assert_array_equal(source.table.length, [5, 6, 8, 9, 10, 11, 12, 13])
  first, second = source.metadata['dropped']
  assert first.endswith('parquet, row 0: "rewards": a value is missing')
  assert second.endswith('parquet, row 3: "continuous_actions": a value is missing')


def test_a_damaged_row_group_costs_its_own_rows_only_and_each_counts(tmp_path):
  parquet = pytest.importorskip('pyarrow.parquet')
  path = pathlib.Path(jat_folder(tmp_path / 'ant', mujoco_rows(12), mujoco_types))
  file = path / 'train-00000-of-00001.parquet'
  parquet.write_table(parquet.read_table(file), file, row_group_size=4, compression='gzip')
  column = parquet.ParquetFile(file).metadata.row_group(1).column(0)
  content = bytearray(file.read_bytes())
  content[column.data_page_offset + 60 : column.data_page_offset + 200] = bytes(140)
  file.write_bytes(content)
  source = build(JATBuilder, Request('jat', path=str(path)), tmp_path, 0.4)
  np.testing.assert_array_equal(source.table.length, [4, 5, 6, 7, 12, 13, 14, 15])
  assert len(source.metadata['dropped']) == 4
  assert 'parquet, rows 4 to 7: cannot be read (' in source.metadata['dropped'][0]


def test_a_column_that_one_file_lacks(tmp_path):
  path = jat_folder(tmp_path / 'ant', mujoco_rows(3), mujoco_types)
  jat_folder(tmp_path / 'ant', mujoco_rows(2), lambda arrow: {
      key: kind for key, kind in mujoco_types(arrow).items() if key != 'rewards'}, split='train-more')
  source = build(JATBuilder, Request('jat', path=path), tmp_path, 0.5)
  assert len(source) == 3 and len(source.metadata['dropped']) == 2
  assert source.metadata['dropped'][0].endswith('train-more-00000-of-00001.parquet: it has no column rewards')


def test_a_parquet_file_that_is_cut_off(tmp_path):
  path = pathlib.Path(jat_folder(tmp_path / 'ant', mujoco_rows(), mujoco_types))
  whole = path / 'train-00000-of-00001.parquet'
  (path / 'train-00001-of-00002.parquet').write_bytes(whole.read_bytes()[:-100])
  source = build(JATBuilder, Request('jat', path=str(path)), tmp_path, 0.5)
  assert len(source) == 3
  assert 'train-00001-of-00002.parquet: cannot be read' in source.metadata['dropped'][0]
  with pytest.raises(InputError, match=r'holds no test-\*.parquet'):
    build(JATBuilder, Request('jat', path=str(path), mapping=KeyMapping(split='test')), tmp_path)


# Recorded


def observation(step):
  return {'camera': np.full((16, 16, 3), step, np.uint8), 'joints': np.full(3, step / 2), 'instruction': 'stack them',
          'mode': step % 2}


def test_what_is_recorded_comes_back(tmp_path):
  writer = EpisodeWriter(tmp_path / 'logs', action_low=[-2, 0], action_high=[2, 4])
  for T in (3, 5):
    for step in range(T):
      writer.append(observation(step), [step / 4, step / 2], reward=step)
    writer.close_episode(observation(T), success=T == 5)
  request = Request('recorded', path=str(tmp_path / 'logs'), mapping=KeyMapping(success='success'))
  source = build(RecordedBuilder, request, tmp_path)
  assert source.task.observation == {
      'camera': ArraySpec('image', (16, 16, 3)), 'joints': ArraySpec('continuous', (3,)),
      'instruction': ArraySpec('text'), 'mode': ArraySpec('discrete', (), 2)}
  np.testing.assert_array_equal(source.table.success, [False, True])
  np.testing.assert_allclose(in_own_units(source, source[1]), [[step / 4, step / 2] for step in range(5)])
  np.testing.assert_array_equal(source[1].observation['camera'][:][:, 0, 0, 0], range(5))
  np.testing.assert_array_equal(source[1].observation['joints'][:, 2], np.arange(5) / 2)
  np.testing.assert_array_equal(source[1].reward, range(5))
  assert source[0].observation['instruction'] == ['stack them'] * 3


def test_steps_that_differ_are_refused(tmp_path):
  writer = EpisodeWriter(tmp_path)
  with pytest.raises(InputError, match='has no steps'):
    writer.close_episode()
  writer.append({'joints': np.zeros(3)}, 1)
  with pytest.raises(InputError, match='step 1 .* differs from its first in observation.joints'):
    writer.append({'joints': np.zeros(4)}, 1)
  with pytest.raises(InputError, match='observation.camera'):
    writer.append({'joints': np.zeros(3), 'camera': np.zeros((4, 4, 3), np.uint8)}, 1)
  writer.append({'joints': np.ones(3)}, 0)
  for final, message in (({}, 'joints'), ({'joints': np.ones(2)}, 'joints'), ({'joints': np.ones(3), 'arm': 1}, 'arm')):
    with pytest.raises(InputError, match=f'final observation .* differs from its first in observation.{message}'):
      writer.close_episode(final)
  writer.close_episode({'joints': np.ones(3)})  # what was refused lost nothing
  writer.append({'camera': np.zeros((4, 4, 3), np.uint8)}, 1)
  with pytest.raises(InputError, match='observation.camera'):
    writer.append({'camera': np.zeros((4, 6, 3), np.uint8)}, 1)
  writer.drop_episode()
  with pytest.raises(InputError, match='holds no episode of an EpisodeWriter'):
    build(RecordedBuilder, Request('recorded', path=str(tmp_path / 'none')), tmp_path)


@pytest.mark.parametrize(('size', 'message'), [
    (4, ''), (3, r'observation.state is continuous \(4,\) there, continuous \(3,\) here\. Mend the mapping'),
])
def test_an_environment_that_shows_something_else(size, message, tmp_path):
  writer = EpisodeWriter(tmp_path / 'logs')
  for step in range(3):
    writer.append({'state': np.full(size, step / 2)}, step % 2)
  writer.close_episode()
  request = Request('recorded', path=str(tmp_path / 'logs'), environment='classic_control/CartPole-v1')
  if not message:
    assert len(build(RecordedBuilder, request, tmp_path)) == 1
    return
  with pytest.raises(InputError, match=f'cannot be evaluated on classic_control/CartPole-v1: {message}'):
    build(RecordedBuilder, request, tmp_path)


def log_for_ever(folder, closed):
  writer = EpisodeWriter(folder)
  rng = np.random.default_rng(0)
  while True:
    for _ in range(20):
      writer.append({'camera': rng.integers(256, size=(64, 64, 3), dtype=np.uint8)}, [0.5])
    writer.close_episode()
    closed.value += 1


def test_what_was_closed_survives_a_kill(tmp_path):
  context = multiprocessing.get_context('spawn')
  closed = context.Value('i', 0)
  process = context.Process(target=log_for_ever, args=(str(tmp_path / 'logs'), closed))
  process.start()
  while closed.value < 5:
    time.sleep(0.01)
  time.sleep(0.007)  # somewhere in an episode
  os.kill(process.pid, signal.SIGKILL)
  process.join()
  source = build(RecordedBuilder, Request('recorded', path=str(tmp_path / 'logs')), tmp_path)
  assert len(source) >= closed.value >= 5 and source.metadata['dropped'] == []
  assert source[len(source) - 1].observation['camera'][19].shape == (64, 64, 3)


def test_writers_may_share_a_folder_and_a_torn_file_is_named(tmp_path):
  writers = [EpisodeWriter(tmp_path / 'logs') for _ in range(2)]
  for number in range(4):
    writers[number % 2].append({'joints': np.full(2, number)}, number)
    writers[number % 2].close_episode()
  files = sorted((tmp_path / 'logs').iterdir())
  assert [file.name for file in files] == [f'{number:08d}.npz' for number in range(4)]
  files[2].write_bytes(files[2].read_bytes()[:200])
  source = build(RecordedBuilder, Request('recorded', path=str(tmp_path / 'logs')), tmp_path, 0.5)
  assert [int(source[i].action[0]) for i in range(3)] == [0, 1, 3]
  assert source.metadata['dropped'][0].startswith('00000002.npz: cannot be read')


def test_writers_may_write_at_once(tmp_path, monkeypatch):
  first, second = (EpisodeWriter(tmp_path / 'logs') for _ in range(2))
  first.append({'joints': np.zeros(2)}, 0)
  second.append({'joints': np.ones(2)}, 1)
  savez = np.savez

  def while_the_other_writes(file, **arrays):
    monkeypatch.setattr(np, 'savez', savez)
    second.close_episode()
    savez(file, **arrays)

  monkeypatch.setattr(np, 'savez', while_the_other_writes)
  first.close_episode()
  assert [np.load(tmp_path / 'logs' / f'0000000{number}.npz')['action'] for number in range(2)] == [1, 0]
  assert len(list((tmp_path / 'logs').iterdir())) == 2


def test_an_episode_that_could_not_be_written_is_kept_and_leaves_no_file(tmp_path, monkeypatch):
  writer = EpisodeWriter(tmp_path / 'logs')
  writer.append({'joints': np.zeros(2)}, 0)
  with monkeypatch.context() as patched:
    patched.setattr(os, 'fsync', lambda file: os.write(-1, b''))  # no such file
    with pytest.raises(OSError):
      writer.close_episode()
  assert not list((tmp_path / 'logs').iterdir())
  assert writer.close_episode().name == '00000000.npz'


def test_arrays_that_no_writer_wrote(tmp_path):
  np.savez(tmp_path / 'weights.npz', action=np.zeros(3))
  with pytest.raises(InputError, match='holds no episode of an EpisodeWriter'):
    build(RecordedBuilder, Request('recorded', path=str(tmp_path)), tmp_path)
