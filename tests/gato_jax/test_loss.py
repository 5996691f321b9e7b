"""The fused loss against a dense float64 NumPy reference."""

import os
import pathlib
import pickle
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gato_jax.training.loss import LossSettings, chunk_size, target_loss
from tests.gato_jax.processes import xla_flags

B, L, D, V = 3, 11, 8, 40
SETTINGS = LossSettings(
    vocabulary_size=36, continuous_start=20, bins=10, bin_smoothing=0.0, source_count=4, chunk_rows=8)


def make_inputs(share, seed=0):
  rng = np.random.default_rng(seed)
  weights = np.where(rng.random((B, L)) < share, rng.uniform(0.5, 2.0, (B, L)), 0.0)
  return (
      rng.normal(size=(B, L, D)).astype(np.float32), rng.normal(size=(V, D)).astype(np.float32),
      rng.integers(0, SETTINGS.vocabulary_size, (B, L)).astype(np.int32), weights.astype(np.float32),
      rng.integers(0, SETTINGS.source_count, (B, L)).astype(np.int16))


def dense_labels(targets, sigma):
  labels = np.eye(V)[targets]
  for place in np.ndindex(targets.shape):
    centre = targets[place] - SETTINGS.continuous_start
    if sigma and 0 <= centre < SETTINGS.bins:
      bell = np.exp(-((np.arange(SETTINGS.bins) - centre) ** 2) / (2 * sigma**2))
      labels[place] = 0
      labels[place][SETTINGS.continuous_start:SETTINGS.continuous_start + SETTINGS.bins] = bell / bell.sum()
  return labels


def reference(hidden, table, targets, weights, sources, sigma=0.0):
  """Loss by position and gradients of the sum, float64."""
  hidden, table, weights = (array.astype(np.float64) for array in (hidden, table, weights))
  logits = hidden @ table.T
  logits[..., SETTINGS.vocabulary_size:] = -np.inf
  exponentials = np.exp(logits - logits.max(-1, keepdims=True))
  probabilities = exponentials / exponentials.sum(-1, keepdims=True)
  labels = dense_labels(targets, sigma)
  with np.errstate(divide='ignore'):
    log_probabilities = np.where(probabilities > 0, np.log(probabilities), 0.0)
  losses = weights * -(labels * log_probabilities).sum(-1)
  error = weights[..., None] * (probabilities - labels)
  correct = weights * (logits.argmax(-1) == targets)
  by_source = {
      name: np.array([values[sources == source].sum() for source in range(SETTINGS.source_count)])
      for name, values in (('loss', losses), ('correct', correct), ('weight', weights), ('targets', weights > 0))}
  return losses.sum(), by_source, error @ table, np.einsum('blv,bld->vd', error, hidden)


def fused(settings, hidden, table, *fields):
  def scalar(hidden, table):
    sums = target_loss(hidden, table, *fields, settings)
    return sums.loss, sums

  return jax.jit(jax.value_and_grad(scalar, argnums=(0, 1), has_aux=True))(hidden, table)


