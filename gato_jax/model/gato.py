"""The Gato model: one decoder-only transformer over tokens of every kind."""

import functools
from typing import Any

from flax import nnx
import jax
import jax.numpy as jnp

from data_pipelines.errors import InputError
from data_pipelines.sequences.tokens import LOCAL_POSITIONS
from data_pipelines.tokenization.images import INTERVAL_BINS
from data_pipelines.tokenization.vocabulary import Vocabulary
from gato_jax.mesh import platform
from gato_jax.model import attention, positions
from gato_jax.model.block import Block, Noise, Places, drop
from gato_jax.model.embeddings import Embedding
from gato_jax.model.patches import GROUPS
from gato_jax.sharding import constrain

_UNROLLED_LAYERS = {'cpu': 8, 'gpu': 12}  # most, by platform; compile time grows with each
_CHOICES = {
    'positions': ('rope', 'transformer_xl', 'none'),
    'remat': ('none', 'full', 'dots'),
    'attention': tuple(attention.IMPLEMENTATIONS),
    'dtype': ('auto', 'float32', 'bfloat16'),
}


class Gato(nnx.Module):
  """Embeddings, N scanned blocks, a final norm; the output is tied to the token table.

  All state is float32 `nnx.Param`: `nnx.split` it once and call a pure function of (state, batch). The blocks'
  parameters are stacked on a leading axis `layers`.
  """

  def __init__(self, config: Any, vocabulary: Vocabulary, *, rngs: nnx.Rngs):
    """Initialises the parameters.

    Args:
      config: `config.model`, see `gato_jax.config.model_config`.
      vocabulary: the id layout.
      rngs: initialisation randomness.

    Raises:
      InputError: for a setting that is not one of its choices, or sizes that do not go together.
    """
    check_model_config(config)
    self.positions, self.remat, self.attention = config.positions, config.remat, config.attention
    self.layers, self.heads, self.head_size = config.layers, config.heads, config.head_size
    self.stochastic_depth, self.dropout = config.stochastic_depth, _dropout(config)
    self.vocabulary = vocabulary
    self.dtype = _dtype(config.dtype)
    self.embedding = Embedding(config, vocabulary, self.dtype, rngs)
    self.blocks = _stack(config, self.dtype, rngs)
    self.final_norm = nnx.LayerNorm(config.width, dtype=self.dtype, rngs=rngs)

  def __call__(self, batch: Any, keys_B: jax.Array | None = None) -> jax.Array:
    """Reads packed rows.

    Args:
      batch: `PackedBatch`; targets and weights are not looked at.
      keys_B: one PRNG key a row for stochastic depth, dropout and patch positions, so that they do not depend on the
        layout of the batch or the mesh; None for evaluation.

    Returns:
      Hidden states after the final norm, [B, L, D] in the compute dtype. `logits` makes predictions of them.
    """
    depth_keys, patch_keys, drop_keys = (None,) * 3 if keys_B is None else _fold(keys_B)
    x_BxLxD = self.embedding(batch, patch_keys)
    drop_keys_Nx2xB = None
    if drop_keys is not None and self.dropout:
      embedding_keys_B, drop_keys_Nx2xB = self._drop_keys(drop_keys)
      x_BxLxD = drop(x_BxLxD, embedding_keys_B, self.dropout)
    places = self.places(batch.positions, x_BxLxD.shape[1], x_BxLxD.shape[-1])
    implementation = attention.IMPLEMENTATIONS[self.attention]
    graphdef, layers = nnx.split(self.blocks)

    def attend(q, k, v, relative):
      return implementation(q, k, v, batch.segment_ids, relative), None

    def layer(x_BxLxD, scanned):
      state, keep_2xB, keys_2xB = scanned
      noise = Noise(keep_2xB, keys_2xB, self.dropout)
      x_BxLxD, _ = nnx.merge(graphdef, state)(x_BxLxD, attend, places, noise)
      # without a constraint inside the scan, XLA may put the whole batch on every device
      return constrain(x_BxLxD, 'batch', None, None), None

    scanned = layers, self._keep(depth_keys), drop_keys_Nx2xB
    unroll = _unroll(self.layers, self.remat)
    x_BxLxD, _ = jax.lax.scan(_remat(layer, self.remat), x_BxLxD, scanned, unroll=unroll)
    return self.final_norm(x_BxLxD)

  def embedding_table(self) -> jax.Array:
    """The effective tied table, float32 [V, D], V rounded up to `vocabulary_multiple`; rows beyond are no token's."""
    return self.embedding.tokens()

  def logits(self, x: jax.Array) -> jax.Array:
    """Scores of all ids, float32 [..., vocabulary.size], of hidden states [..., D]."""
    table_VxD = self.embedding_table().astype(self.dtype)
    logits = jnp.einsum('...d,vd->...v', x, table_VxD, preferred_element_type=jnp.float32)
    return logits[..., :self.vocabulary.size]

  def places(self, positions_BxL: jax.Array, distances: int, width: int) -> Places:
    """What the blocks know of positions: for distances below `distances`, and activations of `width`."""
    if self.positions == 'rope':
      return Places(rotary=positions.rotary_angles(positions_BxL, self.head_size))
    if self.positions == 'transformer_xl':
      return Places(distances_JxD=positions.distance_sinusoids(distances, width))
    return Places()

  def _keep(self, keys_B: jax.Array | None) -> jax.Array | None:
    """Stochastic depth's factors for every layer, branch and row (Huang et al.; rate of appendix C.2)."""
    if keys_B is None or not self.stochastic_depth:
      return None
    keep = 1.0 - self.stochastic_depth
    draw = functools.partial(jax.random.bernoulli, p=keep, shape=(self.layers, 2))
    return jax.vmap(draw, out_axes=-1)(keys_B) / keep

  def _drop_keys(self, keys_B: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Keys of dropout: the embeddings' [B], and those of every layer, branch and row."""
    keys_BxK = jax.vmap(lambda key: jax.random.split(key, 1 + 2 * self.layers))(keys_B)
    return keys_BxK[:, 0], keys_BxK[:, 1:].T.reshape(self.layers, 2, -1)


def check_model_config(config: Any) -> None:
  """Raises InputError for settings of `config.model` that cannot be built."""

  def require(key: str, fits: bool, rule: str) -> None:
    if not fits:
      raise InputError(f'config.model.{key} is {getattr(config, key)!r}: must be {rule}.')

  for key, choices in _CHOICES.items():
    require(key, getattr(config, key) in choices, f'one of {", ".join(choices)}')
  for key in ('layers', 'width', 'heads', 'head_size', 'feed_forward', 'patch_channels', 'vocabulary_multiple'):
    require(key, getattr(config, key) > 0, 'positive')
  require('feed_forward', config.feed_forward % 2 == 0, 'even: half is the gate')
  require('head_size', config.positions != 'rope' or config.head_size % 2 == 0, 'even: rotary positions turn pairs')
  require('width', config.positions != 'transformer_xl' or config.width % 2 == 0, 'even: sines and cosines')
  require('patch_channels', config.patch_channels % GROUPS == 0, f'a multiple of {GROUPS}, the groups of its norms')
  require('value_features', config.value_features >= 0, '0 or positive')
  require('stochastic_depth', 0.0 <= config.stochastic_depth < 1.0, 'in [0, 1)')
  require('dropout', 0.0 <= _dropout(config) < 1.0, 'in [0, 1)')
  require('local_positions', config.local_positions >= LOCAL_POSITIONS, f'at least {LOCAL_POSITIONS}, as the data has')
  require(
      'patch_position_bins', config.patch_position_bins >= INTERVAL_BINS, f'at least {INTERVAL_BINS}, as the data has')


def _dtype(name: str) -> jnp.dtype:
  if name == 'auto':
    name = 'bfloat16' if platform() in ('tpu', 'gpu') else 'float32'
  return jnp.dtype(name)


def _stack(config: Any, dtype: jnp.dtype, rngs: nnx.Rngs) -> Block:
  """N blocks as one, each parameter with a leading axis `layers`."""

  @functools.partial(nnx.vmap, transform_metadata={nnx.PARTITION_NAME: None, 'logical_axes': 'layers'})
  def create(rngs: nnx.Rngs) -> Block:
    return Block(config, dtype, rngs)

  return create(rngs.split(config.layers))


def _unroll(layers: int, remat: str) -> bool:
  """Whether the scan over layers is written out.

  On a CPU XLA fuses nothing across its loops: 10% faster. On a GPU a loop copies each layer's parameters out of their
  stack, and what is kept for the backward pass into one. With remat there is a loop: without it XLA sees that a layer
  is computed twice, and keeps the first result instead.
  """
  return remat == 'none' and layers <= _UNROLLED_LAYERS.get(platform(), 0)


def _remat(layer, name: str):
  """What of a layer is kept for the backward pass: all, nothing, or the results of matrix products."""
  if name == 'none':
    return layer
  policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable if name == 'dots' else None
  return jax.checkpoint(layer, prevent_cse=False, policy=policy)


def _dropout(config: Any) -> float:
  return getattr(config, 'dropout', 0.0)  # a run that is older than the key has none


def _fold(keys_B: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Keys for stochastic depth, for patch positions and for dropout."""
  return tuple(jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys_B, purpose) for purpose in (0, 1, 2))
