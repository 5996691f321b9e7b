"""Compiles the real train step for a pod that is not here, and says whether it fits and how fast it could be."""

import math
import re
import time
from typing import Any, NamedTuple

import jax

from data_pipelines.datasets.catalogue import weighted_entries
from data_pipelines.tokenization.vocabulary import Vocabulary
from gato_jax.mesh import BATCH_AXES, make_mesh
from gato_jax.model.embeddings import table_rows
from gato_jax.planning.flops import count_flops
from gato_jax.planning.hlo import Collective, collectives
from gato_jax.planning.target import Target, tpu_devices
from gato_jax.training.flops import step_flops
from gato_jax.training.loss import chunk_size
from gato_jax.training.program import abstract_batch, make_program

DAY = 86_400.0


class Needs(NamedTuple):
  """Bytes of a device's memory.

  Attributes:
    arguments: state and batch.
    temporaries: activations, gradients, buffers of collectives.
    code: the program.
  """

  arguments: float
  temporaries: float
  code: float

  @property
  def total(self) -> float:
    return self.arguments + self.temporaries + self.code


class Plan(NamedTuple):
  """A step on a machine.

  Attributes:
    target: the machine.
    mesh: axis -> size.
    remat: what is kept for the backward pass.
    batch_size: rows.
    needs: of memory.
    fits: whether the compiler found room; None: nothing was compiled.
    flops: of a device, what is recomputed included.
    model_flops: of a device, what the model needs.
    collectives: of a device.
    tokens: positions of a batch.
    steps: of the run.
    compile_seconds: on this machine; 0: nothing was compiled.
  """

  target: Target
  mesh: dict[str, int]
  remat: str
  batch_size: int
  needs: Needs
  fits: bool | None
  flops: float
  model_flops: float
  collectives: list[Collective]
  tokens: int
  steps: int
  compile_seconds: float

  @property
  def has_room(self) -> bool:
    return self.needs.total <= self.target.chip.memory if self.fits is None else self.fits

  @property
  def rank(self) -> tuple[bool, float]:
    """Less is better: what fits comes first, then what is fast."""
    return not self.has_room, self.serial_seconds / self.tokens

  @property
  def compute_seconds(self) -> float:
    return self.flops / self.target.chip.flops

  @property
  def memory_seconds(self) -> float:
    """A floor: everything the step holds is written and read once."""
    return 2 * (self.needs.arguments + self.needs.temporaries) / self.target.chip.memory_bandwidth

  @property
  def network_seconds(self) -> float:
    return sum(self.seconds_of(collective) for collective in self.collectives)

  @property
  def bound_seconds(self) -> float:
    """No step is faster: matrix units, memory and network all at their best, all at once."""
    return max(self.compute_seconds, self.memory_seconds, self.network_seconds)

  @property
  def serial_seconds(self) -> float:
    """The same with nothing done at once."""
    return self.compute_seconds + self.memory_seconds + self.network_seconds

  def mfu(self, seconds: float) -> float:
    return self.model_flops / self.target.chip.flops / seconds

  def days(self, seconds: float) -> float:
    return seconds * self.steps / DAY

  def seconds_of(self, collective: Collective) -> float:
    """At the full bandwidth of the network; a ring passes every byte on (size - 1) / size of the way.

    A group that reaches beyond a slice or a host does its part within each of them; outside, a device sends no more
    than its share of what is there. Over `slices`, it is that share that the compiler named.
    """
    passes = 2 if collective.kind == 'all-reduce' else 1
    inside = self._inside(collective)

    def ring(size: int, bytes_: float, bandwidth: float) -> float:
      return passes * (size - 1) / size * bytes_ / bandwidth

    return (ring(inside, collective.bytes, self.target.bandwidth(inside))
            + ring(math.ceil(collective.size / inside), collective.bytes / inside, self.target.chip.outside))

  def _inside(self, collective: Collective) -> int:
    """Devices of a group that are in the same slice or host: a mesh's last axis is the innermost."""
    inside, stride = 1, 1
    for axis, size in reversed(self.mesh.items()):
      if axis in collective.axes:
        inside *= min(size, max(self.target.fast_devices // stride, 1))
      stride *= size
    return min(inside, collective.size)


def make_plan(config: Any, target: Target, target_share: float) -> Plan:
  """Compiles the step of a config for a TPU topology.

  Args:
    config: a whole config.
    target: TPUs.
    target_share: share of the positions that have a target; the head's loop turns accordingly.

  Raises:
    InputError: no libtpu, no such topology, or a mesh, a batch or a model that do not fit each other.
  """
  mesh = make_mesh(config.mesh, tpu_devices(target))
  vocabulary = Vocabulary(**config.data.vocabulary.to_dict())
  turns = open_turns(config, math.prod(mesh.shape[axis] for axis in BATCH_AXES), target_share, vocabulary, 'tpu')
  with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # optimizers make small arrays here, not on the target
    program = make_program(config, vocabulary, count_sources(config), mesh)
  with jax.set_mesh(mesh):
    traced = program.train_step.trace(program.abstract, abstract_batch(config, program.batch_sharding))
    flops = count_flops(traced.jaxpr, turns)
    began = time.monotonic()
    needs, fits, text = _compile(traced)
  return Plan(
      target=target, mesh=dict(mesh.shape), remat=config.model.remat, batch_size=config.training.batch_size,
      needs=needs, fits=fits, flops=flops / target.device_count,
      model_flops=model_flops(config, target_share, vocabulary.size) / target.device_count,
      collectives=collectives(text, dict(mesh.shape), turns), tokens=config.training.batch_size
      * config.data.sequence_length, steps=config.training.steps, compile_seconds=time.monotonic() - began)


def open_turns(config: Any, batch_shards: int, target_share: float, vocabulary: Vocabulary, device: str) -> float:
  """Turns of the head's loop on a device: chunks of positions with a target."""
  rows = config.training.batch_size / batch_shards / config.training.accumulation
  positions = int(rows * config.data.sequence_length)
  chunk = chunk_size(positions, table_rows(config.model, vocabulary), device)
  return max(math.ceil(positions * target_share / chunk), 1)


def count_sources(config: Any) -> int:
  """Datasets that training reads, a task each."""
  return max(sum(len(entry.tasks) or 1 for entry in weighted_entries(config.data.mixture).values()), 1)


def model_flops(config: Any, target_share: float, vocabulary_size: int) -> float:
  rows, length = config.training.batch_size, config.data.sequence_length
  return step_flops(config.model, length, rows, target_share * rows * length, vocabulary_size)


def _compile(traced) -> tuple[Needs, bool, str]:
  """What it needs, whether it fits, the program's text (empty if it does not)."""
  try:
    compiled = traced.lower().compile()
  except jax.errors.JaxRuntimeError as error:
    used = re.search(r'Used ([\d.]+)([KMGT]) of ([\d.]+)([KMGT]) hbm', str(error))
    if not used:
      raise
    scale = {'K': 2**10, 'M': 2**20, 'G': 2**30, 'T': 2**40}
    return Needs(0.0, float(used.group(1)) * scale[used.group(2)], 0.0), False, ''
  memory = compiled.memory_analysis()
  outputs = memory.output_size_in_bytes - memory.alias_size_in_bytes
  needs = Needs(memory.argument_size_in_bytes, memory.temp_size_in_bytes + outputs, memory.generated_code_size_in_bytes)
  return needs, True, compiled.as_text()
