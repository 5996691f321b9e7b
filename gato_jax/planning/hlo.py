"""Reads a compiled program's text: which collectives it runs, over which axes of the mesh, how often.

XLA's own cost analysis counts the body of a loop once, however often it runs; here everything in a loop counts as often
as the loop turns.
"""

from collections.abc import Iterator, Sequence
import math
import re
from typing import NamedTuple

import numpy as np

FUSED = 'fused-'  # of the opcode of a collective that is part of a fusion of that kind
KINDS = ('all-gather', 'all-reduce', 'reduce-scatter', 'all-to-all', 'collective-permute')
_BYTES = {
    'pred': 1, 's4': 0.5, 'u4': 0.5, 's8': 1, 'u8': 1, 'f8e4m3fn': 1, 'f8e5m2': 1, 's16': 2, 'u16': 2, 'bf16': 2,
    'f16': 2, 's32': 4, 'u32': 4, 'f32': 4, 's64': 8, 'u64': 8, 'f64': 8, 'c64': 8, 'token': 0}
_HEADER = re.compile(r'^(?:ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$')
_INSTRUCTION = re.compile(r'^\s*(?:ROOT )?%([\w.\-]+) = (.*?) ([\w\-]+)\((.*)$')
_CALLED = re.compile(r'(?:calls|to_apply|called_computation|true_computation|false_computation)=%?([\w.\-]+)')
_BRANCHES = re.compile(r'(?:branch_computations|called_computations)=\{([^}]*)\}')
# A collective that runs beside computation is in the text once for its start, each part and its end.
_CHAIN = re.compile(r'channel_id=(\d+),.*chain_id="(\d+)"')
_NAMED_GROUPS = re.compile(
    r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))? \{([^}]*)\}")
# Between slices, a TPU's program hands its host what to send: a collective's name, and `{1,2}x{0:7}`, slices x devices.
_BETWEEN_SLICES = re.compile(r'_xla_megascale_target=(?:"\{([\d,:]+)\}x)?.*?_xla_megascale_transfer_type="(\w+)"')
SLICES = 'slices'  # the axis of such a collective
_ARRAY = re.compile(r'([a-z]\w*)\[([\d,]*)\]')


class Collective(NamedTuple):
  """Collectives of one kind over the same axes.

  Attributes:
    kind: one of KINDS.
    axes: of the mesh, `replica`, `fsdp`, `tensor`; or `slices`, where a program hands its host what the others get.
    size: devices in a group.
    count: how often a step runs one.
    bytes: what goes in or comes out on a device, the larger of both, summed over a step.
  """

  kind: str
  axes: tuple[str, ...]
  size: int
  count: float
  bytes: float


class _Instruction(NamedTuple):
  name: str
  type: str
  opcode: str
  rest: str


def collectives(text: str, mesh_shape: dict[str, int], turns_of_open_loops: float) -> list[Collective]:
  """The collectives of a step.

  Args:
    text: `compiled.as_text()`.
    mesh_shape: axis -> size, in the mesh's order.
    turns_of_open_loops: of loops whose number of turns is not known before they run.

  Returns:
    One entry a kind, axes and group size, the most bytes first.
  """
  computations, entry = parse(text)
  totals: dict[tuple, list[float]] = {}
  chains = set()
  for instruction, times in _executed(computations, entry, turns_of_open_loops):
    key = _kind(instruction, mesh_shape)
    if key is None:
      continue
    chain = _CHAIN.search(instruction.rest)
    if chain and chain.groups() in chains:
      continue
    if chain:
      chains.add(chain.groups())
    total = totals.setdefault(key, [0.0, 0.0])
    total[0] += times
    total[1] += times * _moved(instruction, key)
  found = [Collective(*key, *total) for key, total in totals.items()]
  return sorted(found, key=lambda collective: -collective.bytes)


def parse(text: str) -> tuple[dict[str, list[_Instruction]], str]:
  """Instructions by computation, and the name of the entry.

  A TPU's reduce-scatter is a fusion whose computation holds an all-reduce; here it is a `fused-reduce-scatter`.
  """
  computations: dict[str, list[_Instruction]] = {}
  entry, current, scatters = '', None, False
  for line in text.splitlines():
    header = _HEADER.match(line)
    if header:
      current = computations.setdefault(header.group(1), [])
      scatters = header.group(1).startswith('all-reduce-scatter')
      if line.startswith('ENTRY'):
        entry = header.group(1)
    elif current is not None:
      match = _INSTRUCTION.match(line)
      if match:
        instruction = _Instruction(*match.groups())
        if scatters and instruction.opcode == 'all-reduce':
          instruction = instruction._replace(opcode=f'{FUSED}reduce-scatter')
        current.append(instruction)
  return computations, entry


def _executed(computations, name: str, open_turns: float, times: float = 1.0) -> Iterator[tuple[_Instruction, float]]:
  """Every instruction that runs, and how often."""
  for instruction in computations.get(name, ()):
    yield instruction, times
    for called, turns in _called(instruction, computations, open_turns):
      yield from _executed(computations, called, open_turns, times * turns)


def _called(instruction: _Instruction, computations, open_turns: float) -> Iterator[tuple[str, float]]:
  rest = instruction.rest
  if instruction.opcode == 'while':
    body, condition = (re.search(rf'{part}=%?([\w.\-]+)', rest).group(1) for part in ('body', 'condition'))
    yield body, loop_turns(rest, computations.get(condition, ())) or open_turns
    return
  for name in _CALLED.findall(rest):
    yield name, 1.0
  for names in _BRANCHES.findall(rest):
    for name in names.split(','):
      yield name.strip().lstrip('%'), 1.0


