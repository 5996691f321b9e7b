"""`gato-jax illustrate`: one page that explains Gato with real batches of a config's mixture, and looks into them."""

import os
import pathlib
from typing import Any

from data_pipelines.datasets.prepare import open_sources, open_tokenizer
from data_pipelines.errors import InputError
from data_pipelines.explained_rows import RowReader
from gato_jax.pages import sequence_sections, token_sections
from gato_jax.pages.examples import Examples, collect
from gato_jax.pages.page import Markup, data, data_uri, element, page, png, writing
from gato_jax.training.checkpoint_place import checkpoint_folder
from gato_jax.training.compatibility import check_vocabulary, describe_vocabulary
from gato_jax.training.restore import Trained, load_trained

_LEAD = ('How a generalist agent reads games, robots, pictures and text as one stream of tokens, drawn from real '
         'batches. Point at a token, tap it, or walk through them with the arrow keys.')


def illustrate(config: Any, workdir: str, out: str = '', rows: int = 8) -> pathlib.Path:
  """Writes the page.

  Args:
    config: a whole config.
    workdir: of a run; if it has a checkpoint, its predictions are shown.
    out: the file; by default WORKDIR/illustrate.html.
    rows: packed rows to show.

  Raises:
    InputError: a dataset is missing, the checkpoint has another vocabulary, `rows` is below 1, or the file cannot be
      written.
  """
  if rows < 1:
    raise InputError(f'--rows={rows}: at least one row is needed')
  path = pathlib.Path(out or os.path.join(workdir, 'illustrate.html'))
  with writing(path):
    path.parent.mkdir(parents=True, exist_ok=True)
  reader = RowReader(config.data, open_sources(config.data, 'train'), open_tokenizer(config.data), config.seed)
  trained = load_trained(workdir) if checkpoint_folder(workdir).is_dir() else None
  if trained:
    check_vocabulary(describe_vocabulary(trained.tokenizer), describe_vocabulary(reader.tokenizer))
  text = build_page(config, reader, rows, trained)
  with writing(path):
    path.write_text(text, encoding='utf-8')
  return path


def build_page(config: Any, reader: RowReader, rows: int, trained: Trained | None = None) -> str:
  """The page's HTML.

  Args:
    config: what is read of it: `name`, `seed`, `data`, `model.width`.
    reader: of its mixture.
    rows: packed rows to show.
    trained: the model whose predictions are shown.
  """
  examples = collect(reader, rows, trained and trained.model)
  table = None if trained is None else trained.model.embedding_table()
  sections = [
      sequence_sections.modalities(examples),
      sequence_sections.flat_sequence(examples),
      sequence_sections.loss_mask(examples),
      sequence_sections.control_loop(examples, config.data),
      sequence_sections.data_table(reader, config.data),
      token_sections.values_to_tokens(examples, reader.tokenizer, config.model.width, table),
      sequence_sections.packing(examples, config.data)]
  made = f'Rows 0 to {rows - 1} of the mixture {config.name}, seed {config.seed}'
  made += f'; predictions of its checkpoint at step {trained.step}.' if trained else '; no checkpoint.'
  return page(f'The illustrated generalist agent: {config.name}', _LEAD, sections, styles=('illustrate.css',),
              scripts=('tokens.js', 'bins.js'), footer=element('span', made, _data(examples)))


def _data(examples: Examples) -> Markup:
  """What the scripts draw from. The patches are one picture, which style sheets show parts of."""
  sheet = examples.data.sheet()
  return data('token-data', examples.data.to_json() | {
      'sheet': data_uri(png(sheet), 'png'), 'sheetSize': [sheet.shape[1], sheet.shape[0]],
      'packed': [example.number for example in examples.rows]})

