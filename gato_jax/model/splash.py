"""Splash attention, JAX's own kernel for TPUs: no block above the diagonal is computed, segments are masked in it."""

import functools

import jax
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel, splash_attention_mask
import jax.numpy as jnp

_BLOCK = 512  # queries and keys, or the largest power of two below it that L divides by
_LANES = 128  # a kernel's blocks are multiples of it


def takes(length: int) -> bool:
  """Whether the kernel has blocks for rows of this length."""
  return length % _LANES == 0


def splash_attention(q_BxLxHxK, k_BxLxHxK, v_BxLxHxK, segment_ids_BxL, *, interpret: bool = False):
  """Causal attention inside packed segments, on one device; L must be a multiple of 128.

  Args:
    q_BxLxHxK, k_BxLxHxK, v_BxLxHxK: queries, keys and values.
    segment_ids_BxL: 0 is padding, which sees only itself.
    interpret: run the kernel's Python instead, where there is no TPU.

  Returns:
    [B, L, H, K] in the dtype of the values.
  """
  _, length, heads, size = q_BxLxHxK.shape
  kernel = _kernel(length, heads, interpret)
  # the kernel's mask knows ids only: an id of its own for each place of padding
  ids_BxL = jnp.where(segment_ids_BxL == 0, -1 - jnp.arange(length), segment_ids_BxL)
  q, k, v = (x.swapaxes(1, 2) for x in (q_BxLxHxK * size**-0.5, k_BxLxHxK, v_BxLxHxK))
  out = jax.vmap(kernel)(q, k, v, splash_attention_kernel.SegmentIds(ids_BxL, ids_BxL))
  return out.swapaxes(1, 2).astype(v_BxLxHxK.dtype)


def _kernel(length: int, heads: int, interpret: bool):
  block = functools.reduce(lambda block, _: block // 2 if length % block else block, range(2), _BLOCK)
  sizes = splash_attention_kernel.BlockSizes(
      block_q=block, block_kv=block, block_kv_compute=block, block_q_dkv=block, block_kv_dkv=block,
      block_kv_dkv_compute=block, block_q_dq=block, block_kv_dq=block)
  mask = splash_attention_mask.MultiHeadMask([splash_attention_mask.CausalMask((length, length))] * heads)
  return splash_attention_kernel.make_splash_mha(
      mask, block_sizes=sizes, head_shards=1, q_seq_shards=1, interpret=interpret)
