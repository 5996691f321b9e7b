"""A study of two steps a run, on a real task: what it trains on, what it says, what it does not do twice; scaling."""

import copy
import json
import pathlib
import shutil

import numpy as np
import pytest

from data_pipelines.datasets.prepare import prepare
from data_pipelines.errors import InputError
from gato_jax.config import mixture_entry
from gato_jax.dry_run import parameter_count
from gato_jax.evaluation import scaling
from gato_jax.finetuning import study
from gato_jax.finetuning.checks import check_study, open_sources
from gato_jax.finetuning.run import Point, run_config
from gato_jax.training.loop import train
from gato_jax.training.metrics import FILE, read_records
from tests.gato_jax.training_cases import small_config

pytest.importorskip('gymnasium')
TASK = 'classic_control/CartPole-v1'


@pytest.fixture(scope='module')
def cases(tmp_path_factory):
  """A study's config, a workdir for it, and the workdir of a run that has not seen its task."""
  folder = tmp_path_factory.mktemp('study')
  shown = dict(episodes=3, window_timesteps=1, hide_actions=1.0)
  seen = small_config(folder, {'classic_control': mixture_entry(1.0, tasks=('MountainCar-v0',), **shown)},
                      sequence_length=64, patches_per_row=8)
  config = copy.deepcopy(seen)
  config.data.mixture.classic_control.tasks = ('CartPole-v1',)
  config.model.dropout = 0.1
  config.evaluation.update(episodes=2, environments=2)
  config.finetuning.update(episodes=(2,), repetitions=1, evaluate_every=1, smoothing=1)
  for each in (seen, config):
    prepare(each.data, workers=1)
  train(seen, str(folder / 'run'))
  return config, folder, str(folder / 'run')


def killed_while_writing(path, text, **settings):
  path.write_bytes(text.encode()[:99])
  raise KeyboardInterrupt


def test_the_highest_mean_of_successive_evaluations_counts():
  assert study.best_smoothed([0, 9, 0, 3, 6, 6], 3) == (5, 5.0)
  assert study.best_smoothed([0, 9, 0], 1) == (1, 9.0)
  assert study.best_smoothed([2, 4], 5) == (1, 3.0)  # fewer than are averaged: the mean of all


def test_repetitions_differ_in_episodes_and_seed_and_sources_in_neither(cases):
  config, _, run = cases
  first, again, scratch = (run_config(config, Point(TASK, 'x', workdir, 2, 2, repetition))
                           for workdir, repetition in ((run, 0), (run, 1), ('', 0)))
  entry = first.data.mixture.classic_control
  assert (entry.subset, entry.tasks, first.seed, first.training.init_from) == (2, ('CartPole-v1',), 0, run)
  assert again.data.mixture.classic_control.subset_seed != entry.subset_seed and again.seed == 1
  assert scratch.data.mixture == first.data.mixture and scratch.training.init_from == ''


def test_a_study_and_what_it_does_not_do_twice(cases, monkeypatch):
  config, folder, run = cases
  sources = [f'mountain_car={run}', 'scratch']
  report = study.finetune(config, str(folder / 'out'), sources)
  out = folder / 'out' / study.FOLDER
  assert json.loads((out / study.REPORT_FILE).read_text()) == json.loads(json.dumps(report))
  assert (out / study.PLOT_FILE).stat().st_size > 1000
  assert report['sources'] == {'mountain_car': {TASK: {'workdir': run, 'step': 2}},
                               'scratch': {TASK: {'workdir': '', 'step': 0}}}
  runs = report['tasks'][TASK]['runs']
  assert [(each['source'], each['episodes']) for each in runs] == [('mountain_car', 2), ('scratch', 2)]
  for each in runs:
    assert [evaluation['step'] for evaluation in each['evaluations']] == [1, 2]
    means = [np.mean(evaluation['scores']) for evaluation in each['evaluations']]
    assert each['score'] == max(means) and each['step'] == 1 + int(np.argmax(means))
  losses = {source: read_records(str(out / TASK / source / '2-0'))[0]['loss'] for source in report['sources']}
  assert losses['mountain_car'] != losses['scratch']  # the weights differ, the rows do not
  assert not list(out.rglob('checkpoints'))
  made = []
  monkeypatch.setattr(study, 'run_jobs', lambda jobs, workers: made.extend(job.name for job in jobs) or ())
  assert study.finetune(config, str(folder / 'out'), sources)['tasks'] == report['tasks'] and not made
  [path] = out.glob(f'{TASK}/scratch/2-0/result.json')
  result = json.loads(path.read_text())
  assert 'read_processes' not in result['settings']['data']
  result['settings']['data'] |= {'read_threads': 9, 'cache_megabytes': 5, 'workers': 1}  # as it was once written
  path.write_text(json.dumps(result))
  assert study.finetune(config, str(folder / 'out'), sources)['tasks'] == report['tasks'] and not made
  with monkeypatch.context() as patch:
    patch.setattr(pathlib.Path, 'write_text', killed_while_writing)
    with pytest.raises(KeyboardInterrupt):
      study.finetune(config, str(folder / 'out'), sources)
  assert json.loads((out / study.REPORT_FILE).read_text()) == json.loads(json.dumps(report))
  changed = copy.deepcopy(config)
  changed.training.schedule.peak = 0.5
  with pytest.raises(KeyError):  # their results are missing, as no job is run here
    study.finetune(changed, str(folder / 'out'), sources)
  assert len(made) == 2


