"""The paper's configs and the local mixture."""

import collections
import importlib

import pytest

from data_pipelines.datasets.catalogue import DATASETS, requests
from data_pipelines.datasets.listing import mixture_table
from data_pipelines.datasets.table_1 import ROWS
from data_pipelines.environments.registry import SUITES, trained_tasks
from experiments.configs import (
  few_shot,
  few_shot_sources,
  local_agent,
  local_mixture,
  quickstart,
  scaling,
  table_1_mixture,
)
from gato_jax.config import changed_keys
from gato_jax.dry_run import dry_run, parameter_count

PAPER = {'gato_79m': (79e6, 1e-4), 'gato_364m': (364e6, 2e-4), 'gato_1_18b': (1.18e9, 1e-4)}


def paper_config(name):
  return importlib.import_module(f'experiments.configs.{name}').get_config()


@pytest.mark.parametrize('name', PAPER)
def test_the_papers_models(name):
  config = paper_config(name)
  parameters, peak = PAPER[name]
  assert parameter_count(config) == pytest.approx(parameters, rel=0.015)
  assert config.training.schedule.peak == peak
  assert (config.training.batch_size, config.data.sequence_length, config.training.steps) == (512, 1024, 1_000_000)


def test_the_papers_mixture_has_every_row_with_its_weight():
  mixture = table_1_mixture.table_1_mixture()
  weights = collections.Counter()
  for key, entry in mixture.items():
    [row] = [row for row in sorted(ROWS, key=len, reverse=True) if key.startswith(table_1_mixture.key_of(row))][:1]
    weights[row] += entry.weight
    assert entry.min_return_share == (0.8 if ROWS[row].tasks else 0)
    assert bool(entry.tasks) != bool(entry.path)
  assert weights == pytest.approx({name: row.weight for name, row in ROWS.items()})


def test_the_suites_of_a_row_get_its_episodes_in_one_view_a_task():
  mixture = table_1_mixture.table_1_mixture()
  assert not any(task.endswith('-symbolic') for entry in mixture.values() for task in entry.tasks)
  made = collections.Counter({entry.dataset: len(entry.tasks) * entry.episodes for entry in mixture.values()})
  for dataset in ('babyai', 'sokoban', 'metaworld', 'atari_extended', 'modular_rl'):
    assert made[dataset] == pytest.approx(1000 * ROWS[DATASETS[dataset].row].episodes, rel=1e-3), dataset
  assert max(entry.episodes for entry in mixture.values()) <= table_1_mixture.MOST_EPISODES


def test_weight_0_leaves_a_row_out():
  config = paper_config('gato_79m')
  config.data.mixture.sokoban.weight = 0.0
  config.data.mixture.m3w.update(weight=0.0, path='')  # would be refused
  left = {request.entry for request in requests(config.data)}
  assert left == set(config.data.mixture) - {'sokoban', 'm3w'}
  table, _ = mixture_table(config.data)
  assert left == {row[0] for row in table[1:]}
  assert sum(float(row[1].rstrip('%')) for row in table[1:]) == pytest.approx(100, abs=0.1)


def test_dry_run_names_what_is_missing_and_fails(tmp_path, capsys):
  config = paper_config('gato_79m')
  config.data.dir = str(tmp_path)
  assert dry_run(config) == 1
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == len(config.data.mixture) + 3
  assert any(line.startswith('massivetext') and 'source not found: corpora/massive_text' in line for line in lines)
  assert any(line.startswith('sokoban') and 'is missing' in line for line in lines)
  assert '78.9M parameters' in lines[-2] and lines[-1].startswith(f'{len(config.data.mixture)} of ')


def tasks_of(config):
  return {request.task_name for request in requests(config.data) if request.task_name}


def test_few_shot_tasks_are_held_out_of_what_their_studies_start_from():
  held_out = {base: tasks_of(few_shot.get_config(base)) for base in few_shot.BASES}
  assert all(held_out.values())
  for source in (quickstart.get_config(), *map(few_shot_sources.get_config, few_shot_sources.PARTS)):
    assert not held_out[''] & tasks_of(source)
  assert not held_out['local_agent'] & tasks_of(local_agent.get_config())


def test_parts_of_the_quickstart_are_what_they_are_called():
  whole = quickstart.get_config()
  for part in few_shot_sources.PARTS:
    config = few_shot_sources.get_config(part)
    assert config.model.to_dict() == whole.model.to_dict() and config.training.steps == whole.training.steps
    assert {task.partition('/')[0] for task in tasks_of(config)} == ({part} - {'no_control'})
    assert tasks_of(config) <= tasks_of(whole)


def test_sizes_differ_in_the_model_alone():
  small, medium, large = (scaling.get_config(size).to_dict() for size in scaling.SIZES)
  for other in (small, medium):
    assert {key.partition('.')[0] for key in (change.partition(':')[0] for change in changed_keys(large, other))} == {
        'model'}
  assert parameter_count(scaling.get_config('small')) < parameter_count(scaling.get_config('medium')) / 2
  assert {key.partition(':')[0] for key in changed_keys(quickstart.get_config().to_dict(), large)} == {
      'name', 'evaluation.every'}


def test_every_row_of_the_catalogue_is_one_of_table_1s():
  for name, kind in DATASETS.items():
    assert not kind.row or kind.row in ROWS or kind.row in local_mixture.STANDS_FOR, name


def test_the_local_mixture_holds_everything_local_within_its_budget():
  config = local_mixture.get_config()
  assert set(config.data.mixture) == {name for name, kind in DATASETS.items() if not kind.path} - {'procgen'}
  wanted = requests(config.data)
  assert {request.task_name for request in wanted if request.task} == {
      f'{domain}/{task}' for domain in SUITES for task in trained_tasks(domain)
      if domain != 'procgen' and not task.endswith('-symbolic')}
  assert sum(request.seconds for request in wanted) / 2 < 3600  # two cores, under an hour
  assert 0 < sum(request.seconds for request in requests(local_mixture.get_config('0.1').data)) < 1800


def test_the_local_mixture_keeps_the_weight_of_every_family():
  weights, table = collections.Counter(), collections.Counter()
  for name, entry in local_mixture.get_config().data.mixture.items():
    row = local_mixture.STANDS_FOR.get(DATASETS[name].row, DATASETS[name].row)
    weights[ROWS[row].family] += entry.weight
  for row in ROWS.values():
    table[row.family] += row.weight
  assert weights == pytest.approx({family: table[family] for family in weights})
