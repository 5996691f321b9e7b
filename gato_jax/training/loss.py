"""The fused cross-entropy: logits only where there is a target, gradients taken in the forward pass.

The paper trains on text and actions only (section 2.3), so most positions of a batch have no target. The rows that have
one are brought to the front and taken a chunk at a time: logits of a chunk, its loss, and at once its gradients with
respect to the hidden states and the table. [B, L, V] never exists, and the cost follows the number of targets.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from gato_jax.mesh import BATCH_AXES, platform

_CHUNK_ROWS = 256  # on a CPU; a chunk is a multiple of it
_LOGITS_BYTES = 2**29  # of one chunk's, float32


class LossSums(NamedTuple):
  """Sums over target positions, float32; divide by the weights to get means.

  Attributes:
    loss: [], weighted cross-entropy in nats, with soft labels their own entropy included. The only field with a
      gradient.
    loss_by_source: [S], the same by dataset.
    correct_by_source: [S], weight of the targets that have the greatest logit.
    weight_by_source: [S], weight of the targets.
    targets_by_source: [S] int32, number of targets.
  """

  loss: jax.Array
  loss_by_source: jax.Array
  correct_by_source: jax.Array
  weight_by_source: jax.Array
  targets_by_source: jax.Array


class LossSettings(NamedTuple):
  """What of a loss is fixed at compile time.

  Attributes:
    vocabulary_size: ids from here on are padding rows of the table and never get probability.
    continuous_start: first id of the continuous bins.
    bins: number of continuous bins.
    bin_smoothing: standard deviation, in bins, of a continuous target's soft label; 0 for one-hot labels.
    source_count: S, number of datasets.
    chunk_rows: target positions taken at once; what bounds the memory is chunk_rows * V. 0: see `chunk_size`.
  """

  vocabulary_size: int
  continuous_start: int
  bins: int
  bin_smoothing: float
  source_count: int
  chunk_rows: int = 0


def chunk_size(positions: int, table_rows: int, device: str) -> int:
  """Target positions taken at once, where settings leave it open.

  Every chunk reads and writes the gradient of the whole table. That is cheap in a CPU's cache; on an accelerator it
  costs as much as the products of 256 rows, which take a larger chunk: a sixteenth of all positions, since the last
  chunk is filled up with nothing.

  Args:
    positions: that one device has, with or without a target.
    table_rows: V.
    device: a platform, `cpu`, `gpu` or `tpu`.
  """
  if device == 'cpu':
    return _CHUNK_ROWS
  most = min(positions // 16, _LOGITS_BYTES // (4 * table_rows))
  return max(most // _CHUNK_ROWS, 1) * _CHUNK_ROWS


def target_loss(hidden_BxLxD, table_VxD, targets_BxL, weights_BxL, sources_BxL, settings: LossSettings) -> LossSums:
  """Cross-entropy summed over the positions with a weight above 0 (paper section 2.3, equation 2).

  Under a mesh (`jax.set_mesh`) each device takes its own rows of the batch; the sums are over the whole batch.

  Args:
    hidden_BxLxD: final hidden states, float32 or bfloat16; the logits are `hidden @ table.T`.
    table_VxD: the tied embedding table, float32.
    targets_BxL: int32 ids below `settings.vocabulary_size`; anything where the weight is 0.
    weights_BxL: float32, 0 where nothing is predicted.
    sources_BxL: integers, dataset of each position.
    settings: the compile-time part.

  Returns:
    The sums. Only `loss` can be differentiated, with respect to the hidden states and the table.
  """
  fields = (jnp.asarray(targets_BxL), jnp.asarray(weights_BxL, jnp.float32), jnp.asarray(sources_BxL, jnp.int32))
  loss, sums = _loss(settings, hidden_BxLxD, table_VxD, *fields)
  return sums._replace(loss=loss)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _loss(settings, hidden_BxLxD, table_VxD, *fields):
  sums, _ = _over_mesh(settings, False, hidden_BxLxD, table_VxD, *fields)
  return sums.loss, sums


def _loss_forward(settings, hidden_BxLxD, table_VxD, *fields):
  sums, gradients = _over_mesh(settings, True, hidden_BxLxD, table_VxD, *fields)
  return (sums.loss, sums), gradients


def _loss_backward(settings, gradients, cotangents):
  del settings
  scale = cotangents[0]
  return (*(gradient * scale.astype(gradient.dtype) for gradient in gradients), None, None, None)


_loss.defvjp(_loss_forward, _loss_backward)


def _over_mesh(settings, with_gradients, *arrays):
  """Runs `_local_loss` on each device's own rows; `tensor` stays with the compiler."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or all(mesh.shape[axis] == 1 for axis in BATCH_AXES):
    return _local_loss(settings, with_gradients, (), *arrays)
  rows, everywhere = PartitionSpec(BATCH_AXES), PartitionSpec()
  return jax.shard_map(
      functools.partial(_local_loss, settings, with_gradients, BATCH_AXES),
      in_specs=(rows, everywhere, rows, rows, rows),
      out_specs=(everywhere, (rows, everywhere) if with_gradients else ()),
      axis_names=set(BATCH_AXES),
      check_vma=False,
  )(*arrays)