@pytest.mark.parametrize('changes, sources, match', [
    ({'finetuning.episodes': (1, 9)}, ['scratch'], 'asks for 9, but of classic_control/CartPole-v1 3 are built'),
    ({'finetuning.best_episodes': 1}, ['scratch'], 'the best 1 are drawn from'),
    ({'finetuning.evaluate_every': 3}, ['scratch'], 'from 1 to training.steps, 2'),
    ({'data.mixture.classic_control.tasks': ('MountainCar-v0',)}, ['run={run}'], 'no held-out task: --from=run='),
    ({'data.vocabulary.bins': 512}, ['run={run}'], 'data.vocabulary.bins: 1024 -> 512'),
    ({'model.width': 64}, ['run={run}'], 'another model than the config.*model.width: 32 -> 64'),
    ({'evaluation.seed': 3}, ['scratch'], 'evaluation.seed is 3'),
    ({'training.init_from': 'x'}, ['scratch'], 'init_from is set'),
    ({}, [], 'missing'),
    ({}, ['scratch', 'scratch'], 'another name'),
    ({}, ['run=nowhere'], 'nowhere has no checkpoints'),
    ({}, ['run@atari={run}'], "--from=run@atari: data.mixture has no entry 'atari' to train on; it has cl"),
    ({}, ['run@={run}'], "has no entry ''"),
    ({}, ['run@classic_control'], 'as NAME=WORKDIR, NAME or NAME@ENTRY=WORKDIR, each with another name'),
    ({}, ['run={run}', 'run@classic_control={run}'], 'give run either once, or once for each entry'),
    ({'data.mixture.classic_control.tasks': ('MountainCar-v0',)}, ['run@classic_control={run}'],
     'no held-out task: --from=run@classic_control='),
])
def test_bad_input_is_found_before_anything_is_trained(cases, changes, sources, match):
  config, _, run = cases
  config = copy.deepcopy(config)
  config.update_from_flattened_dict(changes)
  with pytest.raises(InputError, match=match):
    check_study(config, open_sources([source.format(run=run) for source in sources], config))


def test_a_line_starts_each_entry_from_weights_of_its_own(cases, tmp_path):
  config, _, run = cases
  config = copy.deepcopy(config)
  with config.unlocked():
    config.data.mixture.swing = mixture_entry(1.0, dataset='classic_control', tasks=('Pendulum-v1',), episodes=3)
  prepare(config.data, workers=1)
  other = str(tmp_path / 'run@other')
  shutil.copytree(run, other)
  sources = [f'own@classic_control={run}', f'both={run}', f'own@swing={other}']
  started = check_study(config, open_sources(sources, config))
  lines = [(point.task, point.source, point.workdir) for point in study._points(config, started)]
  assert lines == [(TASK, 'own', run), (TASK, 'both', run), ('swing/Pendulum-v1', 'both', run),
                   ('swing/Pendulum-v1', 'own', other)]
  with pytest.raises(InputError, match='has no weights for swing/Pendulum-v1: give also --from=own@swing=WORKDIR'):
    check_study(config, open_sources(sources[:2], config))


def test_sizes_are_compared_by_tokens(cases, tmp_path, monkeypatch):
  config, _, run = cases
  report = {'step': 2, 'summary': {'mean_by_domain': {'one': 10.0, 'other': 30.0}}}
  path = pathlib.Path(run) / 'evaluation' / 'steps' / '2' / 'report.json'
  path.parent.mkdir(parents=True)
  path.write_text(json.dumps(report))
  records = read_records(run)
  skipped = {name: value for name, value in records[-1].items() if name != 'loss'}  # a record of skipped steps alone
  with (pathlib.Path(run) / FILE).open('a') as file:
    file.write(json.dumps({**skipped, 'step': 3}) + '\n')
  result = scaling.scaling(str(tmp_path), [f'small={run}', f'large={run}'])
  assert result['small']['loss'] == [[record['tokens'], record['loss']] for record in records]
  assert result['small']['score'] == [[records[-1]['tokens'], 20.0]]
  assert result['small']['parameters'] == result['large']['parameters'] == parameter_count(config)
  folder = tmp_path / scaling.FOLDER
  assert json.loads((folder / 'scaling.json').read_text()) == result and (folder / 'figure_8.png').stat().st_size > 1000
  with monkeypatch.context() as patch:
    patch.setattr(pathlib.Path, 'write_text', killed_while_writing)
    with pytest.raises(KeyboardInterrupt):
      scaling.scaling(str(tmp_path), [f'small={run}'])
  assert json.loads((folder / 'scaling.json').read_text()) == result
  with pytest.raises(InputError, match='--run is large: give it at least once, as NAME=WORKDIR'):
    scaling.scaling(str(tmp_path), ['large'])
  other = copy.deepcopy(config)
  other.training.batch_size = 4
  with pytest.raises(InputError, match='--run=other was .* other rows than one; .*: training.batch_size: 2 -> 4'):
    scaling.check_same_rows({'one': config, 'other': other})
  other = copy.deepcopy(config)
  other.data.update(read_threads=5, cache_megabytes=7)
  with other.unlocked():
    del other.data.read_processes  # of a run that is older than the key
  scaling.check_same_rows({'one': config, 'other': other})
  other.data.block_rows = 7
  with pytest.raises(InputError, match=r': data.block_rows: \d+ -> 7$'):
    scaling.check_same_rows({'one': config, 'other': other})
