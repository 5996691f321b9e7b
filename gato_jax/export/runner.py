"""Runs an export's StableHLO programs: jax, numpy, sentencepiece, safetensors and flatbuffers are all it takes.

    from gato_jax.export.runner import load
    agent = load('my_agent')

The agent is as the one that `gato_jax.load` gives, but its weights go through compiled programs instead of the model's
code: flax, Orbax, TFDS and the rest need not be installed. A program is code: run those of an export that you trust.
"""

from collections.abc import Mapping
import functools
import pathlib
from types import SimpleNamespace
from typing import Any

import jax
from jax import export as jax_export
import jax.numpy as jnp

from data_pipelines.errors import InputError
from data_pipelines.sequences.tokenizer import SequenceTokenizer
from gato_jax.acting.decoding import Engine
from gato_jax.agent import Agent
from gato_jax.export.config import read_config
from gato_jax.export.tasks import read_prompts, read_tasks
from gato_jax.export.weights import read_weights
from gato_jax.model.cache import Cache, TokenInputs

FOLDER, SUFFIX = 'programs', '.stablehlo'
PROGRAMS = ('prepare', 'open_cache', 'extend', 'extend_pictures', 'logits')


def load(path: str) -> Agent:
  """The agent of an exported folder, run by its programs.

  Raises:
    InputError: a file is missing or damaged, or the programs are not for this platform or version of jax.
  """
  folder = pathlib.Path(path)
  content = read_config(folder)
  config = _namespace(content['config'])
  programs = {name: _program(folder / FOLDER / f'{name}{SUFFIX}') for name in PROGRAMS}
  (shapes,), _ = jax.tree.unflatten(programs['prepare'].in_tree, programs['prepare'].in_avals)
  shapes = {name: aval.shape for name, aval in shapes.items()}
  weights = read_weights(folder, shapes)
  engine = Engine(functools.partial(_Decoder, programs), jax.jit(programs['prepare'].call)(weights))
  tokenizer = SequenceTokenizer.load(folder, config.data.mask_question)
  return Agent(engine, tokenizer, config, read_tasks(folder), functools.partial(read_prompts, folder), content['step'])


class _Decoder:
  """`gato_jax.model.decoder.Decoder`, of programs."""

  def __init__(self, programs: Mapping[str, jax_export.Exported], leaves: list[jax.Array]):
    self._programs = programs
    self._leaves = leaves

  def logits(self, x: jax.Array, start: int, stop: int) -> jax.Array:
    scores = self._programs['logits'].call(self._leaves, x.reshape(-1, x.shape[-1]))
    return scores.reshape(*x.shape[:-1], -1)[..., start:stop]

  def init_cache(self, batch_size: int, capacity: int, prompts: bool = False) -> Cache:
    counts = (jnp.zeros((size,), jnp.bool_) for size in (batch_size, capacity))
    cache = Cache(*self._programs['open_cache'].call(self._leaves, *counts))
    return cache if prompts else cache._replace(prompts=None)

  def extend(self, inputs: TokenInputs, cache: Cache) -> tuple[jax.Array, Cache]:
    # The programs' caches have prompts: a row without one has a prompt of no tokens.
    prompts = jnp.zeros_like(cache.lengths) if cache.prompts is None else cache.prompts
    program = self._programs['extend_pictures' if inputs.patches.shape[1] else 'extend']
    x_BxSxD, new = program.call(self._leaves, tuple(inputs), tuple(cache._replace(prompts=prompts)))
    return x_BxSxD, Cache(*new)._replace(prompts=cache.prompts)


def _program(path: pathlib.Path) -> jax_export.Exported:
  try:
    program = jax_export.deserialize(bytearray(path.read_bytes()))
  except Exception as error:  # flatbuffers has its own for each damage, jax for each version
    raise InputError(f'{path} cannot be run by jax {jax.__version__} ({error}); export again, or load with '
                     'gato_jax.load, which needs no programs') from error
  platform = jax.default_backend().replace('gpu', 'cuda')
  if platform not in program.platforms:
    raise InputError(f'{path} is for {", ".join(program.platforms)}, this is {platform}; set JAX_PLATFORMS=cpu')
  return program


def _namespace(value: Any) -> Any:
  if not isinstance(value, dict):
    return value
  return SimpleNamespace(**{key: _namespace(inner) for key, inner in value.items()})
