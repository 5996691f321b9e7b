"""Choosing token ids from logits."""

import jax
import jax.numpy as jnp


def sample(
    logits_BxV: jax.Array, keys_B: jax.Array, *, temperature: float, top_k: int = 0, top_p: float = 1.0
) -> jax.Array:
  """Draws one id a row, each row from its own key, so that a row's draw does not depend on its neighbours.

  Args:
    logits_BxV: float32.
    keys_B: one jax PRNG key a row; unused when greedy.
    temperature: 0 takes the most likely id.
    top_k: only the k most likely ids (all those equal to the k-th); 0: all.
    top_p: only the most likely ids whose probability, after temperature, adds up to p; the first is always kept.

  Returns:
    int32 [B].
  """
  if temperature == 0:
    return jnp.argmax(logits_BxV, axis=-1).astype(jnp.int32)
  logits_BxV = logits_BxV / temperature
  if top_k:
    logits_BxV = _keep_top_k(logits_BxV, top_k)
  if top_p < 1:
    logits_BxV = _keep_top_p(logits_BxV, top_p)
  return jax.vmap(jax.random.categorical)(keys_B, logits_BxV).astype(jnp.int32)


def _keep_top_k(logits_BxV: jax.Array, k: int) -> jax.Array:
  threshold_Bx1 = jax.lax.top_k(logits_BxV, min(k, logits_BxV.shape[-1]))[0][:, -1:]
  return jnp.where(logits_BxV >= threshold_Bx1, logits_BxV, -jnp.inf)


def _keep_top_p(logits_BxV: jax.Array, p: float) -> jax.Array:
  sorted_BxV = jnp.sort(logits_BxV, axis=-1, descending=True)
  probability_BxV = jax.nn.softmax(sorted_BxV, axis=-1)
  # An id stays while the ids before it do not yet hold p together.
  kept_BxV = jnp.cumsum(probability_BxV, axis=-1) - probability_BxV < p
  threshold_Bx1 = jnp.min(jnp.where(kept_BxV, sorted_BxV, jnp.inf), axis=-1, keepdims=True)
  return jnp.where(logits_BxV >= threshold_Bx1, logits_BxV, -jnp.inf)
