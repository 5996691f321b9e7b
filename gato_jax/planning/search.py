"""Tries meshes, remat policies and batch sizes."""

from collections.abc import Callable, Iterator
import copy
import itertools
from typing import Any

from data_pipelines.errors import InputError
from gato_jax.planning.estimate import estimate, program_flops
from gato_jax.planning.plan import Plan, make_plan
from gato_jax.planning.target import Target

REPLICAS = (1, 4)  # within a slice
TENSOR_SIZES = (1, 2, 4, 8)
REMAT = ('none', 'dots', 'full')
BATCH_FACTORS = (1, 2)


def search(config: Any, target: Target, target_share: float, compiled: int, say: Callable[[str], None]) -> list[Plan]:
  """Plans of all candidates: by formulas, and the best of them compiled where the compiler is there.

  Args:
    config: where the candidates start from.
    target: the machine.
    target_share: see `make_plan`.
    compiled: how many to compile, those first that the formulas put first and into memory.
    say: is told what is going on.

  Raises:
    InputError: no candidate fits the machine's mesh.
  """
  plans, flops = [], {}
  for candidate in _candidates(config, target):
    key = candidate.model.remat, candidate.training.batch_size
    try:
      if key not in flops:  # the mesh does not change them
        flops[key] = program_flops(candidate, target_share)
      plans.append((estimate(candidate, target, target_share, flops[key]), candidate))
    except InputError as error:
      say(f'left out: {error}')
  if not plans:
    raise InputError(f'no mesh of {target.device_count} devices goes with this model and batch')
  plans.sort(key=lambda pair: pair[0].rank)
  result = []
  for number, (plan, candidate) in enumerate(plans):
    if target.is_tpu and number < compiled:
      say(f'compiling {number + 1} of {min(compiled, len(plans))}: replica={candidate.mesh.replica} '
          f'tensor={candidate.mesh.tensor} '
          f'remat={candidate.model.remat} batch_size={candidate.training.batch_size}')
      plan = make_plan(candidate, target, target_share)
    result.append(plan)
  return result


def _candidates(config: Any, target: Target) -> Iterator[Any]:
  for replicas, tensor, remat, factor in itertools.product(REPLICAS, TENSOR_SIZES, REMAT, BATCH_FACTORS):
    if replicas * tensor >= target.slice_devices and replicas > 1:
      continue
    candidate = copy.deepcopy(config)
    candidate.mesh.update(preset='hybrid', replica=replicas * target.slices, fsdp=-1, tensor=tensor)
    candidate.model.remat = remat
    candidate.training.batch_size = config.training.batch_size * factor
    yield candidate
