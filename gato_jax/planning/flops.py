"""FLOPs of a program from its jaxpr: every matrix product and convolution, as often as the loops round it turn."""

import math
from typing import Any

from jax.extend import core


def count_flops(jaxpr: Any, turns_of_open_loops: float) -> float:
  """FLOPs over all devices; a multiplication and an addition are two.

  What rematerialisation does again is in the jaxpr, and counted.

  Args:
    jaxpr: of `jax.make_jaxpr`, or one inside it.
    turns_of_open_loops: of loops whose number of turns is not known before they run.
  """
  jaxpr = getattr(jaxpr, 'jaxpr', jaxpr)
  return sum(_equation_flops(equation, turns_of_open_loops) for equation in jaxpr.eqns)


def _equation_flops(equation, open_turns: float) -> float:
  name, parameters = equation.primitive.name, equation.params
  if name == 'dot_general':
    (contracted, _), _ = parameters['dimension_numbers']
    left = equation.invars[0].aval.shape
    return 2.0 * equation.outvars[0].aval.size * math.prod(left[axis] for axis in contracted)
  if name == 'conv_general_dilated':
    kernel = equation.invars[1].aval
    outputs = kernel.shape[parameters['dimension_numbers'].rhs_spec[0]]
    return 2.0 * equation.outvars[0].aval.size * kernel.size / outputs
  if name == 'cond':
    return max(count_flops(branch, open_turns) for branch in parameters['branches'])
  times = 1.0
  if name == 'scan':
    times = parameters['length']
  elif name == 'while':
    times = open_turns
  elif name == 'pallas_call':  # all its blocks, those that the kernel skips included
    times = math.prod(parameters['grid_mapping'].grid)
  elif name == 'shard_map':
    mesh = parameters['mesh']
    times = math.prod(mesh.shape[axis] for axis in parameters['newly_manual_axes'])
  inner = (value for value in parameters.values() if isinstance(value, core.Jaxpr | core.ClosedJaxpr))
  return times * sum(count_flops(jaxpr, open_turns) for jaxpr in inner)
