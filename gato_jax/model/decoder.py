"""The model as acting runs it: reads a few new tokens of each row after those that its cache remembers."""

from typing import Any

from flax import nnx
import jax
import jax.numpy as jnp

from gato_jax.mesh import platform
from gato_jax.model import positions
from gato_jax.model.block import Block, Places, Relative
from gato_jax.model.cache import Cache, Sight, TokenInputs, write
from gato_jax.model.embeddings import Embedding
from gato_jax.model.gato import Gato
from gato_jax.model.linear import Transposed

_MASKED = -1e30


class Decoder(nnx.Module):
  """Made of a trained model, whose weights it copies in the form in which a token costs one read of them.

  Each layer has arrays of its own, since a slice of stacked ones is a copy on a CPU; kernels are in the compute dtype;
  and value features are added into the token table.
  """

  def __init__(self, model: Gato):
    self.positions, self.dtype = model.positions, model.dtype
    self.heads, self.head_size = model.heads, model.head_size
    self.vocabulary = model.vocabulary
    self.embedding = _plain_table(model.embedding)
    self.blocks = nnx.List(_layers(model.blocks, model.layers, model.dtype))
    self.final_norm = nnx.clone(model.final_norm)

  def logits(self, x: jax.Array, start: int, stop: int) -> jax.Array:
    """Scores of the ids [start, stop), float32 [..., stop - start], of hidden states [..., D]."""
    table_VxD = self.embedding.tokens()[start:stop].astype(_stored(self.dtype))
    return jnp.einsum('...d,vd->...v', x.astype(table_VxD.dtype), table_VxD, preferred_element_type=jnp.float32)

  def init_cache(self, batch_size: int, capacity: int, prompts: bool = False) -> Cache:
    """An empty cache for rows that remember at most `capacity` tokens; `prompts`: some of them for good."""
    dtype = _stored(self.dtype)

    def layers():
      return tuple(jnp.zeros((batch_size * self.heads, self.head_size, capacity), dtype) for _ in self.blocks)

    def none():
      return jnp.zeros((batch_size,), jnp.int32)

    codes = None
    if self.positions == 'transformer_xl':
      distances_CxD = positions.distance_sinusoids(capacity, self.final_norm.num_features)
      codes_CxHxK = (block.attention.distance_codes(distances_CxD) for block in self.blocks)
      codes = tuple(jnp.transpose(code, (1, 2, 0)).astype(dtype) for code in codes_CxHxK)
    return Cache(layers(), layers(), codes, none(), none(), none() if prompts else None)

  def extend(self, inputs: TokenInputs, cache: Cache) -> tuple[jax.Array, Cache]:
    """Reads S new tokens of each row.

    Args:
      inputs: the new tokens; rows may have different numbers of valid ones.
      cache: from `init_cache` or the last `extend`; donate it to `jax.jit` to have it updated in place.

    Returns:
      Hidden states after the final norm, [B, S, D], and the cache with the new tokens. A row that has no room for all
      it should remember yields NaN.
    """
    sight = cache.see(inputs.valid)
    x_BxSxD = self.embedding(inputs)
    rotary = turn = None
    if self.positions == 'rope':
      rotary = positions.rotary_angles(sight.positions_BxS, self.head_size)
      if sight.prompt_BxC is not None:
        turn = positions.rotary_angles(-sight.forgotten_B[:, None], self.head_size)
    keys, values = [], []
    codes = cache.codes or [None] * len(self.blocks)
    for block, layer_keys, layer_values, code in zip(self.blocks, cache.keys, cache.values, codes, strict=True):
      def attend(q, k, v, relative, layer_keys=layer_keys, layer_values=layer_values):
        layer_keys = write(layer_keys, k, sight.slots_BxS)
        layer_values = write(layer_values, v, sight.slots_BxS)
        return _attention(q, layer_keys, layer_values, sight, turn, relative), (layer_keys, layer_values)

      x_BxSxD, (layer_keys, layer_values) = block(x_BxSxD, attend, Places(rotary, codes=code))
      keys.append(layer_keys)
      values.append(layer_values)
    cache = cache._replace(keys=tuple(keys), values=tuple(values), lengths=sight.positions_BxS[:, -1] + 1)
    return jnp.where(cache.fits()[:, None, None], self.final_norm(x_BxSxD), jnp.nan), cache


