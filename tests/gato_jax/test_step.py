"""Accumulation, the non-finite guard and randomness of the train step, on a model of two matrices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gato_jax.training.loss import LossSettings
from gato_jax.training.optimizer import make_optimizer
from gato_jax.training.state import TrainState
from gato_jax.training.step import TrainStep, make_train_function, row_keys
from tests.gato_jax.training_cases import LENGTH, SOURCES, VOCABULARY, made_up_batch, tiny_run_config

WIDTH = 6
SETTINGS = LossSettings(VOCABULARY.size, VOCABULARY.continuous_start, VOCABULARY.bins, 0.0, len(SOURCES), 16)


def forward(parameters, batch, keys_B):
  """Row-wise noise stands for stochastic depth: it shows whose key a row was given."""
  noise_BxLxD = jax.vmap(lambda key: jax.random.normal(key, (LENGTH, WIDTH)))(keys_B)
  hidden_BxLxD = parameters['table'][batch.tokens] @ parameters['kernel']
  return hidden_BxLxD + 0.1 * noise_BxLxD, parameters['table']


def start(training):
  generator = np.random.default_rng(0)
  parameters = {
      'table': jnp.asarray(generator.normal(size=(VOCABULARY.size, WIDTH)), jnp.float32),
      'kernel': jnp.asarray(generator.normal(size=(WIDTH, WIDTH)), jnp.float32)}
  counters = (jnp.zeros((), jnp.int32) for _ in range(3))
  return TrainState(parameters, make_optimizer(training).init(parameters), *counters)


@functools.cache
def compiled_step(accumulation):
  return TrainStep(make_train_function(forward, SETTINGS, tiny_run_config(accumulation=accumulation).training, seed=3))


def run(training, batches):
  """State after the batches and the metrics of each."""
  step = compiled_step(training.accumulation)
  state, collected = start(training), []
  for batch in batches:
    state, metrics = step(state, batch)
    collected.append(jax.device_get(metrics))
  assert step.traces == 1
  return jax.device_get(state), collected


@pytest.mark.parametrize('accumulation', [2, 4, 8])
def test_accumulation_changes_nothing(accumulation):
  batches = [made_up_batch(seed) for seed in range(3)]  # micro-batches have different numbers of targets
  state, metrics = run(tiny_run_config().training, batches)
  other, other_metrics = run(tiny_run_config(accumulation=accumulation).training, batches)
  jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), state.parameters, other.parameters)
  for one, two in zip(metrics, other_metrics, strict=True):
    for name in one:
      np.testing.assert_allclose(one[name], two[name], rtol=1e-4, err_msg=name)


def test_loss_is_the_mean_over_all_targets():
  batch = made_up_batch(0)
  _, (metrics,) = run(tiny_run_config().training, [batch])
  table, kernel = (np.asarray(start(tiny_run_config().training).parameters[name], np.float64)
                   for name in ('table', 'kernel'))
  keys = row_keys(3, jnp.int32(0), 8)
  noise = np.stack([jax.random.normal(key, (LENGTH, WIDTH)) for key in keys])
  logits = (table[batch.tokens] @ kernel + 0.1 * noise) @ table.T
  log_partition = np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1)) + logits.max(-1)
  losses = log_partition - np.take_along_axis(logits, batch.targets[..., None], -1)[..., 0]
  np.testing.assert_allclose(
      metrics['loss'], (losses * batch.loss_weights).sum() / batch.loss_weights.sum(), rtol=1e-5)
  assert metrics['targets_by_source'].sum() == (batch.loss_weights > 0).sum()
  assert metrics['tokens'] == (batch.segment_ids > 0).sum()


def test_batch_without_targets_trains_nothing_and_is_finite():
  batch = made_up_batch(0)
  _, (metrics,) = run(tiny_run_config().training, [batch._replace(loss_weights=0 * batch.loss_weights)])
  assert metrics['loss'] == 0 and metrics['gradient_norm'] == 0 and not metrics['nonfinite']


def spoiled(seed):
  batch = made_up_batch(seed)
  return batch._replace(loss_weights=np.where(batch.loss_weights > 0, np.inf, 0).astype(np.float32))


def test_nonfinite_steps_are_skipped_and_counted():
  training = tiny_run_config().training
  good = [made_up_batch(seed) for seed in range(2)]
  before, _ = run(training, good[:1])
  state, metrics = run(training, [good[0], spoiled(5), spoiled(6)])
  jax.tree.map(np.testing.assert_array_equal, state.parameters, before.parameters)
  jax.tree.map(np.testing.assert_array_equal, state.optimizer_state, before.optimizer_state)
  assert (state.step, state.skipped, state.nonfinite_in_row) == (3, 2, 2)
  state, metrics = run(training, [good[0], spoiled(5), good[1]])
  assert [bool(step['nonfinite']) for step in metrics] == [False, True, False]
  assert (state.step, state.skipped, state.nonfinite_in_row) == (3, 1, 0)
  assert metrics[2]['learning_rate'] == metrics[1]['learning_rate']  # the skipped step used up none of the schedule


def test_keys_depend_on_seed_step_and_row_alone():
  keys = jax.random.key_data(row_keys(0, jnp.int32(5), 8))
  np.testing.assert_array_equal(jax.random.key_data(row_keys(0, jnp.int32(5), 16))[:8], keys)
  others = [jax.random.key_data(row_keys(seed, jnp.int32(step), 8)) for seed, step in ((0, 6), (1, 5))]
  everything = np.concatenate([keys, *others])
  assert len(np.unique(everything, axis=0)) == 24
  expected = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 5), 3)
  np.testing.assert_array_equal(keys[3], jax.random.key_data(expected))
