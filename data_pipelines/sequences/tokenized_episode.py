"""An episode, or a part of one, as tokens, from which windows are cut."""

from collections.abc import Sequence
import dataclasses

import numpy as np

from data_pipelines.errors import InputError
from data_pipelines.sequences.tokens import ACTION_POSITION, Tokens, no_patches
from data_pipelines.tokenization.images import patchify


@dataclasses.dataclass(frozen=True)
class TokenizedEpisode:
  """An episode of T timesteps; a document's every token is a timestep, a picture with its text is one.

  Attributes:
    tokens: int32 [n], as the following three in `Tokens`, over all timesteps.
    labels: int32 [n].
    loss_mask: bool [n].
    local_positions: int32 [n].
    step_ends: int64 [T], where in [0, n] each timestep ends.
    pictures: for each picture of a timestep, in token order, a sequence of T pictures, perhaps still compressed;
      indexing one with a slice gives uint8 [t, height, width, 3].
    step_intervals: uint8 [p, 2, 2], of the p patches of one timestep.
    patch_id: id that patches have in `tokens`.
    hidden_action_id: id that hidden actions get.
  """

  tokens: np.ndarray
  labels: np.ndarray
  loss_mask: np.ndarray
  local_positions: np.ndarray
  step_ends: np.ndarray
  pictures: tuple[Sequence[np.ndarray], ...]
  step_intervals: np.ndarray
  patch_id: int
  hidden_action_id: int

  @property
  def length(self) -> int:
    """T, timesteps."""
    return len(self.step_ends)

  @property
  def step_patches(self) -> int:
    return len(self.step_intervals)

  @property
  def nbytes(self) -> int:
    """Memory it holds, pictures as compressed as they are."""
    arrays = (self.tokens, self.labels, self.loss_mask, self.local_positions, self.step_ends, *self.pictures)
    return sum(getattr(array, 'nbytes', 0) for array in arrays)

  def window(self, start: int, stop: int, hide_actions: bool = False) -> Tokens:
    """Timesteps [start, stop). Only their pictures are decoded.

    Args:
      start: first timestep.
      stop: one past the last.
      hide_actions: the input ids of action tokens become `hidden_action_id`; labels stay.
    """
    part = slice(int(self.step_ends[start - 1]) if start else 0, int(self.step_ends[stop - 1]) if stop else 0)
    tokens, local_positions = self.tokens[part], self.local_positions[part]
    if hide_actions:
      tokens = np.where(local_positions == ACTION_POSITION, np.int32(self.hidden_action_id), tokens)
    if self.pictures:
      patches, intervals = self._patches(start, stop)
      patch_positions = np.flatnonzero(tokens == self.patch_id).astype(np.int32)
    else:
      patches, intervals = no_patches()
      patch_positions = np.zeros(0, np.int32)
    return Tokens(tokens, self.labels[part], self.loss_mask[part], local_positions, patches, patch_positions, intervals)

  def _patches(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    by_step = np.concatenate([patchify(pictures[start:stop])[0] for pictures in self.pictures], axis=1)
    if by_step.shape[:2] != (stop - start, self.step_patches):
      raise InputError(f'{by_step.shape[:2]} timesteps and patches in the pictures, '
                       f'want {(stop - start, self.step_patches)}; they do not fit the task\'s spec')
    return by_step.reshape(-1, *by_step.shape[2:]), np.tile(self.step_intervals, (stop - start, 1, 1))
