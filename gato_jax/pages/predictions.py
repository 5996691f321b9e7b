"""What a trained model predicts in rows: its likeliest next tokens, and the chance it gives the right one."""

from collections.abc import Sequence
from typing import NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.sequences.rows import PackedBatch
from gato_jax.model.gato import Gato


class Predictions(NamedTuple):
  """Of the token after each of the L positions of a row.

  Attributes:
    likeliest: int32 [L, k], ids, the likeliest first.
    chances: float32 [L, k], their probabilities.
    target_chances: float32 [L], probability of the target; of no meaning where there is none.
    vectors: float32 [L, D], what enters the first block there.
  """

  likeliest: np.ndarray
  chances: np.ndarray
  target_chances: np.ndarray
  vectors: np.ndarray


def predict(model: Gato, rows: Sequence[PackedBatch], count: int = 5) -> list[Predictions]:
  """Of rows without the axis of the batch. One compilation for each size of rows; one row at a time, to save memory."""
  graphdef, state = nnx.split(model)

  @jax.jit
  def of_row(state, row):
    merged = nnx.merge(graphdef, state)
    batch = jax.tree.map(lambda array: array[None], row)
    probabilities_LxV = jax.nn.softmax(merged.logits(merged(batch)[0]))
    targets_L = jnp.minimum(row.targets, probabilities_LxV.shape[-1] - 1)
    of_target_L = jnp.take_along_axis(probabilities_LxV, targets_L[:, None], axis=1)[:, 0]
    chances, likeliest = jax.lax.top_k(probabilities_LxV, count)
    return Predictions(likeliest, chances, of_target_L, merged.embedding(batch)[0].astype(jnp.float32))

  return [Predictions(*jax.device_get(of_row(state, PackedBatch(*map(jnp.asarray, row))))) for row in rows]
