"""The report's scores: figure 5, by domain beside published results, by task."""

from collections.abc import Sequence
import math
from typing import Any

import numpy as np

from gato_jax.evaluation.published import published_results
from gato_jax.evaluation.scores import Interval, TaskScore, domains, summary, tasks_at_or_above
from gato_jax.pages import charts
from gato_jax.pages.page import Markup, data, element, figure, join, paragraph, svg, table
from gato_jax.pages.report_run import Run

_THRESHOLDS = np.linspace(0, 100, 101)
_LEFT, _RIGHT = -20.0, 120.0  # of the plots of scores; what lies outside is drawn at the edge
_NONE = '\N{EN DASH}'


def lead(run: Run) -> Markup:
  """The run in two sentences."""
  report, total = run.report, summary(run.tasks)
  parts = []
  if run.tasks:
    reached = round(total['share_at_or_above_50'] * len(run.tasks))
    parts.append(f'{reached} of {len(run.tasks)} tasks in {len(domains(run.tasks))} domains played at half of the '
                 "expert's score or above it, with one set of weights")
  if (accuracy := report['vqa']['accuracy']) is not None:
    parts.append(f'{accuracy:.0%} of questions about pictures answered (always the commonest answer: '
                 f'{report["vqa"]["majority"]:.0%})')
  if (accuracy := report['captions']['accuracy']) is not None:
    cider = report['captions'].get('cider')  # an older report has none
    parts.append(f'{accuracy:.0%} of captions exactly right' + ('' if cider is None else f' (CIDEr {cider:.2f})'))
  if (nats := report['text']['nats_per_byte']) is not None:
    parts.append(f'{nats:.3f} nats or {nats / math.log(2):.3f} bits a byte of held-out text (a unigram model: '
                 f'{report["text"]["unigram_nats_per_byte"]:.3f} nats)')
  return join('; '.join(parts) + '.' if parts else 'Nothing of this run has been scored.')


def figure_5(run: Run) -> Sequence[Any]:
  """How many tasks reach each share of the expert's score; a slider reads the plot."""
  if not run.tasks:
    return [nothing_played()]
  counts = tasks_at_or_above(run.tasks, _THRESHOLDS)
  total = sum(counts.values())
  text = (f'{int(total[0])} of {len(run.tasks)} tasks are at random or above, {int(total[50])} at half of the '
          f"expert's score or above it, {int(total[100])} at all of it or above.")
  shown = _THRESHOLDS[::10].astype(int)
  numbers = table('Tasks at or above each share of the score of the expert', ['domain', *(f'{x}%' for x in shown)], [
      *([domain, *(int(each[x]) for x in shown)] for domain, each in counts.items()),
      ['all', *(int(total[x]) for x in shown)]])
  slider = element(
      'div', element('label', 'Share of the expert’s score: ', element('output', '50%', id='figure-5-share'),
                     for_='figure-5-slider'),
      element('input', type='range', id='figure-5-slider', min=0, max=100, value=50),
      element('p', text, id='figure-5-reading', role='status'), class_='controls')
  reached = {domain: each.tolist() for domain, each in counts.items()}
  sizes = {domain: sum(task.domain == domain for task in run.tasks.values()) for domain in counts}
  return [
      paragraph('A score of 0 is that of uniformly random actions, 100 that of the expert who made the demonstrations; '
                'a task counts up to where its mean score lies. This is figure 5 of the Gato paper.'),
      figure(element('div', _figure_5_plot(counts, len(run.tasks), text),
                     element('div', charts.legend(list(counts)), slider), class_='beside'),
             'Tasks at or above each share of their expert’s score, stacked by domain.', numbers=numbers),
      data('figure-5-data', {'tasks': len(run.tasks), 'reached': reached, 'sizes': sizes})]


