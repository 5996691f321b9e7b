"""The console script."""

import pytest

from data_pipelines.errors import InputError
from gato_jax import cli


def test_help_lists_every_command(capsys):
  with pytest.raises(SystemExit) as end:
    cli.main(['--help'])
  assert end.value.code == 0
  output = capsys.readouterr().out
  assert all(command in output for command in ('prepare', 'train', 'evaluate', 'quickstart'))


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
