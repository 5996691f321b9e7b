"""Builders on Apache Beam's DirectRunner, where apache-beam is installed."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from data_pipelines.datasets.beam import build_apart, build_on_beam
from data_pipelines.datasets.building import build_dataset
from data_pipelines.datasets.catalogue import Request, requests
from data_pipelines.datasets.sources import open_source
from data_pipelines.environments import registry
from data_pipelines.errors import InputError
from tests.data_pipelines.dataset_cases import data_config, entry
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


SUITE = """
import time
import numpy as np
from data_pipelines.environments.simulation import SimulatedEnvironment, Transition
from data_pipelines.environments.specs import ArraySpec, TaskSpec

DOMAIN = 'hanging'
ITEM = ArraySpec('continuous', (1,))
SPECS = {'once': TaskSpec('hanging/once', DOMAIN, {'place': ITEM}, ITEM, 3)}


class make(SimulatedEnvironment):
  demonstration_seconds = 0.5

  def _reset(self, seed):
    return {'place': np.zeros(1, np.float32)}

  def _step(self, action):
    return Transition({'place': action}, 1.0, False)

  def close(self):
    pass


class make_expert:
  hangs = True

  def __init__(self, environment):
    pass

  def reset(self):
    end = time.process_time() + 3 * self.hangs
    make_expert.hangs = False
    while time.process_time() < end:
      pass

  def act(self, observation):
    return np.ones(1, np.float32)
"""


def test_an_expert_that_hangs_is_given_up_on_whatever_thread_beam_works(tmp_path):
  (tmp_path / 'suite.py').write_text(SUITE)
  config = data_config(tmp_path / 'data', hanging=entry(tasks=('once',), episodes=1))
  config.environments = (str(tmp_path / 'suite.py'),)
  try:
    request, = requests(config)
    with ThreadPoolExecutor(1) as threads:
      threads.submit(build_apart, request, config.dir, 0.0).result()
    source = open_source(request, config.dir, 'train')
  finally:
    registry.SUITES.pop('hanging')
    registry.SPECS.pop('hanging/once')
  assert len(source) == 1
  problem, = source.metadata['dropped']
  assert 'no end after 0.5 s of processor time' in problem


def test_a_dataset_that_cannot_be_built_ends_the_pipeline(tmp_path):
  pytest.importorskip('apache_beam')
  with pytest.raises(InputError, match='Nowhere-v0'):
    build_on_beam([Request('classic_control', 'Nowhere-v0', episodes=1)], str(tmp_path), 0.0, 'DirectRunner', '')
