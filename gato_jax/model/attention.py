"""Causal attention inside packed segments: one plain implementation, and fast ones that agree with it."""

from collections.abc import Callable
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gato_jax.mesh import platform
from gato_jax.model import blockwise, positions, splash
from gato_jax.sharding import partition_spec

_MASKED = -1e30  # finite: a query that may look at nothing gets a number, not a NaN
_CHUNK = 128  # queries; measured on CPU at L 256 and 1024


class Relative(NamedTuple):
  """Transformer-XL's second score term, by the distance between query and key.

  Attributes:
    queries_BxLxHxK: queries plus the term's own bias.
    keys_JxHxK: projected code of the distances 0..J-1.
  """

  queries_BxLxHxK: jax.Array
  keys_JxHxK: jax.Array


def attention_mask(segment_ids_BxL: jax.Array, start: int = 0, stop: int | None = None) -> jax.Array:
  """Who may look at whom: bool [B, stop - start, stop] for the queries start..stop and the keys 0..stop.

  A token sees itself and the earlier tokens of its segment. Padding (segment 0) sees only itself, so that its softmax
  is finite, and nobody else sees it.
  """
  stop = segment_ids_BxL.shape[1] if stop is None else stop
  queries, keys = segment_ids_BxL[:, start:stop, None], segment_ids_BxL[:, None, :stop]
  i, j = jnp.arange(start, stop)[:, None], jnp.arange(stop)
  return ((queries == keys) & (queries != 0) & (j < i)) | (i == j)


def masked_attention(
    q_BxQxHxK: jax.Array, k_BxJxHxK: jax.Array, v_BxJxHxK: jax.Array, mask_BxQxJ: jax.Array,
    distances_BxQxJ: jax.Array, relative: Relative | None) -> jax.Array:
  """The plain implementation: any mask, any distances, all scores at once, float32 softmax.

  Returns:
    [B, Q, H, K] in the dtype of the values.
  """
  weights_BxHxQxJ = masked_weights(q_BxQxHxK, k_BxJxHxK, mask_BxQxJ, distances_BxQxJ, relative)
  return jnp.einsum('bhqj,bjhk->bqhk', weights_BxHxQxJ.astype(v_BxJxHxK.dtype), v_BxJxHxK)


def masked_weights(
    q_BxQxHxK: jax.Array, k_BxJxHxK: jax.Array, mask_BxQxJ: jax.Array, distances_BxQxJ: jax.Array,
    relative: Relative | None) -> jax.Array:
  """How much each query looks at each key: float32 [B, H, Q, J], 1 in sum over the keys."""
  scores = _dot('bqhk,bjhk->bhqj', q_BxQxHxK, k_BxJxHxK)
  if relative is not None:
    by_distance = _dot('bqhk,jhk->bhqj', relative.queries_BxLxHxK, relative.keys_JxHxK)
    index = jnp.clip(distances_BxQxJ, 0, relative.keys_JxHxK.shape[0] - 1)[:, None]
    index = jnp.broadcast_to(index, (*by_distance.shape[:3], index.shape[-1]))
    scores += jnp.take_along_axis(by_distance, index, axis=-1)
  scores = jnp.where(mask_BxQxJ[:, None], scores * q_BxQxHxK.shape[-1] ** -0.5, _MASKED)
  return jax.nn.softmax(scores, axis=-1)


def reference_attention(q, k, v, segment_ids_BxL, relative=None):
  """`masked_attention` over packed rows."""
  places = jnp.arange(q.shape[1])
  distances = (places[:, None] - places)[None]
  return masked_attention(q, k, v, attention_mask(segment_ids_BxL), distances, relative)


def chunked_attention(q, k, v, segment_ids_BxL, relative=None):
  """A block of queries at a time, so that keys above the diagonal are never touched.

  The softmax is divided after the values are summed: H * K numbers a query instead of H * L.
  """
  length, head_size = q.shape[1], q.shape[-1]
  outputs = []
  for start in range(0, length, _CHUNK):
    stop = min(start + _CHUNK, length)
    scores = _dot('bqhk,bjhk->bhqj', q[:, start:stop] * head_size**-0.5, k[:, :stop])
    if relative is not None:
      scores += _relative_scores(relative, start, stop)
    scores += jnp.where(attention_mask(segment_ids_BxL, start, stop), 0.0, _MASKED)[:, None]
    weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True)))
    total_BxQxHx1 = weights.sum(axis=-1).swapaxes(1, 2)[..., None]
    outputs.append(_dot('bhqj,bjhk->bqhk', weights.astype(v.dtype), v[:, :stop]) / total_BxQxHx1)
  return jnp.concatenate(outputs, axis=1).astype(v.dtype)


