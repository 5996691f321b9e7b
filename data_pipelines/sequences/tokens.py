"""A run of tokens, before it is packed."""

from collections.abc import Sequence
import dataclasses

import numpy as np

from data_pipelines.tokenization.images import PATCH_SIZE

# Local positions (paper appendix C.3). The table has 512 entries: observation tokens count up from 0 and stay on the
# last of theirs if there are more; the separator and stand-alone text have one each; all action tokens share one.
LOCAL_POSITIONS = 512
ACTION_POSITION = LOCAL_POSITIONS - 1
SEPARATOR_POSITION = LOCAL_POSITIONS - 2
DOCUMENT_POSITION = LOCAL_POSITIONS - 3
LAST_OBSERVATION_POSITION = LOCAL_POSITIONS - 4


@dataclasses.dataclass(frozen=True)
class Tokens:
  """n tokens in order, of which p are picture patches. Nothing is shifted: `labels[i]` belongs to place i.

  Attributes:
    tokens: int32 [n], the input ids; a patch has the vocabulary's patch id.
    labels: int32 [n], what a model should have predicted for this place; an action's label is the expert's.
    loss_mask: bool [n], whether it is predicted at all: text and actions (paper section 2.3).
    local_positions: int32 [n], place within the timestep's observation, or one of the constants of this module.
    patches: uint8 [p, 16, 16, 3].
    patch_positions: int32 [p], the places in [0, n) that the patches take.
    patch_intervals: uint8 [p, 2, 2], quantised row and column interval of each patch.
  """

  tokens: np.ndarray
  labels: np.ndarray
  loss_mask: np.ndarray
  local_positions: np.ndarray
  patches: np.ndarray
  patch_positions: np.ndarray
  patch_intervals: np.ndarray

  def __len__(self) -> int:
    return len(self.tokens)


def no_patches() -> tuple[np.ndarray, np.ndarray]:
  """Patches and intervals of a run without pictures."""
  return np.zeros((0, PATCH_SIZE, PATCH_SIZE, 3), np.uint8), np.zeros((0, 2, 2), np.uint8)


def text_run(ids: np.ndarray) -> Tokens:
  """A stretch of a document."""
  patches, intervals = no_patches()
  return Tokens(ids, ids, np.ones(len(ids), bool), np.full(len(ids), DOCUMENT_POSITION, np.int32), patches,
                np.zeros(0, np.int32), intervals)


def concatenate(runs: Sequence[Tokens]) -> Tokens:
  """One run after the other."""
  starts = np.cumsum([0] + [len(run) for run in runs[:-1]])
  fields = {name: np.concatenate([getattr(run, name) for run in runs])
            for name in ('tokens', 'labels', 'loss_mask', 'local_positions', 'patches', 'patch_intervals')}
  positions = [run.patch_positions + start for run, start in zip(runs, starts, strict=True)]
  return Tokens(patch_positions=np.concatenate(positions).astype(np.int32), **fields)
