"""A real run, far too short to learn from, evaluated on a real task."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import pytest
from rich.console import Console

from data_pipelines.datasets.prepare import prepare
from data_pipelines.environments import registry
from data_pipelines.environments.reference_scores import ReferenceScores
from data_pipelines.errors import InputError
from gato_jax.config import default_config, mixture_entry
from gato_jax.evaluation import control, exported, tasks
from gato_jax.evaluation import evaluate as evaluation
from gato_jax.evaluation.follow import _evaluate, follow
from gato_jax.evaluation.jobs import Job, run_jobs
from gato_jax.evaluation.report_files import read_reports
from gato_jax.evaluation.schedule import scheduled
from gato_jax.evaluation.scoring import LANGUAGE
from gato_jax.export.export import export
from gato_jax.export.tasks import KnownTask
from gato_jax.pages.report import write_report_page
from gato_jax.training.checkpoint_place import FOLDER, TOKENIZER_FOLDER
from gato_jax.training.checkpoint_reading import DamagedCheckpoint, finished_steps
from gato_jax.training.goodput import read_seconds
from gato_jax.training.loop import train
from tests.gato_jax.training_cases import small_config, tiny_tokenizer
from tests.living import is_alive

pytest.importorskip('gymnasium')
TASKS = ('CartPole-v1', 'MountainCar-v0')
NAMES = [f'classic_control/{task}' for task in TASKS]


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A config and the workdir it was trained in: checkpoints of steps 1 and 2, the last evaluated as scheduled."""
  folder = tmp_path_factory.mktemp('run')
  mixture = {
      'classic_control': mixture_entry(1.0, tasks=TASKS, episodes=3, window_timesteps=1, hide_actions=1.0),
      'digits': mixture_entry(0.5),
  }
  config = small_config(folder, mixture, sequence_length=64, patches_per_row=16)
  config.training.checkpoint_every = 1
  config.evaluation.update(episodes=5, environments=2, examples=8, workers=1, every=2)
  prepare(config.data, workers=1)
  workdir = str(folder / 'run')
  train(config, workdir, evaluation=scheduled(config, workdir))
  return config, workdir


def test_evaluation_never_plays_the_demonstrations_seeds(tmp_path):
  config = default_config()
  config.evaluation.seed = 999_999
  with pytest.raises(InputError, match='evaluation.seed is 999999'):
    evaluation.evaluate(config, str(tmp_path))
  with pytest.raises(SystemExit, match='error: --seed is 999999: demonstrations are made from the seeds below 1000000'):
    exported.main([str(tmp_path), '--seed=999999'])


def test_policies_see_what_training_showed_them():
  trained, config = default_config(), default_config()
  for settings, entries in ((trained, {'dm_control': dict(hide_actions=0.0, window_timesteps=5)}),
                            (config, {'dm_control': dict(hide_actions=1.0), 'babyai': dict(hide_actions=0.5)})):
    with settings.unlocked():
      settings.data.mixture = {name: mixture_entry(1.0, **changes) for name, changes in entries.items()}
  mixture = tasks.as_trained(config, trained).data.mixture
  assert (mixture.dm_control.hide_actions, mixture.dm_control.window_timesteps) == (0.0, 5)
  assert mixture.babyai.hide_actions == 0.5  # not trained on: as the caller says
  assert config.data.mixture.dm_control.hide_actions == 1.0


def test_a_schedule_that_cannot_be_kept_is_refused_before_training():
  config = default_config()
  assert scheduled(config, 'nowhere') is None
  config.evaluation.update(every=10, workers=0)
  with pytest.raises(InputError, match='evaluate --follow'):
    scheduled(config, 'nowhere')
  config.evaluation.update(workers=1, seed=1)
  with pytest.raises(InputError, match='evaluation.seed is 1'):
    scheduled(config, 'nowhere')


@pytest.mark.slow
def test_training_evaluates_on_its_schedule(run):
  _, workdir = run
  assert finished_steps(workdir) == [1, 2]
  [report] = read_reports(pathlib.Path(workdir) / evaluation.FOLDER)
  assert report['step'] == 2 and list(report['tasks']) == NAMES
  assert read_seconds(workdir)['evaluation'] > 0


