"""Records: their sums, their state, their files; FLOPs."""

import json
import os
import pathlib
import struct
import subprocess
import sys

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from gato_jax.config import default_config
from gato_jax.hardware import chip_of_kind
from gato_jax.training import flops
from gato_jax.training.metrics import FILE, Meter, Writer, read_records

NAMES = ('a', 'b', 'never')


def make_meter():
  return Meter(NAMES, positions=100, flops=lambda targets: 2.0 * targets, peak=1e3)


def step_metrics(seed, nonfinite=False):
  rng = np.random.default_rng(seed)
  weights = np.array([*rng.uniform(1, 5, 2), 0], np.float32)
  return {
      'loss': np.float32(np.nan if nonfinite else 1), 'tokens': np.int32(90 + seed), 'nonfinite': np.bool_(nonfinite),
      'loss_by_source': np.float32(np.nan) * weights if nonfinite else weights * rng.uniform(1, 3, 3),
      'correct_by_source': weights / 2, 'weight_by_source': weights, 'targets_by_source': np.array([3, 4, 0]),
      'gradient_norm': np.float32(seed), 'learning_rate': np.float32(0.5), 'skipped': np.int32(nonfinite),
      'nonfinite_in_row': np.int32(nonfinite)}


def timeless(record):
  return {key: value for key, value in record.items() if key not in ('seconds', 'mfu') and 'per_second' not in key}


def test_record_averages_over_the_targets_of_the_interval():
  meter, steps = make_meter(), [step_metrics(seed) for seed in range(4)]
  for metrics in steps[:1]:
    meter.add(metrics)
  meter.record()
  for metrics in steps[1:]:
    meter.add(metrics)
  record = meter.record()
  loss = np.sum([metrics['loss_by_source'] for metrics in steps[1:]], axis=0)
  weight = np.sum([metrics['weight_by_source'] for metrics in steps[1:]], axis=0)
  assert record['loss'] == pytest.approx(loss.sum() / weight.sum(), rel=1e-6)
  assert record['loss_by_source'] == pytest.approx({'a': loss[0] / weight[0], 'b': loss[1] / weight[1]}, rel=1e-6)
  assert record['accuracy'] == pytest.approx(0.5)
  assert record['tokens'] == 90 + 91 + 92 + 93 and record['targets'] == 4 * 7
  assert record['packing_fill'] == pytest.approx((91 + 92 + 93) / 300)
  assert record['gradient_norm'] == 3
  assert record['targets_per_second'] / record['tokens_per_second'] == pytest.approx(3 * 7 / (91 + 92 + 93))
  assert record['mfu'] / record['targets_per_second'] == pytest.approx(2 / 1e3)
  summary = meter.summary()
  assert summary['steps'] == 4 and summary['packing_fill'] == pytest.approx(366 / 400)
  assert summary['loss_by_source'] == record['loss_by_source']


def test_skipped_step_counts_but_leaves_the_loss_alone():
  meter, clean = make_meter(), make_meter()
  meter.add(step_metrics(0))
  clean.add(step_metrics(0))
  meter.add(step_metrics(1, nonfinite=True))
  record, expected = meter.record(), clean.record()
  assert record['loss'] == expected['loss'] and record['gradient_norm'] == expected['gradient_norm']
  assert record['skipped_steps'] == 1 and record['tokens'] == 90 + 91
  json.loads(json.dumps(record), parse_constant=pytest.fail)
  assert meter.last_loss == record['loss']


def test_skipped_steps_alone_have_no_loss(tmp_path, capsys):
  meter = make_meter()
  meter.add(step_metrics(2, nonfinite=True))
  record = meter.record()
  assert not {'loss', 'accuracy', 'gradient_norm'} & set(record) and record['loss_by_source'] == {}
  assert meter.last_loss is None and meter.summary()['loss'] is None  # no checkpoint is the best for it
  writer = Writer(str(tmp_path), 0, 1)
  writer.write(1, record)
  writer.close()
  assert 'step 1/1 no loss lr 5.00e-01' in capsys.readouterr().out
  (path,) = (tmp_path / 'tensorboard').iterdir()
  tags = {value.tag for event in read_events(path) for value in event.summary.value}
  assert 'tokens' in tags and not {'loss', 'accuracy'} & tags


def test_state_survives_json_to_the_bit():
  meter = make_meter()
  for seed in range(3):
    meter.add(step_metrics(seed))
  other = make_meter()
  other.load_json(json.loads(json.dumps(meter.to_json())))
  for each in (meter, other):
    each.add(step_metrics(7))
  assert timeless(meter.record()) == timeless(other.record())
  assert timeless(meter.summary()) == timeless(other.summary())


