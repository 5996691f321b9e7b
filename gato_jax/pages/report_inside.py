"""The report's looks into the model: attention over pictures (figure 12), and a map of episodes (figure 13)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from data_pipelines.sequences.plan import dataset_of
from gato_jax.evaluation.attention_maps import AttentionMap, attention_maps
from gato_jax.evaluation.episode_map import EpisodeMap, episode_map
from gato_jax.pages import charts
from gato_jax.pages.page import Markup, data, data_uri, element, figure, join, paragraph, png, svg, table
from gato_jax.pages.report_run import Run

_NEIGHBOURS = 5
_DECIMALS = 4


def attention(run: Run) -> Sequence[Any]:
  """Of a step that is chosen, every head's attention over the patches; drawn by report.js from the numbers."""
  maps = attention_maps(run.subject())
  first = maps[0]
  steps = [element('option', _step_name(each), value=number) for number, each in enumerate(maps)]
  layers = [element('option', f'layer {layer + 1} of {run.subject().trained.model.layers}', value=number)
            for number, layer in enumerate(first.layers)]
  controls = element(
      'div', element('label', 'Step ', element('select', *steps, id='attention-step')),
      element('label', 'Layer ', element('select', *layers, id='attention-layer')), class_='controls')
  stage = element('div', id='attention-heads', class_='heads')
  says = element('p', id='attention-reading', role='status')
  header = ['head', 'on the picture, %', 'strongest patch: row', 'column', 'its share, %']
  numbers = element('div', table('Attention of each head', header, [], hide_caption=True), id='attention-table')
  return [
      paragraph('How much each attention head looks at each picture patch, from the token from which the step’s first '
                'action, or the first token of the answer or caption, is predicted. The more orange a patch, the more '
                'of the attention that the head gives to the picture lies on it; the strongest patch is framed. The '
                'steps are of training episodes; the paper’s figure 12 shows the first layer.'),
      figure(join(controls, stage, says), 'Attention over the patches of a picture, a panel a head.', numbers=numbers),
      data('attention-data', [_numbers(each) for each in maps])]


def _step_name(each: AttentionMap) -> str:
  return f'{each.source}, episode {each.episode}, step {each.step}'


def _numbers(each: AttentionMap) -> dict[str, Any]:
  """Pictures as data URIs, places and weights as lists; a head's weights are of all its attention."""
  return {
      'name': _step_name(each),
      'pictures': [
          {'source': data_uri(png(image), 'png'), 'height': image.shape[0], 'width': image.shape[1],
           'cells': np.round(cells, 3).tolist(), 'weights': np.round(weights.astype(float), _DECIMALS).tolist()}
          for image, cells, weights in zip(each.pictures, each.cells, each.weights, strict=True)]}


def episodes(run: Run) -> Sequence[Any]:
  """A point an episode."""
  drawn = episode_map(run.subject())
  datasets = list(dict.fromkeys(map(dataset_of, drawn.names)))
  purity = neighbour_shares(drawn)
  sources = list(dict.fromkeys(drawn.names))
  rows = [[source, drawn.names.count(source), *(f'{share:.0%}' for share in purity[source])] for source in sources]
  own, kin = (np.mean([purity[name][which] for name in drawn.names]) for which in (0, 1))
  numbers = table(f'Of the {_NEIGHBOURS} nearest episodes on the map, how many are of the same kind',
                  ['dataset or task', 'episodes', 'same task', 'same dataset'], rows)
  text = (f'{len(drawn.names)} episodes of {len(sources)} datasets and tasks. Of an episode’s {_NEIGHBOURS} nearest '
          f'neighbours {own:.0%} are of its own task and {kin:.0%} of its own dataset')
  left_out = ', '.join(f'{name} ({why})' for name, why in drawn.left_out.items())
  buttons = [element('button', charts.swatch(number), dataset, type='button', aria_pressed='false',
                     data_dataset=dataset) for number, dataset in enumerate(datasets)]
  return [
      paragraph(f'The mean activation over up to 128 tokens of each episode after {drawn.layer} of '
                f'{run.subject().trained.model.layers} layers, brought to two dimensions by PCA and t-SNE: what lies '
                'close together is alike to the model; directions and distances mean nothing else. This is figure 13 '
                'of the paper.'),
      figure(join(_scatter(drawn, datasets, text),
                  element('div', *buttons, class_='legend', role='group', aria_label='Show one dataset alone',
                          id='map-legend')),
             f'{text}. Press a dataset to see it alone, point at an episode to see which it is.', numbers=numbers),
      *([paragraph(f'Not on the map: {left_out}.')] if left_out else [])]


def _scatter(drawn: EpisodeMap, datasets: Sequence[str], text: str) -> Markup:
  axes = charts.Axes((-0.02, 1.02), (-0.02, 1.02), width=400, height=340, left=4, right=4, top=4, bottom=4)
  groups = []
  for number, dataset in enumerate(datasets):
    members = [i for i, name in enumerate(drawn.names) if dataset_of(name) == dataset]
    marks = (charts.mark(number, axes.across(drawn.points[i, 0]), axes.down(drawn.points[i, 1]), 2.5,
                         element('title', f'{drawn.names[i]}, episode {drawn.episodes[i]}')) for i in members)
    groups.append(element('g', *marks, style=f'fill:{charts.colour(number)}', data_dataset=dataset))
  return svg(axes.width, axes.height, 'Episodes by what the model makes of them', *groups, description=text,
             class_='plot map', id='map-plot')


def neighbour_shares(drawn: EpisodeMap) -> dict[str, tuple[float, float]]:
  """Of each source: the shares of its episodes' nearest neighbours on the map of that source, and of its dataset."""
  distances = np.linalg.norm(drawn.points[:, None] - drawn.points[None], axis=-1)
  np.fill_diagonal(distances, np.inf)
  nearest = np.argsort(distances, axis=1)[:, :_NEIGHBOURS]
  names = np.asarray(drawn.names)
  kinds = np.asarray([dataset_of(name) for name in drawn.names])
  same = [(each[nearest] == each[:, None]).mean(axis=1) for each in (names, kinds)]
  return {str(name): tuple(float(shares[names == name].mean()) for shares in same) for name in np.unique(names)}