@pytest.mark.slow
def test_following_evaluates_each_checkpoint_once(run, capsys):
  config, workdir = run
  assert follow(config, workdir, poll=0.0) == [1, 2]
  first, second = read_reports(pathlib.Path(workdir) / evaluation.FOLDER)
  assert (first['step'], first['reused']) == (1, [])
  assert (second['step'], set(second['reused'])) == (2, {*NAMES, LANGUAGE})  # the schedule had done it
  assert '3 of 3 were finished by an earlier evaluation' in capsys.readouterr().out
  assert (pathlib.Path(workdir) / evaluation.FOLDER / 'curves.png').stat().st_size > 1000
  assert _evaluate(config, workdir, 7, 0.0, Console()) is None  # it was there, and is gone
  assert 'step 7: training deleted this checkpoint' in capsys.readouterr().out


def test_an_evaluation_reads_weights_in_its_workers_alone(run, tmp_path):
  config, workdir = run
  whole = evaluation._find(config, workdir, None)
  assert (whole.step, whole.config.model.width) == (2, config.model.width) and whole.saved > 0
  for name in (FOLDER, TOKENIZER_FOLDER):
    shutil.copytree(pathlib.Path(workdir) / name, tmp_path / name)
  shutil.rmtree(tmp_path / FOLDER / '2' / 'parameters')
  assert evaluation._find(config, str(tmp_path), None)._replace(workdir=workdir) == whole
  tiny_tokenizer().save(tmp_path / TOKENIZER_FOLDER)
  with pytest.raises(InputError, match='another vocabulary'):
    evaluation._find(config, str(tmp_path), 1)


@pytest.fixture
def damaged(run, tmp_path):
  """The run again, to be damaged; it is played in this process, and only the text is asked for."""
  config = run[0].copy_and_resolve_references()
  config.evaluation.update(workers=0, episodes=2)
  for name in (FOLDER, TOKENIZER_FOLDER):
    shutil.copytree(pathlib.Path(run[1]) / name, tmp_path / name)
  return config, tmp_path


@pytest.mark.slow
def test_a_damaged_newest_checkpoint_is_an_evaluation_of_the_one_before_it(damaged, capsys, caplog):
  config, workdir = damaged
  shutil.rmtree(workdir / FOLDER / '2' / 'parameters')
  config.evaluation.workers = 1  # its error comes from there
  assert evaluation.evaluate(config, str(workdir), brief=True)['step'] == 1
  said = ' '.join(capsys.readouterr().out.split())
  assert 'is damaged (' in said and 'there are [1]. The one before it is evaluated instead evaluating step 1' in said
  config.evaluation.workers = 0
  with pytest.raises(DamagedCheckpoint, match=r'checkpoint of step 2 in .* is damaged .*, or use .*: there are \[1\]'):
    evaluation.evaluate(config, str(workdir), 2)
  assert 'trying' not in caplog.text
  shutil.rmtree(workdir / FOLDER / '1')
  with pytest.raises(DamagedCheckpoint, match=r'none of the checkpoints \[2\] in .* can be read; restore'):
    evaluation.evaluate(config, str(workdir))


@pytest.mark.slow
@pytest.mark.parametrize(('step', 'spoilt'), [(1, ''), (1, 'parameters'), (2, 'parameters')])
def test_following_leaves_out_what_is_damaged(damaged, capsys, step, spoilt):
  config, workdir = damaged
  shutil.rmtree(workdir / FOLDER / str(step) / 'parameters')
  if not spoilt:
    for file in (workdir / FOLDER / str(step)).glob('*.json'):
      file.write_text('')
    for file in (workdir / FOLDER / str(step)).glob('_*'):
      file.write_text('')
  assert follow(config, str(workdir), poll=0.0) == [3 - step]
  assert f'step {step} is left out: checkpoint of step {step} in' in capsys.readouterr().out
  assert follow(config, str(workdir), poll=0.0) == [3 - step]