def test_state_of_another_mixture_keeps_the_totals():
  meter = make_meter()
  meter.add(step_metrics(0))
  other = Meter(('a', 'c'), 100, lambda targets: 1.0, 1.0)
  other.load_json(meter.to_json())
  assert other.summary()['tokens'] == 90


def record_of(loss):
  return {'loss': loss, 'accuracy': 0.5, 'loss_by_source': {'a': loss}, 'learning_rate': 0.1, 'tokens_per_second': 9.0,
          'targets_per_second': 3.0, 'packing_fill': 1.0, 'mfu': 0.1, 'skipped_steps': 0}


def test_writer_removes_what_lies_beyond_the_restored_step(tmp_path, capsys):
  writer = Writer(str(tmp_path), 0, 40)
  for step in (10, 20, 30):
    writer.write(step, record_of(float(step)))
  writer.close()
  assert 'step 30/40 loss 30.0000' in capsys.readouterr().out
  with (tmp_path / FILE).open('a') as file:
    file.write('{"step": 40, "lo')  # killed while writing
  writer = Writer(str(tmp_path), 20, 40)
  writer.write(30, record_of(31.0))
  writer.close()
  assert [(record['step'], record['loss']) for record in read_records(str(tmp_path))] == [
      (10, 10.0), (20, 20.0), (30, 31.0)]
  events = [event for path in sorted((tmp_path / 'tensorboard').iterdir()) for event in read_events(path)]
  assert [(event.step, value.simple_value) for event in events for value in event.summary.value
          if value.tag == 'loss_by_source/a'] == [(10, 10.0), (20, 20.0), (30, 30.0), (30, 31.0)]
  assert [event.step for event in events if event.HasField('session_log')] == [1, 21]  # TensorBoard drops what it hides


def read_events(path):
  """TensorBoard's file: 8 bytes of length, 4 of checksum, the event, 4 of checksum, and again."""
  data = path.read_bytes()
  while data:
    (length,) = struct.unpack('<Q', data[:8])
    yield Event.FromString(data[12:12 + length])
    data = data[16 + length:]


FULL_DISK = """
import resource, signal, sys
from data_pipelines.errors import InputError
from gato_jax.training.metrics import Writer
from tests.gato_jax.test_metrics import record_of
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = Writer(sys.argv[1], 0, 100)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))
try:
  try:
    for step in range(100):
      writer.write(step, record_of(1.0))
  finally:
    writer.close()
except InputError as error:
  print(error)
"""


def test_full_disk_is_said_and_hangs_nothing(tmp_path):
  root = pathlib.Path(__file__).parents[2]
  result = subprocess.run(
      [sys.executable, '-c', FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=False, timeout=60,
      env={**os.environ, 'PYTHONPATH': str(root)})
  assert 'metrics cannot be written' in result.stdout and 'File too large' in result.stdout, result.stderr


def test_flops_of_the_largest_gato_are_six_times_its_parameters():
  model = default_config().model
  model.update(layers=24, width=2048, heads=16, head_size=128, feed_forward=8192)
  matrices = 24 * (4 * 2048**2 + 3 * 2048 * 4096)  # attention, and GEGLU of 4096 gate and 4096 value columns
  attention = 24 * 2 * 2048 * 1024 / 2
  expected = 6 * ((matrices + attention) * 4 * 1024 + 33_024 * 2048 * 500)
  assert flops.step_flops(model, 1024, 4, 500, 33_024) == pytest.approx(expected)


def test_peak_says_what_it_is(monkeypatch):
  measured = flops.device_peak()
  assert measured.flops > 1e9 and 'measured' in measured.basis

  class Chip:
    device_kind, platform = 'TPU v5 lite', 'tpu'

  monkeypatch.setattr(flops.jax, 'devices', lambda: [Chip()] * 4)
  assert flops.device_peak() == (4 * 197e12, '4 x TPU v5 lite, bfloat16, data sheet')
  Chip.device_kind, Chip.platform = 'NVIDIA L40S', 'gpu'
  monkeypatch.setattr(flops, '_matmul_speed', lambda: 5e12)
  assert flops.device_peak() == (4 * 5e12, '4 x NVIDIA L40S, float32 matmul of 1024, measured')


@pytest.mark.parametrize(('kind', 'name'), [
    ('TPU v4', 'v4'), ('TPU v5 lite', 'v5e'), ('TPU v5p', 'v5p'), ('TPU v5', 'v5p'), ('TPU v6 lite', 'v6e'),
    ('NVIDIA H100 80GB HBM3', 'h100'), ('NVIDIA GH200 480GB', 'h200'), ('NVIDIA A100-SXM4-80GB', 'a100'),
    ('NVIDIA L4', 'l4'), ('NVIDIA L40', None), ('cpu', None)])
def test_chips_by_what_jax_calls_them(kind, name):
  chip = chip_of_kind(kind)
  assert (chip and chip.name) == name
