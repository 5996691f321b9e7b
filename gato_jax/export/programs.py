"""The model's functions as StableHLO, for those who have jax but not flax: written here, run by `runner`.

  prepare           weights by name -> what the others compute with
  open_cache        an empty cache of B rows with C places (`Decoder.init_cache`); B and C are the arguments' sizes
  extend            reads S new tokens of B rows into a cache of C places (`Decoder.extend`), rows without pictures
  extend_pictures   the same, with P patches a row
  logits            hidden states [B, D] -> scores of all ids [B, V]

B, S, P and C are symbolic: one program serves them all. Each is lowered for every platform of PLATFORMS, in the
model's compute dtype.
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

  def open_cache(leaves, rows, places):
    decoder = nnx.merge(graph, jax.tree.unflatten(state, leaves))
    return tuple(decoder.init_cache(rows.shape[0], places.shape[0], True))

  def extend(leaves, inputs, cache):
    decoder = nnx.merge(graph, jax.tree.unflatten(state, leaves))
    x_BxSxD, cache = decoder.extend(TokenInputs(*inputs), Cache(*cache))
    return x_BxSxD, tuple(cache)

  def logits(leaves, x_BxD):
    decoder = nnx.merge(graph, jax.tree.unflatten(state, leaves))
    return decoder.logits(x_BxD, 0, ids)

  B, S, P, C = jax_export.symbolic_shape('B, S, P, C', constraints=['S <= C'])
  rows, places = jax_export.symbolic_shape('B, C')  # which have no constraint on sizes that are not there
  cache = jax.eval_shape(open_cache, leaves, _counts(B), _counts(C))
  small = jax.eval_shape(open_cache, leaves, _counts(1), _counts(8))
  hidden = jax.eval_shape(extend, leaves, _inputs(1, 2, 0), small)[0]
  programs = (
      (prepare, weights),
      (open_cache, leaves, _counts(rows), _counts(places)),
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


def _counts(size: Any) -> jax.ShapeDtypeStruct:
  """An array that tells a program a size."""
  return jax.ShapeDtypeStruct((size,), jnp.bool_)
