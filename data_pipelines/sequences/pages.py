"""Which part of which page becomes a segment of a row: cut anywhere in text, never in a picture."""

import numpy as np

from data_pipelines.sequences.index import EpisodeIndex
from data_pipelines.sequences.windows import Segment, SegmentDrawer

_LEAST_TOKENS = 2  # one alone has nothing to predict


class PageDrawer(SegmentDrawer):
  """Draws pages of text and pictures: whole if one fits into a row, else a part of it.

  Every token is drawn as often as any other, but for pages of which the patches, not the tokens, are too many for a
  row: their parts are shorter. To that end, a part may reach out over either end of its page.

  Args:
    source: number of the dataset.
    index: its lengths; every picture must fit into a row.
    row_tokens: L, positions of a row.
    row_patches: P, patches of a row.
  """

  least_tokens = _LEAST_TOKENS
  least_patches = 0

  def __init__(self, source: int, index: EpisodeIndex, row_tokens: int, row_patches: int):
    self._source = source
    self._index = index
    self._row_tokens = row_tokens
    self._row_patches = row_patches
    pictures = np.diff(np.searchsorted(index.picture_starts, index.step_starts))
    self._fits = (index.lengths <= row_tokens) & (pictures * index.step_patches <= row_patches)
    # A page is drawn once for every place that a part of it can begin at; one that fits, for every token of a row.
    places = np.where(self._fits, row_tokens, index.lengths + row_tokens - 1)
    self._places = np.concatenate([[0], np.cumsum(places)])

  def split(self, segment: Segment, tokens: int, patches: int) -> tuple[Segment | None, Segment | None]:
    """See `SegmentDrawer`."""
    cut, cut_patches = self._cut(segment.episode, segment.start, min(segment.stop, segment.start + tokens), patches)
    if cut - segment.start < min(_LEAST_TOKENS, segment.tokens):
      return None, None
    part = segment._replace(tokens=cut - segment.start, patches=cut_patches, stop=cut)
    if cut == segment.stop:
      return part, None
    return part, segment._replace(tokens=segment.stop - cut, patches=segment.patches - cut_patches, start=cut)

  def _draw(self, rng: np.random.Generator, count: int) -> list[Segment]:
    return [self._draw_one(rng) for _ in range(count)]

  def _draw_one(self, rng: np.random.Generator) -> Segment:
    while True:
      place = int(rng.integers(self._places[-1]))
      episode = int(np.searchsorted(self._places, place, 'right')) - 1
      begin = 0 if self._fits[episode] else place - int(self._places[episode]) + 1 - self._row_tokens
      start = self._outside_picture(episode, max(begin, 0))
      stop = min(min(begin, start) + self._row_tokens, int(self._index.lengths[episode]))
      stop, patches = self._cut(episode, start, stop, self._row_patches)
      if stop - start >= _LEAST_TOKENS:
        return Segment(stop - start, patches, episode, start, stop, 0, 0, 0, False, self._source)

  def _cut(self, episode: int, start: int, stop: int, patches: int) -> tuple[int, int]:
    """The furthest place up to `stop` with at most `patches` from `start` on, and how many; neither is in a picture."""
    first, size = self._index.step_starts[episode], int(self._index.step_patches[episode])
    starts = self._index.picture_starts
    low, high = np.searchsorted(starts, (first + start, first + stop)).tolist()
    pictures = high - low
    if pictures and starts[high - 1] + size > first + stop:  # the last one would be cut
      pictures -= 1
    if size:
      pictures = min(pictures, patches // size)
    if low + pictures < high:
      stop = int(starts[low + pictures] - first)
    return stop, pictures * size

  def _outside_picture(self, episode: int, place: int) -> int:
    """The start of the picture that a place lies in, or the place."""
    first, starts = self._index.step_starts[episode], self._index.picture_starts
    last = int(np.searchsorted(starts, first + place, 'right')) - 1
    if last >= 0 and first <= starts[last] and first + place < starts[last] + self._index.step_patches[episode]:
      return int(starts[last] - first)
    return place
