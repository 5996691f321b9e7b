"""`report.json` and the table in the terminal."""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import math
import pathlib
from typing import Any

import ml_collections
import rich.box
from rich.console import Console
from rich.table import Table

from gato_jax.atomic import write_atomically
from gato_jax.evaluation.language import LanguageScores
from gato_jax.evaluation.published import published_results
from gato_jax.evaluation.scores import TaskScore, summary

TRAINING_KEYS = ('steps', 'tokens', 'seconds', 'packing_fill', 'tokens_per_second')


def build_report(
    tasks: Mapping[str, TaskScore],
    language: LanguageScores,
    training: Mapping[str, Any],
    config: ml_collections.ConfigDict,
) -> dict[str, Any]:
  """The report, ready for JSON. What was not measured, because the mixture or the run does not have it, is null."""
  return {
      'tasks': {name: dataclasses.asdict(task) for name, task in tasks.items()},
      'summary': summary(tasks),
      'vqa': {'accuracy': language.vqa_accuracy, 'majority': language.vqa_majority},
      'captions': {'accuracy': language.caption_accuracy, 'cider': language.caption_cider},
      'text': {
          'nats_per_byte': language.nats_per_byte, 'bits_per_byte': _bits(language.nats_per_byte),
          'unigram_nats_per_byte': language.unigram_nats_per_byte,
          'unigram_bits_per_byte': _bits(language.unigram_nats_per_byte)},
      'training': {key: training.get(key) for key in TRAINING_KEYS},
      'config': config.to_dict(),
  }


def _bits(nats: float | None) -> float | None:
  return None if nats is None else nats / math.log(2)


def training_summary(records: Sequence[Mapping[str, Any]], config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Of a whole run, from its last record, whatever interrupted it; empty if it wrote none."""
  if not records:
    return {}
  last = records[-1]
  positions = last['step'] * config.training.batch_size * config.data.sequence_length
  return {
      'steps': last['step'],
      'tokens': last['tokens'],
      'seconds': last['seconds'],
      'packing_fill': last['tokens'] / positions,
      'tokens_per_second': last['tokens'] / last['seconds'],
  }


def write_report(report: Mapping[str, Any], path: pathlib.Path) -> None:
  """Writes strict JSON: a NaN anywhere is an error."""
  write_atomically(path, json.dumps(report, indent=2, allow_nan=False) + '\n')


def summary_line(report: Mapping[str, Any]) -> str:
  """What was measured, in a line."""
  parts = []
  if report['tasks']:
    means = ', '.join(f'{domain} {mean:.1f}' for domain, mean in report['summary']['mean_by_domain'].items())
    reached = _percent(report['summary']['share_at_or_above_50'])
    parts.append(f'{reached} of {len(report["tasks"])} tasks at half of the expert or above ({means})')
  for name, value in (('questions', report['vqa']['accuracy']), ('captions', report['captions']['accuracy'])):
    if value is not None:
      parts.append(f'{name} {_percent(value)}')
  if report['text']['bits_per_byte'] is not None:
    parts.append(f'{_number(report["text"]["bits_per_byte"])} bits a byte of text')
  return '; '.join(parts) or 'nothing to evaluate'


def print_report(report: Mapping[str, Any], console: Console) -> None:
  """The scores as tables."""
  console.print(_task_table(report))
  console.print(_domain_table(report))
  console.print(_other_table(report))


def _task_table(report: Mapping[str, Any]) -> Table:
  table = Table(title='Control: 0 is random, 100 the expert', box=rich.box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
  for heading in ('task', 'score', 'random', 'expert', 'normalised, 95%', 'episodes'):
    table.add_column(heading, justify='left' if heading == 'task' else 'right', overflow='fold')
  for domain, mean in report['summary']['mean_by_domain'].items():
    interval = interval_text(report['summary']['interval_by_domain'][domain])
    table.add_row(f'[bold]{domain}[/]', '', '', '', f'[bold]{mean:.1f} {interval}[/]', '')
    for name, task in report['tasks'].items():
      if task['domain'] == domain:
        colour = 'green' if task['normalised'] >= 50 else 'red'
        scores = (f'{task[key]:.2f}' for key in ('score', 'random', 'expert'))
        name = name.removeprefix(f'{domain}/')
        normalised = f'[{colour}]{task["normalised"]:.1f}[/] {interval_text(task["interval"])}'
        table.add_row(f'  {name}', *scores, normalised, str(task['episodes']))
  return table


def interval_text(interval: Sequence[float] | None) -> str:
  """`(low to high)`, rounded; empty where there is none."""
  return '' if interval is None else f'({interval[0]:.0f} to {interval[1]:.0f})'


def _domain_table(report: Mapping[str, Any]) -> Table:
  """The domains' means beside what others published of theirs."""
  published = list(published_results())
  human = report['summary']['human_normalised_by_domain']
  table = Table(title='By domain, beside others (of other experts and tasks)', box=rich.box.SIMPLE,
                pad_edge=False)
  table.add_column('domain')
  for heading in ('this run', *(['human-normalised'] if human else []),
                  *(f'{each.name}, published' for each in published)):
    table.add_column(heading, justify='right')
  for domain, mean in report['summary']['mean_by_domain'].items():
    of_human = [_number(human.get(domain))] if human else []
    table.add_row(domain, f'{mean:.1f}', *of_human, *(each.score(domain) for each in published))
  return table


def _other_table(report: Mapping[str, Any]) -> Table:
  vqa, text, training = report['vqa'], report['text'], report['training']
  rows = (
      ('tasks at or above half of the expert', _percent(report['summary']['share_at_or_above_50'])),
      ('questions about pictures answered', _percent(vqa['accuracy'])),
      ('  always the commonest answer', _percent(vqa['majority'])),
      ('captions right', _percent(report['captions']['accuracy'])),
      ('  CIDEr, 0 to 10', _number(report['captions']['cider'])),
      ('held-out text, nats a byte', _number(text['nats_per_byte'])),
      ('  unigram model', _number(text['unigram_nats_per_byte'])),
      ('held-out text, bits a byte', _number(text['bits_per_byte'])),
      ('  unigram model', _number(text['unigram_bits_per_byte'])),
      ('training steps', _number(training['steps'])),
      ('training tokens', _number(training['tokens'])),
      ('training tokens a second', _number(training['tokens_per_second'])),
      ('packing fill', _percent(training['packing_fill'])),
  )
  table = Table(title='Summary', show_header=False, box=rich.box.SIMPLE)
  table.add_column()
  table.add_column(justify='right')
  for row in rows:
    table.add_row(*row)
  return table


def _percent(share: float | None) -> str:
  return '-' if share is None else f'{share:.1%}'


def _number(value: float | None) -> str:
  if value is None:
    return '-'
  return f'{value:.3f}' if value < 100 and value != int(value) else f'{value:,.0f}'
