"""The engine of a model."""

import functools

from flax import nnx

from gato_jax.acting.decoding import Engine
from gato_jax.model.decoder import Decoder
from gato_jax.model.gato import Gato


def make_engine(model: Gato) -> Engine:
  """A new one; its weights are copied, so the model may go."""
  graphdef, state = nnx.split(Decoder(model))
  return Engine(functools.partial(nnx.merge, graphdef), state)


engine_of = functools.lru_cache(maxsize=1)(make_engine)  # the same one for the same model
