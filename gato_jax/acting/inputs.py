"""Runs of tokens, one a row, laid out as the model reads them."""

from collections.abc import Sequence

import numpy as np

from data_pipelines.sequences.tokens import Tokens
from data_pipelines.tokenization.images import PATCH_SIZE
from gato_jax.model.cache import TokenInputs

LENGTH_MULTIPLE = 32  # what lengths that differ are rounded up to, so that few different shapes are compiled


def round_up(count: int, multiple: int) -> int:
  """The next multiple."""
  return -(-count // multiple) * multiple


def lay_out(rows: Sequence[Tokens], length: int, patch_slots: int) -> TokenInputs:
  """Left-aligned rows with padding behind.

  Args:
    rows: B runs of at most `length` tokens and `patch_slots` patches.
    length: S.
    patch_slots: P.
  """
  shape = len(rows), length
  tokens, local_positions = (np.zeros(shape, np.int32) for _ in range(2))
  valid = np.zeros(shape, bool)
  patches = np.zeros((len(rows), patch_slots, PATCH_SIZE, PATCH_SIZE, 3), np.uint8)
  patch_positions = np.full((len(rows), patch_slots), length, np.int32)
  patch_intervals = np.zeros((len(rows), patch_slots, 2, 2), np.uint8)
  for row, run in enumerate(rows):
    n, p = len(run), len(run.patches)
    tokens[row, :n] = run.tokens
    local_positions[row, :n] = run.local_positions
    valid[row, :n] = True
    patches[row, :p] = run.patches
    patch_positions[row, :p] = run.patch_positions
    patch_intervals[row, :p] = run.patch_intervals
  return TokenInputs(tokens, local_positions, valid, patches, patch_positions, patch_intervals)
