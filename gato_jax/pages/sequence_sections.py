"""Sections of the explorer on sequences: modalities, the flat sequence, its loss mask, the control loop, packing."""

from collections.abc import Sequence
import json
from typing import Any

import numpy as np

from data_pipelines.datasets.catalogue import dataset_type
from data_pipelines.explained_rows import RowReader
from data_pipelines.provenance import KINDS
from data_pipelines.sequences.plan import dataset_of
from gato_jax.pages.examples import Example, Examples
from gato_jax.pages.page import Markup, Section, element, figure, join, paragraph, picture, table

_CELLS = 32  # of a strip that shows what a sequence looks like
_PIXELS = 128  # that a small picture is drawn with
_VIEWS = (('kind', 'modality'), ('segment', 'segment'), ('prompt', 'prompt'), ('target', 'target'),
          ('dataset', 'dataset'))
_ROW_HEADER = ('row', 'tokens', 'segments', 'prompts', 'targets', 'patches', 'datasets')
_SURPRISE = ('surprise', "the model's surprise")


def strip(example: Example, start: int, stop: int, label: str, **attributes: Any) -> Markup:
  """Tokens [start, stop) of a row, which `tokens.js` draws; a list to choose from, for keyboards and screen readers."""
  return element('div', class_='tokens', role='listbox', aria_label=label, data_row=example.number, data_start=start,
                 data_stop=stop, **attributes)


def legend() -> Markup:
  """The colours of the kinds of tokens."""
  return element('ul', *(element('li', element('span', class_=f'swatch kind-{i}', aria_hidden='true'), kind)
                         for i, kind in enumerate(KINDS)), class_='legend')


def scaled(image: np.ndarray, alternative: str) -> Markup:
  """A picture, its pixels enlarged where it is small."""
  return picture(image, alternative, max(1, round(_PIXELS / max(image.shape[:2]))))


def modalities(examples: Examples) -> Section:
  """What goes into the model and what comes out of it."""
  alone = examples.alone
  into = [_card('Text', _sentence(alone.get('text')), alone.get('text')),
          _card('Pictures', _whole_picture(alone.get('picture')), alone.get('picture')),
          _card('Numbers: joints, positions, speeds', _numbers(alone, 'continuous observation'), _with(
              alone, 'continuous observation')),
          _card('Discrete values', _numbers(alone, 'discrete observation'), _with(alone, 'discrete observation'))]
  out = [_card('Text', paragraph('the next subword of an answer, a caption or a document')),
         _card('Continuous actions', _numbers(alone, 'continuous action'), alone.get('continuous')),
         _card('Discrete actions', _numbers(alone, 'discrete action'), alone.get('discrete'))]
  gato = element('div', element('strong', 'Gato'), element('span', 'one network, one set of weights'), class_='gato')
  drawing = element('div', _cards('In', into), gato, _cards('Out', out), class_='modalities')
  return Section('modalities', 'Modalities in and out', [
      paragraph('Other models turn text into text, or text into pictures. A generalist agent reads text, pictures, '
                'joint angles and button presses, and writes text and actions. Pictures only go in.'),
      figure(drawing, 'What this mixture holds of each, taken from its datasets.')])


def _cards(title: str, cards: Sequence[Markup]) -> Markup:
  return element('div', element('h3', title), *cards)


def _card(title: str, content: Markup, example: Example | None = None) -> Markup:
  name = element('span', example.source.name, class_='quiet') if example else ''
  return element('div', element('h4', title), content, name, class_='card')


def _missing() -> Markup:
  return paragraph('none in this mixture', class_='quiet')


def _with(alone: dict[str, Example], kind: str) -> Example | None:
  return next((each for each in alone.values() if any(origin.kind == kind for origin in each.origins)), None)


def _sentence(example: Example | None) -> Markup:
  if not example:
    return _missing()
  text = ''.join(origin.value for origin in example.origins if origin.kind == 'text')
  return paragraph(f'\N{LEFT DOUBLE QUOTATION MARK}{text[:90]}\N{HORIZONTAL ELLIPSIS}\N{RIGHT DOUBLE QUOTATION MARK}')


def _whole_picture(example: Example | None) -> Markup:
  image = example.picture() if example else None
  return _missing() if image is None else scaled(image, f'a picture of {example.source.name}')


def _numbers(alone: dict[str, Example], kind: str) -> Markup:
  example = _with(alone, kind)
  if not example:
    return _missing()
  values = [origin.value for origin in example.origins if origin.kind == kind][:6]
  return paragraph(element('code', ', '.join(f'{value:.3g}' for value in values)))


