"""Logs episodes as they happen. What was closed is on the disk, whatever happens to the process afterwards."""

from collections.abc import Mapping
import os
import pathlib
from typing import Any

import numpy as np

from data_pipelines.datasets.pictures import encode_png
from data_pipelines.errors import InputError

SUFFIX = '.npz'
PICTURES = ('.png', '.ends')  # behind a picture's name: all its PNGs one after the other, and where each ends


class EpisodeWriter:
  """Writes a folder of episodes, one NumPy file each; train on it with `mixture_entry(dataset='recorded', path=...)`.

      writer = EpisodeWriter('logs', action_low=[-1.5, 0], action_high=[1.5, 0.08])
      for ...:
        writer.append({'camera': image, 'joints': joints, 'instruction': 'open the drawer'}, action, reward)
      writer.close_episode(success=True)

  An episode that is not closed is lost. Several writers, of different processes even, may share a folder.

  Args:
    directory: made if it is not there.
    action_low: what the actuators can do at least, one number a component; empty: the data's least value counts.
    action_high: likewise at most.
  """

  def __init__(self, directory: str | os.PathLike, action_low: Any = (), action_high: Any = ()):
    self._directory = pathlib.Path(directory)
    self._directory.mkdir(parents=True, exist_ok=True)
    self._bounds = np.asarray(action_low, np.float64), np.asarray(action_high, np.float64)
    self._start()

  def append(self, observation: Mapping[str, Any], action: Any, reward: float = 0.0) -> None:
    """Adds a timestep: what was seen, then what was done, and what came of it.

    Args:
      observation: key -> numbers, a str, or a picture, uint8 [height, width, 3].
      action: floats in the actuators' own units, or an int.
      reward: of this step.

    Raises:
      InputError: it differs from the episode's first step in its keys, shapes or types.
    """
    step = {f'observation.{key}': _value(value) for key, value in observation.items()}
    step |= {'action': _value(action), 'reward': np.float32(reward)}
    looks = {name: _look(value) for name, value in step.items()}
    if self._steps and looks != self._looks:
      wrong = sorted(name for name in looks.keys() | self._looks.keys() if looks.get(name) != self._looks.get(name))
      raise InputError(f'step {len(self._steps)} of the episode differs from its first in {", ".join(wrong)}: '
                       f'{[looks.get(name) for name in wrong]} instead of {[self._looks.get(name) for name in wrong]}')
    self._looks = looks
    self._steps.append(step)

  def close_episode(self, final_observation: Mapping[str, Any] | None = None, terminated: bool = False,
                    success: bool | None = None) -> pathlib.Path:
    """Writes the episode; it is safe on the disk when this returns.

    Args:
      final_observation: what was seen after the last action, if it was.
      terminated: it ended by itself, and was not cut off.
      success: whether it did what it should; None: nobody says.

    Returns:
      its file.
    """
    if not self._steps:
      raise InputError('the episode has no steps; append one before it is closed')
    arrays = {}
    for name in self._steps[0]:
      values = [step[name] for step in self._steps]
      if name.startswith('observation.') and final_observation is not None:
        values.append(_value(final_observation[name.removeprefix('observation.')]))
      arrays |= _arrays(name, values)
    arrays |= {'terminated': np.bool_(terminated), 'action_low': self._bounds[0], 'action_high': self._bounds[1]}
    if success is not None:
      arrays['success'] = np.bool_(success)
    file = self._write(arrays)
    self._start()
    return file

  def drop_episode(self) -> None:
    """Forgets the steps since the last episode."""
    self._start()

  def _start(self) -> None:
    self._steps: list[dict[str, Any]] = []
    self._looks: dict[str, Any] = {}

  def _write(self, arrays: Mapping[str, np.ndarray]) -> pathlib.Path:
    """Under another name first: a file that has its own is whole."""
    unfinished = self._directory / f'.{os.getpid()}.unfinished'
    with open(unfinished, 'wb') as file:
      np.savez(file, **arrays)
      file.flush()
      os.fsync(file.fileno())
    number = len(list(self._directory.glob(f'*{SUFFIX}')))
    while True:
      target = self._directory / f'{number:08d}{SUFFIX}'
      try:
        os.link(unfinished, target)  # fails where another writer was first
        break
      except FileExistsError:
        number += 1
    unfinished.unlink()
    folder = os.open(self._directory, os.O_RDONLY)
    os.fsync(folder)  # the name too
    os.close(folder)
    return target


def _value(value: Any) -> Any:
  """A picture as PNG, a str as it is, all else as an array."""
  if isinstance(value, str):
    return value
  array = np.asarray(value)
  if array.dtype == np.uint8 and array.ndim == 3 and array.shape[-1] == 3:
    return encode_png(array)
  if array.dtype.kind not in 'biuf':
    raise InputError(f'{type(value).__name__} is neither numbers, nor a str, nor a picture uint8 [height, width, 3]')
  return array


def _look(value: Any) -> Any:
  return (value.shape, value.dtype.kind) if isinstance(value, (np.ndarray, np.generic)) else type(value).__name__


def _arrays(name: str, values: list[Any]) -> dict[str, np.ndarray]:
  if isinstance(values[0], bytes):
    lengths = [len(value) for value in values]
    return dict(zip((name + suffix for suffix in PICTURES),
                    (np.frombuffer(b''.join(values), np.uint8), np.cumsum(lengths)), strict=True))
  return {name: np.array(values)}
