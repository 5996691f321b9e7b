"""The listing of datasets and tasks, contact sheets, the picture of a batch, and Table 1."""

import copy
import json
import pathlib

import numpy as np
from PIL import Image
import pytest
import tensorflow_datasets as tfds

from data_pipelines import batch_picture
from data_pipelines.batch_picture import MODALITIES, modalities
from data_pipelines.datasets import contact_sheet, listing
from data_pipelines.datasets.building import build_dataset
from data_pipelines.datasets.catalogue import DATASETS, Request
from data_pipelines.datasets.contact_sheet import draw_contact_sheet
from data_pipelines.datasets.sources import open_source
from data_pipelines.datasets.table_1 import ROWS, family_weights
from data_pipelines.environments.registry import SPECS, SUITES
from data_pipelines.environments.specs import ArraySpec
from data_pipelines.errors import InputError
from data_pipelines.loader import make_loader
from data_pipelines.reading import Chunks
from data_pipelines.sequences.index import open_index
from tests.data_pipelines.dataset_cases import data_config as cases_config
from tests.data_pipelines.dataset_cases import entry
from tests.data_pipelines.token_cases import control_task, data_config, mixed_sources, random_episode, tokenizer

CARTPOLE = Request('classic_control', 'CartPole-v1', episodes=3)
DIGITS = Request('digits', episodes=20)


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  """CartPole, with an index, digits without one, and a folder of texts."""
  pytest.importorskip('gymnasium')
  pytest.importorskip('sklearn')
  directory, texts = tmp_path_factory.mktemp('data'), tmp_path_factory.mktemp('texts')
  for number in range(3):
    (texts / f'{number}.txt').write_text(f'{number} is a number')
  for request in (CARTPOLE, DIGITS, Request('text_folder', path=str(texts))):
    build_dataset(request, str(directory), 0.0)
  open_index(open_source(CARTPOLE, str(directory), 'train'), tokenizer())
  return str(directory)


def row_of(table, name):
  return dict(zip(table[0], next(row for row in table if row[0] == name), strict=True))


def test_every_dataset_has_a_row_and_what_is_built_is_counted(data_dir):
  table = listing.datasets_table(data_dir)
  assert [row[0] for row in table[1:]] == list(DATASETS)
  control = row_of(table, 'classic_control')
  lengths = open_source(CARTPOLE, data_dir, 'train').table.length
  assert control['built'] == '1' and control['episodes'] == '3' and control['patches'] == '0'
  assert control['tokens'] == f'{6 * lengths.sum():,}'  # four numbers, separator, action
  assert control['size'] == f'{sum(f.stat().st_size for f in files(CARTPOLE, data_dir)) / 1e6:,.1f} MB'
  digits = row_of(table, 'digits')
  assert digits['built'] == 'yes' and digits['episodes'] == '40' and digits['tokens'] == 'not counted'
  assert row_of(table, 'easy_vqa')['built'] == 'no'
  assert control['licence'] == 'MIT' and digits["Table 1's row"] == 'MS-COCO Captions'


def files(request, data_dir):
  return [file for file in pathlib.Path(request.directory(data_dir)).iterdir()]


def test_every_task_has_a_row_with_its_stored_scores(data_dir):
  table = listing.tasks_table(data_dir)
  assert [row[0] for row in table[1:]] == [name for domain in SUITES for name in SPECS if SPECS[name].domain == domain]
  cartpole = row_of(table, 'classic_control/CartPole-v1')
  scores = pathlib.Path(listing.__file__).parents[1] / 'environments' / 'scores' / 'classic_control.json'
  stored = json.loads(scores.read_text())['classic_control/CartPole-v1']
  assert float(cartpole['random']) == pytest.approx(stored['random'], rel=1e-3)
  assert float(cartpole['expert']) == pytest.approx(stored['expert'], rel=1e-3)
  assert listing.tasks_table(data_dir, 'classic_control')[1] in table
  assert cartpole['episodes'] == '3' and row_of(table, 'classic_control/Acrobot-v1')['episodes'] == '-'


def test_description_of_a_task(data_dir):
  lines = list(listing.description('classic_control/CartPole-v1', data_dir))
  assert 'state continuous[4] -> discrete of 2' in lines[1] and 'at most 500 steps' in lines[1]
  assert lines[2].startswith(CARTPOLE.directory(data_dir)) and len(lines) == 3


@pytest.mark.parametrize('name', ['classic', 'classic_control/CartPole', 'digits/CartPole-v1'])
def test_unknown_names(name, data_dir):
  with pytest.raises(InputError):
    list(listing.description(name, data_dir))


@pytest.mark.parametrize('name', ['classic_control', 'digits', 'text_folder'])
def test_contact_sheets_are_drawn(name, data_dir, tmp_path):
  path = tmp_path / 'sheets' / 'sheet.png'
  assert draw_contact_sheet(name, data_dir, str(path)) == {'classic_control': 3, 'digits': 8, 'text_folder': 2}[name]
  image = np.asarray(Image.open(path).convert('L'))
  assert min(image.shape) > 100 and image.std() > 5


def test_nothing_to_draw(data_dir, tmp_path):
  assert draw_contact_sheet('classic_control/Acrobot-v1', data_dir, str(tmp_path / 'x.png')) == 0
  assert not (tmp_path / 'x.png').exists()


