"""Where each token of a row comes from: dataset, episode, timestep, item of it, and the value it stands for."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from data_pipelines.datasets.episodes import EpisodeSource
from data_pipelines.environments.specs import ArraySpec
from data_pipelines.errors import InputError
from data_pipelines.sequences.plan import Role
from data_pipelines.sequences.rows import PackedBatch
from data_pipelines.sequences.tokenizer import SequenceTokenizer
from data_pipelines.tokenization.images import patch_intervals

KINDS = ('text', 'picture patch', 'continuous observation', 'discrete observation', 'separator', 'continuous action',
         'discrete action')
_TEXT, _PATCH, _CONTINUOUS, _DISCRETE, _SEPARATOR = KINDS[:5]


class Origin(NamedTuple):
  """Of one token.

  Attributes:
    kind: one of KINDS.
    item: of the timestep: a key of the observation with the place in it, `position[2]`; or `action`, `separator`,
      `picture`, `text`.
    value: the number before it was tokenized, the text of a subword, None for a patch or a separator.
    source: dataset, an index into the sources.
    episode: its number in the dataset.
    timestep: its number in the episode; 0 for what has none.
    role: whether it is a prompt's.
  """

  kind: str
  item: str
  value: float | int | str | None
  source: int = 0
  episode: int = 0
  timestep: int = 0
  role: Role = Role.WINDOW


def origins(pieces: np.ndarray, row: PackedBatch, sources: list[EpisodeSource],
            tokenizer: SequenceTokenizer) -> list[Origin]:
  """One for each token of a row, in order; none for its padding. Reads the control episodes again.

  Args:
    pieces: `PIECE` [n], of the packing plan.
    row: what `lay_out` made of them; of its arrays tokens and segment_ids are looked at.
    sources: the datasets.
    tokenizer: of the row.

  Raises:
    InputError: the row has not as many tokens as its episodes have.
  """
  found: list[Origin] = []
  for source, episode, start, stop, segment, role, _ in pieces.tolist():
    place = {'source': source, 'episode': episode, 'role': Role(role)}
    if sources[source].kind == 'control':
      of_piece = _control(sources[source], episode, start, stop, tokenizer)
    else:
      of_piece = _text_and_pictures(row.tokens[row.segment_ids == segment], tokenizer)
    found.extend(origin._replace(**place) for origin in of_piece)
  if len(found) != int((row.segment_ids > 0).sum()):
    raise InputError(f'{(row.segment_ids > 0).sum()} tokens in a row whose episodes have {len(found)}; delete the '
                     'episode_index files in their directories')
  return found


def _text_and_pictures(tokens: np.ndarray, tokenizer: SequenceTokenizer) -> Iterator[Origin]:
  for token in tokens.tolist():
    if token == tokenizer.vocabulary.patch_id:
      yield Origin(_PATCH, 'picture', None)
    else:
      yield Origin(_TEXT, 'text', tokenizer.text_tokenizer.piece(token))


def _control(source: EpisodeSource, number: int, start: int, stop: int,
             tokenizer: SequenceTokenizer) -> Iterator[Origin]:
  """Timesteps [start, stop), in the order of `SequenceTokenizer`: items sorted by key, separator, action."""
  episode = source[number]
  specs = sorted(source.task.observation.items())
  action = np.reshape(episode.action, (episode.length, -1))
  action_spec = source.task.action
  action_kind = f'{action_spec.kind} action'
  for step in range(start, stop):
    for key, spec in specs:
      for origin in _item(key, spec, episode.observation[key], step, tokenizer):
        yield origin._replace(timestep=step)
    yield Origin(_SEPARATOR, 'separator', None, timestep=step)
    for item, value in zip(_names('action', action_spec), action[step].tolist(), strict=True):
      yield Origin(action_kind, item, value, timestep=step)


def _item(key: str, spec: ArraySpec, values: Any, step: int, tokenizer: SequenceTokenizer) -> Iterator[Origin]:
  match spec.kind:
    case 'image':
      yield from [Origin(_PATCH, key, None)] * len(patch_intervals(*spec.shape[:2]))
    case 'text':
      for token in tokenizer.text_tokenizer.encode(values[step]).tolist():
        yield Origin(_TEXT, key, tokenizer.text_tokenizer.piece(token))
    case _:
      kind = _CONTINUOUS if spec.kind == 'continuous' else _DISCRETE
      for item, value in zip(_names(key, spec), np.ravel(values[step]).tolist(), strict=True):
        yield Origin(kind, item, value)


def _names(key: str, spec: ArraySpec) -> list[str]:
  """Of the numbers of an item, row-major: `key`, or `key[1,2]`."""
  if not spec.shape:
    return [key]
  return [f'{key}[{",".join(map(str, place))}]' for place in np.ndindex(*spec.shape)]
