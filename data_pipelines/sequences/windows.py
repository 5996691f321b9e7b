"""Which part of which episode becomes a segment of a row: windows, prompts, and how a window is cut in two."""

import abc
from typing import NamedTuple

import numpy as np

from data_pipelines.sequences.index import EpisodeIndex


class Segment(NamedTuple):
  """A window of timesteps [start, stop) of an episode, perhaps after a prompt from another episode of its task."""

  tokens: int  # with the prompt's
  patches: int
  episode: int
  start: int
  stop: int
  prompt_episode: int
  prompt_start: int
  prompt_stop: int  # equal to prompt_start: no prompt
  hide_actions: bool
  source: int


class Prompts(NamedTuple):
  """The paper's prompt conditioning (section 2.3): its share, the share taken from the end, and its longest length.

  `episodes` are those that prompts come from: the ones without injected noise, as the prompts at play are.
  """

  episodes: np.ndarray
  share: float
  from_end: float
  max_tokens: int
  max_patches: int


class SegmentDrawer(abc.ABC):
  """Draws segments of one dataset and cuts them to fit.

  Attributes:
    least_tokens: no segment is shorter.
    least_patches: no segment has fewer.
  """

  least_tokens: int
  least_patches: int

  def draw(self, rng: np.random.Generator, tokens: float) -> list[Segment]:
    """Segments of `tokens` in all, in expectation exactly: the last one is in by the share of it that is wanted."""
    drawn: list[Segment] = []
    wanted = tokens
    while wanted > 0:
      mean = (tokens - wanted) / len(drawn) if drawn else self.least_tokens * 8
      for segment in self._draw(rng, int(wanted / mean) + 4):
        if segment.tokens >= wanted and rng.random() * segment.tokens >= wanted:
          return drawn
        drawn.append(segment)
        wanted -= segment.tokens
        if wanted <= 0:
          return drawn
    return drawn

  def draw_within(self, rng: np.random.Generator, tokens: int, patches: int) -> Segment | None:
    """One segment cut down to what a row has left; None if not the least of it fits."""
    return self.split(self._draw(rng, 1)[0], tokens, patches)[0]

  @abc.abstractmethod
  def split(self, segment: Segment, tokens: int, patches: int) -> tuple[Segment | None, Segment | None]:
    """Cuts a segment in two, after as much of it as fits into so many positions and patch slots.

    Returns:
      The part that fits and the rest, if there is one; (None, None) if nothing fits.
    """

  @abc.abstractmethod
  def _draw(self, rng: np.random.Generator, count: int) -> list[Segment]:
    """So many segments, none larger than a row."""


