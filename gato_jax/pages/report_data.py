"""The report's data table and config."""

from collections.abc import Sequence
from typing import Any

import yaml

from data_pipelines.datasets.catalogue import entry_shares
from data_pipelines.datasets.sources import RecordSource
from data_pipelines.errors import InputError
from data_pipelines.sequences.index import latest_index
from data_pipelines.sequences.plan import dataset_of, mixture_shares
from gato_jax.inspection import plain
from gato_jax.pages.page import element, paragraph, table
from gato_jax.pages.report_run import Run

_NONE = '\N{EN DASH}'


def data_table(run: Run) -> Sequence[Any]:
  """What it was trained on: a row a dataset or task; a row an entry of the mixture where the data is not here."""
  try:
    subject = run.subject()
  except InputError as error:
    rows = [[name, f'{share:.1%}'] for name, share in entry_shares(run.config.data.mixture).items()]
    return [paragraph(f'Shares only: {error}.', class_='quiet missing'),
            table('The mixture', ['entry', 'share of positions'], rows)]
  shares = mixture_shares(subject.trained.config.data.mixture, subject.sources)
  rows = [[source.name, source.kind, f'{share:.1%}', *_amounts(source)]
          for source, share in zip(subject.sources, shares, strict=True)]
  datasets = len({dataset_of(source.name) for source in subject.sources})
  return [paragraph(f'{len(rows)} datasets and tasks of {datasets} entries of the mixture.'),
          table('What it was trained on', ['dataset or task', 'kind', 'share of positions', 'episodes', 'tokens',
                                           'patches'], rows)]


def _amounts(source: RecordSource) -> Sequence[str]:
  index = latest_index(source.directory)
  counted = (_NONE, _NONE) if index is None else (f'{index.tokens:,}', f'{index.patches:,}')
  return f'{len(source):,}', *counted


def config(run: Run) -> Sequence[Any]:
  """The whole config, folded away."""
  text = yaml.safe_dump(plain(run.report['config']), sort_keys=False)
  written = element('pre', element('code', text), tabindex='0', role='region', aria_label='Config')
  return [element('details', element('summary', 'The config of this run, as it was evaluated'), written)]
