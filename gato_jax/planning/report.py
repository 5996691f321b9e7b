"""Plans for people: one in full, or many as a table."""

from collections.abc import Sequence

from gato_jax.planning.plan import Plan

_GIB = 2.0**30
COMPARABLE_MFU = 0.4  # what published runs of this size reach on TPUs, restarts not counted


def describe(plan: Plan) -> str:
  """A plan in full."""
  chip, needs = plan.target.chip, plan.needs
  basis = (f'compiled in {plan.compile_seconds:.0f} s' if plan.compile_seconds else
           'ESTIMATED by formulas, nothing was compiled')
  lines = [
      f'{plan.target.name}: {plan.target.device_count} devices; mesh {_mesh(plan)}; remat {plan.remat}; '
      f'batch {plan.batch_size} rows, {plan.tokens / plan.target.device_count:,.0f} tokens a device ({basis})',
      f'memory: {"fits" if plan.has_room else "DOES NOT FIT"}: {needs.total / _GIB:.2f} of '
      f'{chip.memory / _GIB:.1f} GiB a device (arguments {needs.arguments / _GIB:.2f}, temporaries '
      f'{needs.temporaries / _GIB:.2f}, code {needs.code / _GIB:.2f})',
      f'FLOPs a device and step: {plan.flops:.3e}, of which the model needs {plan.model_flops:.3e}',
  ]
  if plan.has_room:
    lines += [*_collective_lines(plan), *_time_lines(plan)]
  return '\n'.join(lines)


def table(plans: Sequence[Plan]) -> str:
  """Plans as lines, the fastest that fit first."""
  head = f'{"mesh":28} {"remat":5} {"batch":>6} {"GiB":>7} {"fits":4} {"step, ms":>14} {"MFU":>11} {"days":>11}'
  return '\n'.join([head, *(_line(plan) for plan in sorted(plans, key=lambda plan: plan.rank))])


def _line(plan: Plan) -> str:
  fast, slow = plan.bound_seconds, plan.serial_seconds
  mark = '' if plan.compile_seconds else ' (estimated)'
  times = (f'{1e3 * fast:6.0f}-{1e3 * slow:6.0f} {plan.mfu(slow):4.0%} - {plan.mfu(fast):4.0%} '
           f'{plan.days(fast):4.1f} - {plan.days(slow):4.1f}') if plan.has_room else ''
  return (f'{_mesh(plan):28} {plan.remat:5} {plan.batch_size:6} {plan.needs.total / _GIB:7.2f} '
          f'{"yes" if plan.has_room else "no":4} {times:>38}{mark}')


def _mesh(plan: Plan) -> str:
  return ' x '.join(f'{axis} {size}' for axis, size in plan.mesh.items() if size > 1) or 'one device'


def _collective_lines(plan: Plan) -> list[str]:
  return [
      f'{collective.kind:18} over {"+".join(collective.axes):16} groups of {collective.size:4}: '
      f'{collective.count:6,.0f} a step, {collective.bytes / _GIB:7.3f} GiB a device, '
      f'{1e3 * plan.seconds_of(collective):7.1f} ms'
      for collective in plan.collectives]


def _time_lines(plan: Plan) -> list[str]:
  fast, slow = plan.bound_seconds, plan.serial_seconds
  comparable = plan.model_flops / plan.target.chip.flops / COMPARABLE_MFU
  chips = plan.target.device_count / plan.target.devices_per_chip

  def cost(name, seconds):
    return (f'{name}: {1e3 * seconds:.0f} ms a step, MFU {plan.mfu(seconds):.0%}, {plan.tokens / seconds:,.0f} tokens/s'
            f'; {plan.steps:,} steps: {plan.days(seconds):.2f} days, {24 * chips * plan.days(seconds):,.0f} chip-hours')

  return [
      f'roofline of a step: matrix units {1e3 * plan.compute_seconds:.1f} ms at {plan.target.chip.flops / 1e12:.0f} '
      f'TFLOP/s, memory at least {1e3 * plan.memory_seconds:.1f} ms, network {1e3 * plan.network_seconds:.1f} ms',
      cost('all at once (no step is faster)', fast),
      cost('one after the other', slow),
      cost(f'at {COMPARABLE_MFU:.0%} MFU, as published runs reach', comparable),
  ]
