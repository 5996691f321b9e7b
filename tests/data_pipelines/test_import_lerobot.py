"""LeRobot datasets of both versions, written by Arrow and FFmpeg and read back."""

import json
import pathlib

import numpy as np
import pytest

from data_pipelines.datasets.catalogue import Request
from data_pipelines.datasets.lerobot.builder import Builder as LeRobotBuilder
from data_pipelines.datasets.lerobot.reader import LeRobotReader
from data_pipelines.datasets.mapping import KeyMapping
from data_pipelines.environments.specs import ArraySpec
from data_pipelines.errors import InputError
from tests.data_pipelines.rlds_cases import build, in_own_units

RATE, HEIGHT, WIDTH = 10, 48, 64


def frame(episode, step):
  """A grey that says which it is, as video is lossy."""
  return np.full((HEIGHT, WIDTH, 3), 20 + 60 * episode + 8 * step, np.uint8)


def write_video(file, frames):
  """Each is shown when its place says; None: nothing is."""
  av = pytest.importorskip('av')
  file.parent.mkdir(parents=True, exist_ok=True)
  with av.open(str(file), 'w') as container:
    stream = container.add_stream('libx264', rate=RATE, options={'g': '2'})
    stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, 'yuv420p'
    for number, image in enumerate(frames):
      if image is not None:
        shown = av.VideoFrame.from_ndarray(image, format='rgb24')
        shown.pts = number
        container.mux(stream.encode(shown))
    container.mux(stream.encode())


LENGTHS = (5, 6, 3)  # so that the second and third begin between key frames
TASKS = ('fold the towel', 'open the drawer')


def step_columns(episodes):
  rng = np.random.default_rng(1)
  columns = {name: [] for name in ('observation.state', 'action', 'episode_index', 'frame_index', 'timestamp', 'index',
                                   'task_index', 'next.success')}
  for episode, T in episodes:
    for t in range(T):
      values = (rng.normal(size=6).astype(np.float32).tolist(), rng.uniform(-90, 90, 6).astype(np.float32).tolist(),
                episode, t, t / RATE, len(columns['index']), episode % 2, t == T - 1 and episode != 1)
      for column, value in zip(columns.values(), values, strict=True):
        column.append(value)
  return columns


def write_parquet(file, columns):
  arrow = pytest.importorskip('pyarrow')
  file.parent.mkdir(parents=True, exist_ok=True)
  pytest.importorskip('pyarrow.parquet').write_table(arrow.table(columns), file)


def write_info(root, version, data_path, video_path):
  number = {'dtype': 'int64', 'shape': [1], 'names': None}
  features = {
      'observation.state': {'dtype': 'float32', 'shape': [6], 'names': ['a', 'b', 'c', 'd', 'e', 'f']},
      'action': {'dtype': 'float32', 'shape': [6], 'names': None},
      'observation.images.top': {
          'dtype': 'video', 'shape': [HEIGHT, WIDTH, 3], 'names': ['height', 'width', 'channel']},
      'next.success': {'dtype': 'bool', 'shape': [1], 'names': None},
      'timestamp': {'dtype': 'float32', 'shape': [1], 'names': None},
      **dict.fromkeys(('frame_index', 'episode_index', 'index', 'task_index'), number),
  }
  (root / 'meta').mkdir(parents=True, exist_ok=True)
  (root / 'meta' / 'info.json').write_text(json.dumps({
      'codebase_version': version, 'fps': RATE, 'chunks_size': 1000, 'features': features, 'data_path': data_path,
      'video_path': video_path, 'total_episodes': len(LENGTHS)}))


def lerobot_2(root):
  write_info(root, 'v2.1', 'data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet',
             'videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4')
  for episode, T in enumerate(LENGTHS):
    columns = step_columns([(episode, T)])
    write_parquet(root / 'data' / 'chunk-000' / f'episode_{episode:06d}.parquet', columns)
    write_video(root / 'videos' / 'chunk-000' / 'observation.images.top' / f'episode_{episode:06d}.mp4',
                [frame(episode, t) for t in range(T)])
  lines = [{'episode_index': i, 'tasks': [TASKS[i % 2]], 'length': T} for i, T in enumerate(LENGTHS)]
  (root / 'meta' / 'episodes.jsonl').write_text('\n'.join(map(json.dumps, lines)))
  lines = [{'task_index': i, 'task': task} for i, task in enumerate(TASKS)]
  (root / 'meta' / 'tasks.jsonl').write_text('\n'.join(map(json.dumps, lines)))
  return str(root)


def lerobot_3(root):
  write_info(root, 'v3.0', 'data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet',
             'videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4')
  write_parquet(root / 'data' / 'chunk-000' / 'file-000.parquet', step_columns(list(enumerate(LENGTHS))))
  write_video(root / 'videos' / 'observation.images.top' / 'chunk-000' / 'file-000.mp4',
              [frame(episode, t) for episode, T in enumerate(LENGTHS) for t in range(T)])
  starts = np.cumsum([0, *LENGTHS])[:-1]
  video = 'videos/observation.images.top'
  write_parquet(root / 'meta' / 'episodes' / 'chunk-000' / 'file-000.parquet', {
      'episode_index': list(range(3)), 'length': list(LENGTHS), 'data/chunk_index': [0] * 3, 'data/file_index': [0] * 3,
      f'{video}/chunk_index': [0] * 3, f'{video}/file_index': [0] * 3,
      f'{video}/from_timestamp': (starts / RATE).tolist(), 'stats/action/min': [[0.0]] * 3})
  write_parquet(root / 'meta' / 'tasks.parquet', {'task_index': [0, 1], '__index_level_0__': list(TASKS)})
  return str(root)


