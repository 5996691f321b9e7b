"""A real run, far too short to learn from, evaluated on a real task."""

import dataclasses
import json
import pathlib

import pytest

from data_pipelines.datasets.prepare import prepare
from data_pipelines.environments import registry
from data_pipelines.environments.reference_scores import ReferenceScores
from data_pipelines.errors import InputError
from gato_jax.config import default_config, mixture_entry
from gato_jax.evaluation import evaluate as evaluation
from gato_jax.evaluation import exported
from gato_jax.evaluation.jobs import Job, run_jobs
from gato_jax.export.export import export
from gato_jax.export.tasks import KnownTask
from gato_jax.pages.report import write_report_page
from gato_jax.training.loop import train
from tests.gato_jax.training_cases import small_config

pytest.importorskip('gymnasium')
TASKS = ('CartPole-v1', 'MountainCar-v0')


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A config and the workdir it was trained in."""
  folder = tmp_path_factory.mktemp('run')
  mixture = {
      'classic_control': mixture_entry(1.0, tasks=TASKS, episodes=3, window_timesteps=1, hide_actions=1.0),
      'digits': mixture_entry(0.5),
  }
  config = small_config(folder, mixture, sequence_length=64, patches_per_row=16)
  config.evaluation.update(episodes=5, environments=2, examples=8)
  prepare(config.data, workers=1)
  train(config, str(folder / 'run'))
  return config, str(folder / 'run')


def test_evaluation_never_plays_the_demonstrations_seeds(tmp_path):
  config = default_config()
  config.evaluation.seed = 999_999
  with pytest.raises(InputError, match='evaluation.seed is 999999'):
    evaluation.evaluate(config, str(tmp_path))


def test_policies_see_what_training_showed_them():
  trained, config = default_config(), default_config()
  for settings, entries in ((trained, {'dm_control': dict(hide_actions=0.0, window_timesteps=5)}),
                            (config, {'dm_control': dict(hide_actions=1.0), 'babyai': dict(hide_actions=0.5)})):
    with settings.unlocked():
      settings.data.mixture = {name: mixture_entry(1.0, **changes) for name, changes in entries.items()}
  mixture = evaluation._as_trained(config, trained).data.mixture
  assert (mixture.dm_control.hide_actions, mixture.dm_control.window_timesteps) == (0.0, 5)
  assert mixture.babyai.hide_actions == 0.5  # not trained on: as the caller says
  assert config.data.mixture.dm_control.hide_actions == 1.0


@pytest.mark.slow
def test_scores_do_not_depend_on_the_number_of_workers_nor_on_export(run, monkeypatch, tmp_path):
  config, workdir = run
  monkeypatch.setattr(evaluation, 'reference_scores', lambda name: ReferenceScores(-1000.0, 500.0, 50))
  reports = []
  for workers in (1, 2):
    config.evaluation.workers = workers
    reports.append(evaluation.evaluate(config, workdir))
  assert reports[0]['tasks'] == reports[1]['tasks']
  assert reports[0]['captions'] == reports[1]['captions']
  folder = export(workdir, str(tmp_path / 'agent'), prompts=5)
  exported.main([str(folder), '--episodes=5', '--environments=2', '--workers=1', f'--out={tmp_path}/scores.json'])
  scores = json.loads((tmp_path / 'scores.json').read_text())['tasks']
  assert {name: task['episode_scores'] for name, task in scores.items()} == {
      name: list(task['episode_scores']) for name, task in reports[0]['tasks'].items()}
  assert set(reports[0]['tasks']) == {f'classic_control/{task}' for task in TASKS}
  cart_pole, mountain_car = reports[0]['tasks'].values()
  assert cart_pole['episodes'] == 5 and 5 < cart_pole['score'] < 500
  assert mountain_car['score'] == -200
  assert mountain_car['normalised'] == pytest.approx(100 * 800 / 1500)
  assert reports[0]['training']['steps'] == 2
  folder = pathlib.Path(workdir) / evaluation.FOLDER
  assert json.loads((folder / 'report.json').read_text()) == json.loads(json.dumps(reports[1]))
  for name in ('loss.png', 'scores.png', 'figure_5.png', 'classic_control.gif'):
    assert (folder / name).stat().st_size > 1000
  page = write_report_page(config, workdir).read_text()
  shown = {name for name in ('rollouts', 'examples', 'attention', 'map', 'learning', 'time', 'data')
           if 'missing' not in page.partition(f'<section id="{name}"')[2].partition('</section>')[0]}
  assert shown == {'rollouts', 'examples', 'map', 'learning', 'time', 'data'}  # no picture has more than one patch


def test_what_of_an_export_is_not_played_is_said(capsys):
  known = registry.task_spec('classic_control/CartPole-v1')
  mine = dataclasses.replace(known, name='mine')
  tasks = {'mine': KnownTask(mine, expert=1.0), 'poles': KnownTask(known, expert=2.0), 'unscored': KnownTask(known)}
  assert list(exported._playable(tasks, ())) == ['poles']
  assert 'no environment or no reference scores here: mine, unscored' in capsys.readouterr().out
  with pytest.raises(InputError, match='no task pole in the export; it has mine, poles'):
    exported._playable(tasks, ['pole'])
  evaluation_config = default_config().evaluation
  assert exported.Settings() == exported.Settings(*(evaluation_config[name] for name in exported.Settings._fields[:-1]))


def test_jobs_run_longest_first_and_raise_what_they_raise():
  jobs = [Job('short', 1, len, ((),)), Job('long', 9, len, ((1, 2),)), Job('middle', 5, len, ((1,),))]
  assert [(done.name, done.result) for done in run_jobs(jobs, 0)] == [('long', 2), ('middle', 1), ('short', 0)]
  assert {(done.name, done.result) for done in run_jobs(jobs, 2)} == {('long', 2), ('middle', 1), ('short', 0)}
  with pytest.raises(TypeError):
    list(run_jobs([Job('bad', 1, len, (3,))], 1))
