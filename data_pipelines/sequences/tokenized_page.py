"""A whole page of text and pictures as tokens, from which windows are cut."""

import dataclasses
from typing import Any

import numpy as np

from data_pipelines.sequences.tokens import Tokens, no_patches
from data_pipelines.tokenization.images import patchify


@dataclasses.dataclass(frozen=True)
class TokenizedPage:
  """A page of n tokens, each of which counts as a timestep; windows begin and end outside its pictures.

  Attributes:
    tokens: int32 [n], as the following two in `Tokens`; they are their own labels.
    loss_mask: bool [n].
    local_positions: int32 [n].
    picture_starts: int64 [pictures], where in [0, n) the patches of each picture begin.
    images: uint8 [pictures, height, width, 3], perhaps still compressed; a slice is decoded.
    intervals: uint8 [p, 2, 2], of the p patches of one picture.
  """

  tokens: np.ndarray
  loss_mask: np.ndarray
  local_positions: np.ndarray
  picture_starts: np.ndarray
  images: Any
  intervals: np.ndarray

  @property
  def length(self) -> int:
    return len(self.tokens)

  @property
  def step_patches(self) -> int:
    """Patches of one picture."""
    return len(self.intervals)

  @property
  def nbytes(self) -> int:
    """Memory it holds, pictures as compressed as they are."""
    arrays = (self.tokens, self.loss_mask, self.local_positions, self.picture_starts, self.images)
    return sum(getattr(array, 'nbytes', 0) for array in arrays)

  def window(self, start: int, stop: int, hide_actions: bool = False) -> Tokens:
    """Tokens [start, stop). Only their pictures are decoded. A page has no actions to hide."""
    del hide_actions
    part = slice(start, stop)
    pictures = slice(*np.searchsorted(self.picture_starts, (start, stop)).tolist())
    starts = self.picture_starts[pictures] - start
    if len(starts):
      patches = patchify(self.images[pictures])[0]
      patches, intervals = patches.reshape(-1, *patches.shape[2:]), np.tile(self.intervals, (len(starts), 1, 1))
    else:
      patches, intervals = no_patches()
    patch_positions = (starts[:, None] + np.arange(self.step_patches)).ravel().astype(np.int32)
    return Tokens(self.tokens[part], self.tokens[part], self.loss_mask[part], self.local_positions[part], patches,
                  patch_positions, intervals)
