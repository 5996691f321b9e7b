"""Imports only go down: experiments -> gato_jax -> data_pipelines; see the README's map."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
FORBIDDEN = {
    'data_pipelines': {'jax', 'jaxlib', 'flax', 'optax', 'orbax', 'ml_collections', 'gato_jax', 'experiments'},
    'gato_jax': {'experiments'},
}


def imported_packages(path):
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name.split('.')[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      yield node.module.split('.')[0]


@pytest.mark.parametrize('floor', FORBIDDEN)
def test_floor_imports_nothing_from_above(floor):
  files = sorted((ROOT / floor).rglob('*.py'))
  assert files
  offenders = {(path.name, name) for path in files for name in imported_packages(path) if name in FORBIDDEN[floor]}
  assert not offenders


@pytest.mark.parametrize(
    'modules', ['data_pipelines', 'data_pipelines.datasets.prepare', 'gato_jax', 'gato_jax.config'])
def test_light_modules_do_not_load_jax(modules):
  code = f'import sys, {modules}; sys.exit("jax" in sys.modules)'
  assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0
