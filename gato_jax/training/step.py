"""The train step: a pure function of (state, batch), compiled once."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from data_pipelines.sequences.rows import PackedBatch
from gato_jax.training.loss import LossSettings, target_loss
from gato_jax.training.optimizer import make_optimizer, make_schedule
from gato_jax.training.state import TrainState

Forward = Callable[[Any, PackedBatch, jax.Array], tuple[jax.Array, jax.Array]]
Metrics = dict[str, jax.Array]


class TrainStep:
  """`step(state, batch) -> (state, metrics)`; the old state's buffers are given away.

  Attributes:
    traces: how often the step was traced, which is how often it was compiled. One over a whole run.
  """

  def __init__(self, function, **jit_options):
    self.traces = 0

    def counted(state, batch):
      self.traces += 1
      return function(state, batch)

    self._jitted = self._run = jax.jit(counted, donate_argnums=0, **jit_options)

  def compile(self, state: TrainState, batch: PackedBatch) -> None:
    """Compiles for arguments like these, so that the next call only runs."""
    self._run = self._jitted.lower(state, batch).compile()

  def __call__(self, state: TrainState, batch: PackedBatch) -> tuple[TrainState, Metrics]:
    return self._run(state, batch)

  def trace(self, state: TrainState, batch: PackedBatch):
    """JAX's traced form for shapes alone, to look at or to compile for other devices."""
    return self._jitted.trace(state, batch)


def make_train_function(forward: Forward, settings: LossSettings, training_config, seed: int):
  """The step before compilation.

  Args:
    forward: (parameters, batch, keys_B) -> (hidden_BxLxD, table_VxD).
    settings: of the loss.
    training_config: the config's `training` section.
    seed: what all randomness of the run starts from; row r of step s gets the key fold_in(fold_in(seed, s), r), on
      any mesh and with any accumulation.

  Returns:
    (state, batch) -> (state, metrics), metrics being: `loss` (mean over the targets' weight), `loss_by_source`,
    `correct_by_source`, `weight_by_source`, `targets_by_source` (sums, [S]), `tokens` (positions in use),
    `gradient_norm`, `learning_rate`, `nonfinite`, `nonfinite_in_row`, `skipped`.
  """
  optimizer, schedule = make_optimizer(training_config), make_schedule(training_config)

  def train_step(state: TrainState, batch: PackedBatch) -> tuple[TrainState, Metrics]:
    keys_B = row_keys(seed, state.step, batch.tokens.shape[0])
    gradients, sums = accumulate_gradients(
        forward, settings, state.parameters, batch, keys_B, training_config.accumulation)
    weight = sums.weight_by_source.sum()
    scale = jnp.where(weight > 0, 1 / jnp.maximum(weight, jnp.finfo(jnp.float32).tiny), 0.0)
    gradients = jax.tree.map(lambda leaf: leaf * scale, gradients)
    norm = optax.tree.norm(gradients)
    finite = jnp.isfinite(sums.loss) & jnp.isfinite(norm)
    metrics = {
        **sums._asdict(),
        'loss': sums.loss * scale,
        'tokens': (batch.segment_ids > 0).sum(),
        'gradient_norm': norm,
        'learning_rate': schedule(state.step - state.skipped),
        'nonfinite': ~finite,
    }
    state = guarded_update(optimizer, state, gradients, finite)
    return state, {**metrics, 'nonfinite_in_row': state.nonfinite_in_row, 'skipped': state.skipped}

  return train_step


def row_keys(seed: int, step: jax.Array, rows: int) -> jax.Array:
  """One key a row of the global batch."""
  step_key = jax.random.fold_in(jax.random.key(seed), step)
  return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(step_key, jnp.arange(rows))


def accumulate_gradients(forward: Forward, settings: LossSettings, parameters, batch, keys_B, accumulation: int):
  """Gradients of the summed (not averaged) loss over all micro-batches, and the loss's sums.

  Micro-batch a holds rows a, a + accumulation, ...: every device keeps working on the rows it has.
  """
  def summed_loss(parameters, batch, keys):
    hidden_BxLxD, table_VxD = forward(parameters, batch, keys)
    sums = target_loss(hidden_BxLxD, table_VxD, batch.targets, batch.loss_weights, batch.sources, settings)
    return sums.loss, sums

  gradient = jax.grad(summed_loss, has_aux=True)
  if accumulation == 1:
    return gradient(parameters, batch, keys_B)

  def split(array):
    return jnp.moveaxis(array.reshape(-1, accumulation, *array.shape[1:]), 1, 0)

  def add(totals, micro_batch):
    return jax.tree.map(jnp.add, totals, gradient(parameters, *micro_batch)), None

  micro_batches = jax.tree.map(split, (batch, keys_B))
  shapes = jax.eval_shape(gradient, parameters, *jax.tree.map(lambda array: array[0], micro_batches))
  zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
  return jax.lax.scan(add, zeros, micro_batches)[0]


def guarded_update(optimizer, state: TrainState, gradients, finite: jax.Array) -> TrainState:
  """The next state; where `finite` is False only the counters move."""
  updates, optimizer_state = optimizer.update(gradients, state.optimizer_state, state.parameters)
  parameters = optax.apply_updates(state.parameters, updates)

  def keep(new, old):
    return jnp.where(finite, new, old)

  return TrainState(
      parameters=jax.tree.map(keep, parameters, state.parameters),
      optimizer_state=jax.tree.map(keep, optimizer_state, state.optimizer_state),
      step=state.step + 1,
      skipped=state.skipped + ~finite,
      nonfinite_in_row=jnp.where(finite, 0, state.nonfinite_in_row + 1),
  )