def _attention(
    q_BxSxHxK: jax.Array, keys_GxKxC: jax.Array, values_GxKxC: jax.Array, sight: Sight, turn: Any,
    relative: Relative | None) -> jax.Array:
  """[B, S, H, K] in the dtype of the queries; float32 softmax. `turn` rotates queries back by what is forgotten."""
  rows, tokens, heads, size = q_BxSxHxK.shape
  scores_BxHxSxC = _scores(q_BxSxHxK, keys_GxKxC)
  if turn is not None:
    prompt_scores = _scores(positions.rotate(q_BxSxHxK, *turn), keys_GxKxC)
    scores_BxHxSxC = jnp.where(sight.prompt_BxC[:, None, None], prompt_scores, scores_BxHxSxC)
  if relative is not None:
    codes_HxKxC = relative.keys_JxHxK
    codes = jnp.broadcast_to(codes_HxKxC, (rows, *codes_HxKxC.shape)).reshape(keys_GxKxC.shape)
    by_distance = _scores(relative.queries_BxLxHxK, codes)
    pick = jax.vmap(jax.vmap(lambda scores_HxC, index_C: scores_HxC[:, index_C], (1, 0), 1))
    scores_BxHxSxC += pick(by_distance, jnp.clip(sight.distances_BxSxC, 0, codes.shape[-1] - 1))
  scores_BxHxSxC *= size**-0.5
  weights = jax.nn.softmax(jnp.where(sight.visible_BxSxC[:, None], scores_BxHxSxC, _MASKED), axis=-1)
  weights_GxSxC = weights.reshape(rows * heads, tokens, -1).astype(values_GxKxC.dtype)
  y_GxSxK = jnp.einsum('gsc,gkc->gsk', weights_GxSxC, values_GxKxC)
  return y_GxSxK.reshape(rows, heads, tokens, size).swapaxes(1, 2).astype(q_BxSxHxK.dtype)


def _scores(q_BxSxHxK: jax.Array, keys_GxKxC: jax.Array) -> jax.Array:
  rows, tokens, heads, size = q_BxSxHxK.shape
  q_GxSxK = q_BxSxHxK.swapaxes(1, 2).reshape(rows * heads, tokens, size).astype(keys_GxKxC.dtype)
  scores_GxSxC = jnp.einsum('gsk,gkc->gsc', q_GxSxK, keys_GxKxC, preferred_element_type=jnp.float32)
  return scores_GxSxC.reshape(rows, heads, tokens, -1)


def _stored(dtype: jnp.dtype) -> jnp.dtype:
  """A CPU computes with float32 whatever is stored, and takes longer to convert than to read."""
  return jnp.dtype(jnp.float32) if platform() == 'cpu' else dtype


def _plain_table(embedding: Embedding) -> Embedding:
  """The same vectors from a token table without value features."""
  embedding = nnx.clone(embedding)
  tokens = embedding.tokens
  if tokens.features:
    tokens.table = nnx.Param(tokens())
    tokens.features = 0
    del tokens.value_map
  return embedding


def _layers(stack: Block, count: int, dtype: jnp.dtype) -> list[Block]:
  graphdef, state = nnx.split(stack)

  def layer(n: int) -> Block:
    # Vectors are those of the norms, which compute in float32.
    return nnx.merge(graphdef, jax.tree.map(lambda x: x[n].astype(dtype) if x.ndim > 2 else x[n], state))

  blocks = [layer(n) for n in range(count)]
  if platform() == 'cpu' and dtype == jnp.bfloat16:
    for block in blocks:
      _transpose(block)
  return blocks


def _transpose(block: Block) -> None:
  for module, names in (
      (block.attention, ('query', 'key', 'value')), (block.feed_forward, ('gate', 'value', 'output'))):
    for name in names:
      setattr(module, name, Transposed.of(getattr(module, name)))
  block.attention.output = Transposed.of(block.attention.output, inputs=2)
