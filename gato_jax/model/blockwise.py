"""Attention that visits only the blocks of queries and keys with something to see: what a CPU runs fastest.

Scores of a block fit into a core's cache, its softmax goes on from block to block (Milakov and Gimelshein, 2018), and
the backward pass makes the scores again (Dao et al., 2022). Which blocks there are is data: those above the diagonal
and those of other segments are no iterations of the loop.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

BLOCK = 128  # queries and keys; measured on a CPU at L 1024 with heads of 32 and 64
_MASKED = -1e30


class _Visits(NamedTuple):
  """The loop over the blocks.

  Attributes:
    places: [B * N * N] int32, (row, block of queries, block of keys) as one number, those to visit first.
    count: int32 scalar, how many those are.
    starts_BxL: int32, the first key that each query sees; it sees all from there to itself.
  """

  places: jax.Array
  count: jax.Array
  starts_BxL: jax.Array


def blockwise_attention(q_BxLxHxK, k_BxLxHxK, v_BxLxHxK, segment_ids_BxL):
  """Causal attention inside packed segments, each of which is one run of positions.

  Returns:
    [B, L, H, K] in the dtype of the values.
  """
  length, size = q_BxLxHxK.shape[1], q_BxLxHxK.shape[-1]
  filling = -length % BLOCK

  def by_head(x):
    return jnp.pad(x.swapaxes(1, 2), ((0, 0), (0, 0), (0, filling), (0, 0)))

  visits = _visits(jnp.pad(segment_ids_BxL, ((0, 0), (0, filling))))
  out = _attend(by_head(q_BxLxHxK * size**-0.5), by_head(k_BxLxHxK), by_head(v_BxLxHxK), visits)
  return out[:, :, :length].swapaxes(1, 2)


def _visits(segment_ids_BxL: jax.Array) -> _Visits:
  rows, length = segment_ids_BxL.shape
  places_L = jnp.arange(length)
  before_BxL = jnp.pad(segment_ids_BxL, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]
  begins_BxL = (segment_ids_BxL != before_BxL) | (segment_ids_BxL == 0)  # padding sees only itself
  starts_BxL = jax.lax.cummax(jnp.where(begins_BxL, places_L, 0), axis=1)
  blocks_N = jnp.arange(length // BLOCK)
  first_BxN = starts_BxL[:, ::BLOCK] // BLOCK
  wanted_BxNxN = (blocks_N >= first_BxN[..., None]) & (blocks_N <= blocks_N[:, None])
  wanted = wanted_BxNxN.reshape(-1)
  order = jnp.argsort(~wanted, stable=True).astype(jnp.int32)
  return _Visits(order, wanted.sum(), starts_BxL)


class _Block:
  """What one iteration reads and writes: block `i` of the queries and `j` of the keys of a row."""

  def __init__(self, visits: _Visits, n: jax.Array):
    count = visits.starts_BxL.shape[1] // BLOCK
    place = visits.places[n]
    self.row, i, j = place // count**2, place // count % count, place % count
    self.query, self.key = i * BLOCK, j * BLOCK
    starts_Q = jax.lax.dynamic_slice(visits.starts_BxL, (self.row, self.query), (1, BLOCK))[0]
    queries_Q, keys_J = self.query + jnp.arange(BLOCK), self.key + jnp.arange(BLOCK)
    self.seen_QxJ = (keys_J <= queries_Q[:, None]) & (keys_J >= starts_Q[:, None])

  def read(self, x_BxHxLxK: jax.Array, start: jax.Array) -> jax.Array:
    heads, _, size = x_BxHxLxK.shape[1:]
    return jax.lax.dynamic_slice(x_BxHxLxK, (self.row, 0, start, 0), (1, heads, BLOCK, size))[0]

  def write(self, x_BxHxLxK: jax.Array, value_HxQxK: jax.Array, start: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_slice(x_BxHxLxK, value_HxQxK[None], (self.row, 0, start, 0))

  def add(self, x_BxHxLxK: jax.Array, value_HxQxK: jax.Array, start: jax.Array) -> jax.Array:
    return self.write(x_BxHxLxK, self.read(x_BxHxLxK, start) + value_HxQxK, start)



@jax.custom_vjp
def _attend(q, k, v, visits: _Visits):
  return _forward(q, k, v, visits)[0]


def _forward(q, k, v, visits: _Visits):
  """Output [B, H, L, K] in the dtype of the values, and what the backward pass needs."""

  def visit(n, carried):
    sums, greatest, totals = carried
    block = _Block(visits, n)
    before, total, values = (block.read(x, block.query) for x in (greatest, totals, sums))
    scores_HxQxJ = _dot('hqk,hjk->hqj', block.read(q, block.query), block.read(k, block.key))
    scores_HxQxJ += jnp.where(block.seen_QxJ, 0.0, _MASKED)
    now = jnp.maximum(before, scores_HxQxJ.max(axis=-1, keepdims=True))
    weights_HxQxJ, kept = jnp.exp(scores_HxQxJ - now), jnp.exp(before - now)
    added = _dot('hqj,hjk->hqk', weights_HxQxJ.astype(v.dtype), block.read(v, block.key))
    total = total * kept + weights_HxQxJ.sum(axis=-1, keepdims=True)
    return (block.write(sums, values * kept + added, block.query), block.write(greatest, now, block.query),
            block.write(totals, total, block.query))

  zeros_BxHxLx1 = jnp.zeros((*q.shape[:3], 1))
  start = (jnp.zeros(v.shape), zeros_BxHxLx1 + _MASKED, zeros_BxHxLx1)
  sums, greatest, totals = jax.lax.fori_loop(0, visits.count, visit, start)
  out = (sums / totals).astype(v.dtype)
  return out, (q, k, v, visits, out, greatest + jnp.log(totals))


def _backward(saved, gradient):
  """Keys before queries in the scores: two of the three products that sum over a block are then plain ones."""
  q, k, v, visits, out, partition = saved
  shares = jnp.sum(out.astype(jnp.float32) * gradient, axis=-1, keepdims=True)

  def visit(n, gradients):
    dq, dk, dv = gradients
    block = _Block(visits, n)
    queries, out_gradient = (block.read(x, block.query) for x in (q, gradient))
    keys, values = (block.read(x, block.key) for x in (k, v))
    partition_HxQ, shares_HxQ = (block.read(x, block.query)[..., 0] for x in (partition, shares))
    scores_HxJxQ = _dot('hjk,hqk->hjq', keys, queries) + jnp.where(block.seen_QxJ.T, 0.0, _MASKED)
    weights_HxJxQ = jnp.exp(scores_HxJxQ - partition_HxQ[:, None])
    by_weight_HxJxQ = _dot('hjk,hqk->hjq', values, out_gradient)
    by_score_HxJxQ = (weights_HxJxQ * (by_weight_HxJxQ - shares_HxQ[:, None])).astype(q.dtype)
    dq = block.add(dq, _dot('hjq,hjk->hqk', by_score_HxJxQ, keys), block.query)
    dk = block.add(dk, _dot('hjq,hqk->hjk', by_score_HxJxQ, queries), block.key)
    dv = block.add(dv, _dot('hjq,hqk->hjk', weights_HxJxQ.astype(v.dtype), out_gradient), block.key)
    return dq, dk, dv

  gradients = jax.lax.fori_loop(0, visits.count, visit, tuple(jnp.zeros(x.shape) for x in (q, k, v)))
  return (*(dx.astype(x.dtype) for dx, x in zip(gradients, (q, k, v), strict=True)), None)


_attend.defvjp(_forward, _backward)
_dot = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
