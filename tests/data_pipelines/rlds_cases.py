"""Prepared RLDS datasets with the feature structures of TFDS's catalogue and generated content."""

import importlib
import io
import types

import numpy as np
from PIL import Image
import tensorflow_datasets as tfds

from data_pipelines.datasets.sources import open_source
from data_pipelines.environments.action_bounds import from_unit

F = tfds.features
_FLAGS = {'is_first': np.bool_, 'is_last': np.bool_, 'is_terminal': np.bool_}


def vector(size, dtype=np.float32, **settings):
  return F.Tensor(shape=(size,), dtype=dtype, **settings)


def _of_package(module, call):
  """The structure as the installed TFDS defines it."""
  return lambda: dict(call(importlib.import_module(f'tensorflow_datasets.{module}')))


def _control_suite(module):
  builder = object.__new__(module.RluControlSuite)
  builder._builder_config = module.RluControlSuite.BUILDER_CONFIGS[0]
  return builder.get_features_dict()


def _robomimic(module):
  config = module.BuilderConfig(name='can_ph_image', task=module.Task.CAN, filename=module.ObservationType.IMAGE)
  builder = types.SimpleNamespace(builder_config=config, _get_metadata=dict)
  return module.RobomimicBuilder._get_features(builder)


def _hopper():
  """d4rl_mujoco_hopper/v2-medium."""
  def layer(*shape):
    return {'bias': vector(shape[0]), 'weight': F.Tensor(shape=shape, dtype=np.float32)}

  return {
      'algorithm': np.str_,
      'iteration': np.int32,
      'policy': {'fc0': layer(256, 11), 'fc1': layer(256, 256), 'last_fc': layer(3, 256),
                 'last_fc_log_std': layer(3, 256), 'nonlinearity': np.str_, 'output_distribution': np.str_},
      'steps': F.Dataset({
          'action': vector(3), 'discount': np.float32, 'observation': vector(11), 'reward': np.float32,
          'infos': {'action_log_probs': np.float64, 'qpos': vector(6, np.float64), 'qvel': vector(6, np.float64)},
          **_FLAGS}),
  }


def _language_table():
  return {
      'episode_id': np.str_,
      'steps': F.Dataset({
          'action': vector(2), 'reward': F.Scalar(np.float32),
          'observation': {
              'effector_target_translation': vector(2), 'effector_translation': vector(2),
              'instruction': vector(512, np.int32), 'rgb': F.Image(shape=(360, 640, 3))},
          **_FLAGS}),
  }


def _bridge():
  return {'steps': F.Dataset({
      'action': {'open_gripper': np.bool_, 'rotation_delta': vector(3), 'terminate_episode': np.float32,
                 'world_vector': vector(3)},
      'observation': {'image': F.Image(shape=(480, 640, 3)), 'natural_language_embedding': vector(512),
                      'natural_language_instruction': np.str_, 'state': vector(7)},
      'reward': F.Scalar(np.float32), **_FLAGS})}


def _bc_z():
  return {'steps': F.Dataset({
      'action': {'future/axis_angle_residual': vector(30), 'future/target_close': vector(10, np.int64),
                 'future/xyz_residual': vector(30)},
      'observation': {
          'episode_success': np.float32, 'image': F.Image(shape=(171, 213, 3)),
          'natural_language_embedding': vector(512), 'natural_language_instruction': np.str_,
          'present/autonomous': np.int64, 'present/axis_angle': vector(3), 'present/intervention': np.int64,
          'present/sensed_close': vector(1), 'present/xyz': vector(3), 'sequence_length': np.int64},
      'reward': F.Scalar(np.float32), **_FLAGS})}


def _locomotion():
  """locomotion/ant_sac_1M_single_policy_stochastic."""
  return {'steps': F.Dataset({
      'observation': vector(111), 'action': vector(8), 'reward': np.float32, 'discount': np.float32, **_FLAGS})}


