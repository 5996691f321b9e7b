"""The model's functions as StableHLO, for those who have jax but not flax: written here, run by `runner`.

  prepare           weights by name -> what the others compute with
  extend            reads S new tokens of B rows into a cache of C places (`Decoder.extend`), rows without pictures
  extend_pictures   the same, with P patches a row
  logits            hidden states [B, D] -> scores of all ids [B, V]

B, S, P and C are symbolic: one program serves them all. Each is lowered for every platform of PLATFORMS, in float32 or
the compute dtype that the config names.
"""

import pathlib
from typing import Any

from flax import nnx
import jax
from jax import export as jax_export
import jax.numpy as jnp

from data_pipelines.tokenization.images import PATCH_SIZE
from gato_jax.export.runner import FOLDER, PROGRAMS, SUFFIX
from gato_jax.export.weights import names
from gato_jax.model.cache import Cache, TokenInputs
from gato_jax.model.decoder import Decoder
from gato_jax.training.state import ModelDefinition

PLATFORMS = ('cpu', 'cuda', 'tpu')


def write_programs(folder: pathlib.Path, definition: ModelDefinition, ids: int) -> int:
  """Writes `folder/programs` of a model of so many ids; returns the bytes of all."""
  parameters = nnx.to_pure_dict(definition.abstract)
  weights = {name: jax.ShapeDtypeStruct(leaf.shape, jnp.float32) for name, leaf in names(parameters).items()}
  structure = jax.tree.structure(parameters)
  graph, abstract = nnx.split(nnx.eval_shape(lambda given: _decoder(definition, structure, given), weights))
  leaves, state = jax.tree.flatten(jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), abstract))

  def prepare(weights):
    return jax.tree.leaves(nnx.split(_decoder(definition, structure, weights))[1])

  def extend(leaves, inputs, cache):
    decoder = nnx.merge(graph, jax.tree.unflatten(state, leaves))
    x_BxSxD, cache = decoder.extend(TokenInputs(*inputs), Cache(*cache))
    return x_BxSxD, tuple(cache)

  def logits(leaves, x_BxD):
    decoder = nnx.merge(graph, jax.tree.unflatten(state, leaves))
    return decoder.logits(x_BxD, 0, ids)

  B, S, P, C = jax_export.symbolic_shape('B, S, P, C', constraints=['S <= C'])
  (rows,) = jax_export.symbolic_shape('B')  # which has no constraint on sizes that are not there
  cache = _cache(graph, leaves, state, B, C)
  hidden = jax.eval_shape(extend, leaves, _inputs(1, 2, 0), _cache(graph, leaves, state, 1, 8))[0]
  programs = (
      (prepare, weights),
      (extend, leaves, _inputs(B, S, 0), cache),
      (extend, leaves, _inputs(B, S, P), cache),
      (logits, leaves, jax.ShapeDtypeStruct((rows, hidden.shape[-1]), hidden.dtype)),
  )
  (folder / FOLDER).mkdir()
  return sum(_write(folder / FOLDER / f'{name}{SUFFIX}', *program)
             for name, program in zip(PROGRAMS, programs, strict=True))


def _decoder(definition: ModelDefinition, structure: Any, weights: dict[str, Any]) -> Decoder:
  return Decoder(definition.build(jax.tree.unflatten(structure, weights.values())))


def _write(path: pathlib.Path, function: Any, *arguments: Any) -> int:
  exported = jax_export.export(jax.jit(function), platforms=PLATFORMS)(*arguments)
  return path.write_bytes(exported.serialize())


def _inputs(B: Any, S: Any, P: Any) -> tuple:
  def array(dtype, *shape):
    return jax.ShapeDtypeStruct((B, *shape), dtype)

  return tuple(TokenInputs(
      array(jnp.int32, S), array(jnp.int32, S), array(jnp.bool_, S),
      array(jnp.uint8, P, PATCH_SIZE, PATCH_SIZE, 3), array(jnp.int32, P), array(jnp.uint8, P, 2, 2)))


def _cache(graph: Any, leaves: list, state: Any, B: Any, C: Any) -> tuple:
  """Shapes of a cache with prompts; a row without one has a prompt of no tokens."""
  def open_cache(leaves):
    return nnx.merge(graph, jax.tree.unflatten(state, leaves)).init_cache(1, 8, True)


  def array(leaf):
    return jax.ShapeDtypeStruct((B, *leaf.shape[1:-1], C) if leaf.ndim > 1 else (B,), leaf.dtype)

  return tuple(jax.tree.map(array, jax.eval_shape(open_cache, leaves)))
