"""Plots as SVG, for the report's figures. Colours are the page's, so that they follow light and dark."""

from collections.abc import Sequence
import dataclasses

from matplotlib.ticker import MaxNLocator
import numpy as np

from gato_jax.pages.page import Markup, element, join

SERIES = 8  # colours there are
MARKS = ('circle', 'square', 'triangle', 'diamond')  # one after all colours are used up


def colour(number: int) -> str:
  """Of a series, as CSS."""
  return f'var(--series-{number % SERIES + 1})'


@dataclasses.dataclass(frozen=True)
class Axes:
  """A rectangle of data in a drawing.

  Attributes:
    x: left and right end, in the data's unit.
    y: lower and upper end.
    width: of the drawing.
    height: of the drawing.
    left: of it, room for the labels; likewise the rest.
  """

  x: tuple[float, float]
  y: tuple[float, float]
  width: float = 400  # about a phone's, so that text is as large there as it says
  height: float = 260
  left: float = 46
  right: float = 14
  top: float = 12
  bottom: float = 48

  def across(self, x: float) -> float:
    """Places of the drawing; `down` likewise."""
    return self.left + (x - self.x[0]) / (self.x[1] - self.x[0]) * (self.width - self.left - self.right)

  def down(self, y: float) -> float:
    return self.height - self.bottom - (y - self.y[0]) / (self.y[1] - self.y[0]) * (
        self.height - self.top - self.bottom)

  def points(self, xs: Sequence[float], ys: Sequence[float]) -> str:
    """As a path's and a polygon's `d` has them, without a command."""
    return ' '.join(f'{self.across(x):.1f},{self.down(y):.1f}' for x, y in zip(xs, ys, strict=True))

  def grid(self, x_label: str = '', y_label: str = '', x_ticks: int = 5, y_ticks: int = 5) -> Markup:
    """Lines, numbers and names of both axes; 0 ticks leave an axis without numbers."""
    parts = []
    for y in _ticks(self.y, y_ticks):
      at = self.down(y)
      parts += [element('line', x1=self.left, x2=self.width - self.right, y1=_short(at), y2=_short(at), class_='grid'),
                element('text', _number(y), x=self.left - 7, y=_short(at + 4.5), text_anchor='end', class_='tick')]
    for x in _ticks(self.x, x_ticks):
      at = self.across(x)
      parts.append(element('text', _number(x), x=_short(at), y=self.height - self.bottom + 18, text_anchor='middle',
                           class_='tick'))
    if x_label:
      parts.append(element('text', x_label, x=(self.left + self.width - self.right) / 2, y=self.height - 6,
                           text_anchor='middle', class_='tick'))
    if y_label:
      middle = (self.top + self.height - self.bottom) / 2
      parts.append(element('text', y_label, x=14, y=middle, text_anchor='middle', class_='tick',
                           transform=f'rotate(-90 14 {middle:g})'))
    return join(*parts)

  def line(self, xs: Sequence[float], ys: Sequence[float], **attributes) -> Markup:
    return element('path', d=f'M{self.points(xs, ys)}', fill='none', **attributes)

  def area(self, xs: Sequence[float], low: Sequence[float], high: Sequence[float], **attributes) -> Markup:
    """Between two curves."""
    return element('path', d=f'M{self.points(xs, high)} L{self.points(xs[::-1], low[::-1])}Z', **attributes)


def steps(xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """A staircase: between two points, the value of the right one."""
  return np.repeat(xs, 2)[1:-1], np.repeat(ys[1:], 2)


def mark(number: int, x: float, y: float, size: float, *content, **attributes) -> Markup:
  """A series' sign, so that it is not told by its colour alone."""
  kind = MARKS[number // SERIES % len(MARKS)]
  x, y = _short(x), _short(y)
  if kind == 'circle':
    return element('circle', *content, cx=x, cy=y, r=size, **attributes)
  corners = {'square': ((-1, -1), (1, -1), (1, 1), (-1, 1)), 'triangle': ((0, -1.2), (1.1, 0.9), (-1.1, 0.9)),
             'diamond': ((0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0))}[kind]
  points = ' '.join(f'{x + dx * size:.1f},{y + dy * size:.1f}' for dx, dy in corners)
  return element('polygon', *content, points=points, **attributes)


def swatch(number: int) -> Markup:
  """A series' sign for a legend; it says nothing to who does not see it."""
  return element('svg', mark(number, 8, 8, 5.5, style=f'fill:{colour(number)}'), width=16, height=16,
                 viewBox='0 0 16 16', aria_hidden='true')


def legend(names: Sequence[str]) -> Markup:
  return element('ul', *(element('li', swatch(number), name) for number, name in enumerate(names)), class_='legend')


def _ticks(ends: tuple[float, float], count: int) -> list[float]:
  if not count:
    return []
  margin = 1e-6 * (ends[1] - ends[0])
  return [float(tick) for tick in MaxNLocator(count).tick_values(*ends)
          if ends[0] - margin <= tick <= ends[1] + margin]


def _number(value: float) -> str:
  if abs(value) >= 10_000:
    return f'{value / 1000:g}k' if abs(value) < 1e6 else f'{value / 1e6:g}M'
  return f'{value:g}'.replace('-', '\N{MINUS SIGN}')


def _short(value: float) -> float:
  return round(float(value), 1)
