"""Control datasets: the RLDS layout on disk, and the episodes read back from it."""

from concurrent.futures import ThreadPoolExecutor
import json
import math
import pathlib
import pickle
import re

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_pipelines.datasets import catalogue, demonstrations, pictures, rlds, sources
from data_pipelines.datasets.babyai.builder import Builder
from data_pipelines.datasets.catalogue import CLEAN_AGENT, NOISY_AGENT, SEED_LIMIT, Request
from data_pipelines.datasets.episodes import ControlEpisode
from data_pipelines.environments.specs import ArraySpec, StepResult, TaskSpec
from data_pipelines.errors import InputError

SPEC = TaskSpec(
    name='babyai/Count-v0',
    domain='babyai',
    observation={
        'image': ArraySpec('image', (16, 16, 3)),
        'mission': ArraySpec('text'),
        'place': ArraySpec('continuous', (2, 3)),
        'grid': ArraySpec('discrete', (2,), 50),
    },
    action=ArraySpec('discrete', (), 4),
    max_steps=9,
    score='success',
)
REQUEST = Request('babyai', 'Count-v0', episodes=7, noise=0.5, seed=3)


class Counter:
  """Everything it shows is made of the seed and the number of steps taken. Its length depends on the seed.

  Seeds divisible by 5 end without success, and at 7 the simulator breaks in the middle.
  """

  spec = SPEC
  closed = False

  def reset(self, seed):
    self.seed, self.steps = seed, 0
    return self._observation()

  def step(self, action):
    self.steps += 1
    if self.seed % 7 == 0:
      raise RuntimeError('simulator broke')
    success = self.steps == self.length and self.seed % 5 != 0
    terminated = success and self.seed % 2 == 0
    return StepResult(self._observation(), self.steps / 2, terminated, self.steps == self.length, success)

  def close(self):
    self.closed = True

  @property
  def length(self):
    return 3 + self.seed % 4

  def _observation(self):
    image = np.random.default_rng([self.seed, self.steps]).integers(256, size=(16, 16, 3), dtype=np.uint8)
    place = np.full((2, 3), self.steps, np.float32) + np.arange(3, dtype=np.float32) / 10
    mission = f'count to {self.length}, Zoë'
    return {'image': image, 'mission': mission, 'place': place, 'grid': np.array([self.steps, 7], np.int32)}


def count(environment, expert, seed, noise):
  """`collect_episode` of a Counter: the expert's action is the step's number modulo 4; noise executes 0 instead."""
  observations, rewards = [environment.reset(seed)], []
  for _ in range(environment.length):
    result = environment.step(np.int32(0))
    observations.append(result.observation)
    rewards.append(result.reward)
  label = (np.arange(environment.length) % 4).astype(np.int32)
  return ControlEpisode(
      observation={key: [o[key] for o in observations[:-1]] if key == 'mission'
                   else np.stack([o[key] for o in observations[:-1]]) for key in SPEC.observation},
      action=np.zeros_like(label) if noise else label, expert_action=label, reward=np.array(rewards, np.float32),
      episode_return=float(sum(rewards)), success=result.success)


@pytest.fixture
def counter(monkeypatch):
  for module in (catalogue, rlds, sources):
    monkeypatch.setattr(module, 'task_spec', lambda name: SPEC)
  monkeypatch.setattr(demonstrations, 'make', lambda name: Counter())
  monkeypatch.setattr(demonstrations, 'make_expert', lambda environment: None)
  monkeypatch.setattr(demonstrations, 'collect_episode', count)


@pytest.fixture(params=['whole episodes', 'parts of two timesteps'])
def source(counter, request, monkeypatch, tmp_path):
  if request.param != 'whole episodes':
    monkeypatch.setattr(rlds, 'PART_TOKENS', 2 * (1 + 16 + 6 + 2 + 1))  # image, mission, place, grid, action
  built = []
  Builder(REQUEST, str(tmp_path), progress=lambda: built.append(1)).download_and_prepare(download_dir=tmp_path / 'none')
  assert len(built) == REQUEST.episodes
  return sources.open_source(REQUEST, str(tmp_path), 'train')


def expected(seed, noise):
  return count(Counter(), None, seed, noise)


