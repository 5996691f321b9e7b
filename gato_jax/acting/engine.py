"""The engine of a model."""

import functools

from flax import nnx

from gato_jax.acting.decoding import Engine
from gato_jax.model.decoder import Decoder
from gato_jax.model.gato import Gato


@functools.lru_cache(maxsize=1)
def engine_of(model: Gato) -> Engine:
  """The same one for the same model; its weights are copied."""
  graphdef, state = nnx.split(Decoder(model))
  return Engine(functools.partial(nnx.merge, graphdef), state)
