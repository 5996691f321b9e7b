"""A train step against PyTorch's and against a dense one: `gato-jax benchmark train_step --config=FILE`.

Needs no data. Prints one JSON line; all steps are timed by turns in one process, the least of the rounds counts:

  cpu_seconds_per_step, wall_seconds_per_step, tokens_per_second, targets_per_second: of the config's own step.
  flops: that the model needs (gato_jax/training/flops.py), recomputation and padding of blocks not counted.
  peak_share: flops by CPU second, of those of a large float32 matrix product timed by turns with the step.
  ratio_to_pytorch: CPU seconds by those of a plain PyTorch decoder (pytorch_decoder.py), by kind; absent without torch.
  ratio_to_dense: CPU seconds by those of the same model with logits at all positions and full attention.
  others: CPU seconds of those.

On a machine with other work to do, `taskset -c 0` keeps threads from waiting for each other.
"""

from collections.abc import Callable
import copy
import functools
import importlib.util
import json
from typing import Any

import jax
import jax.numpy as jnp
import optax

from data_pipelines.sequences.rows import PackedBatch
from data_pipelines.tokenization.vocabulary import Vocabulary
from experiments.benchmarks import measuring, pytorch_decoder
from gato_jax.allocator import keep_freed_memory
from gato_jax.mesh import make_mesh
from gato_jax.training.flops import step_flops
from gato_jax.training.optimizer import make_optimizer
from gato_jax.training.program import make_program
from gato_jax.training.state import define_model, initial_state

TARGET_SHARE = 0.44  # control rows with 11 observation values and 4 actions a step, and one row of text in four
ROUNDS = 4


def main(config: Any, rounds: int = ROUNDS) -> None:
  """Measures and prints."""
  keep_freed_memory()  # as training does; PyTorch has it so too
  vocabulary = Vocabulary(**config.data.vocabulary.to_dict())
  length, rows = config.data.sequence_length, config.training.batch_size
  batch = measuring.packed_batch(config, vocabulary, TARGET_SHARE, length)
  products, products_flops = measuring.matmul()
  steps = {'gato_jax': own_step(config, vocabulary, batch), 'dense': dense_step(config, vocabulary),
           **_pytorch_steps(config, vocabulary)}
  steps = {name: functools.partial(step, batch) for name, step in steps.items()}
  times = measuring.race(steps | {'matmul': products}, rounds)
  own, targets = times['gato_jax'], int((batch.loss_weights > 0).sum())
  flops = step_flops(config.model, length, rows, targets, vocabulary.size)
  peak = products_flops / times['matmul'].cpu
  print(json.dumps({
      'benchmark': 'train_step', **measuring.settings(config, vocabulary), 'target_share': TARGET_SHARE,
      'cpu_seconds_per_step': round(own.cpu, 3), 'wall_seconds_per_step': round(own.wall, 3),
      'tokens_per_second': round(rows * length / own.wall), 'targets_per_second': round(targets / own.wall),
      'flops': flops, 'matmul_flops_per_cpu_second': round(peak), 'peak_share': round(flops / own.cpu / peak, 3),
      'ratio_to_pytorch': {name: round(own.cpu / times[name].cpu, 3) for name in times if name.startswith('pytorch')},
      'ratio_to_dense': round(own.cpu / times['dense'].cpu, 3),
      'others': {name: round(times[name].cpu, 3) for name in times if name not in ('gato_jax', 'matmul')}}))


def own_step(config: Any, vocabulary: Any, batch: PackedBatch) -> Callable[[PackedBatch], Any]:
  """The step that training runs, from batches like this one to the loss."""
  mesh = make_mesh(config.mesh)
  with jax.set_mesh(mesh):
    program = make_program(config, vocabulary, 1, mesh)
    initialize = functools.partial(initial_state, program.definition, program.optimizer)
    state = jax.jit(initialize, static_argnums=0, out_shardings=program.state_shardings)(config.seed)
    program.train_step.compile(state, jax.device_put(batch, program.batch_sharding))

  def step(batch):
    nonlocal state
    state, metrics = program.train_step(state, jax.device_put(batch, program.batch_sharding))
    return metrics['loss']

  return step


def dense_step(config: Any, vocabulary: Any) -> Callable[[PackedBatch], Any]:
  """The same model as it is written down: every position's logits at once, every pair of positions' scores."""
  config = copy.deepcopy(config)
  config.model.attention = 'reference'
  definition, optimizer = define_model(config.model, vocabulary), make_optimizer(config.training)

  def loss(parameters, batch):
    model = definition.build(parameters)
    losses_BxL = optax.softmax_cross_entropy_with_integer_labels(model.logits(model(batch)), batch.targets)
    return (losses_BxL * batch.loss_weights).sum() / jnp.maximum(batch.loss_weights.sum(), 1.0)

  @functools.partial(jax.jit, donate_argnums=0)
  def update(state, batch):
    parameters, moments = state
    value, gradients = jax.value_and_grad(loss)(parameters, batch)
    updates, moments = optimizer.update(gradients, moments, parameters)
    return (optax.apply_updates(parameters, updates), moments), value

  parameters = jax.jit(definition.initialize, static_argnums=0)(config.seed)
  state = parameters, optimizer.init(parameters)

  def step(batch):
    nonlocal state
    state, value = update(state, batch)
    return value

  return step


def _pytorch_steps(config: Any, vocabulary: Any) -> dict[str, Callable[[PackedBatch], Any]]:
  if importlib.util.find_spec('torch') is None:
    return {}
  model, length = config.model, config.data.sequence_length
  make = functools.partial(
      pytorch_decoder.make_step, model.layers, model.width, model.heads, length, vocabulary.size)
  kinds = {'eager': (False, False), 'compiled': (False, True), 'target_rows_compiled': (True, True)}
  return {f'pytorch_{name}': make(head_on_targets=on_targets, compiled=compiled)
          for name, (on_targets, compiled) in kinds.items()}