def flat_sequence(examples: Examples) -> Section:
  """A stretch of every dataset as tokens in a row."""
  strips = [element('div', element('h3', name), strip(example, start, stop, f'The first tokens of a segment of {name}'))
            for name, example, start, stop in _first_segments(examples)]
  return Section('sequence', 'One flat sequence', [
      paragraph('Whatever it is, it becomes a run of tokens: a subword, a number that was sorted into a bin, a button, '
                'a patch of 16 by 16 pixels. The model does not know which is which but by what it learns.'),
      figure(join(legend(), *strips), f'The first {_CELLS} tokens of a segment of each dataset in these rows.')])


def _first_segments(examples: Examples) -> list[tuple[str, Example, int, int]]:
  """Name, row, and first tokens of a segment of each entry of the mixture that the rows hold, in its order."""
  found: dict[str, tuple[str, Example, int, int]] = {}
  order = {}
  for example in examples.rows:
    segments = example.explained.row.segment_ids[:len(example.origins)]
    for segment in range(1, int(segments.max(initial=0)) + 1):
      places = np.flatnonzero(segments == segment)
      start, source = int(places[0]), example.origins[places[0]].source
      name = dataset_of(examples.data.source_names[source])
      order.setdefault(name, source)
      if name not in found or found[name][3] - found[name][2] < min(_CELLS, len(places)):
        found[name] = name, example, start, start + min(len(places), _CELLS)
  return sorted(found.values(), key=lambda each: order[each[0]])


def loss_mask(examples: Examples) -> Section:
  """The same with what is predicted under it."""
  shown = [examples.alone[what] for what in ('discrete', 'continuous', 'picture', 'text') if what in examples.alone]
  strips = [element('div', element('h3', example.source.name), strip(
      example, 0, min(len(example.origins), _CELLS), f'Tokens of {example.source.name} and their targets',
      data_targets='yes')) for example in shown]
  return Section('mask', 'What is learned: the loss mask', [
      paragraph('Every token could be asked to predict the next one. Only those before text and actions are: under '
                'each token stands its target, the token after it, and a dot where nothing is learned. The model '
                'never learns to predict observations.'),
      figure(join(*strips), 'Upper line: what the model reads. Lower line: what it is to say there.')])


def control_loop(examples: Examples, data_config: Any) -> Section:
  """A policy step by step."""
  example = examples.alone.get('control')
  if not example:
    return Section('loop', 'The control loop', [paragraph('This mixture has no control task.')])
  steps = [example.timestep(number) for number in range(example.origins[-1].timestep + 1)]
  spans = [json.dumps([[step[i], step[i + 1]] for step in steps]) for i in range(3)]
  task = example.source.task
  begin, separator, action, end = steps[0]
  stages = (
      ('Prompt', paragraph('A demonstration of the same task may go first. In training, '
                           f'{data_config.prompt.share:.0%} of the windows have one before them, if it fits.')),
      ('Observe', strip(example, begin, separator, 'Observation', data_spans=spans[0])),
      ('Separate', strip(example, separator, action, 'Separator', data_spans=spans[1])),
      ('Predict', join(paragraph(f'{task.action.size} token{"s" if task.action.size > 1 else ""}, each drawn from what '
                                 'the model gives the ones before it'),
                       strip(example, action, end, 'Action', data_spans=spans[2]))),
      ('Act', paragraph(f'The tokens are decoded to the action, {task.name} takes it, and answers with the next '
                        'observation. Back to Observe.')))
  loop = element('ol', *(element('li', element('h3', name), content) for name, content in stages), class_='loop')
  walk = element('p', element('button', 'Next timestep', type='button', id='next-timestep'), ' ',
                 element('span', f'timestep 0 of {len(steps)}', id='timestep', aria_live='polite'))
  return Section('loop', 'The control loop', [
      paragraph('A model that predicts actions is a policy: what it predicts is done, what comes of it is read.'),
      figure(join(walk, loop), f'A demonstration of {task.name}, timestep by timestep.')])


