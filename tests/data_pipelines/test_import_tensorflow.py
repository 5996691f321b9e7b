"""What needs TensorFlow (extra `tf`): the catalogue's own builders, and TFRecord files that it wrote."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_pipelines.datasets.catalogue import Request
from data_pipelines.datasets.rlds_folder.builder import Builder
from tests.data_pipelines.rlds_cases import STRUCTURES, Prepared, build, generated_episodes, prepare_folder

pytest.importorskip('tensorflow')


@pytest.mark.parametrize('name', ['rlu_control_suite/cartpole_swingup', 'd4rl_mujoco_halfcheetah/v0-medium'])
def test_mock_data_of_real_builders(name, tmp_path):
  with tfds.testing.mock_data(num_examples=3):
    features = dict(tfds.builder(name).info.features)
    mocked = tfds.as_numpy(tfds.load(name, split='train'))
    episodes = [{**episode, 'steps': list(episode['steps'])} for episode in mocked]
  path = prepare_folder(tmp_path / 'theirs', 'theirs', episodes, features)
  source = build(Builder, Request('rlds', path=path), tmp_path / 'ours', skip_share=0.9)
  kept = [episode for episode in episodes if len(episode['steps'])]
  assert len(source) == len(kept) > 0
  np.testing.assert_allclose(source[0].reward, [step['reward'] for step in kept[0]['steps']][:source[0].length])
  assert source.task.action.shape == features['steps'].feature['action'].shape


def test_tfrecord_files_that_tensorflow_wrote(tmp_path):
  name = 'rlu_control_suite'
  episodes = generated_episodes(name)
  builder = Prepared(name, STRUCTURES[name](), episodes, data_dir=str(tmp_path), file_format='tfrecord')
  builder.download_and_prepare(download_dir=str(tmp_path / 'downloads'))
  assert list(builder.data_path.glob('*.tfrecord*'))
  source = build(Builder, Request('rlds', path=str(builder.data_path)), tmp_path / 'ours')
  assert len(source) == len(episodes)
  for index, episode in enumerate(episodes):
    expected = [step['observation']['position'] for step in episode['steps'][:-1]]
    np.testing.assert_array_equal(source[index].observation['position'], expected)
