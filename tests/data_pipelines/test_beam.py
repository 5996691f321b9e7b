"""Builders on Apache Beam's DirectRunner, where apache-beam is installed."""

import pytest

from data_pipelines.datasets.beam import build_on_beam
from data_pipelines.datasets.building import build_dataset
from data_pipelines.datasets.catalogue import Request
from data_pipelines.datasets.sources import open_source
from data_pipelines.errors import InputError
from tests.data_pipelines.test_datasets_prepare import assert_same_episodes

REQUESTS = [Request('classic_control', 'CartPole-v1', episodes=3, noise=0.5), Request('digits', episodes=20)]


def test_without_beam_it_says_what_to_install(tmp_path):
  try:
    import apache_beam  # noqa: F401
  except ImportError:
    with pytest.raises(InputError, match=r'pip install "gato_jax\[beam\]"'):
      build_on_beam(REQUESTS, str(tmp_path), 0.0, 'DirectRunner', '')
  else:
    with pytest.raises(InputError, match='NoSuchRunner'):
      build_on_beam(REQUESTS, str(tmp_path), 0.0, 'NoSuchRunner', '')


def test_beam_makes_the_same_episodes(tmp_path):
  pytest.importorskip('apache_beam')
  build_on_beam(REQUESTS, str(tmp_path / 'beam'), 0.0, 'DirectRunner', '')
  for request in REQUESTS:
    build_dataset(request, str(tmp_path / 'here'), 0.0)
  ours, theirs = ([open_source(request, str(tmp_path / place), 'train') for request in REQUESTS]
                  for place in ('here', 'beam'))
  assert_same_episodes(ours, theirs)


def test_a_dataset_that_cannot_be_built_ends_the_pipeline(tmp_path):
  pytest.importorskip('apache_beam')
  with pytest.raises(InputError, match='Nowhere-v0'):
    build_on_beam([Request('classic_control', 'Nowhere-v0', episodes=1)], str(tmp_path), 0.0, 'DirectRunner', '')
