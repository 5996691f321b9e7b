"""A train step against PyTorch's and against a dense one: `gato-jax benchmark train_step --config=FILE`.

Needs no data. Prints one JSON line; the steps take turns, each in a process of its own, and the least of the rounds
counts:

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
from gato_jax.training.program import abstract_batch, make_program
from gato_jax.training.state import define_model, initial_state

TARGET_SHARE = 0.44  # control rows with 11 observation values and 4 actions a step, and one row of text in four
ROUNDS = 4


def main(config: Any, rounds: int = ROUNDS) -> None:
  """Measures and prints."""
  vocabulary = Vocabulary(**config.data.vocabulary.to_dict())
  length, rows = config.data.sequence_length, config.training.batch_size
  makers = {'gato_jax': functools.partial(_as_training_runs_it, config),
            'dense': functools.partial(_on_a_batch, dense_step, config),
            'matmul': measuring.matmul,
            **{f'pytorch_{name}': functools.partial(_on_a_batch, pytorch_step, config, *kind)
               for name, kind in _pytorch_kinds().items()}}
  times = measuring.race_apart(makers, rounds)
  own, targets = times['gato_jax'], round(TARGET_SHARE * rows * length)
  flops = step_flops(config.model, length, rows, targets, vocabulary.size)
  peak = measuring.MATMUL_FLOPS / times['matmul'].cpu
  print(json.dumps({
      'benchmark': 'train_step', **measuring.settings(config, vocabulary), 'target_share': TARGET_SHARE,
      'cpu_seconds_per_step': round(own.cpu, 3), 'wall_seconds_per_step': round(own.wall, 3),
      'tokens_per_second': round(rows * length / own.wall), 'targets_per_second': round(targets / own.wall),
      'flops': flops, 'matmul_flops_per_cpu_second': round(peak), 'peak_share': round(flops / own.cpu / peak, 3),
      'ratio_to_pytorch': {name: round(own.cpu / times[name].cpu, 3) for name in times if name.startswith('pytorch')},
      'ratio_to_dense': round(own.cpu / times['dense'].cpu, 3),
      'others': {name: round(times[name].cpu, 3) for name in times if name not in ('gato_jax', 'matmul')}}))


def own_step(config: Any, vocabulary: Any) -> Callable[[PackedBatch], Any]:
  """The step that training runs, from batches to the loss."""
  mesh = make_mesh(config.mesh)
  with jax.set_mesh(mesh):
    program = make_program(config, vocabulary, 1, mesh)
    initialize = functools.partial(initial_state, program.definition, program.optimizer)
    state = jax.jit(initialize, static_argnums=0, out_shardings=program.state_shardings)(config.seed)
    program.train_step.compile(state, abstract_batch(config, program.batch_sharding))

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


def pytorch_step(config: Any, vocabulary: Any, head_on_targets: bool, compiled: bool) -> Callable[[PackedBatch], Any]:
  """The other decoder's, of as many layers and heads of the same width."""
  model = config.model
  return pytorch_decoder.make_step(
      model.layers, model.width, model.heads, config.data.sequence_length, vocabulary.size,
      head_on_targets=head_on_targets, compiled=compiled)


def _pytorch_kinds() -> dict[str, tuple[bool, bool]]:
  """Whether the head is on the target rows only, and whether the step is compiled, by name; none without torch."""
  if importlib.util.find_spec('torch') is None:
    return {}
  return {'eager': (False, False), 'compiled': (False, True), 'target_rows_compiled': (True, True)}


def _as_training_runs_it(config: Any) -> Callable[[], Any]:
  keep_freed_memory()
  return _on_a_batch(own_step, config)


def _on_a_batch(make: Callable[..., Callable[[PackedBatch], Any]], config: Any, *kind: bool) -> Callable[[], Any]:
  vocabulary = Vocabulary(**config.data.vocabulary.to_dict())
  batch = measuring.packed_batch(config, vocabulary, TARGET_SHARE, config.data.sequence_length)
  return functools.partial(make(config, vocabulary, *kind), batch)
