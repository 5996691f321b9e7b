"""The benchmarks of training, on a model small enough to say nothing but that they measure the same thing."""

import functools
import importlib.util
import json
import os

import numpy as np
import pytest

from data_pipelines.tokenization.vocabulary import Vocabulary
from experiments.benchmarks import accelerator, attention, measuring, pytorch_decoder, sweep, train_step
from experiments.configs import speed
from gato_jax.training.flops import step_flops


@pytest.fixture
def config():
  result = speed.get_config('2x32')
  result.data.sequence_length = 192  # longer than a block of attention
  result.data.vocabulary.update(text_size=400, bins=32, discrete_size=16)
  result.model.update(heads=2, head_size=16)
  result.training.update(batch_size=2)
  result.training.schedule.update(initial=1e-2, peak=1e-2)
  return result


@pytest.fixture
def vocabulary(config):
  return Vocabulary(**config.data.vocabulary.to_dict())


def line(capsys):
  return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_the_own_step_trains_as_the_dense_one(config, vocabulary):
  batch = measuring.packed_batch(config, vocabulary, 0.44, 50)
  own, dense = (make(config, vocabulary) for make in (train_step.own_step, train_step.dense_step))
  losses = np.array([[float(step(batch)) for step in (own, dense)] for _ in range(4)])
  np.testing.assert_allclose(losses[:, 0], losses[:, 1], rtol=2e-4)
  assert losses[-1, 0] < losses[0, 0] - 0.1


def test_pytorch_reads_the_head_at_targets_for_the_same_loss(config, vocabulary):
  pytest.importorskip('torch')
  batch = measuring.packed_batch(config, vocabulary, 0.44, 192)
  everywhere, at_targets = (
      pytorch_decoder.make_step(2, 32, 2, 192, vocabulary.size, head_on_targets=on_targets, compiled=False)
      for on_targets in (False, True))
  losses = np.array([[float(step(batch)) for step in (everywhere, at_targets)] for _ in range(3)])
  np.testing.assert_allclose(losses[:, 0], losses[:, 1], rtol=1e-5)
  assert losses[0, 0] == pytest.approx(np.log(vocabulary.size), rel=0.2) and losses[2, 0] < losses[0, 0]


def test_train_step_prints_one_line_whose_numbers_go_together(config, vocabulary, capsys, monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  train_step.main(config, rounds=2)
  result = line(capsys)
  targets = round(0.44 * 2 * 192)
  assert result['ratio_to_pytorch'] == {} and set(result['others']) == {'dense'}
  assert result['flops'] == step_flops(config.model, 192, 2, targets, vocabulary.size)
  assert result['ratio_to_dense'] == pytest.approx(
      result['cpu_seconds_per_step'] / result['others']['dense'], abs=0.2)
  assert result['targets_per_second'] / result['tokens_per_second'] == pytest.approx(0.44, rel=0.01)
  assert 0 < result['peak_share'] < 1


def test_accelerator_prints_one_line_whose_numbers_go_together(config, capsys):
  accelerator.main(config, steps=3)
  result = line(capsys)
  assert result['devices'] == 1 and result['rows'] == 2 and 0 < result['mfu'] < 1
  assert result['tokens_per_second'] == pytest.approx(2 * 192 / result['milliseconds_per_step'] * 1e3, rel=0.01)


def test_batches_have_the_targets_and_segments_asked_for(config, vocabulary):
  batch = measuring.packed_batch(config, vocabulary, 0.25, 64)
  assert batch.loss_weights.sum() == 0.25 * 2 * 192
  assert batch.segment_ids[0].tolist() == [1] * 64 + [2] * 64 + [3] * 64
  assert batch.positions[1].tolist() == list(range(64)) * 3


def test_race_takes_turns_and_the_least():
  calls = []
  times = measuring.race({name: lambda name=name: calls.append(name) for name in 'ab'}, 3)
  assert ''.join(calls) == 'abababab' and set(times) == {'a', 'b'}


def noting(path):
  """A function that notes in which process it is called."""
  def note():
    with open(path, 'a', encoding='utf-8') as file:
      file.write(f'{os.getpid()} ')

  return note


def test_race_apart_gives_each_a_process_of_its_own(tmp_path):
  times = measuring.race_apart({name: functools.partial(noting, tmp_path / name) for name in 'ab'}, 2)
  a, b = ((tmp_path / name).read_text().split() for name in 'ab')
  assert set(times) == {'a', 'b'} and len(a) == len(b) == 3
  assert len({*a, *b, str(os.getpid())}) == 3


@pytest.mark.slow
def test_sweep_and_its_picture(config, capsys, tmp_path):
  sweep.main(config, rounds=1)
  result = line(capsys)
  assert [point['target_share'] for point in result['target_share']] == list(sweep.TARGET_SHARES)
  assert [point['segment_length'] for point in result['segment_length']] == [64, 128]
  sweep.draw(result, str(tmp_path / 'sweep.png'))
  assert (tmp_path / 'sweep.png').stat().st_size > 5000


@pytest.mark.slow
def test_attention(config, capsys):
  attention.main(config, rounds=1)
  result = line(capsys)
  assert {'reference', 'chunked', 'blockwise', 'dot_product'} == set(result['whole_row']) == set(result['eighths'])
