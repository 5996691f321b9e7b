"""Settings of the whole suite."""

import os
import pathlib
import tempfile

import hypothesis
import pytest

from data_pipelines.environments import registry

# One compilation of a program serves every process of the suite; it must be set before jax is imported.
_CACHE = pathlib.Path(tempfile.gettempdir()) / 'gato_jax_test_compilations'
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(_CACHE))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.5')
# Most of the suite's time is compilation, and this halves it: LLVM optimises nothing. Subprocesses inherit it.
os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} --xla_backend_optimization_level=0'

# No test depends on the machine's speed.
hypothesis.settings.register_profile(
    'suite', deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile('suite')


def pytest_collection_modifyitems(items):
  """The slow files first, so that no process is left alone with one of them at the end."""
  slow = {item.path for item in items if item.get_closest_marker('slow')}
  items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope='module', autouse=True)
def suites_of_this_file_alone():
  """Suites that a file's tests register are forgotten after it."""
  tables = (registry.SUITES, registry.SPECS)
  before = [dict(table) for table in tables]
  yield
  for table, entries in zip(tables, before, strict=True):
    table.clear()
    table.update(entries)
