"""Preparing a mixture in worker processes: what is built, kept, mended and refused."""

import copy
import json
import pathlib
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_pipelines.datasets import building
from data_pipelines.datasets.builder import RequestBuilder
from data_pipelines.datasets.catalogue import DATASETS, Request, requests
from data_pipelines.datasets.prepare import open_sources, open_tokenizer, prepare
from data_pipelines.errors import InputError
from tests.data_pipelines.dataset_cases import VOCABULARY, data_config, entry


def control_config(directory):
  control = entry(tasks=('CartPole-v1', 'Acrobot-v1'), episodes=3, noise=0.5)
  return data_config(directory, classic_control=control, digits=entry(episodes=40))


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  """A small mixture, made by two processes."""
  pytest.importorskip('gymnasium')
  config = control_config(tmp_path_factory.mktemp('data'))
  prepare(config, workers=2)
  return config


@pytest.fixture
def own(prepared, tmp_path):
  """A copy of `prepared` to damage."""
  shutil.copytree(prepared.dir, tmp_path / 'data')
  return control_config(tmp_path / 'data')


def directory(config, name):
  return pathlib.Path(next(r for r in requests(config) if r.name == name).directory(config.dir))


def assert_same_episodes(first, second):
  assert [source.name for source in first] == [source.name for source in second]
  for a, b in zip(first, second, strict=True):
    assert len(a) == len(b)
    for index in range(len(a)):
      left, right = a[index], b[index]
      if a.kind == 'control':
        np.testing.assert_array_equal(left.observation['state'], right.observation['state'])
        np.testing.assert_array_equal(left.action, right.action)
        np.testing.assert_array_equal(left.expert_action, right.expert_action)
      else:
        np.testing.assert_array_equal(left.image, right.image)
        assert left.caption == right.caption


def test_one_worker_or_two_make_the_same_episodes_and_tokenizer(prepared, tmp_path):
  config = control_config(tmp_path)
  prepare(config, workers=1)
  assert_same_episodes(open_sources(config, 'train'), open_sources(prepared, 'train'))
  assert open_tokenizer(config) == open_tokenizer(prepared)


def test_other_seeds_give_other_episodes_elsewhere(own):
  before = open_sources(own, 'train')
  own.seed = 1
  with pytest.raises(InputError, match='classic_control/CartPole-v1.*seed1.*is missing; run `gato-jax prepare'):
    open_sources(own, 'train')
  prepare(own, workers=1)
  after = open_sources(own, 'train')
  assert not set(before[0].table.seed) & set(after[0].table.seed)
  own.seed = 0
  assert_same_episodes(open_sources(own, 'train'), before)


def test_what_is_there_is_left_alone(own, monkeypatch):
  monkeypatch.setattr(building, 'build_dataset', None)  # building anything would fail
  path = directory(own, 'classic_control/CartPole-v1')
  times = {file: file.stat().st_mtime_ns for file in path.iterdir()}
  prepare(own, workers=2)
  assert times == {file: file.stat().st_mtime_ns for file in path.iterdir()}


