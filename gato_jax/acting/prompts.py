"""Demonstrations to start an episode with (paper section 2.4)."""

from typing import TYPE_CHECKING, Any

from data_pipelines.datasets.episodes import ControlEpisode
from data_pipelines.environments.specs import TaskSpec
from data_pipelines.errors import InputError
from data_pipelines.sequences.tokenizer import SequenceTokenizer
from data_pipelines.sequences.tokens import Tokens

if TYPE_CHECKING:  # it brings TFDS, slow to import, and a policy needs none of it
  from data_pipelines.datasets.sources import ControlSource

PLACES = ('start', 'end')


def demonstrations(source: 'ControlSource', count: int) -> list[ControlEpisode]:
  """The source's first `count` successful episodes without injected noise.

  Raises:
    InputError: it has none.
  """
  indexes = source.demonstrations()[:count]
  if not len(indexes):
    raise InputError(f'{source.name}: no successful demonstration among its {len(source)} episodes to prompt with; '
                     'raise data.mixture.*.episodes, or set acting.prompt=False')
  return [source[int(index)] for index in indexes]


def place_of(acting: Any) -> str:
  """Where in a demonstration its prompt is, `acting.prompt_from`; raises InputError where that is no place."""
  place = getattr(acting, 'prompt_from', 'start')  # a run that is older than the key has none
  if place not in PLACES:
    raise InputError(f'acting.prompt_from is {place!r}: must be one of {", ".join(PLACES)}; acting.prompt=False leaves '
                     'prompts out')
  return place


def prompt_steps(tokenizer: SequenceTokenizer, task: TaskSpec, episode: ControlEpisode, tokens: int, patches: int,
                 place: str) -> tuple[int, list[Tokens]]:
  """As many whole timesteps as fit into so many tokens and patches: from an episode's start on, or its last ones.

  Returns:
    The first one's number, and the timesteps in their order.
  """
  runs: list[Tokens] = []
  steps = range(episode.length) if place == 'start' else reversed(range(episode.length))
  for step in steps:
    run = tokenizer.timesteps(task, episode, step, step + 1)
    tokens, patches = tokens - len(run), patches - len(run.patches)
    if tokens < 0 or patches < 0:
      break
    runs.append(run)
  return (0, runs) if place == 'start' else (episode.length - len(runs), runs[::-1])