def _figure_5_plot(counts: dict[str, np.ndarray], tasks: int, text: str) -> Markup:
  axes = charts.Axes((0, 100), (0, max(tasks, 1)))
  low = np.zeros(len(_THRESHOLDS))
  areas = []
  for number, (domain, each) in enumerate(counts.items()):
    high = low + each
    areas.append(axes.area(*charts.steps(_THRESHOLDS, low), charts.steps(_THRESHOLDS, high)[1],
                           style=f'fill:{charts.colour(number)}', data_domain=domain))
    low = high
  middle = axes.across(50)
  line = element('line', x1=middle, x2=middle, y1=axes.top, y2=axes.height - axes.bottom, class_='reading',
                 id='figure-5-line', data_left=axes.left, data_right=axes.width - axes.right)
  return svg(axes.width, axes.height, 'Number of tasks by share of the expert’s score',
             axes.grid('share of the expert’s score, %', 'tasks'), *areas, line, description=text, class_='plot')


def by_domain(run: Run) -> Sequence[Any]:
  """Means with intervals beside what others published."""
  if not run.tasks:
    return [nothing_played()]
  total, published = summary(run.tasks), list(published_results())
  human = total['human_normalised_by_domain']
  means, intervals = total['mean_by_domain'], total['interval_by_domain']
  header = ['domain', 'tasks', 'this run', '95% interval', *(['human-normalised'] if human else []),
            *(f'{each.name} (published)' for each in published)]
  rows = [[domain, sum(task.domain == domain for task in run.tasks.values()), f'{mean:.1f}',
           _interval(intervals[domain]), *([f'{human[domain]:.1f}' if domain in human else _NONE] if human else []),
           *(each.score(domain).replace('-', _NONE) for each in published)] for domain, mean in means.items()]
  numbers = table('Mean normalised score by domain', header, rows)
  lines = [(domain, mean, intervals[domain], [each.domains.get(domain, {}).get('score') for each in published])
           for domain, mean in means.items()]
  text = '; '.join(f'{domain} {mean:.0f}' for domain, mean in means.items())
  sources = (element('li', f'{each.name}, {each.parameters} parameters: ', element('a', each.source, href=each.url),
                     f'. Its scores: {each.measure}. {each.remark}') for each in published)
  return [
      figure(element('div', _score_plot(lines, 'Mean normalised score by domain', text),
                  _key('this run, 95% interval', *(f'{each.name}, published' for each in published)), class_='beside'),
             'Mean over each domain’s tasks: 0 is random, 100 the expert.'), numbers,
      paragraph(_about_intervals(run.tasks)),
      paragraph('Published results are of other experts, episodes and often tasks; they are here for the scale of '
                'things, not for a ranking:'),
      element('ul', *sources)]


def by_task(run: Run) -> Sequence[Any]:
  """Every task; a domain's are folded away where there are many."""
  if not run.tasks:
    return [nothing_played()]
  folded = []
  for domain in domains(run.tasks):
    tasks = {name: task for name, task in run.tasks.items() if task.domain == domain}
    folded.append(element('details', element('summary', _domain_line(domain, tasks)), _task_figure(domain, tasks),
                          open=len(run.tasks) <= 30, class_='domain'))
  not_played = ', '.join(run.report.get('not_played', ()))
  return [element('div', *folded, class_='many wide'),
          *([paragraph(f'Not played, for want of an environment: {not_played}.')] if not_played else [])]


def _domain_line(domain: str, tasks: dict[str, TaskScore]) -> str:
  reached = sum(task.normalised >= 50 for task in tasks.values())
  return f'{domain}: {reached} of {len(tasks)} at half of the expert’s score or above'