def _local_loss(settings, with_gradients, axes, hidden_BxLxD, table_VxD, *fields):
  """The loss of one device's rows, summed over `axes`.

  Returns:
    The sums, and with `with_gradients` the gradients (hidden [B, L, D] in its dtype, table [V, D] float32), else ().
  """
  width = hidden_BxLxD.shape[-1]
  hidden_RxD = hidden_BxLxD.reshape(-1, width)
  targets_R, weights_R, sources_R = (field.reshape(-1) for field in fields)
  chunk_rows = settings.chunk_rows or chunk_size(len(weights_R), len(table_VxD), platform())
  order_R, place_R, count = _targets_first(weights_R, chunk_rows)
  chunks = -(-count // chunk_rows)
  if axes:
    chunks = jax.lax.pmax(chunks, axes)  # the same trip count everywhere: the loop's body may hold collectives
  table_in_dtype_VxD = table_VxD.astype(hidden_RxD.dtype)
  label_rows = _soft_labels(settings)

  def take(chunk, carry):
    totals, gradients = carry
    rows_C = jax.lax.dynamic_slice(order_R, (chunk * chunk_rows,), (chunk_rows,))
    hidden_CxD, targets_C, weights_C, sources_C = (
        array.at[rows_C].get(mode='fill', fill_value=0) for array in (hidden_RxD, targets_R, weights_R, sources_R))
    sums_SxF, error_CxV = _chunk_loss(
        settings, with_gradients, hidden_CxD, table_in_dtype_VxD, targets_C, weights_C, sources_C, label_rows)
    if with_gradients:
      gradients = _add_gradients(gradients, chunk * chunk_rows, error_CxV, hidden_CxD, table_in_dtype_VxD)
    return totals + sums_SxF, gradients

  start = ()
  if with_gradients:
    start = (jnp.zeros((len(order_R), width), hidden_RxD.dtype), jnp.zeros(table_VxD.shape, jnp.float32))
  totals_SxF, gradients = jax.lax.fori_loop(0, chunks, take, (jnp.zeros((settings.source_count, 4)), start))
  if axes:
    totals_SxF = jax.lax.psum(totals_SxF, axes)
  loss_S, correct_S, weight_S, targets_S = totals_SxF.T
  sums = LossSums(loss_S.sum(), loss_S, correct_S, weight_S, targets_S.astype(jnp.int32))
  if not with_gradients:
    return sums, ()
  front_RxD, table_gradient_VxD = gradients
  if axes:
    table_gradient_VxD = jax.lax.psum(table_gradient_VxD, axes)
  hidden_gradient_RxD = front_RxD.at[place_R].get(mode='fill', fill_value=0)
  return sums, (hidden_gradient_RxD.reshape(hidden_BxLxD.shape), table_gradient_VxD)


def _targets_first(weights_R, chunk_rows):
  """Where the target rows are.

  Returns:
    Rows with a target in order, then R as filling, to a multiple of `chunk_rows`; for each row its place in that list,
    or the list's length where it has no target; the number of targets.
  """
  rows = len(weights_R)
  length = -(-rows // chunk_rows) * chunk_rows
  wanted_R = weights_R > 0
  place_R = jnp.where(wanted_R, jnp.cumsum(wanted_R) - 1, length)
  order = jnp.full(length, rows, jnp.int32).at[place_R].set(jnp.arange(rows, dtype=jnp.int32), mode='drop')
  return order, place_R, wanted_R.sum()


def _soft_labels(settings):
  """[bins, bins] float32: label distribution over the bins for each target bin; None without smoothing.

  A Gaussian around the target, cut off at the first and last bin and renormalised.
  """
  if not settings.bin_smoothing:
    return None
  bins = jnp.arange(settings.bins, dtype=jnp.float32)
  distance = (bins[:, None] - bins[None, :]) / settings.bin_smoothing
  return jax.nn.softmax(-0.5 * distance * distance, axis=-1)


def _chunk_loss(settings, with_gradients, hidden_CxD, table_VxD, targets_C, weights_C, sources_C, label_rows):
  """One chunk's sums by source [S, 4] and, where wanted, the loss's gradient [C, V] with respect to its logits."""
  logits_CxV = jnp.einsum('cd,vd->cv', hidden_CxD, table_VxD, preferred_element_type=jnp.float32)
  ids_V = jnp.arange(table_VxD.shape[0])
  if len(ids_V) > settings.vocabulary_size:
    logits_CxV = jnp.where(ids_V < settings.vocabulary_size, logits_CxV, -jnp.inf)
  greatest_C = logits_CxV.max(axis=-1)
  exponentials_CxV = jnp.exp(logits_CxV - greatest_C[:, None])
  partition_C = exponentials_CxV.sum(axis=-1)
  target_logit_C = jnp.take_along_axis(logits_CxV, targets_C[:, None], axis=-1)[:, 0]
  correct_C = target_logit_C >= greatest_C

  hard_C, expected_logit_C, label_CxM = jnp.ones_like(weights_C), target_logit_C, None
  bin_ids = slice(settings.continuous_start, settings.continuous_start + settings.bins)
  if label_rows is not None:
    bin_C = targets_C - settings.continuous_start
    hard_C = jnp.where((bin_C >= 0) & (bin_C < settings.bins), 0.0, 1.0)
    label_CxM = label_rows.at[jnp.clip(bin_C, 0, settings.bins - 1)].get() * (1 - hard_C)[:, None]
    expected_logit_C = hard_C * target_logit_C + jnp.einsum('cm,cm->c', label_CxM, logits_CxV[:, bin_ids])

  loss_C = jnp.log(partition_C) + greatest_C - expected_logit_C
  used_C = (weights_C > 0).astype(jnp.float32)
  columns_CxF = jnp.stack([weights_C * loss_C, weights_C * correct_C, weights_C, used_C], axis=-1)
  source_CxS = jax.nn.one_hot(sources_C, settings.source_count)
  sums_SxF = jnp.einsum('cs,cf->sf', source_CxS, columns_CxF, precision='highest')
  if not with_gradients:
    return sums_SxF, None
  hard_weight_CxV = jnp.where(ids_V == targets_C[:, None], (weights_C * hard_C)[:, None], 0.0)
  error_CxV = exponentials_CxV * (weights_C / partition_C)[:, None] - hard_weight_CxV
  if label_CxM is not None:
    error_CxV = error_CxV.at[:, bin_ids].add(-weights_C[:, None] * label_CxM)
  return sums_SxF, error_CxV


def _add_gradients(gradients, start, error_CxV, hidden_CxD, table_VxD):
  """Writes the chunk's hidden gradient at row `start` and adds its share of the table's."""
  front_RxD, table_gradient_VxD = gradients
  error_CxV = error_CxV.astype(hidden_CxD.dtype)
  hidden_gradient_CxD = jnp.einsum('cv,vd->cd', error_CxV, table_VxD, preferred_element_type=jnp.float32)
  front_RxD = jax.lax.dynamic_update_slice(front_RxD, hidden_gradient_CxD.astype(front_RxD.dtype), (start, 0))
  table_gradient_VxD += jnp.einsum('cv,cd->vd', error_CxV, hidden_CxD, preferred_element_type=jnp.float32)
  return front_RxD, table_gradient_VxD
