"""Presets and sizes of the mesh, for one slice and several, without the devices."""

import jax
import pytest

from data_pipelines.errors import InputError
from gato_jax.config import default_config
from gato_jax.mesh import make_abstract_mesh, make_mesh, mesh_sizes, platform, slice_count


class Device:
  """What `make_mesh` looks at of a TPU."""

  platform, device_kind = 'cpu', 'cpu'

  def __init__(self, index, slice_index):
    self.id, self.slice_index, self.process_index = index, slice_index, index // 4


def mesh_config(**sizes):
  config = default_config().mesh
  config.update(sizes)
  return config


@pytest.mark.parametrize(('settings', 'devices', 'slices', 'sizes'), [
    ({}, 8, 1, (1, 8, 1)),
    ({}, 8, 2, (2, 4, 1)),
    ({'preset': 'dp'}, 8, 1, (8, 1, 1)),
    ({'preset': 'dp'}, 8, 2, (8, 1, 1)),
    ({'preset': 'fsdp'}, 8, 1, (1, 8, 1)),
    ({'preset': 'fsdp_tp'}, 16, 1, (1, 4, 4)),
    ({'preset': 'fsdp_tp', 'tensor': 2}, 16, 1, (1, 8, 2)),
    ({'tensor': 2}, 16, 2, (2, 4, 2)),
    ({'replica': 4}, 16, 2, (4, 4, 1)),
    ({'replica': 2, 'fsdp': 2, 'tensor': 2}, 8, 1, (2, 2, 2)),
    ({'replica': -1, 'fsdp': 2}, 8, 1, (4, 2, 1)),  # the axis that takes the rest is the one that says so
    ({'tensor': -1}, 8, 1, (1, 1, 8)),
])
def test_sizes(settings, devices, slices, sizes):
  assert mesh_sizes(mesh_config(**settings), devices, slices) == sizes


@pytest.mark.parametrize(('settings', 'devices', 'slices', 'words'), [
    ({'preset': 'pp'}, 8, 1, "'pp': must be one of dp, fsdp"),
    ({'fsdp': 3}, 8, 1, 'fsdp=3.*does not fit 8 devices'),
    ({'preset': 'fsdp'}, 8, 2, 'does not fit 2 slices: only replica.*multiple of 2.*preset=hybrid'),
    ({'replica': 3, 'fsdp': 4}, 12, 2, '2 slices'),
    ({'fsdp': -1, 'tensor': -1}, 8, 1, 'at most one'),
    ({'tensor': -2}, 8, 1, 'positive'),
])
def test_sizes_that_do_not_fit(settings, devices, slices, words):
  with pytest.raises(InputError, match=words):
    mesh_sizes(mesh_config(**settings), devices, slices)


def test_only_replica_crosses_from_slice_to_slice():
  devices = [Device(index, index % 2) for index in range(16)]  # as a runtime may list them
  assert slice_count(devices) == 2
  mesh = make_mesh(mesh_config(tensor=2), devices)
  assert dict(mesh.shape) == {'replica': 2, 'fsdp': 4, 'tensor': 2}
  for replica in range(2):
    assert {device.slice_index for device in mesh.devices[replica].flat} == {replica}


def test_abstract_mesh_has_the_same_sizes():
  assert dict(make_abstract_mesh(mesh_config(tensor=4), 32, 2).shape) == {'replica': 2, 'fsdp': 4, 'tensor': 4}


def test_platform_is_that_of_the_mesh():
  assert platform() == jax.default_backend()
  with jax.set_mesh(make_mesh(mesh_config())):
    assert platform() == jax.devices()[0].platform
    assert jax.eval_shape(lambda: int(platform() == jax.devices()[0].platform) * jax.numpy.ones(3)).shape == (3,)