@pytest.mark.parametrize('write', [lerobot_2, lerobot_3])
def test_lerobot(write, tmp_path):
  path = write(tmp_path / 'towels')
  source = build(LeRobotBuilder, Request('lerobot', path=path, mapping=KeyMapping(success='next.success')), tmp_path)
  assert source.metadata['dropped'] == []
  assert source.task.observation == {
      'state': ArraySpec('continuous', (6,)), 'images.top': ArraySpec('image', (HEIGHT, WIDTH, 3)),
      'instruction': ArraySpec('text')}
  np.testing.assert_array_equal(source.table.length, LENGTHS)
  np.testing.assert_array_equal(source.table.success, [True, False, True])
  columns = step_columns([(1, 6)]) if write is lerobot_2 else {
      key: column[5:11] for key, column in step_columns(list(enumerate(LENGTHS))).items()}
  np.testing.assert_array_equal(source[1].observation['state'], np.float32(columns['observation.state']))
  np.testing.assert_allclose(in_own_units(source, source[1]), columns['action'], atol=1e-3)
  assert source[1].observation['instruction'] == [TASKS[1]] * 6
  for episode, T in enumerate(LENGTHS):
    means = source[episode].observation['images.top'][:].mean(axis=(1, 2, 3))
    np.testing.assert_allclose(means, [frame(episode, t).mean() for t in range(T)], atol=3)


def test_lerobot_damage(tmp_path):
  path = pathlib.Path(lerobot_2(tmp_path / 'towels'))
  video = path / 'videos' / 'chunk-000' / 'observation.images.top' / 'episode_000001.mp4'
  write_video(video, [frame(1, t) for t in range(4)])
  table = path / 'data' / 'chunk-000' / 'episode_000002.parquet'
  table.write_bytes(table.read_bytes()[:-20])
  source = build(LeRobotBuilder, Request('lerobot', path=str(path)), tmp_path, 0.7)
  short, cut = source.metadata['dropped']
  assert len(source) == 1 and 'episode 1: episode_000001.mp4 has no frame 4 of 6' in short
  assert cut.startswith('episode 2: episode_000002.parquet has 0 steps of its 3 (')
  assert 'episode_000002.parquet: cannot be read' in cut
  info = path / 'meta' / 'info.json'
  for content, message in (
      ('{"features": {"action": {}}, "codebase_version": "v2.1"}', "nothing in meta says 'dtype'"),
      ('[]', 'meta/info.json cannot be read'), ('{', 'meta/info.json cannot be read')):
    info.write_text(content)
    with pytest.raises(InputError, match=f'is no LeRobot dataset: {message}'):
      LeRobotReader(str(path))
  info.unlink()
  with pytest.raises(InputError, match='is no LeRobot dataset: meta/info.json'):
    LeRobotReader(str(path))


def test_lerobot_video_with_a_gap(tmp_path):
  """The frames after it would stand beside the wrong steps."""
  path = pathlib.Path(lerobot_2(tmp_path / 'towels'))
  video = path / 'videos' / 'chunk-000' / 'observation.images.top' / 'episode_000000.mp4'
  write_video(video, [None if t == 2 else frame(0, t) for t in range(6)])
  source = build(LeRobotBuilder, Request('lerobot', path=str(path)), tmp_path, 0.7)
  [gap] = source.metadata['dropped']
  assert len(source) == 2 and 'episode_000000.mp4 has no frame 2 of 5, which is shown at 0.200 s' in gap


def test_lerobot_steps_that_are_missing_or_of_another_length(tmp_path):
  path = pathlib.Path(lerobot_3(tmp_path / 'towels'))
  columns = step_columns(list(enumerate(LENGTHS)))
  columns['observation.state'][2].pop()
  columns['action'][LENGTHS[0]] = None  # the second episode's first
  write_parquet(path / 'data' / 'chunk-000' / 'file-000.parquet', columns)
  source = build(LeRobotBuilder, Request('lerobot', path=str(path)), tmp_path, 0.7)
  assert list(source.table.length) == [LENGTHS[2]]
  np.testing.assert_allclose(in_own_units(source, source[0]), columns['action'][-3:], atol=1e-3)
  assert source.metadata['dropped'] == [
      'episode 0: observation.state is ragged: its steps differ in shape',
      f'episode 1: file-000.parquet has 5 steps of its 6 ({path}/data/chunk-000/file-000.parquet, row 5: "action": a '
      'value is missing)']
  (path / 'meta' / 'tasks.parquet').unlink()
  with pytest.raises(InputError, match='tasks.parquet: not a readable Parquet file'):
    build(LeRobotBuilder, Request('lerobot', path=str(path)), tmp_path)
  write_parquet(path / 'meta' / 'tasks.parquet', {'task': list(TASKS)})
  with pytest.raises(InputError, match="nothing in meta says 'task_index'"):
    build(LeRobotBuilder, Request('lerobot', path=str(path)), tmp_path)