class WindowDrawer(SegmentDrawer):
  """Draws windows uniformly over the timesteps of one dataset that is no text, and prompts for them.

  Args:
    source: number of the dataset.
    index: its lengths; every timestep must fit into a row.
    row_tokens: L, positions of a row.
    row_patches: P, patches of a row.
    window_timesteps: longest window; 0: as long as the row.
    prompts: None for a dataset without prompts.
    hide_actions: share of the windows whose input hides the action tokens.
  """

  def __init__(self, source: int, index: EpisodeIndex, row_tokens: int, row_patches: int, window_timesteps: int = 0,
               prompts: Prompts | None = None, hide_actions: float = 0.0):
    self._source = source
    self._index = index
    self._row_tokens = row_tokens
    self._row_patches = row_patches
    self._window_timesteps = window_timesteps or index.timesteps
    self._prompts = prompts if prompts and len(prompts.episodes) else None
    self._hide_actions = hide_actions
    self.least_tokens = int(index.step_tokens.min())
    self.least_patches = int(index.step_patches.min())

  def split(self, segment: Segment, tokens: int, patches: int) -> tuple[Segment | None, Segment | None]:
    """See `SegmentDrawer`. Cuts after whole timesteps; the prompt stays with the first part."""
    starts = self._index.token_starts
    first = int(self._index.step_starts[segment.episode])
    begin, end = first + segment.start, first + segment.stop
    window_tokens = int(starts[end] - starts[begin])
    step_patches = int(self._index.step_patches[segment.episode])
    prompt_tokens = segment.tokens - window_tokens
    prompt_patches = segment.patches - step_patches * (end - begin)
    cut = min(end, int(np.searchsorted(starts, starts[begin] + tokens - prompt_tokens, 'right')) - 1)
    if step_patches:
      cut = min(cut, begin + (patches - prompt_patches) // step_patches)
    if cut <= begin or prompt_patches > patches:
      return None, None
    taken, cut_patches = int(starts[cut] - starts[begin]), step_patches * (cut - begin)
    part = segment._replace(tokens=prompt_tokens + taken, patches=prompt_patches + cut_patches, stop=cut - first)
    if cut == end:
      return part, None
    rest = segment._replace(tokens=window_tokens - taken, patches=step_patches * (end - cut), start=cut - first,
                            prompt_episode=0, prompt_start=0, prompt_stop=0)
    return part, rest

  def _draw(self, rng: np.random.Generator, count: int) -> list[Segment]:
    index, starts = self._index, self._index.token_starts
    begin = rng.integers(index.timesteps, size=count)
    episode = np.searchsorted(index.step_starts, begin, 'right') - 1
    first, step_patches = index.step_starts[episode], index.step_patches[episode]
    prompt = self._draw_prompts(rng, episode, begin)
    prompt_tokens, prompt_patches, *prompt_place = prompt
    end = np.minimum(begin + self._window_timesteps, index.step_starts[episode + 1])
    end = np.minimum(end, np.searchsorted(starts, starts[begin] + self._row_tokens - prompt_tokens, 'right') - 1)
    room = (self._row_patches - prompt_patches) // np.maximum(step_patches, 1)
    end = np.where(step_patches > 0, np.minimum(end, begin + room), end)
    hide = rng.random(count) < self._hide_actions
    columns = (starts[end] - starts[begin] + prompt_tokens, step_patches * (end - begin) + prompt_patches, episode,
               begin - first, end - first, *prompt_place, hide)
    return [Segment(*fields, self._source) for fields in zip(*(column.tolist() for column in columns), strict=True)]

  def _draw_prompts(self, rng: np.random.Generator, episode: np.ndarray, begin: np.ndarray) -> tuple[np.ndarray, ...]:
    """Tokens, patches, episode, start and stop of the prompt of each window, all zero where it has none."""
    nothing = np.zeros(len(episode), np.int64)
    if self._prompts is None:
      return (nothing,) * 5
    index, starts, prompts = self._index, self._index.token_starts, self._prompts
    wanted = rng.random(len(episode)) < prompts.share
    other = self._other_episode(rng, episode)
    wanted &= other != episode
    low, high = index.step_starts[other], index.step_starts[other + 1]
    budget = rng.integers(1, max(prompts.max_tokens, 1), size=len(episode), endpoint=True)
    step_patches = index.step_patches[other]
    most_steps = np.where(step_patches > 0, prompts.max_patches // np.maximum(step_patches, 1), high - low)
    # From the end: the last timesteps. Else: on from a timestep drawn uniformly. One timestep at least.
    end_start = np.maximum(np.searchsorted(starts, starts[high] - budget, 'left'), high - most_steps)
    end_start = np.clip(end_start, low, high - 1)
    any_start = low + rng.integers(high - low)
    any_stop = np.minimum(np.searchsorted(starts, starts[any_start] + budget, 'right') - 1, any_start + most_steps)
    any_stop = np.clip(any_stop, any_start + 1, high)
    from_end = rng.random(len(episode)) < prompts.from_end
    start, stop = np.where(from_end, end_start, any_start), np.where(from_end, high, any_stop)
    tokens, patches = starts[stop] - starts[start], step_patches * (stop - start)
    first_step = starts[begin + 1] - starts[begin]
    wanted &= (tokens <= prompts.max_tokens) & (tokens + first_step <= self._row_tokens)
    wanted &= (patches <= prompts.max_patches) & (patches + index.step_patches[episode] <= self._row_patches)
    return tuple(np.where(wanted, column, 0) for column in (tokens, patches, other, start - low, stop - low))

  def _other_episode(self, rng: np.random.Generator, episode: np.ndarray) -> np.ndarray:
    """For each episode one of the prompts' that is another, or itself if it is the only one there is."""
    candidates = self._prompts.episodes
    drawn = rng.integers(len(candidates), size=len(episode))
    same = candidates[drawn] == episode
    return candidates[(drawn + same) % len(candidates)]


class DocumentDrawer:
  """Draws parts of documents as long as is wanted; every token of the dataset is drawn as often as any other.

  To that end, a document that fits is drawn whole, as often as there are tokens wanted, and a longer one once for every
  place that a part of it can begin at; a part may reach out over either end of its document, and is then shorter.

  Args:
    source: number of the dataset.
    index: its lengths.
  """

  def __init__(self, source: int, index: EpisodeIndex):
    self._source = source
    self._shortest_first = np.argsort(index.lengths, kind='stable')
    self._lengths = index.lengths[self._shortest_first]
    self._starts = np.concatenate([[0], np.cumsum(self._lengths)])

  def mean_tokens(self, tokens: int) -> float:
    """Of what `draw_within` draws."""
    return tokens * int(self._starts[-1]) / sum(self._places(tokens))

  def draw_within(self, rng: np.random.Generator, tokens: int) -> Segment:
    """A whole document, or a part of one, of at most so many tokens."""
    whole, inside, before = self._places(tokens)
    place = int(rng.integers(whole + inside + before))
    fit = whole // tokens
    if place < whole:
      rank, begin = place // tokens, 0
    elif place < whole + inside:
      token = int(self._starts[fit]) + place - whole
      rank = int(np.searchsorted(self._starts, token, 'right')) - 1
      begin = token - int(self._starts[rank])
    else:
      rank, begin = divmod(place - whole - inside, tokens - 1)
      rank, begin = rank + fit, begin + 1 - tokens
    start, stop = max(begin, 0), min(begin + tokens, int(self._lengths[rank]))
    return Segment(stop - start, 0, int(self._shortest_first[rank]), start, stop, 0, 0, 0, False, self._source)

  def _places(self, tokens: int) -> tuple[int, int, int]:
    """How many ways there are to draw: documents that fit, parts that begin in a longer one, and before one."""
    fit = int(np.searchsorted(self._lengths, tokens, 'right'))
    return fit * tokens, int(self._starts[-1] - self._starts[fit]), (len(self._lengths) - fit) * (tokens - 1)
