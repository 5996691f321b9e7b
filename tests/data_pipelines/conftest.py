"""Fixtures of the tests of simulators."""

import pytest

from data_pipelines.environments import registry


@pytest.fixture(scope='module')
def environments():
  """name -> environment, built when first asked for and shared by the tests, as episodes may not depend on it."""
  built = {}

  def environment(name):
    if name not in built:
      built[name] = registry.make(name)
    return built[name]

  yield environment
  for made in built.values():
    made.close()
