"""What needs TensorFlow (extra `tf`): the catalogue's own builders, and the conversion of TFRecord files."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_pipelines.datasets.catalogue import Request
from data_pipelines.datasets.rlds_folder.builder import Builder
from data_pipelines.datasets.rlds_folder.reader import RLDSReader
from data_pipelines.errors import InputError
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


def test_tfrecord_is_converted_with_the_command_that_the_error_names(tmp_path):
  name = 'rlu_control_suite'
  episodes = generated_episodes(name)
  builder = Prepared(name, STRUCTURES[name](), episodes, data_dir=str(tmp_path), file_format='tfrecord')
  builder.download_and_prepare(download_dir=str(tmp_path / 'downloads'))
  with pytest.raises(InputError, match='tfds convert_format') as error:
    RLDSReader(str(builder.data_path), '')
  command = str(error.value).partition('; tfds ')[2].partition(';')[0].replace('NEW_FOLDER', str(tmp_path / 'new'))
  subprocess.run([sys.executable, '-m', 'tensorflow_datasets.scripts.cli.main', *command.split()], check=True)
  source = build(Builder, Request('rlds', path=str(tmp_path / 'new')), tmp_path / 'ours')
  assert len(source) == len(episodes)
  expected = [step['observation']['position'] for step in episodes[1]['steps'][:-1]]
  np.testing.assert_array_equal(source[1].observation['position'], expected)
