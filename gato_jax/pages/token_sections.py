"""The explorer's section on tokenization: a sentence, a picture, a controller and a vector of numbers become tokens."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from data_pipelines.provenance import Origin
from data_pipelines.sequences.tokenizer import SequenceTokenizer
from data_pipelines.tokenization.continuous import bin_centres, inverse_mu_law, mu_law, to_bins
from data_pipelines.tokenization.images import PATCH_SIZE, patchify
from data_pipelines.tokenization.vocabulary import Vocabulary
from gato_jax.pages.examples import Example, Examples
from gato_jax.pages.page import Markup, Section, element, figure, join, paragraph, picture, table
from gato_jax.pages.sequence_sections import scaled, strip

_SUBWORDS = 12
_BUTTONS = 18  # of a controller
_PRESSES = 24
_NUMBERS = 8  # of a vector
_DIMENSIONS = 24  # of a token's vector that are drawn
_GAP = 2  # pixels between patches
_VISIBLE = {ord(' '): '\N{OPEN BOX}', ord('\n'): '\N{RETURN SYMBOL}'}
_LOW, _MIDDLE, _HIGH = np.array([[33, 102, 172], [247, 247, 247], [178, 24, 43]], float)


def values_to_tokens(examples: Examples, tokenizer: SequenceTokenizer, width: int, embeddings: Any) -> Section:
  """Modality by modality.

  Args:
    examples: what is shown.
    tokenizer: of it.
    width: D, length of a token's vector.
    embeddings: float [V, D], the model's token table; None without a model.
  """
  table_VxD = None if embeddings is None else np.asarray(embeddings)
  vocabulary, alone = tokenizer.vocabulary, examples.alone
  vectors = (f'Each id is the number of a row in a table of {vocabulary.size:,} vectors of {width} numbers, which the '
             'model learns.')
  drawn = (f' Of each vector the first {_DIMENSIONS} numbers are drawn, from blue, negative, to red, positive.'
           if embeddings is not None else ' A trained model\'s vectors are drawn here with --workdir=RUN.')
  parts = []
  if 'text' in alone:
    parts += [element('h3', 'Text: a sentence'), _text(alone['text'], table_VxD, vectors + drawn)]
  if 'picture' in alone:
    parts += [element('h3', 'Pictures: patches'), *_picture(alone['picture'], width)]
  if 'discrete' in alone:
    parts += [element('h3', 'Discrete actions: a controller'), *_controller(alone['discrete'], table_VxD, vocabulary)]
  if 'continuous' in alone:
    parts += [element('h3', 'Numbers: the mu-law and bins'), *_vector(alone['continuous'], vocabulary)]
  return Section('tokens', 'From values to tokens', [_layout(vocabulary), *parts])


def _layout(vocabulary: Vocabulary) -> Markup:
  """The ids there are."""
  def run(start: int, count: int) -> str:
    return f'{start:,} to {start + count - 1:,}'

  shared = ', shared with text' if vocabulary.discrete_overlaps_text else ''
  rows = [('subwords of text', run(0, vocabulary.text_size)),
          ('numbers, in bins', run(vocabulary.continuous_start, vocabulary.bins)),
          (f'discrete values{shared}', run(vocabulary.discrete_start, vocabulary.discrete_size)),
          ('separator', f'only {vocabulary.separator_id:,}'),
          ('patch: its vector comes from its pixels', f'only {vocabulary.patch_id:,}'),
          ('an action that is hidden', f'only {vocabulary.hidden_action_id:,}'),
          ('padding', f'only {vocabulary.padding_id:,}')]
  return table('One vocabulary for all', ('what', 'ids'), rows)


def _text(example: Example, table_VxD: np.ndarray | None, how: str) -> Markup:
  places = [i for i, origin in enumerate(example.origins) if origin.kind == 'text'][:_SUBWORDS]
  stacks = [_stack(example.origins[i].value.translate(_VISIBLE), int(example.ids[i]), table_VxD, 'kind-0')
            for i in places]
  return figure(element('ol', *stacks, class_='stacks', aria_label='Subwords with their ids'),
                f'The beginning of a text of {example.source.name}: subwords, a space drawn as ',
                '\N{OPEN BOX}', ', and under each its id. ', how)


def _stack(value: str, token: int, table_VxD: np.ndarray | None, kind: str) -> Markup:
  vector = _vector_picture(table_VxD[token], f'the vector of {token}') if table_VxD is not None else ''
  return element('li', element('span', value, class_=f'value {kind}'), element('span', str(token), class_='id'), vector)


def _vector_picture(vector: np.ndarray, what: str) -> Markup:
  """The first numbers of a vector, one under the other, on the scale of its largest."""
  shown = np.asarray(vector, float)[:_DIMENSIONS]
  share = (shown / max(np.abs(shown).max(), 1e-9))[:, None]
  colours = np.where(share < 0, _MIDDLE + share * (_MIDDLE - _LOW), _MIDDLE + share * (_HIGH - _MIDDLE))
  cells = np.repeat(np.round(colours).astype(np.uint8)[:, None], 6, axis=1)
  return picture(cells, f'{what}: from {shown.min():.2g} to {shown.max():.2g}', 4)


def _picture(example: Example, width: int) -> list[Markup]:
  image = example.picture()
  height, wide = image.shape[:2]
  patches, intervals = patchify(image)
  rows, columns = -(-height // PATCH_SIZE), -(-wide // PATCH_SIZE)
  places = [i for i, origin in enumerate(example.origins) if origin.kind == 'picture patch'][:len(patches)]
  both = element(
      'div', scaled(image, f'A picture of {example.source.name}, {height} by {wide} pixels'),
      element('span', '\N{RIGHTWARDS ARROW}', aria_hidden='true', class_='arrow'),
      scaled(_apart(patches, rows, columns), f'The same, cut into {rows} rows of {columns} patches'), class_='side')
  vectors = ''
  if example.predictions is not None:
    drawn = [element('li', _vector_picture(example.predictions.vectors[i], f'what patch {number} becomes'))
             for number, i in enumerate(places[:_SUBWORDS])]
    vectors = element('ol', *drawn, class_='stacks', aria_label='Vectors of the first patches')
  end = min(len(example.origins), places[-1] + 1 + 24)
  rule = (f'Patches of {PATCH_SIZE} by {PATCH_SIZE} pixels, line by line. A small convolutional network makes a vector '
          f'of {width} numbers of each, and adds where in the picture it is: patch 0 lies between rows '
          f'{intervals[0, 0, 0]} and {intervals[0, 0, 1]} and columns {intervals[0, 1, 0]} and {intervals[0, 1, 1]} of '
          '128, whatever the size of the picture.')
  said = 'What is said about it follows, in the same sequence.' if example.origins[-1].kind == 'text' else ''
  return [figure(join(both, vectors), rule),
          figure(strip(example, places[0], end, 'The patches as tokens, and what follows them'),
                 f'{len(patches)} patches are {len(patches)} tokens. {said}')]


def _apart(patches: np.ndarray, rows: int, columns: int) -> np.ndarray:
  """Patches with gaps between them, uint8 [height, width, 3]."""
  side = PATCH_SIZE + _GAP
  sheet = np.full((rows * side - _GAP, columns * side - _GAP, 3), 128, np.uint8)
  for i, patch in enumerate(patches):
    top, left = i // columns * side, i % columns * side
    sheet[top:top + PATCH_SIZE, left:left + PATCH_SIZE] = patch
  return sheet


def _controller(example: Example, table_VxD: np.ndarray | None, vocabulary: Vocabulary) -> list[Markup]:
  task = example.source.task
  buttons = [_stack(str(value), vocabulary.discrete_start + value, table_VxD, 'kind-6')
             for value in range(min(task.action.num_values, _BUTTONS))]
  more = f', of which the first {_BUTTONS} are drawn' if task.action.num_values > _BUTTONS else ''
  presses = np.ravel(example.episode().action)[:_PRESSES].tolist()
  run = element('ol', *(element('li', element('span', str(press), class_='value kind-6')) for press in presses),
                class_='stacks', aria_label='Actions one after the other')
  return [figure(element('ol', *buttons, class_='stacks', aria_label='Buttons with their ids'),
                 f'{task.name} has {task.action.num_values} actions{more}, numbered like the buttons of a controller. '
                 'An action is one token, its number an id like any other.'),
          figure(run, f'The first {len(presses)} actions of an episode. As with a special move in a fighting game, it '
                      'is the order that does it.')]


def _vector(example: Example, vocabulary: Vocabulary) -> list[Markup]:
  first = [origin for origin in example.origins if origin.timestep == 0]
  observed = [origin for origin in first if origin.kind == 'continuous observation'][:_NUMBERS]
  actions = [origin for origin in first if origin.kind == 'continuous action'][:_NUMBERS]
  rows = [_number_row(origin, vocabulary, origin in observed) for origin in (*observed, *actions)]
  header = ('item', 'value', 'squashed', 'bin', 'id', 'stands for', 'below')
  return [
      paragraph(f'Observed numbers can be of any size. The mu-law squashes them into [-1, 1]: finely around 0, ever '
                f'more coarsely up to {vocabulary.m:g}. Actions lie in [-1, 1] already. Then {vocabulary.bins:,} equal '
                'bins make an id of each.'),
      figure(table(f'Numbers of a timestep of {example.source.name}', header, rows),
             'The buttons put a number into the plot below.'),
      figure(_calculator(vocabulary, observed[0].value if observed else 0.5),
             'Across, the value; up, what is squashed to. Move the value and see its bin.')]


def _number_row(origin: Origin, vocabulary: Vocabulary, is_observed: bool) -> Sequence[Any]:
  value = np.float64(np.float32(origin.value))
  squashed = mu_law(value, vocabulary.mu, vocabulary.m) if is_observed else value
  place = int(to_bins(squashed, vocabulary.bins))
  centre = bin_centres(vocabulary.bins)[place]
  back = inverse_mu_law(centre, vocabulary.mu, vocabulary.m) if is_observed else centre
  button = element('button', 'Show', type='button', data_value=float(value),
                   data_law='observation' if is_observed else 'action', aria_label=f'Show {origin.item} in the plot')
  return (origin.item, f'{value:.4g}', f'{squashed:.4f}', str(place), str(vocabulary.continuous_start + place),
          f'{back:.4g}', button)


def _calculator(vocabulary: Vocabulary, value: float) -> Markup:
  """What `bins.js` brings to life."""
  laws = element('fieldset', element('legend', 'The number is'), *(
      element('label', element('input', type='radio', name='law', value=law, checked=not i), ' ', words)
      for i, (law, words) in enumerate((('observation', 'observed: mu-law'), ('action', 'an action: as it is')))))
  spans = [element('option', f'from -{span:g} to {span:g}', value=f'{span:g}', selected=not i)
           for i, span in enumerate((2, 20, vocabulary.m))]
  controls = element(
      'div', laws, element('label', 'Plot ', element('select', *spans, id='span')),
      element('label', 'Value ', element('input', type='number', id='value', step='any', value=f'{value:.4g}')),
      class_='controls')
  slider = element('label', 'Move the value', element('input', type='range', id='slider', min='-1', max='1',
                                                      step='0.001'), class_='slider')
  return element('div', controls, element('svg', viewBox='0 0 640 320', role='img', id='curve',
                                          aria_label='The mu-law curve'), slider,
                 element('output', id='bin', for_='value slider', aria_live='polite'), id='bins')