def data_table(reader: RowReader, data_config: Any) -> Section:
  """What the mixture is made of, as the paper's Table 1."""
  of_entry: dict[str, list[int]] = {}
  for i, source in enumerate(reader.sources):
    of_entry.setdefault(dataset_of(source.name), []).append(i)
  rows = [_data_row(reader, name, members, data_config.mixture[name].dataset or name)
          for name, members in of_entry.items()]
  indexes = reader.indexes
  total = ('all', '', str(sum(source.kind == 'control' for source in reader.sources)), '100.0%',
           f'{sum(len(index.lengths) for index in indexes):,}', f'{sum(index.tokens for index in indexes):,}',
           f'{sum(index.patches for index in indexes):,}', '')
  header = ('dataset', 'kind', 'tasks', 'share', 'episodes', 'tokens', 'patches', "stands for, in the paper's Table 1")
  return Section('data', 'The data', [
      paragraph('The share is of the positions in a batch. How well a model plays each task after it is another '
                'page: ', element('code', 'gato-jax report'), '.'),
      table('The mixture', header, [*rows, total])])


def _data_row(reader: RowReader, name: str, members: Sequence[int], dataset: str) -> tuple[str, ...]:
  indexes = [reader.indexes[i] for i in members]
  kind = reader.sources[members[0]].kind
  return (name, kind, str(len(members)) if kind == 'control' else '', f'{100 * reader.shares[members].sum():.1f}%',
          f'{sum(len(index.lengths) for index in indexes):,}', f'{sum(index.tokens for index in indexes):,}',
          f'{sum(index.patches for index in indexes):,}', dataset_type(dataset).row or '')


def packing(examples: Examples, data_config: Any) -> Section:
  """A timestep, an episode, and rows of many segments."""
  content = []
  if example := examples.alone.get('control'):
    begin, _, _, end = example.timestep(0)
    count = example.origins[-1].timestep + 1
    items = ', '.join(element('code', key) for key in sorted(example.source.task.observation))
    content += [
        element('h3', 'A timestep'),
        figure(join(legend(), strip(example, begin, end, 'The first timestep')),
               'The observation, its items in the order of their names (', Markup(items), '), a separator, the action. '
               'Each token of the observation knows its place in it; those of the action share one.'),
        element('h3', 'An episode'),
        figure(strip(example, 0, len(example.origins), f'The first {count} timesteps', data_breaks='yes'),
               f'The first {count} timesteps of an episode of {example.source.name}, one after the other; a line '
               'where a timestep begins.')]
  return Section('packing', 'Timestep, episode, packed row', [*content, *_packed(examples, data_config)])


def _packed(examples: Examples, data_config: Any) -> list[Markup]:
  rows, length = examples.rows, data_config.sequence_length
  views = _VIEWS + (_SURPRISE,) * (rows[0].predictions is not None)
  radios = [element('label', element('input', type='radio', name='view', value=value, checked=not i), ' ', name)
            for i, (value, name) in enumerate(views)]
  first = max(rows, key=lambda example: len({origin.source for origin in example.origins}))
  options = [element('option', str(i), value=example.number, selected=example is first)
             for i, example in enumerate(rows)]
  controls = element('div', element('fieldset', element('legend', 'Colour by'), *radios),
                     element('label', 'Row ', element('select', *options, id='row')), class_='controls')
  overview = element('canvas', role='img', id='overview', width=length, height=len(rows),
                     aria_label=f'{len(rows)} packed rows of {length} positions; the table below has their contents')
  return [
      element('h3', 'Packed rows'),
      paragraph(f'A batch is rows of {length} positions. Each is packed with segments: windows of episodes, pictures '
                'with their captions, stretches of text. Attention never crosses from one segment to another. A prompt '
                'and its window are one segment. What is left over is padding.'),
      figure(join(controls, element('ul', class_='legend', id='view-legend'), overview,
                  strip(first, 0, len(first.origins), 'The tokens of the row', id='packed')),
             'Above, the rows as a whole; choose a row by pressing on it. Below, that row token by token.',
             numbers=table('What the rows hold', _ROW_HEADER,
                           [_row_numbers(examples, i, example) for i, example in enumerate(rows)]))]


def _row_numbers(examples: Examples, number: int, example: Example) -> tuple[Any, ...]:
  row, origins = example.explained.row, example.origins
  prompts = {int(row.segment_ids[i]) for i, origin in enumerate(origins) if origin.role}
  names = dict.fromkeys(dataset_of(examples.data.source_names[origin.source]) for origin in origins)
  return (number, len(origins), int(row.segment_ids.max()), len(prompts), int((row.loss_weights > 0).sum()),
          int((row.patch_positions < len(row.tokens)).sum()), ', '.join(names))