def dot_product_attention(q, k, v, segment_ids_BxL, relative=None):
  """JAX's own: cuDNN's flash attention where it takes these shapes, else XLA's."""
  bias = None if relative is None else _relative_scores(relative, 0, q.shape[1]).astype(q.dtype)
  mask = attention_mask(segment_ids_BxL)[:, None]
  name = 'cudnn' if _cudnn_takes(platform(), q.shape[1], q.shape[3], q.dtype, relative is not None) else 'xla'
  # The mask is causal already; said again, it lets cuDNN leave out what is above the diagonal.
  return jax.nn.dot_product_attention(q, k, v, bias=bias, mask=mask, is_causal=True, implementation=name)


def automatic_attention(q, k, v, segment_ids_BxL, relative=None):
  """The fastest here: splash on a TPU, cuDNN on a GPU, blockwise on a CPU, chunked where they do not take the inputs.

  Forward and backward on an H200, 64 rows of 1024, 24 heads of 32: cuDNN 4.2 ms, chunked 16.1.
  """
  name = chosen('auto', platform(), q.shape[1], q.shape[3], q.dtype, relative is not None)
  return IMPLEMENTATIONS[name](q, k, v, segment_ids_BxL, relative)


def blockwise_attention(q, k, v, segment_ids_BxL, relative=None):
  """Only the blocks of queries and keys that see each other; Transformer-XL's term is left to `chunked_attention`."""
  if chosen('blockwise', platform(), q.shape[1], q.shape[3], q.dtype, relative is not None) == 'chunked':
    return chunked_attention(q, k, v, segment_ids_BxL, relative)
  return _per_device(blockwise.blockwise_attention, q, k, v, segment_ids_BxL)


def splash_attention(q, k, v, segment_ids_BxL, relative=None):
  """The TPU's kernel where it takes these shapes, in interpret mode (slow) on anything else than a TPU."""
  if chosen('splash', platform(), q.shape[1], q.shape[3], q.dtype, relative is not None) == 'chunked':
    return chunked_attention(q, k, v, segment_ids_BxL, relative)
  attend = functools.partial(splash.splash_attention, interpret=platform() != 'tpu')
  return _per_device(attend, q, k, v, segment_ids_BxL)


IMPLEMENTATIONS: dict[str, Callable[..., jax.Array]] = {  # the choices of `model.attention`
    'auto': automatic_attention,
    'reference': reference_attention,
    'chunked': chunked_attention,
    'blockwise': blockwise_attention,
    'splash': splash_attention,
    'dot_product': dot_product_attention,
}


def chosen(name: str, device: str, length: int, head_size: int, dtype: jnp.dtype, relative: bool) -> str:
  """Which of IMPLEMENTATIONS computes where `name` is asked for; never `auto`.

  Args:
    name: of IMPLEMENTATIONS.
    device: a platform, `cpu`, `gpu` or `tpu`.
    length: L.
    head_size: K.
    dtype: of queries, keys and values.
    relative: whether there is Transformer-XL's term.
  """
  if name == 'auto':
    gpu = 'dot_product' if _cudnn_takes(device, length, head_size, dtype, relative) else 'chunked'
    name = {'tpu': 'splash', 'cpu': 'blockwise' if length > blockwise.BLOCK else 'chunked'}.get(device, gpu)
  left_over = relative or (name == 'splash' and not splash.takes(length))
  return 'chunked' if name in ('splash', 'blockwise') and left_over else name


def keeps_scores(name: str, device: str, length: int, head_size: int, dtype: jnp.dtype, relative: bool) -> bool:
  """Whether scores of all pairs are there at once, and stay for the backward pass; arguments as of `chosen`."""
  name = chosen(name, device, length, head_size, dtype, relative)
  in_kernel = name == 'dot_product' and _cudnn_takes(device, length, head_size, dtype, relative)
  return name not in ('splash', 'blockwise') and not in_kernel


def _per_device(attend, q, k, v, segment_ids_BxL):
  """Runs `attend` on each device's own rows and heads."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return attend(q, k, v, segment_ids_BxL)
  heads, rows = partition_spec('batch', None, 'heads', None), partition_spec('batch', None)
  return jax.shard_map(
      attend, in_specs=(heads, heads, heads, rows), out_specs=heads, check_vma=False)(q, k, v, segment_ids_BxL)


def _cudnn_takes(device: str, length: int, head_size: int, dtype: jnp.dtype, relative: bool) -> bool:
  """Whether cuDNN has a kernel, with gradients: it gives none for a bias that differs from row to row."""
  fits = length % 2 == 0 and head_size % 8 == 0 and head_size <= 128 and dtype == jnp.bfloat16
  return device == 'gpu' and not relative and fits


def _relative_scores(relative: Relative, start: int, stop: int) -> jax.Array:
  """Scaled second term, [B, H, stop - start, stop], for the queries start..stop and the keys 0..stop."""
  queries = relative.queries_BxLxHxK[:, start:stop] * relative.queries_BxLxHxK.shape[-1] ** -0.5
  by_distance = _dot('bqhk,jhk->bhqj', queries, relative.keys_JxHxK[:stop][::-1])
  return positions.scores_by_key(by_distance)


_dot = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
