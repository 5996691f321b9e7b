"""The console script."""

import pathlib

import pytest

from data_pipelines.datasets import prepare
from data_pipelines.datasets.catalogue import DATASETS
from data_pipelines.environments import registry
from data_pipelines.errors import InputError
from gato_jax import cli


def test_help_lists_every_command(capsys):
  with pytest.raises(SystemExit) as end:
    cli.main(['--help'])
  assert end.value.code == 0
  output = capsys.readouterr().out
  assert all(command in output for command in ('prepare', 'train', 'evaluate', 'quickstart', 'datasets', 'benchmark'))


def test_command_gets_the_config_and_the_workdir(monkeypatch):
  calls = []
  monkeypatch.setitem(cli.COMMANDS, 'train', lambda config, workdir: calls.append((config, workdir)))
  cli.main(['train', '--workdir=elsewhere', '--config.training.steps=7'])
  [(config, workdir)] = calls
  assert workdir == 'elsewhere'
  assert config.training.steps == 7


@pytest.mark.parametrize('argv', [['train', '--config.model.layer=3'], ['train', '--config=nope.py']])
def test_bad_input_ends_with_2_and_no_stack_trace(argv, capsys):
  with pytest.raises(SystemExit) as end:
    cli.main(argv)
  assert end.value.code == 2
  assert capsys.readouterr().err.startswith('gato-jax: error: ')


def test_input_error_of_a_command_is_printed(monkeypatch, capsys):
  def fail(config, workdir):
    raise InputError('dataset x is missing')

  monkeypatch.setitem(cli.COMMANDS, 'evaluate', fail)
  with pytest.raises(SystemExit):
    cli.main(['evaluate'])
  assert 'dataset x is missing' in capsys.readouterr().err


def test_stray_argument_is_refused(capsys):
  with pytest.raises(SystemExit):
    cli.main(['train', 'stray'])
  assert 'stray' in capsys.readouterr().err


def test_commands_have_arguments_of_their_own(monkeypatch):
  calls = []

  @cli.argument('name', nargs='?', default='')
  @cli.argument('--deep', action='store_true')
  def show(config, workdir, name, deep):
    calls.append((workdir, name, deep))

  monkeypatch.setitem(cli.COMMANDS, 'show', show)
  cli.main(['show', 'this', '--deep', '--workdir=here', '--config.seed=3'])
  cli.main(['show'])
  assert calls == [('here', 'this', True), ('runs/quickstart', '', False)]


def test_a_command_can_fail_with_a_status_of_its_own(monkeypatch):
  monkeypatch.setitem(cli.COMMANDS, 'evaluate', lambda config, workdir: 1)
  with pytest.raises(SystemExit) as end:
    cli.main(['evaluate'])
  assert end.value.code == 1


def test_datasets_lists_all_of_them(tmp_path, capsys):
  cli.main(['datasets', f'--config.data.dir={tmp_path}'])
  output = capsys.readouterr().out
  assert all(name in output for name in DATASETS) and 'control tasks to train on' in output


def test_a_suite_of_the_users_own_is_a_dataset(tmp_path, capsys):
  pytest.importorskip('gymnasium')
  example = pathlib.Path(__file__).parents[2] / 'experiments' / 'examples' / 'own_environment.py'
  try:
    cli.main(['datasets', 'own', f'--workdir={tmp_path}', f'--config.data.dir={tmp_path}',
              f"--config.data.environments=('{example}',)"])
  finally:
    registry.SUITES.pop('own', None)
    registry.SPECS.pop('own/pendulum', None)
  assert 'own/pendulum: observation continuous[3]' in capsys.readouterr().out


@pytest.mark.parametrize('argv', [
    ['datasets', 'nothing'], ['benchmark', 'nothing'], ['benchmark', 'memory'], ['datasets', '--batch'],
    ['evaluate', '--follow', '--again']])
def test_bad_names_and_missing_data(argv, tmp_path, capsys):
  with pytest.raises(SystemExit) as end:
    cli.main([*argv, f'--config.data.dir={tmp_path}'])
  assert end.value.code == 2
  assert capsys.readouterr().err.startswith('gato-jax: error: ')


def test_workers_of_prepare(monkeypatch):
  calls = []
  monkeypatch.setattr(prepare, 'prepare', lambda data_config, **settings: calls.append(settings))
  cli.main(['prepare', '--workers=7', '--beam_runner=DirectRunner'])
  cli.main(['prepare', '--config.data.workers=5'])
  assert [(call['workers'], call['beam_runner']) for call in calls] == [(7, 'DirectRunner'), (5, '')]
