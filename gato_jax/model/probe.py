"""What happens inside a trained model, for pictures of it: plain and slow, on rows of one segment."""

import functools

from flax import nnx
import jax
import jax.numpy as jnp

from gato_jax.model import attention
from gato_jax.model.cache import TokenInputs
from gato_jax.model.gato import Gato


class Probe:
  """Hidden states and attention weights of a model, which it leaves as it is.

  Args:
    model: its attention implementation is not used, but the one they all agree with.
  """

  def __init__(self, model: Gato):
    self._state = nnx.state(model)
    graphdef = nnx.graphdef(model)
    self._hidden = jax.jit(functools.partial(_hidden, graphdef), static_argnums=2)
    self._weights = jax.jit(functools.partial(_weights, graphdef))

  def hidden(self, inputs: TokenInputs, layers: int) -> jax.Array:
    """The residual stream [B, S, D] after the first `layers` blocks, before any final norm; padding's means nothing."""
    return self._hidden(self._state, inputs, layers)

  def attention(self, inputs: TokenInputs, queries_B: jax.Array) -> jax.Array:
    """What one token of each row looks at.

    Args:
      inputs: B rows of one segment each, padding behind.
      queries_B: int32 [B], which token.

    Returns:
      float32 [N, B, H, S], of every layer and head; 1 in sum over S, and 0 for what comes after the token.
    """
    return self._weights(self._state, inputs, queries_B)


def _hidden(graphdef, state, inputs: TokenInputs, layers: int) -> jax.Array:
  return _run(nnx.merge(graphdef, state), inputs, layers, lambda weights_BxHxSxS: None)[0]


def _weights(graphdef, state, inputs: TokenInputs, queries_B: jax.Array) -> jax.Array:
  def of_query(weights_BxHxSxS):
    return jnp.take_along_axis(weights_BxHxSxS, queries_B[:, None, None, None], axis=2)[:, :, 0]

  model = nnx.merge(graphdef, state)
  return _run(model, inputs, model.layers, of_query)[1]


def _run(model: Gato, inputs: TokenInputs, layers: int, keep):
  """The residual stream after so many blocks, and what `keep` makes of each one's attention weights."""
  x_BxSxD = model.embedding(inputs)
  length = x_BxSxD.shape[1]
  positions_BxS = jnp.broadcast_to(jnp.arange(length), inputs.tokens.shape)
  places = model.places(positions_BxS, length, x_BxSxD.shape[-1])
  mask_BxSxS = attention.attention_mask(inputs.valid.astype(jnp.int32))
  distances = (jnp.arange(length)[:, None] - jnp.arange(length))[None]
  graphdef, blocks = nnx.split(model.blocks)

  def attend(q, k, v, relative):
    weights = attention.masked_weights(q, k, mask_BxSxS, distances, relative)
    return jnp.einsum('bhqj,bjhk->bqhk', weights.astype(v.dtype), v), keep(weights)

  def layer(x_BxSxD, block):
    return nnx.merge(graphdef, block)(x_BxSxD, attend, places)

  return jax.lax.scan(layer, x_BxSxD, jax.tree.map(lambda leaf: leaf[:layers], blocks))
