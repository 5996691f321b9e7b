"""`gato-jax plan`."""

import os
from typing import Any

from data_pipelines.errors import InputError


def run(config: Any, topology: str, slices: int, target_share: float, search: bool, compiled: int) -> None:
  """Prints a plan, or the table of a search.

  Args:
    config: a whole config.
    topology: `CHIP:SHAPE` of a slice.
    slices: of them.
    target_share: of the positions, that have a target.
    search: whether to try other meshes, remat policies and batch sizes.
    compiled: how many candidates of a search to compile.

  Raises:
    InputError: a topology that there is not, or that the config does not fit; no TPU compiler.
  """
  if not 0 < target_share <= 1:
    raise InputError(f'--targets={target_share} must be above 0 and at most 1')
  # JAX itself stays on the CPU: the TPU's compiler is asked for by name, and must not look for a TPU.
  os.environ['JAX_PLATFORMS'] = 'cpu'
  os.environ['TPU_SKIP_MDS_QUERY'] = '1'
  os.environ['ALLOW_MULTIPLE_LIBTPU_LOAD'] = '1'  # no chip is opened, so several plans may be made at once
  from gato_jax.planning import report
  from gato_jax.planning.estimate import estimate
  from gato_jax.planning.plan import make_plan
  from gato_jax.planning.search import search as find
  from gato_jax.planning.target import parse_target

  target = parse_target(topology, slices)
  if search:
    print(report.table(find(config, target, target_share, compiled, lambda text: print(text, flush=True))))
  elif target.is_tpu:
    print(report.describe(make_plan(config, target, target_share)))
  else:
    print(report.describe(estimate(config, target, target_share)))