def test_episodes_come_back_as_they_were_played(source):
  assert len(source) == 7 and source.kind == 'control' and source.task == SPEC and source.name == SPEC.name
  for index in range(len(source)):
    episode = source[index]
    played = expected(int(source.table.seed[index]), bool(source.table.noisy[index]))
    assert episode.length == played.length == source.table.length[index]
    for field in ('action', 'expert_action', 'reward'):
      np.testing.assert_array_equal(getattr(episode, field), getattr(played, field))
      assert getattr(episode, field).dtype == getattr(played, field).dtype
    for key in ('place', 'grid'):
      np.testing.assert_array_equal(episode.observation[key], played.observation[key])
      assert episode.observation[key].dtype == played.observation[key].dtype
    np.testing.assert_array_equal(episode.observation['image'][:], played.observation['image'])
    assert episode.observation['mission'] == played.observation['mission']
    assert episode.episode_return == played.episode_return and episode.success


def test_seeds_that_fail_give_way_to_the_next_and_are_counted(source):
  seeds = source.table.seed
  failed = [int(re.match(r'on seed (\d+): ', line)[1]) for line in source.metadata['dropped']]
  assert all(seed % 5 == 0 or seed % 7 == 0 for seed in failed) and failed
  assert all(seed % 5 and seed % 7 for seed in seeds)
  tried = sorted([*seeds, *failed])
  np.testing.assert_array_equal(tried, np.arange(tried[0], tried[0] + len(tried)))
  assert seeds.max() < SEED_LIMIT


def test_noise_is_spread_over_the_episodes_and_the_first_is_free_of_it(source):
  np.testing.assert_array_equal(source.table.noisy, [False, True, False, True, False, True, False])
  np.testing.assert_array_equal(source.demonstrations(), [0, 2, 4, 6])
  noisy = source[1]
  assert not noisy.action.any() and noisy.expert_action.any()


def test_steps_on_disk_follow_rlds(source):
  """Read by TFDS alone, as anyone else would."""
  whole = {'steps': tfds.decode.SkipDecoding()}
  records = tfds.builder_from_directory(source.directory).as_data_source('train', decoders=whole)
  episodes = []
  for record in records:
    if record['steps']['is_first'][0]:
      episodes.append(record)
    else:
      steps = joined(episodes[-1]['steps'], record['steps'])
      assert {**episodes[-1], 'steps': ()} == {**record, 'steps': ()}
      episodes[-1] = {**record, 'steps': steps}
  assert len(episodes) == len(source)
  for index, record in enumerate(episodes):
    steps = record['steps']
    T = source.table.length[index]
    seed = int(source.table.seed[index])
    terminal = seed % 2 == 0
    last = np.arange(T + 1) == T
    np.testing.assert_array_equal(steps['is_first'], np.arange(T + 1) == 0)
    np.testing.assert_array_equal(steps['is_last'], last)
    np.testing.assert_array_equal(steps['is_terminal'], last & terminal)
    np.testing.assert_array_equal(steps['discount'], [1] * (T - 1) + [1 - terminal, 0])
    np.testing.assert_array_equal(steps['reward'], [*(np.arange(1, T + 1) / 2), 0])
    # The observation counts the actions before it: action t is taken at observation t, and leads to t + 1.
    np.testing.assert_array_equal(steps['observation']['grid'][:, 0], np.arange(T + 1))
    np.testing.assert_array_equal(steps['expert_action'], [*(np.arange(T) % 4), 0])
    assert record['agent'].decode() == (NOISY_AGENT if index % 2 else CLEAN_AGENT)
    assert record['task'].decode() == SPEC.name and record['seed'] == seed and record['success']
    assert record['return'] == source.table.episode_return[index]


def joined(one, other):
  """Columns of steps, one after the other."""
  return {key: joined(one[key], other[key]) if isinstance(one[key], dict) else np.concatenate([one[key], other[key]])
          for key in one}


