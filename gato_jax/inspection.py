"""`gato-jax inspect`: what a config comes to, before anything is allocated."""

import math
from typing import Any

import jax
import yaml

from data_pipelines.errors import InputError
from data_pipelines.tokenization.vocabulary import Vocabulary
from gato_jax.mesh import make_abstract_mesh, make_mesh
from gato_jax.training.optimizer import make_optimizer
from gato_jax.training.program import check_training
from gato_jax.training.state import abstract_state, define_model


def inspect(config: Any, devices: int = 0, slices: int = 1) -> str:
  """The resolved config, and a table of all arrays of the state: path, shape, layout, bytes on a device.

  Args:
    config: a whole config.
    devices: to lay it out on; 0: those that are here.
    slices: that the devices are in.

  Raises:
    InputError: a mesh, a batch or a model that do not fit each other; slices of devices that are here.
  """
  if slices < 1 or slices > 1 and not devices:
    raise InputError(f'--slices={slices}: at least 1, and with --devices only; the slices that are here are known')
  mesh = make_abstract_mesh(config.mesh, devices, slices) if devices else make_mesh(config.mesh)
  check_training(config.training, mesh)
  definition = define_model(config.model, Vocabulary(**config.data.vocabulary.to_dict()))
  state = abstract_state(definition, make_optimizer(config.training), mesh)
  rows = [_row('parameters', state.parameters), _row('optimizer', state.optimizer_state)]
  lines = [line for part in rows for line in part]
  width = max(len(path) for path, *_ in lines)
  table = [f'{path:{width}}  {shape:24}  {spec:44}  {size:>16,}' for path, shape, spec, size in lines]
  count = sum(leaf.size for leaf in jax.tree.leaves(state.parameters))
  total = sum(size for *_, size in lines)
  return '\n'.join([
      yaml.safe_dump(plain(config.to_dict()), sort_keys=False).rstrip(), '',
      f'{"array":{width}}  {"shape":24}  {"layout":44}  {"bytes a device":>16}', *table, '',
      f'{count:,} parameters on the mesh {dict(mesh.shape)}: {total:,} bytes of state a device'])


def _row(name: str, tree: Any) -> list[tuple[str, str, str, int]]:
  """(path, shape, layout, bytes a device) of each array."""
  return [
      (f'{name}/' + jax.tree_util.keystr(path, simple=True, separator='/'), str(leaf.shape), str(leaf.sharding.spec),
       math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize)
      for path, leaf in jax.tree.leaves_with_path(tree)]


def plain(value: Any) -> Any:
  """Without tuples, which YAML would mark as Python's own."""
  if isinstance(value, dict):
    return {key: plain(inner) for key, inner in value.items()}
  return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value