class Killed(BaseException):
  """Stands for the process's end: nothing may catch it."""


@pytest.mark.slow
def test_an_interrupted_evaluation_goes_on(run, monkeypatch, capsys):
  config, workdir = run[0].copy_and_resolve_references(), run[1]
  config.evaluation.workers = 0
  played, play_task, dying = [], control.play_task, [NAMES[1]]

  def watched(workdir, step, config, name, video):
    if name in dying:
      raise Killed
    played.append(name)
    return play_task(workdir, step, config, name, video)

  monkeypatch.setattr(control, 'play_task', watched)

  def evaluate(**settings):
    played.clear()
    return evaluation.evaluate(config, workdir, 1, brief=True, **settings)

  with pytest.raises(Killed):
    evaluate()
  assert played == NAMES[:1]  # another number of workers is no reason, an accelerator is
  dying.clear()
  capsys.readouterr()
  report = evaluate()
  assert played == NAMES[1:] and NAMES[0] in report['reused']
  assert 'by an earlier evaluation of this checkpoint' in capsys.readouterr().out
  kept = evaluate()
  assert played == [] and kept['tasks'] == report['tasks']
  config.acting.temperature = 0.5
  evaluate()
  assert played == NAMES
  assert 'acting.temperature: 1.0 -> 0.5' in capsys.readouterr().out.replace('\n', ' ')
  path = pathlib.Path(workdir) / evaluation.FOLDER / 'steps' / '1' / 'results' / f'{NAMES[0]}.json'
  path.write_text(path.read_text()[:100])
  assert evaluate()['tasks'] == evaluate(again=True)['tasks']
  assert set(played) == set(NAMES)


@pytest.mark.slow
def test_scores_do_not_depend_on_the_number_of_workers_nor_on_export(run, monkeypatch, tmp_path):
  config, workdir = run
  monkeypatch.setattr(tasks, 'reference_scores', lambda name: ReferenceScores(-1000.0, 500.0, 50))
  reports = []
  for workers, environment_workers in ((1, 0), (8, 1)):
    config.evaluation.update(workers=workers, environment_workers=environment_workers)
    reports.append(evaluation.evaluate(config, workdir, again=True))
  assert reports[0]['tasks'] == reports[1]['tasks']
  assert reports[0]['captions'] == reports[1]['captions']
  folder = export(workdir, str(tmp_path / 'agent'), prompts=5)
  exported.main([str(folder), '--episodes=5', '--environments=2', '--workers=1', f'--out={tmp_path}/scores.json'])
  scores = json.loads((tmp_path / 'scores.json').read_text())['tasks']
  assert {name: task['episode_scores'] for name, task in scores.items()} == {
      name: list(task['episode_scores']) for name, task in reports[0]['tasks'].items()}
  assert reports[0]['reused'] == reports[1]['reused'] == []
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
  sections = ('rollouts', 'examples', 'attention', 'map', 'progress', 'learning', 'time', 'data')
  shown = {name for name in sections
           if 'missing' not in page.partition(f'<section id="{name}"')[2].partition('</section>')[0]}
  assert shown == {*sections} - {'attention'}  # no picture has more than one patch


def test_workers_end_with_the_process_that_started_them(tmp_path):
  script = tmp_path / 'script.py'
  script.write_text("""
import os, pathlib, sys, time
from gato_jax.evaluation.jobs import Job, run_jobs

def wait(path):
  pathlib.Path(path).write_text(str(os.getpid()))
  time.sleep(600)

if __name__ == '__main__':
  list(run_jobs([Job('wait', 1, wait, (sys.argv[1],))], 1))
""")
  path = tmp_path / 'pid'
  process = subprocess.Popen([sys.executable, str(script), str(path)], env={**os.environ, 'PYTHONPATH': os.getcwd()})
  while not (path.exists() and path.read_text()) and process.poll() is None:
    time.sleep(0.05)
  worker = int(path.read_text())
  process.kill()
  process.wait()
  while is_alive(worker):  # for ever, if it does not end with its parent
    time.sleep(0.05)


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
