"""Frames of a video, decoded as they are asked for."""

from collections.abc import Iterator, Sequence
import pathlib

import numpy as np

from data_pipelines.packages import import_package


class VideoFrames(Sequence):
  """The frames of an episode, uint8 [height, width, 3] each; only one is in memory at a time.

  Args:
    file: of any format and codec that FFmpeg decodes.
    start: time of the first frame, in seconds.
    length: how many frames.
    rate: frames a second.
  """

  def __init__(self, file: pathlib.Path, start: float, length: int, rate: float):
    self._file = file
    self._start = start
    self._length = length
    self._rate = rate

  def __len__(self) -> int:
    return self._length

  def __getitem__(self, index: int) -> np.ndarray:
    raise TypeError('a video is read from its start: iterate')

  def __iter__(self) -> Iterator[np.ndarray]:
    """Raises ValueError where the video cannot be read, or lacks a frame."""
    av = import_package('av', 'formats')
    wanted = 0
    try:
      with av.open(str(self._file)) as container:
        stream = container.streams.video[0]
        container.seek(int(self._start / stream.time_base), stream=stream)  # to the key frame before it
        for frame in container.decode(stream):
          number = round((frame.time - self._start) * self._rate)
          if number < wanted:
            continue
          if number > wanted:  # those that follow would stand beside the wrong steps
            break
          yield frame.to_ndarray(format='rgb24')
          wanted += 1
          if wanted == self._length:
            return
    except (OSError, ValueError, IndexError) as error:  # of FFmpeg's errors some are the one, some the other
      raise ValueError(f'{self._file.name} cannot be read ({error})') from error
    raise ValueError(f'{self._file.name} has no frame {wanted} of {self._length}, which is shown at '
                     f'{self._start + wanted / self._rate:.3f} s')
