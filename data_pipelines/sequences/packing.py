"""Packs segments of known lengths into a block of rows, under two capacities: positions and picture patches."""

from collections.abc import Sequence

import numpy as np

from data_pipelines.sequences.windows import DocumentDrawer, Segment, SegmentDrawer

_LARGE = 0.25  # of a row: from this length on it matters for the fill where a segment goes
_LEAST_TEXT = 2  # one token alone has nothing to predict
_TRIES = 4  # windows drawn in vain before what is left of a row stays empty


class BlockPacker:
  """A block of R rows being filled.

  Segments with pictures go first, since patch slots are what runs out unevenly. Long segments go best fit, longest
  first. Short ones go, longest first, into any of the rows begun that has room, so that each row, and with it each
  batch, holds a mixture of tasks instead of many pieces of one length. Windows that fit nowhere are cut at timestep
  boundaries to fill what is left.

  Args:
    rows: R.
    row_tokens: L.
    row_patches: P.
    rng: decides all that is random here.
  """

  def __init__(self, rows: int, row_tokens: int, row_patches: int, rng: np.random.Generator):
    self._room = np.full(rows, row_tokens)
    self._slots = np.full(rows, row_patches)
    self._row_tokens = row_tokens
    self._row_patches = row_patches
    self._rng = rng
    self._begun = rows  # short segments go into the first so many
    self._rows: list[list[Segment]] = [[] for _ in range(rows)]

  @property
  def rows(self) -> list[list[Segment]]:
    return self._rows

  def place(self, segments: Sequence[Segment], drawers: Sequence[SegmentDrawer | DocumentDrawer]) -> None:
    """Places segments where they fit; what fits nowhere, whole or cut, is left out.

    Args:
      segments: windows, in any order.
      drawers: by source; cuts windows.
    """
    shuffled = [segments[i] for i in self._rng.permutation(len(segments))]  # else the last of equal ones always lose
    shuffled.sort(key=lambda segment: segment.tokens, reverse=True)
    pictures = [segment for segment in shuffled if segment.patches]
    plain = [segment for segment in shuffled if not segment.patches]
    needed = _rows_of([segment.tokens for segment in shuffled], self._row_tokens)
    in_large = _rows_of([segment.tokens for segment in plain if self._is_large(segment)], self._row_tokens)
    self._begun = max(needed - in_large, _rows_of([segment.patches for segment in pictures], self._row_patches), 1)
    waiting = self._place_whole(pictures)
    self._begun = max(self._begun, needed)
    for segment in waiting + self._place_whole(plain):
      self._place_cut(segment, drawers[segment.source])

  def fill_with_text(self, drawers: Sequence[DocumentDrawer], shares: np.ndarray) -> None:
    """Fills up every row with documents of text datasets, drawn to their shares of what is filled."""
    for row in range(len(self._rows)):
      while self._room[row] >= _LEAST_TEXT:
        room = int(self._room[row])
        # Shares are of positions, draws are of pieces, whose length depends on the room.
        chances = shares / [drawer.mean_tokens(room) for drawer in drawers]
        drawer = drawers[self._rng.choice(len(drawers), p=chances / chances.sum())]
        self._put(row, drawer.draw_within(self._rng, room))

  def fill_with_windows(self, drawers: Sequence[SegmentDrawer], shares: np.ndarray) -> None:
    """Fills up rows with windows of other datasets, drawn by their shares and cut to fit, as far as any fit."""
    least_tokens = np.array([drawer.least_tokens for drawer in drawers])
    least_patches = np.array([drawer.least_patches for drawer in drawers])
    for row in range(len(self._rows)):
      tries = 0
      while tries < _TRIES:
        fits = (least_tokens <= self._room[row]) & (least_patches <= self._slots[row])
        if not (fits * shares).any():
          break
        drawer = drawers[self._rng.choice(len(drawers), p=fits * shares / (fits * shares).sum())]
        segment = drawer.draw_within(self._rng, int(self._room[row]), int(self._slots[row]))
        tries += segment is None
        if segment is not None:
          self._put(row, segment)

  def _is_large(self, segment: Segment) -> bool:
    return segment.tokens >= _LARGE * self._row_tokens

  def _place_whole(self, segments: Sequence[Segment]) -> list[Segment]:
    """Places segments, given longest first, and returns those that fit nowhere."""
    left = []
    for segment in segments:
      row = self._best_fit(segment) if self._is_large(segment) else self._any_fit(segment)
      if row is None:
        left.append(segment)
      else:
        self._put(row, segment)
    return left

  def _place_cut(self, segment: Segment | None, drawer: SegmentDrawer) -> None:
    while segment is not None:
      row = int(np.argmax(np.where(self._slots >= drawer.least_patches, self._room, -1)))
      part, segment = drawer.split(segment, int(self._room[row]), int(self._slots[row]))
      if part is not None:
        self._put(row, part)

  def _best_fit(self, segment: Segment) -> int | None:
    rows = np.flatnonzero((self._room >= segment.tokens) & (self._slots >= segment.patches))
    return int(rows[np.argmin(self._room[rows])]) if len(rows) else None

  def _any_fit(self, segment: Segment) -> int | None:
    while True:
      begun = slice(self._begun)  # more than there are rows does no harm
      rows = np.flatnonzero((self._room[begun] >= segment.tokens) & (self._slots[begun] >= segment.patches))
      if len(rows):
        return int(rows[int(self._rng.random() * len(rows))])
      if self._begun >= len(self._rows):
        return None
      self._begun += 1

  def _put(self, row: int, segment: Segment) -> None:
    self._rows[row].append(segment)
    self._room[row] -= segment.tokens
    self._slots[row] -= segment.patches


def _rows_of(sizes: Sequence[int], capacity: int) -> int:
  """Rows that so much takes, at the least."""
  return -(-sum(sizes) // capacity) if capacity else 0