@pytest.mark.parametrize('damage', ['no metadata', 'no records', 'cut records', 'cut info', 'killed'])
def test_a_half_written_dataset_is_refused_and_mended(own, prepared, damage, capsys):
  path = directory(own, 'classic_control/Acrobot-v1')
  records = next(path.glob('*.array_record*'))
  if damage == 'no metadata':
    (path / 'metadata.json').unlink()
  elif damage == 'no records':
    records.unlink()
  elif damage == 'cut records':
    records.write_bytes(records.read_bytes()[: records.stat().st_size // 2])
  elif damage == 'cut info':
    info = path / 'dataset_info.json'
    info.write_text(info.read_text()[:40])
  else:
    path.rename(path.parent / f'incomplete.ABCDEF_{path.name}')  # TFDS renames the folder when all is written
  with pytest.raises(InputError, match='dataset classic_control/Acrobot-v1: .*run `gato-jax prepare --config'):
    open_sources(own, 'train')
  prepare(own, workers=1)
  assert '2 of 3 datasets are there already' in capsys.readouterr().out
  assert [child.name for child in path.parent.iterdir()] == [path.name]
  assert_same_episodes(open_sources(own, 'train'), open_sources(prepared, 'train'))


def test_a_missing_tokenizer_is_refused_and_made_again(own, prepared):
  shutil.rmtree(pathlib.Path(own.dir) / 'tokenizers')
  with pytest.raises(InputError, match='prepare'):
    open_tokenizer(own)
  prepare(own, workers=1)
  tokenizer = open_tokenizer(own)
  assert tokenizer == open_tokenizer(prepared)
  assert tokenizer.vocabulary.bins == VOCABULARY['bins']


def test_what_a_worker_cannot_read_is_an_input_error_and_the_next_run_goes_on(tmp_path):
  folder = tmp_path / 'texts'
  folder.mkdir()
  for i in range(3):
    (folder / f'{i}.txt').write_text(f'document {i}')
  (folder / 'latin.txt').write_bytes('café'.encode('latin-1'))
  config = data_config(tmp_path / 'data', digits=entry(episodes=20), text_folder=entry(path=str(folder)))
  with pytest.raises(InputError, match='latin.txt: not UTF-8'):
    prepare(config, workers=2)
  with pytest.raises(InputError, match='dataset text_folder: .*is missing; run `gato-jax prepare'):
    open_sources(config, 'train')
  (folder / 'latin.txt').unlink()
  prepare(config, workers=2)
  assert [len(source) for source in open_sources(config, 'train')] == [20, 2]


def test_held_out_sources_are_those_without_a_simulator(prepared):
  assert [source.name for source in open_sources(prepared, 'heldout')] == ['digits']
  names = [source.name for source in open_sources(prepared, 'train')]
  assert names == ['classic_control/CartPole-v1', 'classic_control/Acrobot-v1', 'digits']


def test_prompts_come_from_the_better_half_of_the_clean_episodes(prepared):
  source = open_sources(prepared, 'train')[0]
  source = copy.copy(source)
  table = types.SimpleNamespace(
      noisy=np.array([0, 1, 0, 0, 0], bool), episode_return=np.array([1, 99, 5, 4, 2]), success=np.zeros(5, bool))
  source.table = table
  np.testing.assert_array_equal(source.demonstrations(), [2, 3])


@pytest.mark.parametrize(('mixture', 'message'), [
    ({}, 'data.mixture is empty'),
    ({'dm_contol': entry()}, "unknown dataset 'dm_contol'; did you mean 'dm_control'"),
    ({'babyai': entry()}, 'data.mixture.babyai.tasks is empty'),
    ({'classic_control': entry(tasks=('CartPole-v1', 'CartPole-v1'))}, 'names a task twice'),
    ({'classic_control': entry(tasks=('CartPole-v2',))}, "did you mean 'classic_control/CartPole-v1'"),
    ({'classic_control': entry(tasks=('CartPole-v1',), noise=1.0)}, r'noise is 1.0; it must be in \[0, 1\)'),
    ({'classic_control': entry(tasks=('CartPole-v1',), path='x')}, 'path is set'),
    ({'digits': entry(episodes=-1)}, 'data.mixture.digits.episodes is -1'),
    ({'digits': entry(noise=0.1)}, 'tasks and noise are for control'),
    ({'digits': entry(path='x')}, 'digits comes from a package and has no path'),
    ({'text_folder': entry()}, 'name the folder'),
])
def test_bad_mixtures(mixture, message):
  with pytest.raises(InputError, match=message):
    requests(data_config('data', **mixture))


def test_an_entry_under_a_name_of_its_own():
  mixture = {'more_digits': entry(dataset='digits'), 'easy': entry(dataset='classic_control', tasks=('CartPole-v1',))}
  digits, cartpole = requests(data_config('data', **mixture))
  assert (digits.name, digits.dataset) == ('more_digits', 'digits')
  assert digits.directory('data') == Request('digits').directory('data')
  assert (cartpole.name, cartpole.task_name) == ('easy/CartPole-v1', 'classic_control/CartPole-v1')


def test_data_that_two_entries_share_is_built_once(tmp_path, capsys):
  pytest.importorskip('gymnasium')
  settings = dict(dataset='classic_control', tasks=('CartPole-v1',), episodes=2)
  config = data_config(tmp_path, whole=entry(**settings), steps=entry(**settings, window_timesteps=1))
  prepare(config, workers=2)
  output = capsys.readouterr().out
  assert '0 of 1 datasets are there already' in output and output.count('2 episodes') == 1
  assert [source.name for source in open_sources(config, 'train')] == ['whole/CartPole-v1', 'steps/CartPole-v1']


def test_no_workers_and_too_many_episodes(tmp_path):
  with pytest.raises(InputError, match='data.workers is 0'):
    prepare(data_config(tmp_path, digits=entry()), workers=0)
  many = Request('classic_control', 'CartPole-v1', episodes=600_000)
  with pytest.raises(InputError, match='CartPole-v1: there are not enough seeds'):
    building.build_dataset(many, str(tmp_path), 0.0)


def test_every_setting_of_a_request_moves_its_directory():
  base = dict(dataset='classic_control', task='CartPole-v1', episodes=3, noise=0.5, seed=0)
  changes = [{}, dict(task='Acrobot-v1'), dict(episodes=4), dict(noise=0.25), dict(seed=1)]
  texts = [Request('text_folder', path='a/texts'), Request('text_folder', path='b/texts'),
           Request('text_folder', path='a/texts', episodes=5)]
  found = {request.directory('data') for request in [*(Request(**base | change) for change in changes), *texts]}
  assert len(found) == len(changes) + len(texts)


def test_every_dataset_has_a_builder():
  for name, kind in DATASETS.items():
    folder = pathlib.Path(building.__file__).parent / (kind.folder or name)
    assert (folder / 'builder.py').exists() and (folder / '__init__.py').exists()


def test_preparing_and_opening_load_neither_jax_nor_tensorflow_nor_a_simulator(prepared):
  code = f'''
import sys, types
from data_pipelines.datasets.prepare import open_sources, open_tokenizer, prepare
entry = types.SimpleNamespace(weight=1, dataset="", tasks=("CartPole-v1", "Acrobot-v1"), episodes=3, noise=0.5, path="")
digits = types.SimpleNamespace(weight=1, dataset="", tasks=(), episodes=40, noise=0.0, path="")
config = types.SimpleNamespace(dir={prepared.dir!r}, seed=0, mixture=dict(classic_control=entry, digits=digits),
                               vocabulary=types.SimpleNamespace(**{VOCABULARY!r}), mask_question=True, skip_share=0.0)
prepare(config, workers=1)
assert len(open_sources(config, "train")[0][0].action)
open_tokenizer(config)
print(*sorted({{name.split(".")[0] for name in sys.modules}}
              & {{"jax", "tensorflow", "flax", "gymnasium", "mujoco", "sklearn", "ml_collections"}}))
'''
  result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
  assert result.stdout.splitlines()[-1] == ''


def test_a_building_process_loads_neither_jax_nor_tensorflow(tmp_path):
  pytest.importorskip('gymnasium')
  code = f'''
import sys
from data_pipelines.datasets.catalogue import Request
from data_pipelines.datasets.classic_control.builder import Builder
Builder(Request("classic_control", "CartPole-v1", 1), {str(tmp_path)!r}, progress=lambda: None).download_and_prepare()
print(*({{"jax", "tensorflow"}} & set(sys.modules)))
'''
  result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
  assert result.stdout.splitlines()[-1] == ''


class SomeBad(RequestBuilder, skip_registration=True):
  """Of its ten examples, the odd ones up to `BAD` are bad."""

  name = 'python_docs'
  BAD = 1

  def features(self):
    return {'text': tfds.features.Text()}

  def examples(self):
    return {'train': self._documents()}

  def _documents(self):
    for number in range(10):
      if number % 2 and number <= self.BAD:
        self.skip(f'file{number}: torn')
      else:
        yield {'text': f'document {number}'}


def test_bad_examples_are_skipped_up_to_a_share(tmp_path):
  request = Request('python_docs')
  builder = SomeBad(request, str(tmp_path), progress=lambda: None, skip_share=0.1)
  builder.download_and_prepare(download_dir=str(tmp_path))
  metadata = json.loads((pathlib.Path(request.directory(str(tmp_path))) / 'metadata.json').read_text())
  assert metadata['dropped'] == ['file1: torn'] and builder.info.splits['train'].num_examples == 9
  SomeBad.BAD = 3
  builder = SomeBad(Request('python_docs', episodes=1), str(tmp_path), progress=lambda: None, skip_share=0.1)
  with pytest.raises(InputError, match='2 of 10 examples are bad; last, file3: torn. Mend them, or raise data.skip_sh'):
    builder.download_and_prepare(download_dir=str(tmp_path))
  assert not pathlib.Path(Request('python_docs', episodes=1).directory(str(tmp_path))).exists()


class BadAtFirst(SomeBad, skip_registration=True):
  """Its first 30 examples are bad, and all that come after them, of both splits, are good."""

  def examples(self):
    return {'train': self._train(), 'heldout': iter([{'text': 'the last'}])}

  def _train(self):
    for number in range(30):
      self.skip(f'file{number}: torn')
    for number in range(270 - 1):
      yield {'text': f'document {number}'}


def test_bad_examples_may_all_come_first(tmp_path):
  for share in (0.1, 0.0999):
    builder = BadAtFirst(Request('python_docs'), str(tmp_path / str(share)), progress=lambda: None, skip_share=share)
    if share == 0.1:
      builder.download_and_prepare(download_dir=str(tmp_path))
      assert builder.info.splits['train'].num_examples == 269 and builder.info.splits['heldout'].num_examples == 1
      assert len(builder.info.metadata['dropped']) == 30
    else:
      with pytest.raises(InputError, match='30 of 300 examples are bad; last, file29: torn'):
        builder.download_and_prepare(download_dir=str(tmp_path))
