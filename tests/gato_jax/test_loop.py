"""The loop on a tiny Gato: its files, its summary, resuming, what it refuses."""

import signal
from unittest import mock

from flax import nnx
import jax
import numpy as np
import psutil
import pytest

from data_pipelines.errors import InputError
from gato_jax.config import changed_keys
from gato_jax.group import Preempted
from gato_jax.mesh import make_mesh
from gato_jax.training import ownership
from gato_jax.training.checkpoint_place import FOLDER, checkpoint_folder
from gato_jax.training.checkpoint_reading import finished_steps
from gato_jax.training.loop import Evaluation, Run, shares_line
from gato_jax.training.metrics import read_records
from gato_jax.training.program import check_training
from gato_jax.training.restore import load_trained, tokenizer_of
from gato_jax.training.watchdog import Watchdog
from tests.gato_jax.training_cases import LENGTH, SOURCES, MadeUpLoader, made_up_batch, tiny_run_config, tiny_tokenizer


def timeless(record):
  machine = ('seconds', 'mfu', 'host_memory_gib')
  return {key: value for key, value in record.items() if key not in machine and 'per_second' not in key}


class Killed(BaseException):
  """Stands for the process's end: nothing may catch it."""


def kill_at(step):
  def change(index, batch):
    if index == step:
      raise Killed
    return batch

  return change


def records(workdir):
  return [timeless(record) for record in read_records(str(workdir))]


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
  """A run of 7 steps, each of which is a sign of progress: its workdir, its summary and the Run."""
  workdir = tmp_path_factory.mktemp('undisturbed')
  run = Run(tiny_run_config(steps=7, log_every=3), str(workdir), MadeUpLoader(), tiny_tokenizer())
  with mock.patch.object(Watchdog, 'progress') as progress:
    summary = run.train()
  assert progress.call_count == 7
  return workdir, summary, run


def test_summary_and_records(undisturbed):
  workdir, summary, run = undisturbed
  tokens = sum(int((made_up_batch(seed).segment_ids > 0).sum()) for seed in range(1, 8))
  assert summary['steps'] == 7 and summary['tokens'] == tokens
  assert summary['packing_fill'] == pytest.approx(tokens / (7 * 8 * LENGTH))
  assert summary['tokens_per_second'] == pytest.approx(tokens / summary['seconds'])
  assert set(summary['loss_by_source']) <= set(SOURCES)
  assert [record['step'] for record in read_records(str(workdir))] == [3, 6, 7]
  first = read_records(str(workdir))[0]
  assert first['loss'] == pytest.approx(np.log(tiny_tokenizer().vocabulary.size), rel=0.15)
  assert first['host_memory_gib'] == pytest.approx(psutil.Process().memory_info().rss / 2**30, rel=0.5)
  assert run.train_step.traces == 1


@pytest.mark.slow
def test_interrupted_run_ends_the_same_to_the_bit(undisturbed, tmp_path, monkeypatch):
  """With its checkpoints in another place, which all who read them find by the workdir."""
  workdir, summary, _ = undisturbed
  monkeypatch.chdir(tmp_path)
  config = tiny_run_config(steps=7, log_every=3, checkpoint_dir='elsewhere')
  with pytest.raises(Killed):
    Run(config, str(tmp_path), MadeUpLoader(change=kill_at(6)), tiny_tokenizer()).train()
  run = Run(config, str(tmp_path), MadeUpLoader(), tiny_tokenizer())
  resumed = run.train()
  assert not (tmp_path / FOLDER).exists() and checkpoint_folder(str(tmp_path)) == tmp_path / 'elsewhere' / FOLDER
  monkeypatch.chdir('/')
  assert run.train_step.traces == 1
  assert records(tmp_path) == records(workdir)
  assert timeless(resumed) == timeless(summary)
  for one, other in zip(*(parameters(path) for path in (workdir, tmp_path)), strict=True):
    np.testing.assert_array_equal(one, other)


def test_evaluation_reads_the_checkpoint_of_its_step(tmp_path):
  config = tiny_run_config(steps=5, checkpoint_every=4, keep_checkpoints=9)
  seen = []

  def evaluate(step, parameters):
    assert step in finished_steps(str(tmp_path))
    assert sum(leaf.size for leaf in jax.tree.leaves(parameters)) > 1000
    seen.append(step)

  def run(saved, loader):
    seen.clear()
    run = Run(config, str(tmp_path), loader, tiny_tokenizer(), evaluation=Evaluation(2, evaluate, saved))
    run.train()
    return run.goodput.seconds['evaluation']

  def wanted_back(index, batch):
    if index == 5:
      signal.raise_signal(signal.SIGTERM)
    return batch

  with pytest.raises(Preempted):
    run(True, MadeUpLoader(change=wanted_back))
  assert seen == [2, 4] and finished_steps(str(tmp_path)) == [2, 4, 5]
  assert run(True, MadeUpLoader()) > 0
  assert seen == [5]  # of a run that is gone on with: it may have been stopped or killed there
  run(False, MadeUpLoader())
  assert seen == []


def parameters(workdir):
  return jax.tree.leaves(nnx.state(load_trained(str(workdir)).model))