def _task_figure(domain: str, tasks: dict[str, TaskScore]) -> Markup:
  human = any(task.human_normalised is not None for task in tasks.values())
  lines = [(name.removeprefix(f'{domain}/'), task.normalised, task.interval, []) for name, task in tasks.items()]
  header = ['task', 'score', 'random', 'expert', 'normalised', '95% interval', *(['human-normalised'] if human else []),
            'episodes']
  rows = [[name, f'{task.score:.2f}', f'{task.random:.2f}', f'{task.expert:.2f}', f'{task.normalised:.1f}',
           _interval(task.interval), *([_optional(task.human_normalised)] if human else []), task.episodes]
          for name, task in tasks.items()]
  text = '; '.join(f'{name} {value:.0f}' for name, value, _, _ in lines)
  return figure(_score_plot(lines, f'Normalised score of the tasks of {domain}', text),
                '0 is random, 100 the expert; the line is the 95% interval.',
                numbers=table(f'Scores of the tasks of {domain}', header, rows))


def _score_plot(lines: Sequence[tuple[str, float, Interval | None, Sequence[float | None]]], title: str,
                text: str) -> Markup:
  """A line each: its name above it, a dot, its interval, and others' marks."""
  row = 40
  axes = charts.Axes((_LEFT, _RIGHT), (0, 1), height=row * len(lines) + 30, left=20, right=20, top=0, bottom=26)
  parts = []
  for x in (0, 50, 100):
    at = axes.across(x)
    parts.append(element('line', x1=at, x2=at, y1=0, y2=axes.height - axes.bottom,
                         class_='grid strong' if x == 50 else 'grid'))
  parts.append(axes.grid(x_ticks=7, y_ticks=0))
  for number, (name, value, interval, others) in enumerate(lines):
    y = number * row + 27
    parts.append(element('text', name, x=4, y=y - 11, class_='name'))
    if interval:
      ends = [axes.across(_clip(end)) for end in interval]
      parts.append(element('line', x1=f'{ends[0]:.1f}', x2=f'{ends[1]:.1f}', y1=y, y2=y, class_='interval'))
    parts.append(element('circle', element('title', f'{name}: {value:.1f}'), cx=f'{axes.across(_clip(value)):.1f}',
                         cy=y, r=6, class_='good-mark' if value >= 50 else 'bad-mark'))
    parts += [_other(other, number, axes.across(_clip(other)), y) for number, other in enumerate(others)
              if other is not None]
  return svg(axes.width, axes.height, title, *parts, description=text, class_='plot')


def _other(value: float, number: int, x: float, y: float) -> Markup:
  """A published result: an open square, triangle or diamond."""
  return charts.mark((number + 1) * charts.SERIES, x, y, 6, element('title', f'{value:g}, published'), class_='other')


def _key(own: str, *others: str) -> Markup:
  def sign(mark: Markup) -> Markup:
    return element('svg', mark, width=16, height=16, viewBox='0 0 16 16', aria_hidden='true')

  items = [(sign(element('circle', cx=8, cy=8, r=6, class_='good-mark')), own),
           *((sign(charts.mark((number + 1) * charts.SERIES, 8, 8, 5.5, class_='other')), name)
             for number, name in enumerate(others))]
  return element('ul', *(element('li', mark, name) for mark, name in items), class_='legend')


def _about_intervals(tasks: dict[str, TaskScore]) -> str:
  if not any(task.interval for task in tasks.values()):
    return ('There are no intervals: this evaluation kept no episode scores, or played one episode a task; '
            'gato-jax evaluate keeps them.')
  return ('The 95% intervals are bootstrapped over the episodes of each task: they say how far the mean could lie off '
          'for the choice of episodes, with these weights, and nothing of another training run. Where all episodes '
          'scored the same, the interval is empty.')


def nothing_played() -> Markup:
  """What stands in place of scores and videos where there are none."""
  return paragraph('No control task was played in this evaluation.', class_='quiet')


def _clip(value: float) -> float:
  return min(max(value, _LEFT), _RIGHT)


def _interval(interval: Interval | None) -> str:
  return f'{interval[0]:.1f} to {interval[1]:.1f}' if interval else _NONE


def _optional(value: float | None) -> str:
  return _NONE if value is None else f'{value:.1f}'
