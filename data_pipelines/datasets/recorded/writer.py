"""Logs episodes as they happen. What was closed is on the disk, whatever happens to the process afterwards."""

from collections.abc import Mapping
import os
import pathlib
from typing import Any
import uuid

import numpy as np

from data_pipelines.datasets.pictures import encode_png, png_shape
from data_pipelines.errors import InputError

SUFFIX = '.npz'
PICTURES = ('.png', '.ends')  # behind a picture's name: all its PNGs one after the other, and where each ends
_OBSERVED = 'observation.'


class EpisodeWriter:
  """Writes a folder of episodes, one NumPy file each; train on it with `mixture_entry(dataset='recorded', path=...)`.

      writer = EpisodeWriter('logs', action_low=[-1.5, 0], action_high=[1.5, 0.08])
      for ...:
        writer.append({'camera': image, 'joints': joints, 'instruction': 'open the drawer'}, action, reward)
      writer.close_episode(success=True)

  An episode that is not closed is lost. Several writers, of different machines even, may share a folder.

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
    step = _observed(observation) | {'action': _value(action), 'reward': np.float32(reward)}
    if self._steps:
      _check(f'step {len(self._steps)} of the episode', step, self._steps[0])
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

    Raises:
      InputError: there are no steps, or the final observation differs from the first in its keys, shapes or types.
    """
    if not self._steps:
      raise InputError('the episode has no steps; append one before it is closed')
    final = {}
    if final_observation is not None:
      final = _observed(final_observation)
      first = {name: value for name, value in self._steps[0].items() if name.startswith(_OBSERVED)}
      _check('the final observation of the episode', final, first)
    arrays: dict[str, Any] = {}
    for name in self._steps[0]:
      arrays |= _arrays(name, [step[name] for step in (*self._steps, final) if name in step])
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

  def _write(self, arrays: Mapping[str, Any]) -> pathlib.Path:
    """Under another name first: a file that has its own is whole."""
    unfinished = self._directory / f'.{uuid.uuid4().hex}.unfinished'
    try:
      with open(unfinished, 'wb') as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
      target = self._named(unfinished)
    finally:
      unfinished.unlink(missing_ok=True)
    folder = os.open(self._directory, os.O_RDONLY)
    os.fsync(folder)  # the name too
    os.close(folder)
    return target

  def _named(self, unfinished: pathlib.Path) -> pathlib.Path:
    """Gives a file the next number as its name too."""
    number = len(list(self._directory.glob(f'*{SUFFIX}')))
    while True:
      target = self._directory / f'{number:08d}{SUFFIX}'
      try:
        os.link(unfinished, target)  # fails where another writer was first
        return target
      except FileExistsError:
        number += 1


def _observed(observation: Mapping[str, Any]) -> dict[str, Any]:
  return {_OBSERVED + key: _value(value) for key, value in observation.items()}


def _check(what: str, step: Mapping[str, Any], first: Mapping[str, Any]) -> None:
  """Raises InputError where a step has other items than the first, or items of another look."""
  looks, wanted = ({name: _look(value) for name, value in items.items()} for items in (step, first))
  wrong = sorted(name for name in looks.keys() | wanted.keys() if looks.get(name) != wanted.get(name))
  if wrong:
    raise InputError(f'{what} differs from its first in {", ".join(wrong)}: '
                     f'{[looks.get(name) for name in wrong]} instead of {[wanted.get(name) for name in wrong]}')


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
  if isinstance(value, bytes):
    return png_shape(value)
  return (value.shape, value.dtype.kind) if isinstance(value, (np.ndarray, np.generic)) else type(value).__name__


def _arrays(name: str, values: list[Any]) -> dict[str, np.ndarray]:
  if isinstance(values[0], bytes):
    lengths = [len(value) for value in values]
    return dict(zip((name + suffix for suffix in PICTURES),
                    (np.frombuffer(b''.join(values), np.uint8), np.cumsum(lengths)), strict=True))
  return {name: np.array(values)}
