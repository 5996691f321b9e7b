"""What a step needs, by arithmetic: for GPUs, and to order the candidates of a search before any is compiled."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from data_pipelines.tokenization.vocabulary import Vocabulary
from gato_jax.mesh import BATCH_AXES, make_abstract_mesh, platform
from gato_jax.model import attention
from gato_jax.model.embeddings import table_rows
from gato_jax.planning.flops import count_flops
from gato_jax.planning.hlo import Collective
from gato_jax.planning.plan import Needs, Plan, count_sources, model_flops, open_turns
from gato_jax.planning.target import Target
from gato_jax.training.loss import chunk_size
from gato_jax.training.optimizer import make_optimizer
from gato_jax.training.program import abstract_batch, check_training, loss_settings, make_forward
from gato_jax.training.state import TrainState, abstract_state, define_model, initial_state
from gato_jax.training.step import make_train_function

_GATHERED_ROWS = 16  # of bfloat16 make a tile of a TPU's memory; the compiler gathers smaller shards by all-reduce
_LOGIT_BYTES = 3 * 4  # of the head: three float32 arrays of a chunk


def estimate(config: Any, target: Target, target_share: float, flops: float | None = None) -> Plan:
  """A plan without a compiler: the state is exact, activations and collectives are formulas.

  Args:
    config: a whole config.
    target: the machine.
    target_share: share of the positions that have a target.
    flops: of `program_flops`, where they are known.

  Raises:
    InputError: a mesh, a batch or a model that do not fit each other.
  """
  mesh = make_abstract_mesh(config.mesh, target.device_count, target.slices)
  check_training(config.training, mesh)
  vocabulary = Vocabulary(**config.data.vocabulary.to_dict())
  definition, optimizer = define_model(config.model, vocabulary), make_optimizer(config.training)
  abstract = abstract_state(definition, optimizer, mesh)
  state = state_bytes(abstract)
  shards = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
  rows = config.training.batch_size // shards // config.training.accumulation
  activations = activation_bytes(config, rows, mesh.shape['tensor'], keeps_scores(config, target))
  ids = table_rows(config.model, vocabulary)
  head = _LOGIT_BYTES * ids * chunk_size(rows * config.data.sequence_length, ids, target.platform)
  gradients = state_bytes(abstract.parameters)
  flops = program_flops(config, target_share) if flops is None else flops
  return Plan(
      target=target, mesh=dict(mesh.shape), remat=config.model.remat, batch_size=config.training.batch_size,
      needs=Needs(state, activations + head + gradients, 0.0), fits=None,
      flops=flops / target.device_count,
      model_flops=model_flops(config, target_share, vocabulary.size) / target.device_count,
      collectives=formula_collectives(config, target, dict(mesh.shape), abstract, rows),
      tokens=config.training.batch_size * config.data.sequence_length, steps=config.training.steps, compile_seconds=0.0)


def program_flops(config: Any, target_share: float) -> float:
  """FLOPs of a step over all devices, what is recomputed included; they do not depend on the mesh.

  Attention is counted in its chunked form, whatever runs where this is asked.
  """
  config = config.copy_and_resolve_references()
  config.model.attention = 'chunked'
  vocabulary = Vocabulary(**config.data.vocabulary.to_dict())
  definition = define_model(config.model, vocabulary)
  function = make_train_function(
      make_forward(definition), loss_settings(config.training, vocabulary, count_sources(config)), config.training, 0)
  state = jax.eval_shape(lambda: initial_state(definition, make_optimizer(config.training), 0))
  jaxpr = jax.make_jaxpr(function)(state, abstract_batch(config, None))
  return count_flops(jaxpr, open_turns(config, 1, target_share, vocabulary, platform()))


def state_bytes(abstract: Any) -> float:
  """Of a tree of sharded arrays, on one device."""
  return float(sum(
      math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(abstract)))


def activation_bytes(config: Any, rows: int, tensor: int, with_scores: bool) -> float:
  """What the forward pass keeps for the backward pass in bfloat16, and one layer's work.

  `with_scores`, there are scores and weights of the causal half, 12 bytes for each pair.
  """
  model, positions = config.model, rows * config.data.sequence_length
  scores = 3 * model.heads * config.data.sequence_length / tensor if with_scores else 0
  split = (4 * model.heads * model.head_size + 2 * model.feed_forward) / tensor
  work = split + 4 * model.width + scores
  kept = {'none': work, 'dots': split * 0.75 + model.width, 'full': model.width}[model.remat]
  return 2.0 * positions * (model.layers * kept + work)


def keeps_scores(config: Any, target: Target) -> bool:
  """Whether attention keeps the scores of all pairs there."""
  model = config.model
  dtype = jnp.dtype('float32' if model.dtype == 'float32' else 'bfloat16')  # which is what `auto` is there
  return attention.keeps_scores(model.attention, target.platform, config.data.sequence_length,
                                model.head_size, dtype, model.positions == 'transformer_xl')


def formula_collectives(
    config: Any, target: Target, mesh: dict[str, int], abstract: TrainState, rows: int) -> list[Collective]:
  """FSDP gathers bfloat16 parameters twice and scatters their gradients; tensor parallelism sums activations.

  The TPU's compiler scatters over a part of a slice. Over a whole one it sums, which takes twice as long.
  """
  model = config.model
  count = sum(leaf.size for leaf in jax.tree.leaves(abstract.parameters)) / mesh['tensor']
  found = []
  if mesh['fsdp'] > 1:
    small = target.is_tpu and model.width // mesh['fsdp'] < _GATHERED_ROWS
    whole = target.is_tpu and mesh['fsdp'] == target.slice_devices
    found += [
        Collective('all-reduce' if small else 'all-gather', ('fsdp',), mesh['fsdp'], 2.0 * model.layers, 4.0 * count),
        Collective('all-reduce' if whole else 'reduce-scatter', ('fsdp',), mesh['fsdp'], float(model.layers),
                   2.0 * count)]
  if mesh['replica'] > 1:
    found.append(Collective('all-reduce', ('replica',), mesh['replica'], float(model.layers),
                            2.0 * count / mesh['fsdp']))
  if mesh['tensor'] > 1:
    size = 2.0 * rows * config.data.sequence_length * model.width
    found.append(Collective('all-reduce', ('tensor',), mesh['tensor'], 4.0 * model.layers, 4.0 * model.layers * size))
  return found
