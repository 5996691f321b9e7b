"""`pip install .` into an empty environment gives a working console script."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent


@pytest.mark.slow
def test_install_into_an_empty_environment(tmp_path):
  def run(*command):
    return subprocess.run(command, check=True, cwd=tmp_path, capture_output=True, text=True).stdout

  run(sys.executable, '-m', 'venv', 'empty')
  python = str(tmp_path / 'empty' / 'bin' / 'python')
  run(python, '-m', 'pip', 'install', '--quiet', '--no-compile', str(ROOT))
  assert 'quickstart' in run(str(tmp_path / 'empty' / 'bin' / 'gato-jax'), '--help')
  run(python, '-c', 'import data_pipelines, sys; assert "jax" not in sys.modules')
  run(python, '-c', 'import gato_jax.training.loop, gato_jax.evaluation.evaluate, data_pipelines.loader')