def test_finished_run_returns_its_summary_again(undisturbed):
  workdir, summary, first = undisturbed
  (workdir / ownership.FILE).unlink()  # and its time, from what else there is
  run = Run(tiny_run_config(steps=7, log_every=3), str(workdir), MadeUpLoader(), tiny_tokenizer())
  assert timeless(run.train()) == timeless(summary)
  assert run.goodput.seconds['step'] == pytest.approx(first.goodput.seconds['step'])
  shorter = Run(tiny_run_config(steps=5, log_every=3), str(workdir), MadeUpLoader(), tiny_tokenizer()).train()
  assert shorter['steps'] == 7


def test_trained_model_is_enough_to_act(undisturbed):
  workdir, _, _ = undisturbed
  trained = load_trained(str(workdir))
  assert trained.step == 7 and trained.tokenizer == tiny_tokenizer()
  assert trained.config.to_dict() == tiny_run_config(steps=7, log_every=3).to_dict()
  logits = jax.jit(lambda batch: trained.model.logits(trained.model(batch)))(made_up_batch(0))
  assert logits.shape == (8, LENGTH, tiny_tokenizer().vocabulary.size) and np.isfinite(logits).all()
  assert load_trained(str(workdir), step=6).step == 6


def test_a_run_starts_from_the_weights_of_another_and_is_evaluated_as_it_goes(undisturbed, tmp_path):
  workdir, _, _ = undisturbed
  config = tiny_run_config(steps=3, init_from=str(workdir))
  config.training.schedule.update(initial=0.0, peak=0.0)
  seen = []
  evaluation = Evaluation(2, lambda step, tree: seen.append((step, jax.tree.map(np.array, tree))))
  Run(config, str(tmp_path), MadeUpLoader(), tiny_tokenizer(), evaluation=evaluation).train()
  assert [step for step, _ in seen] == [2, 3]
  for _, tree in seen:
    for one, other in zip(jax.tree.leaves(tree), parameters(workdir), strict=True):
      np.testing.assert_array_equal(one, other)
  other = tiny_run_config(init_from=str(workdir))
  other.model.width = 64
  with pytest.raises(InputError, match='wanted .*64'):
    Run(other, str(tmp_path / 'wide'), MadeUpLoader(), tiny_tokenizer()).train()
  assert tokenizer_of(config) == tiny_tokenizer()
  config.data.vocabulary.bins = 32
  with pytest.raises(InputError, match='another data.vocabulary.*bins: 32 -> 16'):
    tokenizer_of(config)


def test_another_model_is_refused(undisturbed):
  workdir, _, _ = undisturbed
  config = tiny_run_config()
  config.model.width = 64
  with pytest.raises(InputError, match='wanted .*64') as caught:
    Run(config, str(workdir), MadeUpLoader(), tiny_tokenizer()).train()
  assert str(caught.value).count('parameters/') > 5


def test_another_text_tokenizer_is_refused_and_the_old_one_stays(undisturbed):
  workdir, _, _ = undisturbed
  other = tiny_tokenizer('something else entirely, and again')
  with pytest.raises(InputError, match='tokenizer_digest'):
    Run(tiny_run_config(), str(workdir), MadeUpLoader(), other).train()
  assert load_trained(str(workdir)).tokenizer == tiny_tokenizer()


@pytest.mark.slow
def test_endless_nonfinite_loss_stops_and_names_step_and_dataset(tmp_path):
  def spoil(index, batch):
    if index < 3:
      return batch
    weights = batch.loss_weights.copy()
    weights[tuple(np.argwhere((weights > 0) & (batch.sources == 1))[0])] = 3e38  # its loss is beyond float32
    return batch._replace(loss_weights=weights)

  config = tiny_run_config(steps=50, nonfinite_limit=2)
  with pytest.raises(InputError, match=r'step \d+: .* 2 steps in a row .*suite/second inf') as caught:
    Run(config, str(tmp_path), MadeUpLoader(change=spoil), tiny_tokenizer()).train()
  assert 'schedule.peak' in str(caught.value)
  assert load_trained(str(tmp_path)).step <= 4


def test_rows_must_divide_by_accumulation():
  config = tiny_run_config(batch_size=6, accumulation=4)
  with pytest.raises(InputError, match='batch_size=6 .*accumulation=4'):
    check_training(config.training, make_mesh(config.mesh))


@pytest.mark.parametrize('key', ['batch_size', 'log_every', 'checkpoint_every', 'keep_checkpoints'])
def test_counts_are_at_least_one(key):
  config = tiny_run_config(**{key: 0})
  with pytest.raises(InputError, match=f'training.{key} is 0: must be at least 1'):
    check_training(config.training, make_mesh(config.mesh))


def test_shares_are_summed_over_an_entrys_tasks():
  report = {'shares': {'a/x': 0.1, 'a/y': 0.25, 'b': 0.65}, 'wanted_shares': {'a/x': 0.2, 'a/y': 0.2, 'b': 0.6}}
  assert shares_line(report) == 'shares of positions: a 35.0% of 40.0%, b 65.0% of 60.0%'


def test_changed_keys_are_named():
  one, other = tiny_run_config(), tiny_run_config(steps=9)
  assert changed_keys(one.to_dict(), other.to_dict()) == ['training.steps: 6 -> 9']
