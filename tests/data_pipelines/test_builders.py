"""The checks of TFDS's `DatasetBuilderTestCase` on every builder of the catalogue.

That class inherits from TensorFlow's test case and reads through `as_dataset`, which knows no ArrayRecord; the same is
checked here through `as_data_source`: info, features, numbers of examples, keys, reloading, and splits that share no
example.
"""

import hashlib
import importlib
import itertools
import json
import os

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_pipelines.datasets.building import build_dataset
from data_pipelines.datasets.catalogue import DATASETS, Request
from data_pipelines.datasets.sources import defect, open_source
from data_pipelines.environments.registry import SUITES, trained_tasks
from data_pipelines.errors import InputError
from tests.data_pipelines import folder_cases


def write_texts(folder):
  for number in range(4):
    (folder / f'{number}.txt').write_text(f'document number {number}, of the user\'s own' + ', with more to tell' * 3)


FILES = {  # what the datasets that read files need
    'text_folder': write_texts,
    'prose_folder': write_texts,
    'captions_folder': folder_cases.captioned_pictures,
    'vqa_folder': folder_cases.questions_about_pictures,
    'pages_folder': folder_cases.pages_with_pictures,
    'fashion_mnist': folder_cases.fashion_files,
    'tuxpaint_stamps': folder_cases.stamps,
    'openclipart': folder_cases.clip_art,
}
EPISODES = 2


def request_of(dataset, folder) -> Request:
  if dataset in SUITES:
    return Request(dataset, trained_tasks(dataset)[0], EPISODES)
  if not DATASETS[dataset].path:
    return Request(dataset, episodes=20)
  if dataset not in FILES:
    pytest.skip(f'no files for {dataset} here')
  FILES[dataset](folder)
  return Request(dataset, path=str(folder))


@pytest.fixture(scope='module', params=DATASETS)
def built(request, tmp_path_factory):
  """A dataset's request, and the directory that holds it."""
  asked = request_of(request.param, tmp_path_factory.mktemp('files'))
  data_dir = str(tmp_path_factory.mktemp('data'))
  try:
    build_dataset(asked, data_dir, 0.0)
  except InputError as error:
    if 'needs the package' in str(error) or 'cannot import' in str(error):
      pytest.skip(str(error))
    raise
  return asked, data_dir


def examples(asked, data_dir, split):
  return list(tfds.builder_from_directory(asked.directory(data_dir)).as_data_source(split))


def test_builder_is_one_of_tfds_and_says_what_it_builds(built):
  asked, data_dir = built
  folder = getattr(asked.type, 'folder', '') or asked.dataset
  module = importlib.import_module(f'data_pipelines.datasets.{folder}.builder')
  builder = module.Builder(asked, data_dir, progress=int)
  assert isinstance(builder, tfds.core.GeneratorBasedBuilder)
  assert builder.info.description and builder.info.features
  assert builder.data_dir == asked.directory(data_dir)


def test_reloaded_examples_fit_the_features(built):
  asked, data_dir = built
  builder = tfds.builder_from_directory(asked.directory(data_dir))
  for split in builder.info.splits:
    read = examples(asked, data_dir, split)
    assert len(read) == builder.info.splits[split].num_examples > 0
    for example in (read[0], read[-1]):
      assert_fits(builder.info.features, example)


def assert_fits(feature, value):
  if isinstance(feature, tfds.features.Dataset):
    steps = list(value)
    assert steps
    for step in (steps[0], steps[-1]):
      assert_fits(feature.feature, step)
  elif isinstance(feature, tfds.features.FeaturesDict):
    assert feature.keys() == value.keys()
    for key in feature:
      assert_fits(feature[key], value[key])
  elif isinstance(feature, tfds.features.Sequence):
    return  # TFDS gives lists of no stated shape
  else:
    array, info = np.asarray(value), feature.get_tensor_info()
    widened = not array.shape and np.can_cast(info.np_dtype, array.dtype)  # a scalar comes as Python's own
    assert array.dtype == info.np_dtype or widened or info.np_dtype in (np.object_, str)
    assert len(array.shape) == len(info.shape)
    assert all(want in (None, got) for want, got in zip(info.shape, array.shape, strict=True))


def test_splits_share_no_example(built):
  asked, data_dir = built
  splits = tfds.builder_from_directory(asked.directory(data_dir)).info.splits
  digests = {split: {digest(example) for example in examples(asked, data_dir, split)} for split in splits}
  for first, second in itertools.combinations(splits, 2):
    assert not digests[first] & digests[second]


def digest(example) -> str:
  def flat(value):
    if isinstance(value, dict):
      return [flat(value[key]) for key in sorted(value)]
    if isinstance(value, (bytes, str, int, float, bool, np.generic)):
      return str(value)
    return hashlib.sha256(value.tobytes()).hexdigest() if isinstance(value, np.ndarray) else [flat(v) for v in value]

  return json.dumps(flat(example))


def test_metadata_and_source_agree_with_the_records(built):
  asked, data_dir = built
  assert defect(asked, data_dir) is None
  source = open_source(asked, data_dir, 'train')
  assert source.kind == asked.type.kind
  with open(os.path.join(asked.directory(data_dir), 'metadata.json')) as file:
    assert isinstance(json.load(file)['dropped'], list)
  if source.kind == 'control':
    assert len(source) == EPISODES
    assert source[0].length == source.table.length[0] > 0


def test_no_file_names_the_machine_that_built_it(built):
  asked, data_dir = built
  directory = asked.directory(data_dir)
  for name in os.listdir(directory):
    if name.endswith('.json'):
      with open(os.path.join(directory, name)) as file:
        assert data_dir not in file.read(), name
