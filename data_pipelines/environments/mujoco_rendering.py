"""MuJoCo without a display: the choice of an OpenGL backend, and pictures where there is one."""

import ctypes.util
import functools
import os
import sys

import numpy as np

from data_pipelines.environments.simulation import import_simulator
from data_pipelines.errors import InputError

HEIGHT, WIDTH = 240, 320


@functools.cache
def choose_backend() -> str:
  """Sets MUJOCO_GL unless the user did. Call before anything imports mujoco, which fails on a backend that is missing.

  Returns:
    The backend; `disabled` where neither EGL nor OSMesa is installed, and then nothing can be drawn.
  """
  if 'MUJOCO_GL' not in os.environ and sys.platform == 'linux':
    found = {name for name in ('EGL', 'GL', 'OSMesa') if ctypes.util.find_library(name)}
    os.environ['MUJOCO_GL'] = 'egl' if {'EGL', 'GL'} <= found else 'osmesa' if 'OSMesa' in found else 'disabled'
  return os.environ.get('MUJOCO_GL', '')


class Camera:
  """Pictures of one simulation from one camera. Needs as much memory as a renderer only once it is used.

  Args:
    model: mujoco.MjModel.
    data: mujoco.MjData.
    camera: the camera's name or number in the model.
    height, width: of the picture.
    plain: without shadows, reflections, sky and haze, six times as fast in software.
  """

  def __init__(self, model, data, camera: str | int, height: int = HEIGHT, width: int = WIDTH, plain: bool = False):
    self._model = model
    self._data = data
    self._camera = camera
    self._size = (height, width)
    self._plain = plain
    self._renderer = None

  def picture(self) -> np.ndarray | None:
    """uint8 [height, width, 3], or None where no backend works here."""
    if choose_backend() in ('disable', 'disabled', 'off', 'false', '0'):
      return None
    if self._renderer is None:
      mujoco = import_simulator('mujoco')
      # In software, shadows and multisampling take most of a frame's time.
      self._model.vis.quality.shadowsize = 0
      self._model.vis.quality.offsamples = 0
      try:
        self._renderer = mujoco.Renderer(self._model, *self._size)
      except (ImportError, RuntimeError, mujoco.FatalError):  # the library is there, a device to draw on is not
        return None
      if self._plain:
        for flag in ('SHADOW', 'REFLECTION', 'SKYBOX', 'HAZE'):
          self._renderer.scene.flags[getattr(mujoco.mjtRndFlag, f'mjRND_{flag}')] = False
    self._renderer.update_scene(self._data, camera=self._camera)
    return self._renderer.render()

  def observation(self, task: str) -> np.ndarray:
    """The picture where a task cannot be played without; raises InputError naming the task where nothing can draw."""
    picture = self.picture()
    if picture is None:
      raise InputError(f'{task}: MuJoCo cannot draw here; install OpenGL (Debian: apt-get install libegl1 libgl1, or '
                       'libosmesa6 without a GPU) and leave MUJOCO_GL unset, or set it to egl or osmesa')
    return picture

  def close(self) -> None:
    if self._renderer is not None:
      self._renderer.close()
      self._renderer = None