def loop_turns(attributes: str, condition: Sequence[_Instruction]) -> int | None:
  """How often a loop turns: as XLA says, or as its condition compares with a constant; None if neither."""
  known = re.search(r'"known_trip_count":\{"n":"(\d+)"', attributes)
  if known:
    return int(known.group(1))
  constants = {i.name: i.rest for i in condition if i.opcode == 'constant'}
  for instruction in condition:
    if instruction.opcode == 'compare' and 'direction=LT' in instruction.rest:
      for name in re.findall(r'%([\w.\-]+)', instruction.rest):
        if name in constants:
          return int(constants[name].split(')')[0])
  return None


def type_bytes(text: str) -> float:
  """Bytes of an array type; of a tuple, of its largest array: an asynchronous collective yields operand and result."""
  sizes = [math.prod(int(d) for d in dims.split(',') if d) * _BYTES.get(dtype, 4)
           for dtype, dims in _ARRAY.findall(text)]
  return max(sizes, default=0.0)


def _tuple_bytes(text: str) -> float:
  return sum(math.prod(int(d) for d in dims.split(',') if d) * _BYTES.get(dtype, 4)
             for dtype, dims in _ARRAY.findall(text))


def _kind(instruction: _Instruction, mesh_shape: dict[str, int]) -> tuple[str, tuple[str, ...], int] | None:
  """Kind, axes and size of a group; None for what is no collective, or of one device alone."""
  between = _BETWEEN_SLICES.search(instruction.rest) if instruction.opcode == 'send' else None
  if between:
    slices, transfer = between.groups()
    kind = 'collective-permute' if transfer == 'ONE_TO_ONE' else transfer.lower().replace('_', '-')
    return kind, (SLICES,), _count(slices) if slices else 2
  kind = instruction.opcode.removesuffix('-start').removeprefix(FUSED)
  axes, size = _axes(instruction.rest, mesh_shape) if kind in KINDS else ((), 1)
  return (kind, axes, size) if axes else None


def _count(ranges: str) -> int:
  """Of `1,2` or `0:7`, from the first to the last."""
  ends = ([int(end) for end in part.split(':')] for part in ranges.split(','))
  return sum(end[-1] - end[0] + 1 for end in ends)


def _moved(instruction: _Instruction, key: tuple[str, tuple[str, ...], int]) -> float:
  """Bytes of the larger side of a collective on one device."""
  kind, _, size = key
  if instruction.opcode == 'send':
    return type_bytes(instruction.type) * (size if kind == 'all-gather' else 1)
  if instruction.opcode.endswith('-start'):
    return type_bytes(instruction.type)
  return _tuple_bytes(instruction.type) * (size if instruction.opcode == 'reduce-scatter' else 1)


def _axes(rest: str, mesh_shape: dict[str, int]) -> tuple[tuple[str, ...], int]:
  """The axes that a collective's groups run along, and the size of a group."""
  group = first_group(rest, math.prod(mesh_shape.values()))
  if len(group) <= 1:
    return (), 1
  places = np.array(np.unravel_index(group, tuple(mesh_shape.values())))
  axes = tuple(axis for axis, row in zip(mesh_shape, places, strict=True) if len(set(row.tolist())) > 1)
  return axes, len(group)


def first_group(rest: str, devices: int) -> list[int]:
  """The devices of the first of a collective's groups, as places in the mesh; `rest` is its text after the opcode."""
  iota = re.search(r'replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?', rest)
  if iota:
    groups, size = int(iota.group(1)), int(iota.group(2))
    return _transposed(np.arange(groups * size), iota.group(3), iota.group(4)).reshape(groups, size)[0].tolist()
  named = _NAMED_GROUPS.search(rest)
  if named:
    mesh, shape, order, used = named.groups()
    ids = np.arange(devices)
    if shape:
      ids = _transposed(ids, shape, order).ravel()
    return ids[_group_of_named_axes(mesh, used)].tolist()
  listed = re.search(r'replica_groups=\{\{([\d,]*)\}', rest)
  if listed:
    return [int(d) for d in listed.group(1).split(',') if d]
  pairs = re.search(r'source_target_pairs=\{\{(\d+),(\d+)\}', rest)
  if pairs:
    return [int(d) for d in pairs.groups()]
  return list(range(devices))  # replica_groups={}: all


def _transposed(ids: np.ndarray, shape: str, order: str | None) -> np.ndarray:
  """`2,4` and `1,0`: the ids in that shape, its axes in that order."""
  ids = ids.reshape([int(d) for d in shape.split(',')])
  return ids.transpose([int(d) for d in order.split(',')]) if order else ids


def _group_of_named_axes(mesh: str, used: str) -> list[int]:
  """`'axis_0'=2,'axis_1'=8`, `'axis_1'` or a part of it, `'axis_1':(2)4`: the four-way one after a two-way one."""
  sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", mesh)}
  ids = np.arange(math.prod(sizes.values())).reshape(tuple(sizes.values()))
  places = [slice(0, 1)] * len(sizes)
  parts = []
  for name, before, size in re.findall(r"'(\w+)'(?::\((\d+)\)(\d+))?", used):
    axis = list(sizes).index(name)
    places[axis] = slice(None)
    if size:
      after = sizes[name] // (int(before) * int(size))
      parts.append((axis, slice(0, int(size) * after, after)))
  for axis, part in parts:
    places[axis] = part
  return ids[tuple(places)].ravel().tolist()
