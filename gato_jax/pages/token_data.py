"""The tokens of rows as JSON, for the scripts of a page, with all that is known of each."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from data_pipelines.explained_rows import ExplainedRow
from data_pipelines.provenance import KINDS, Origin
from data_pipelines.sequences.tokenizer import SequenceTokenizer
from data_pipelines.sequences.tokens import (
    ACTION_POSITION,
    DOCUMENT_POSITION,
    LAST_OBSERVATION_POSITION,
    SEPARATOR_POSITION,
)
from data_pipelines.tokenization.images import PATCH_SIZE
from gato_jax.pages.predictions import Predictions

SHEET_COLUMNS = 32


class TokenData:
  """Collects rows; what they share, such as patches and subwords, is written once.

  Args:
    tokenizer: of the rows.
    source_names: of the datasets.
  """

  def __init__(self, tokenizer: SequenceTokenizer, source_names: Sequence[str]):
    self._tokenizer = tokenizer
    self.source_names = source_names
    self._rows: list[dict[str, Any]] = []
    self._items: dict[str, int] = {}
    self._patches: dict[bytes, int] = {}
    self._pieces: set[int] = set()

  def add(self, explained: ExplainedRow, predictions: Predictions | None = None) -> int:
    """Adds a row and returns its number. Padding at its end is only counted."""
    row, origins, n = explained.row, explained.origins, len(explained.origins)
    is_target = row.loss_weights[:n] > 0
    patch, intervals = self._add_patches(row, n)
    columns = {
        'length': len(row.tokens), 'ids': row.tokens[:n].tolist(), 'segments': row.segment_ids[:n].tolist(),
        'places': row.positions[:n].tolist(), 'localPlaces': row.local_positions[:n].tolist(),
        'targets': np.where(is_target, row.targets[:n], -1).tolist(), 'patches': patch, 'intervals': intervals,
        'kinds': [KINDS.index(origin.kind) for origin in origins],
        'items': [self._items.setdefault(origin.item, len(self._items)) for origin in origins],
        'values': [_value(origin) for origin in origins],
        **{key: [int(getattr(origin, field)) for origin in origins] for key, field in (
            ('sources', 'source'), ('episodes', 'episode'), ('steps', 'timestep'), ('prompts', 'role'))}}
    self._pieces.update(columns['ids'], columns['targets'])
    if predictions:
      columns |= self._predictions(predictions, is_target)
    self._rows.append(columns)
    return len(self._rows) - 1

  def to_json(self) -> dict[str, Any]:
    """For `page.data`."""
    vocabulary, text = self._tokenizer.vocabulary, self._tokenizer.text_tokenizer
    return {
        'vocabulary': {
            'textSize': vocabulary.text_size, 'bins': vocabulary.bins, 'mu': vocabulary.mu, 'm': vocabulary.m,
            'continuousStart': vocabulary.continuous_start, 'discreteStart': vocabulary.discrete_start,
            'discreteSize': vocabulary.discrete_size, 'separator': vocabulary.separator_id,
            'patch': vocabulary.patch_id, 'hiddenAction': vocabulary.hidden_action_id,
            'padding': vocabulary.padding_id},
        'localPlaces': {'action': ACTION_POSITION, 'separator': SEPARATOR_POSITION, 'document': DOCUMENT_POSITION,
                        'last': LAST_OBSERVATION_POSITION},
        'pieces': {token: text.piece(token) for token in sorted(self._pieces) if 0 <= token < text.size},
        'kinds': KINDS, 'sources': list(self.source_names), 'items': list(self._items), 'rows': self._rows,
        'sheetColumns': SHEET_COLUMNS}

  def sheet(self) -> np.ndarray:
    """All patches side by side, `SHEET_COLUMNS` in a line; uint8 [height, width, 3], one black patch if none."""
    lines = max(1, -(-len(self._patches) // SHEET_COLUMNS))
    sheet = np.zeros((lines * SHEET_COLUMNS, PATCH_SIZE, PATCH_SIZE, 3), np.uint8)
    for patch, place in self._patches.items():
      sheet[place] = np.frombuffer(patch, np.uint8).reshape(sheet.shape[1:])
    grid = sheet.reshape(lines, SHEET_COLUMNS, PATCH_SIZE, PATCH_SIZE, 3).swapaxes(1, 2)
    return grid.reshape(lines * PATCH_SIZE, SHEET_COLUMNS * PATCH_SIZE, 3)

  def _add_patches(self, row: Any, n: int) -> tuple[list[int], list[list[int]]]:
    """For each token the number of its patch, or -1; and the interval of each patch of the row in their order."""
    numbers, intervals = [-1] * n, []
    for patch, place, interval in zip(row.patches, row.patch_positions.tolist(), row.patch_intervals, strict=True):
      if place < n:
        numbers[place] = self._patches.setdefault(patch.tobytes(), len(self._patches))
        intervals.append(interval.ravel().tolist())
    return numbers, intervals

  def _predictions(self, predictions: Predictions, is_target: np.ndarray) -> dict[str, Any]:
    """Where there is a target. Elsewhere the model was never told what comes next."""
    likeliest, chances = predictions.likeliest.tolist(), np.round(predictions.chances.astype(float), 4).tolist()
    self._pieces.update(token for i in np.flatnonzero(is_target) for token in likeliest[i])
    return {
        'likeliest': [likeliest[i] if predicts else None for i, predicts in enumerate(is_target.tolist())],
        'chances': [chances[i] if predicts else None for i, predicts in enumerate(is_target.tolist())],
        'targetChances': [float(f'{predictions.target_chances[i]:.4g}') if predicts else None
                          for i, predicts in enumerate(is_target.tolist())]}


def _value(origin: Origin) -> Any:
  """JSON has no NaN; tokens of one are refused before they get here."""
  return float(f'{origin.value:.6g}') if isinstance(origin.value, float) else origin.value