STRUCTURES = {
    'rlu_atari': _of_package('rl_unplugged.atari_utils', lambda module: module.features_dict()),
    'rlu_dmlab_seekavoid_arena01': _of_package(
        'rl_unplugged.dmlab_dataset', lambda module: module.DMLabDatasetBuilder.get_features_dict(None)),
    'rlu_control_suite': _of_package('rl_unplugged.rlu_control_suite.rlu_control_suite', _control_suite),
    'robomimic_ph': _of_package('robomimic.dataset_utils', _robomimic),
    'd4rl_mujoco_hopper': _hopper,
    'language_table': _language_table,
    'bridge': _bridge,
    'bc_z': _bc_z,
    'locomotion': _locomotion,
}


def png(rng, shape):
  """Smooth, as noise would take long to encode."""
  height, width, channels = shape
  ramp = np.add.outer(np.arange(height), np.arange(width)) % 256
  image = (ramp[..., None] + rng.integers(256, size=channels)).astype(np.uint8)
  buffer = io.BytesIO()
  Image.fromarray(image[..., 0] if channels == 1 else image).save(buffer, 'PNG', compress_level=1)
  return buffer.getvalue()


def value(feature, rng):
  """A random value of a feature."""
  if isinstance(feature, F.FeaturesDict):
    return {key: value(item, rng) for key, item in feature.items()}
  if isinstance(feature, F.Image):
    return png(rng, feature.shape)
  kind = np.dtype(feature.np_dtype).kind
  if kind == 'O':
    return 'put the red block to the left of the blue one'
  if kind in 'iu':
    return rng.integers(0, 5, feature.shape).astype(feature.np_dtype)
  if kind == 'b':
    return bool(rng.integers(2))
  return rng.uniform(-1, 1, feature.shape).astype(feature.np_dtype)


def steps(features, rng, length, last_action=False):
  """An episode's steps, the last one with a zero action as RLDS has it unless `last_action`."""
  result = [value(features['steps'].feature, rng) for _ in range(length)]
  for number, step in enumerate(result):
    step.update(is_first=number == 0, is_last=number == length - 1, is_terminal=number == length - 1)
  if not last_action:
    result[-1]['action'] = _zeros(result[-1]['action'])
    result[-1]['reward'] = np.zeros_like(result[-1]['reward'])
  return result


def _zeros(action):
  return {key: _zeros(item) for key, item in action.items()} if isinstance(action, dict) else np.zeros_like(action)


class Prepared(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Whatever it is given, as TFDS prepares it."""

  VERSION = tfds.core.Version('1.0.0')

  def __init__(self, name, structure, episodes, **settings):
    self.name, self._structure, self._episodes = name, structure, episodes
    super().__init__(file_format=settings.pop('file_format', 'array_record'), **settings)

  def _info(self):
    return tfds.core.DatasetInfo(builder=self, features=F.FeaturesDict(self._structure), disable_shuffling=True)

  def _split_generators(self, dl_manager):
    return {'train': self._generate_examples(self._episodes)}

  def _generate_examples(self, episodes):
    yield from enumerate(episodes)


def prepare_folder(directory, name, episodes, structure=None):
  """Writes the dataset; returns the folder of its version."""
  builder = Prepared(name, structure or STRUCTURES[name](), episodes, data_dir=str(directory))
  builder.download_and_prepare(download_dir=str(directory / 'downloads'))
  return str(builder.data_path)


def build(builder_class, request, directory, skip_share=0.0):
  """Imports a dataset and opens it."""
  builder = builder_class(request, str(directory), progress=lambda: None, skip_share=skip_share)
  builder.download_and_prepare(download_dir=str(directory))
  return open_source(request, str(directory), 'train')


def in_own_units(source, episode):
  """The episode's action as it was recorded."""
  return from_unit(episode.action, *(source.metadata['action_bounds'][key] for key in ('low', 'high')))


def generated_episodes(name, count=2, length=4, last_action=False):
  features = F.FeaturesDict(STRUCTURES[name]())
  rng = np.random.default_rng(len(name))
  return [
      {key: value(feature, rng) for key, feature in features.items() if key != 'steps'}
      | {'steps': steps(features, rng, length + number, last_action)}
      for number in range(count)
  ]