def test_an_episode_is_read_in_parts(source, monkeypatch):
  read = []
  features = source._features
  monkeypatch.setattr(source, '_features', lambda record: read.append(record) or features(record))
  size = source.part_timesteps
  assert size in (39, 2)  # of 26 tokens each: 1,024 or 52
  for index in range(len(source)):
    whole, numbers = source[index], range(math.ceil(source.table.length[index] / size))
    read.clear()
    for number in numbers:
      part, place = source.part(index, number), slice(number * size, (number + 1) * size)
      assert part.length == len(whole.action[place]) > 0
      for field in ('action', 'expert_action', 'reward'):
        np.testing.assert_array_equal(getattr(part, field), getattr(whole, field)[place])
      for key, values in whole.observation.items():
        np.testing.assert_array_equal(part.observation[key][:], values[place])
      assert (part.episode_return, part.success) == (whole.episode_return, whole.success)
    assert len(set(read)) == len(read) == len(numbers)
  records = tfds.builder_from_directory(source.directory).info.splits['train'].num_examples
  assert records == sum(math.ceil(length / size) for length in source.table.length)


def test_a_dataset_of_whole_episodes_is_built_again(source, tmp_path):
  path = pathlib.Path(source.directory, 'metadata.json')
  metadata = json.loads(path.read_text())
  del metadata['part_timesteps']
  path.write_text(json.dumps(metadata))
  with pytest.raises(InputError, match='made by an older version, with whole episodes as records; run `gato-jax prep'):
    sources.open_source(REQUEST, str(tmp_path), 'train')
  with pytest.raises(InputError, match='made by an older version'):
    sources.open_directory('control', 'x', source.directory, 'train')


@pytest.mark.parametrize('side, action, timesteps', [
    (84, ArraySpec('discrete', (), 18), 1024 // 37), (640, ArraySpec('continuous', (7,)), 1)])
def test_records_are_about_a_row_long(side, action, timesteps):
  spec = TaskSpec('x/y', 'x', {'image': ArraySpec('image', (side, side, 3))}, action, max_steps=1)
  assert rlds.part_timesteps(spec) == timesteps


def test_a_slice_of_pictures_decodes_those_and_no_others(source, monkeypatch):
  decoded = []
  decode = pictures.decode_png
  monkeypatch.setattr(pictures, 'decode_png', lambda png: decoded.append(1) or decode(png))
  images = source[0].observation['image']
  played = expected(int(source.table.seed[0]), False).observation['image']
  assert not decoded and images.shape == played.shape and len(images) == len(played)
  np.testing.assert_array_equal(images[1:3], played[1:3])
  assert len(decoded) == 2
  np.testing.assert_array_equal(images[-1], played[-1])
  assert len(decoded) == 3
  assert images[3:3].shape == (0, 16, 16, 3) and len(decoded) == 3
  assert images.nbytes == sum(len(pictures.encode_png(picture)) for picture in played)


def test_reading_in_threads_and_after_pickling(source):
  copy = pickle.loads(pickle.dumps(source))
  order = np.random.default_rng(0).integers(len(source), size=300)
  with ThreadPoolExecutor(8) as pool:
    episodes = list(pool.map(copy.__getitem__, order))
  for index, episode in zip(order, episodes, strict=True):
    assert episode.length == source.table.length[index]
    assert episode.observation['mission'] == source[int(index)].observation['mission']
  with pytest.raises(IndexError):
    source[len(source)]


def test_an_expert_that_keeps_failing_stops_the_task(counter, monkeypatch):
  monkeypatch.setattr(Counter, 'step', lambda self, action: 1 / 0)
  environment, dropped = Counter(), []
  monkeypatch.setattr(demonstrations, 'make', lambda name: environment)
  with pytest.raises(InputError, match='Count-v0: the expert failed on 11 seeds and solved 0.*ZeroDivisionError'):
    list(demonstrations.demonstrations(REQUEST, dropped))
  assert len(dropped) == 11 and environment.closed


def test_missions_are_the_text_of_a_control_task(source):
  assert list(source.texts()) == [source[index].observation['mission'][0] for index in range(len(source))]


def test_a_changed_task_is_noticed(source, monkeypatch, tmp_path):
  changed = TaskSpec(**{**SPEC.__dict__, 'max_steps': 10})
  monkeypatch.setattr(sources, 'task_spec', lambda name: changed)
  with pytest.raises(InputError, match='other observations or actions; run `gato-jax prepare'):
    sources.open_source(REQUEST, str(tmp_path), 'train')
