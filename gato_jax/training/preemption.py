"""Notices that this machine is wanted back: SIGTERM, which a maintenance event, a preemption or a time limit sends."""

import signal

from jax.experimental import multihost_utils

from gato_jax.group import Group


class Preemption:
  """Tells when to save and stop.

  With several processes it is JAX's distributed runtime that catches the signal, wherever it came, and picks a step
  that none of them has passed yet.
  """

  def __init__(self, group: Group):
    self._alone = group.count == 1
    self._noticed = False
    if self._alone:
      self._before = signal.signal(signal.SIGTERM, self._notice)

  def due(self, step: int) -> bool:
    """Whether to save and stop at this step; to be asked at every step, by every process."""
    return self._noticed if self._alone else multihost_utils.reached_preemption_sync_point(step)

  def close(self) -> None:
    if self._alone:
      signal.signal(signal.SIGTERM, self._before)

  def _notice(self, number, frame) -> None:
    del number, frame
    self._noticed = True