def test_cameras_of_different_heights_are_drawn_side_by_side(data_dir):
  kinds = {'high': ArraySpec('image', (6, 4, 3)), 'low': ArraySpec('image', (2, 3, 3))}
  task = control_task('arm/reach', ArraySpec('continuous', (2,)), **kinds)
  episode = random_episode(task, 3, np.random.default_rng(0))
  source = copy.copy(open_source(CARTPOLE, data_dir, 'train'))
  source.task, source._episode = task, lambda index: episode
  [(_, cells)] = contact_sheet._rows(source, [0])
  assert [cell.shape for cell in cells] == [(6, 7, 3)] * 3
  np.testing.assert_array_equal(cells[1][:, :4], episode.observation['high'][1])
  np.testing.assert_array_equal(cells[1][:2, 4:], episode.observation['low'][1])
  assert (cells[1][2:, 4:] == 255).all()


def test_a_source_that_is_not_there_is_named(data_dir, tmp_path, monkeypatch):
  monkeypatch.setattr(tfds.core.constants, 'DATA_DIR', str(tmp_path))
  (tmp_path / 'bridge').mkdir()
  config = cases_config(data_dir, there=entry(dataset='rlds', path='bridge:0.1.0'),
                        gone=entry(dataset='rlds', path='droid'), digits=entry(episodes=20))
  table, missing = listing.mixture_table(config)
  there, gone, digits = (row_of(table, name) for name in config.mixture)
  assert missing == 2 and gone['path'] == 'droid' and digits['path'] == '-'
  assert gone['why'] == 'gone: source not found: droid'
  assert there['why'].endswith('is missing') and 'source' not in there['why'] and not digits['why']


def test_an_episode_without_a_simulator_is_drawn_as_its_numbers(data_dir, monkeypatch):
  source = open_source(CARTPOLE, data_dir, 'train')
  monkeypatch.setattr(contact_sheet, 'SPECS', {})
  [(_, [numbers])] = contact_sheet._rows(source, [0])
  assert numbers.shape == (5, source[0].length) and numbers.min() == 0 and numbers.max() == 1
  state = source[0].observation['state'][:, 0]
  np.testing.assert_allclose(numbers[0], (state - state.min()) / np.ptp(state), rtol=1e-5)


def test_a_replayed_episode_ends_where_it_ended(data_dir):
  pytest.importorskip('pygame')
  source = open_source(CARTPOLE, data_dir, 'train')
  [(title, frames)] = contact_sheet._rows(source, [1])
  assert f'{source[1].length} steps' in title and len(frames) == 6
  assert all(frame.dtype == np.uint8 and frame.shape[-1] == 3 for frame in frames)
  assert not np.array_equal(frames[0], frames[-1])


def test_modalities_of_a_batch():
  sources = mixed_sources()
  loader = make_loader(data_config(), sources, tokenizer(), seed=0, batch_size=8)
  batch = next(loader)
  names = np.array(MODALITIES)[modalities(batch, tokenizer().vocabulary)]
  kinds = np.array([source.kind for source in sources])[batch.sources]
  present = batch.segment_ids > 0
  assert (names[~present] == 'padding').all() and not (names[present] == 'padding').any()
  assert (names[present & (kinds == 'text')] == 'text').all()
  assert (names == 'picture patch').sum() == (batch.patch_positions < batch.tokens.shape[1]).sum()
  cartpole = present & (batch.sources == 0)  # 5 numbers, separator, action, over and over
  assert (names[cartpole] == 'continuous observation').sum() == 5 * (names[cartpole] == 'action').sum()
  assert (names[cartpole] == 'separator').sum() == (names[cartpole] == 'action').sum() > 0


def test_a_batch_is_drawn_without_starting_processes(tmp_path, monkeypatch):
  monkeypatch.setattr(batch_picture, 'open_sources', lambda config, split: mixed_sources())
  monkeypatch.setattr(batch_picture, 'open_tokenizer', lambda config: tokenizer())
  monkeypatch.setattr(Chunks, '_start', lambda self: pytest.fail('started'))
  config = data_config(read_processes=2)
  batch_picture.draw_mixture(config, 0, 8, str(tmp_path / 'batch.png'))
  assert config.read_processes == 2
  assert np.asarray(Image.open(tmp_path / 'batch.png').convert('L')).std() > 20


def test_table_1_adds_up_to_what_the_paper_prints():
  control = [row for row in ROWS.values() if row.tasks]
  assert sum(row.tasks for row in control) == 596
  assert sum(row.weight for row in control) == pytest.approx(85.3, abs=0.1)
  assert sum(row.weight for row in ROWS.values() if not row.tasks) == pytest.approx(14.7, abs=0.1)
  assert sum(row.episodes for row in control) == pytest.approx(63_000, rel=0.01)


def test_a_family_keeps_its_weight_whatever_part_of_it_is_there():
  weights = family_weights({'a': 'DM Control Suite', 'b': 'DM Control Suite', 'c': 'Modular RL', 'd': 'VQAv2'})
  assert weights['a'] == weights['b']
  assert weights['a'] + weights['b'] + weights['c'] == pytest.approx(4.62 + 7.07 + 3.04 + 3.04 + 8.23)
  assert weights['c'] / (weights['a'] + weights['b']) == pytest.approx(8.23 / 4.62)
  assert weights['d'] == pytest.approx(4 + 6 * 0.67)


def test_numbers_stand_to_the_right_in_a_table():
  rows = [('task', 'random', 'size'), ('swing', '-1204', '-'), ('push', '3.5', '12 MB')]
  assert listing.aligned(rows).split('\n') == [
      'task   random  size', 'swing   -1204  -', 'push      3.5  12 MB']