@pytest.mark.parametrize('share', [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize('sigma', [0.0, 1.5])
def test_agrees_with_dense_reference(share, sigma):
  inputs = make_inputs(share)
  (loss, sums), (hidden_gradient, table_gradient) = fused(SETTINGS._replace(bin_smoothing=sigma), *inputs)
  expected_loss, by_source, expected_hidden, expected_table = reference(*inputs, sigma)
  np.testing.assert_allclose(loss, expected_loss, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(sums.loss_by_source, by_source['loss'], rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(sums.correct_by_source, by_source['correct'], rtol=1e-5)
  np.testing.assert_allclose(sums.weight_by_source, by_source['weight'], rtol=1e-5)
  np.testing.assert_array_equal(sums.targets_by_source, by_source['targets'])
  np.testing.assert_allclose(hidden_gradient, expected_hidden, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(table_gradient, expected_table, rtol=1e-5, atol=1e-5)


def test_without_gradient_gives_the_same_sums():
  inputs = make_inputs(0.5)
  (_, sums), _ = fused(SETTINGS, *inputs)
  alone = jax.jit(target_loss, static_argnums=5)(*inputs, SETTINGS)
  for one, other in zip(sums, alone, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-6)


def test_chunk_size_does_not_matter():
  inputs = make_inputs(0.7)
  results = [fused(SETTINGS._replace(chunk_rows=rows), *inputs) for rows in (1, 5, 64)]
  for other in results[1:]:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), results[0], other)


@pytest.mark.parametrize(('positions', 'table_rows', 'device', 'expected'), [
    (64 * 1024, 33_152, 'cpu', 256),
    (2 * 1024, 33_152, 'tpu', 256),  # a few rows of a pod
    (16 * 1024, 33_152, 'gpu', 1024),  # a sixteenth
    (64 * 1024, 33_152, 'gpu', 3840),  # 3840 * 33152 * 4 bytes are below 512 MiB, 4096 * 33152 * 4 above
    (1024 * 1024, 2_176, 'gpu', 61_440)])
def test_an_accelerator_takes_larger_chunks(positions, table_rows, device, expected):
  assert chunk_size(positions, table_rows, device) == expected


def test_what_has_no_target_is_not_looked_at():
  hidden, table, targets, weights, sources = map(jnp.asarray, make_inputs(0.4))
  spoiled = jnp.where(weights[..., None] > 0, hidden, jnp.nan)

  def loss(hidden):
    return target_loss(hidden, table, targets, weights, sources, SETTINGS).loss

  assert loss(spoiled) == loss(hidden)
  np.testing.assert_array_equal(jax.grad(loss)(spoiled), jax.grad(loss)(hidden))


def test_padding_rows_of_the_table_get_no_probability():
  inputs = list(make_inputs(1.0))
  (loss, _), (_, table_gradient) = fused(SETTINGS, *inputs)
  inputs[1] = inputs[1].copy()
  inputs[1][SETTINGS.vocabulary_size:] = 1e4
  (changed_loss, _), _ = fused(SETTINGS, *inputs)
  assert loss == changed_loss
  np.testing.assert_array_equal(np.asarray(table_gradient)[SETTINGS.vocabulary_size:], 0)


def test_smoothing_leaves_other_targets_one_hot():
  inputs = list(make_inputs(1.0))
  inputs[2] = inputs[2] % SETTINGS.continuous_start
  (hard, _), _ = fused(SETTINGS, *inputs)
  (smooth, _), _ = fused(SETTINGS._replace(bin_smoothing=3.0), *inputs)
  np.testing.assert_allclose(hard, smooth, rtol=1e-6)


def test_gradient_scales_with_the_cotangent():
  hidden, table, *fields = make_inputs(0.5)
  gradient = jax.grad(lambda x: 3.0 * target_loss(x, jnp.asarray(table), *fields, SETTINGS).loss)(jnp.asarray(hidden))
  np.testing.assert_allclose(gradient, 3 * reference(hidden, table, *fields)[2], rtol=1e-5, atol=1e-5)


def test_low_precision_hidden_states_keep_a_float32_loss():
  hidden, table, *fields = make_inputs(1.0)
  half = jnp.asarray(hidden, jnp.bfloat16)
  (loss, _), (hidden_gradient, table_gradient) = fused(SETTINGS, half, table, *fields)
  rounded = np.asarray(jnp.asarray(table, jnp.bfloat16), np.float32)
  expected = reference(np.asarray(half, np.float32), rounded, *fields)
  assert loss.dtype == jnp.float32 and table_gradient.dtype == jnp.float32 and hidden_gradient.dtype == jnp.bfloat16
  np.testing.assert_allclose(loss, expected[0], rtol=1e-5)
  np.testing.assert_allclose(table_gradient, expected[3], rtol=2e-2, atol=5e-2)


def test_logits_of_the_whole_batch_never_exist():
  inputs = make_inputs(1.0)
  text = jax.jit(jax.grad(lambda x: target_loss(x, *inputs[1:], SETTINGS).loss)).lower(inputs[0]).compile().as_text()
  assert f'f32[{SETTINGS.chunk_rows},{V}]' in text
  assert f'f32[{B},{L},{V}]' not in text and f'f32[{B * L},{V}]' not in text


MESH_SCRIPT = textwrap.dedent('''
    import jax, numpy as np, pickle, sys
    from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
    from gato_jax.training.loss import LossSettings, target_loss
    inputs, settings, expected = pickle.load(open(sys.argv[1], 'rb'))
    hidden, table, *fields = inputs
    for shape, chunk_rows in (((1, 8, 1), 4), ((2, 4, 1), 0), ((2, 2, 2), 0), ((1, 2, 4), 4)):
      mesh = jax.make_mesh(shape, ('replica', 'fsdp', 'tensor'), axis_types=(AxisType.Auto,) * 3)
      rows = NamedSharding(mesh, P(('replica', 'fsdp')))
      put = [jax.device_put(a, rows) for a in (hidden, *fields)]
      put_table = jax.device_put(table, NamedSharding(mesh, P('tensor', 'fsdp')))
      def scalar(x, t, y, w, s):
        sums = target_loss(x, t, y, w, s, LossSettings(*settings)._replace(chunk_rows=chunk_rows))
        return sums.loss, sums
      with jax.set_mesh(mesh):
        (loss, sums), grads = jax.jit(jax.value_and_grad(scalar, argnums=(0, 1), has_aux=True))(
            put[0], put_table, *put[1:])
      for got, want in zip((loss, sums.weight_by_source, *grads), expected):
        np.testing.assert_allclose(np.asarray(got), want, rtol=1e-5, atol=1e-5, err_msg=str(shape))
    print('agreed')
''')


def test_agrees_on_meshes_of_eight_devices(tmp_path):
  rng = np.random.default_rng(1)
  weights = (rng.random((8, L)) < 0.6).astype(np.float32)
  weights[2:] *= rng.random((6, 1)) < 0.5  # devices with no target at all beside devices with many
  inputs = (
      rng.normal(size=(8, L, D)).astype(np.float32), rng.normal(size=(V, D)).astype(np.float32),
      rng.integers(0, SETTINGS.vocabulary_size, (8, L)).astype(np.int32), weights,
      rng.integers(0, SETTINGS.source_count, (8, L)).astype(np.int16))
  loss, by_source, hidden_gradient, table_gradient = reference(*inputs, 1.5)
  settings = tuple(SETTINGS._replace(bin_smoothing=1.5, chunk_rows=4))
  path = tmp_path / 'case.pickle'
  path.write_bytes(pickle.dumps((inputs, settings, (loss, by_source['weight'], hidden_gradient, table_gradient))))
  root = pathlib.Path(__file__).parents[2]
  environment = {
      **os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': xla_flags(8),
      'PYTHONPATH': str(root)}
  result = subprocess.run(
      [sys.executable, '-c', MESH_SCRIPT, str(path)], env=environment, capture_output=True, text=True, check=False)
  assert result.stdout.strip() == 'agreed', result.stderr[-3000:]
