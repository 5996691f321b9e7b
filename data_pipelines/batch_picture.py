"""A packed batch as a picture: its rows by modality, segment, target and dataset."""

from collections.abc import Sequence
import contextlib
import copy
import os
from typing import Any

from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
import numpy as np

from data_pipelines.datasets.prepare import open_sources, open_tokenizer
from data_pipelines.loader import make_loader
from data_pipelines.sequences.plan import dataset_of
from data_pipelines.sequences.rows import PackedBatch
from data_pipelines.sequences.tokens import ACTION_POSITION, DOCUMENT_POSITION, SEPARATOR_POSITION
from data_pipelines.tokenization.vocabulary import Vocabulary

MODALITIES = ('padding', 'picture patch', 'continuous observation', 'discrete observation', 'text', 'separator',
              'action')
_COLOURS = ('#ffffff', '#c9b6e4', '#f9e79f', '#aed6f1', '#f5a25d', '#7f8c8d', '#c0392b')
MAX_ROWS = 32
_ROW_INCHES = 0.22


def modalities(batch: PackedBatch, vocabulary: Vocabulary) -> np.ndarray:
  """What each position holds, an index into MODALITIES, int [B, L].

  Where discrete values share ids with text, an observed one is told from observed text by the loss: text is a target.
  """
  tokens, places = batch.tokens, batch.local_positions
  is_target = np.pad(batch.loss_weights[:, :-1] > 0, ((0, 0), (1, 0)))
  continuous = (tokens >= vocabulary.continuous_start) & (tokens < vocabulary.continuous_start + vocabulary.bins)
  kinds = [batch.segment_ids == 0, tokens == vocabulary.patch_id, places == ACTION_POSITION,
           places == SEPARATOR_POSITION, (places == DOCUMENT_POSITION) | is_target, continuous]
  names = ['padding', 'picture patch', 'action', 'separator', 'text', 'continuous observation']
  return np.select(kinds, [MODALITIES.index(name) for name in names], MODALITIES.index('discrete observation'))


def draw_mixture(data_config: Any, seed: int, batch_size: int, path: str) -> None:
  """Draws the first batch of a config's mixture, MAX_ROWS of its rows at most.

  Raises:
    InputError: a dataset or the tokenizer is missing.
  """
  tokenizer = open_tokenizer(data_config)
  sources = open_sources(data_config, 'train')
  config = copy.deepcopy(data_config)
  config.read_processes = 0  # for one batch none are started
  loader = make_loader(config, sources, tokenizer, seed=seed, batch_size=min(batch_size, MAX_ROWS))
  with contextlib.closing(loader):
    draw_batch(next(loader), tokenizer.vocabulary, loader.source_names, path)


def draw_batch(batch: PackedBatch, vocabulary: Vocabulary, source_names: Sequence[str], path: str) -> None:
  """Draws the B rows of a batch in four panels as a PNG."""
  B, L = batch.tokens.shape
  datasets = sorted(set(map(dataset_of, source_names)))
  of_source = np.array([datasets.index(dataset_of(name)) for name in source_names])
  present = batch.segment_ids > 0
  stripes = np.where(present, 1 + batch.segment_ids % 2, 0)
  panels = (
      ('modality of the input', modalities(batch, vocabulary), _COLOURS, MODALITIES),
      ('segment: attention stays within a stripe', stripes, ('#ffffff', '#2e86c1', '#aed6f1'), ()),
      ('predicts its next token', batch.loss_weights > 0, ('#ecf0f1', '#196f3d'), ('no', 'yes')),
      ('dataset', np.where(present, 1 + of_source[batch.sources], 0), ('#ffffff', *_palette(len(datasets))),
       ('', *datasets)),
  )
  figure = Figure(figsize=(14, len(panels) * (_ROW_INCHES * B + 1.0)), layout='constrained')
  for axis, (title, values, colours, names) in zip(figure.subplots(len(panels)), panels, strict=True):
    axis.imshow(values, cmap=ListedColormap(colours), vmin=-0.5, vmax=len(colours) - 0.5, aspect='auto',
                interpolation='nearest')
    axis.set(title=f'{title} ({B} rows of {L} positions)', yticks=[])
    patches = [Patch(color=colour, label=name) for colour, name in zip(colours, names, strict=False) if name]
    if patches:
      axis.legend(handles=patches, loc='upper left', bbox_to_anchor=(1, 1), fontsize=7)
  os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
  figure.savefig(path, dpi=100)


def _palette(count: int) -> list[tuple[float, float, float]]:
  """Colours that can be told apart, whatever their number."""
  hues = np.arange(count) * 0.618 % 1
  return [tuple(0.55 + 0.4 * np.cos(2 * np.pi * (hue + np.array([0, 1 / 3, 2 / 3])))) for hue in hues]
