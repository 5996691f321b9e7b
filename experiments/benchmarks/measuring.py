"""What benchmarks have in common: a model, a batch, a process, a clock, and names for what it shows."""

from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
import contextlib
import functools
import multiprocessing
import time
from typing import Any, NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.sequences.rows import PackedBatch
from data_pipelines.tokenization.vocabulary import Vocabulary
from gato_jax.evaluation.jobs import use_one_core
from gato_jax.model.gato import Gato
from gato_jax.training.flops import MATMUL_SIZE


class Seconds(NamedTuple):
  """The least of some rounds: what other work on the machine disturbs least.

  Attributes:
    cpu: of all threads of this process.
    wall: on the clock.
  """

  cpu: float
  wall: float


def race(steps: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, Seconds]:
  """Times functions by turns, after one call each that is not timed."""
  return _race({name: functools.partial(_timed, step) for name, step in steps.items()}, rounds)


def race_apart(makers: Mapping[str, Callable[[], Callable[[], Any]]], rounds: int) -> dict[str, Seconds]:
  """As `race`, each function in a process of its own that makes it: no one's threads or memory are another's."""
  context = multiprocessing.get_context('spawn')
  with contextlib.ExitStack() as stack:
    pools = {name: stack.enter_context(ProcessPoolExecutor(1, context, _keep, (make,)))
             for name, make in makers.items()}
    return _race({name: lambda pool=pool: pool.submit(_timed_kept).result() for name, pool in pools.items()}, rounds)


def _race(timed: Mapping[str, Callable[[], Seconds]], rounds: int) -> dict[str, Seconds]:
  for call in timed.values():
    call()
  times = {name: [] for name in timed}
  for _ in range(rounds):
    for name, call in timed.items():
      times[name].append(call())
  return {name: Seconds(*map(min, zip(*rows, strict=True))) for name, rows in times.items()}


def _timed(step: Callable[[], Any]) -> Seconds:
  cpu, wall = time.process_time(), time.perf_counter()
  jax.block_until_ready(step())
  return Seconds(time.process_time() - cpu, time.perf_counter() - wall)


_kept: list[Callable[[], Any]] = []  # of a process of `race_apart`


def _keep(make: Callable[[], Callable[[], Any]]) -> None:
  _kept.append(make())


def _timed_kept() -> Seconds:
  return _timed(_kept[0])


MATMUL_FLOPS = 8 * 2 * MATMUL_SIZE**3


def matmul() -> Callable[[], jax.Array]:
  """Float32 matrix products of MATMUL_FLOPS that run as fast as this machine can, to be raced."""
  matrix, multiply = jnp.ones((MATMUL_SIZE, MATMUL_SIZE), jnp.float32), jax.jit(jnp.matmul)

  def products():
    return [multiply(matrix, matrix) for _ in range(8)]

  return products


def packed_batch(config: Any, vocabulary: Any, target_share: float, segment_length: int) -> PackedBatch:
  """Rows of random tokens: segments of one length, targets at random places, no patches."""
  rows, length, slots = config.training.batch_size, config.data.sequence_length, config.data.patches_per_row
  generator = np.random.default_rng(0)
  tokens_BxL = generator.integers(0, config.data.vocabulary.text_size, (rows, length), np.int32)
  weights = np.zeros(rows * length, np.float32)
  weights[generator.permutation(rows * length)[:round(target_share * rows * length)]] = 1.0
  places_L = np.arange(length, dtype=np.int32)

  def each_row(values_L):
    return np.tile(values_L.astype(np.int32), (rows, 1))

  return PackedBatch(
      tokens=tokens_BxL, targets=np.roll(tokens_BxL, -1, axis=1), loss_weights=weights.reshape(rows, length),
      segment_ids=each_row(places_L // segment_length + 1), positions=each_row(places_L % segment_length),
      local_positions=each_row(places_L * 0), sources=np.zeros((rows, length), np.int16),
      patches=np.zeros((rows, slots, 16, 16, 3), np.uint8), patch_positions=np.full((rows, slots), length, np.int32),
      patch_intervals=np.zeros((rows, slots, 2, 2), np.uint8))


def settings(config: Any, vocabulary: Any) -> dict[str, Any]:
  """What a number is about."""
  model = config.model
  return {
      'device': jax.devices()[0].device_kind, 'layers': model.layers, 'width': model.width, 'heads': model.heads,
      'feed_forward': model.feed_forward, 'attention': model.attention, 'rows': config.training.batch_size,
      'sequence_length': config.data.sequence_length, 'vocabulary': vocabulary.size}


def make_model(config: Any, dtype: str) -> Gato:
  """The config's model with random weights, its activations of another type."""
  model = config.model.copy_and_resolve_references()
  model.dtype = dtype
  return Gato(model, Vocabulary(**config.data.vocabulary), rngs=nnx.Rngs(0))


def alone_on_a_core(function: Callable[..., Any], *arguments: Any) -> Any:
  """Its result, from a process of its own, on one core where there is no accelerator."""
  context = multiprocessing.get_context('spawn')
  initializer = use_one_core if jax.default_backend() == 'cpu' else None
  with ProcessPoolExecutor(1, context, initializer) as pool:
    return pool.submit(function, *arguments).result()
