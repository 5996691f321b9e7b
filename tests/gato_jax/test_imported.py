"""Other people's episodes all the way: imported by `prepare`, packed, trained on, evaluated where they can be."""

import json

import numpy as np
import pytest

from data_pipelines.datasets.prepare import open_sources, open_tokenizer, prepare
from data_pipelines.datasets.recorded.writer import EpisodeWriter
from data_pipelines.environments import registry
from data_pipelines.loader import make_loader
from gato_jax.config import mixture_entry
from gato_jax.evaluation.evaluate import evaluate
from gato_jax.training.loop import train
from tests.data_pipelines.rlds_cases import STRUCTURES, prepare_folder
from tests.data_pipelines.test_import_rlds import MAPPINGS, episodes_of
from tests.data_pipelines.test_own_environment import EXAMPLE
from tests.gato_jax.training_cases import small_config


@pytest.mark.slow
def test_a_step_on_every_catalogue_structure(tmp_path):
  """One mixture of all: each is in the rows, and the loss is finite."""
  mixture = {}
  for name in STRUCTURES:
    settings = {'mapping': vars(MAPPINGS[name])} if name in MAPPINGS else {}
    path = prepare_folder(tmp_path / 'theirs', name, episodes_of(name))
    mixture[name] = mixture_entry(1.0, dataset='rlds', path=path, **settings)
  config = small_config(tmp_path, mixture, sequence_length=512, patches_per_row=256, block_rows=8)
  prepare(config.data, workers=2)
  sources = open_sources(config.data, 'train')
  assert {source.name for source in sources} == set(STRUCTURES)
  loader = make_loader(config.data, sources, open_tokenizer(config.data), seed=0, batch_size=2)
  for _ in range(20):
    next(loader)
  shares = loader.report()['shares']
  assert all(share > 0 for share in shares.values()), shares
  loader.close()
  workdir = str(tmp_path / 'run')
  train(config, workdir)
  losses = [json.loads(line)['loss'] for line in (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()]
  assert losses and np.isfinite(losses).all()


def log_pendulum(folder, episodes=4):
  """The example's expert, logged in newton metres as a robot would."""
  registry.register((EXAMPLE,))
  environment = registry.make('own/pendulum')
  expert = registry.make_expert(environment)
  writer = EpisodeWriter(folder, action_low=[-4], action_high=[4])
  for seed in range(episodes):
    observation = environment.reset(seed)
    for _ in range(30):
      action = expert.act(observation)
      result = environment.step(action)
      writer.append(observation, environment.action_space.to_space(action), result.reward)
      observation = result.observation
    writer.close_episode(observation)


@pytest.mark.slow
def test_imported_tasks_are_played_where_they_name_an_environment(tmp_path, capsys):
  log_pendulum(tmp_path / 'logs')
  recorded = dict(dataset='recorded', path=str(tmp_path / 'logs'), window_timesteps=1)
  mixture = {
      'own': mixture_entry(1.0, tasks=('pendulum',), episodes=3, window_timesteps=1),
      'logs': mixture_entry(1.0, environment='own/pendulum', **recorded),
      'unseen': mixture_entry(1.0, **recorded, mapping={'action_low': (-5.0,), 'action_high': (5.0,)}),
  }
  config = small_config(tmp_path, mixture, sequence_length=64, patches_per_row=8, environments=(EXAMPLE,))
  config.evaluation.update(episodes=2, environments=2, workers=1)
  prepare(config.data, workers=2)
  train(config, str(tmp_path / 'run'))
  report = evaluate(config, str(tmp_path / 'run'))
  assert set(report['tasks']) == {'own/pendulum', 'logs'} and report['not_played'] == ['unseen']
  said = ' '.join(capsys.readouterr().out.split())
  assert '1 imported datasets without an environment are not played: unseen' in said
  assert all(-2000 < task['score'] < 0 for task in report['tasks'].values())


def test_config_takes_a_mapping_and_names_what_is_misspelt():
  entry = mixture_entry(1.0, dataset='rlds', path='x', mapping={'action': ('a', 'b'), 'image_side': 64})
  assert (entry.mapping.action, entry.mapping.image_side, entry.mapping.text) == (('a', 'b'), 64, '')
  with pytest.raises(KeyError, match='actoin'):
    mixture_entry(1.0, dataset='rlds', path='x', mapping={'actoin': ('a',)})
