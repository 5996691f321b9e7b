"""The id layout, and the encoding of values into it (paper section 2.1)."""

from collections.abc import Mapping
import dataclasses
import functools
import hashlib
import json
from typing import Any

import numpy as np

from data_pipelines.environments.specs import ArraySpec
from data_pipelines.errors import InputError
from data_pipelines.tokenization.continuous import bin_centres, inverse_mu_law, mu_law, to_bins
from data_pipelines.tokenization.images import patch_intervals

_ACTION_TOLERANCE = 1e-5  # float32 rounding of an adapter that rescales its action to [-1, 1]


@dataclasses.dataclass(frozen=True)
class Vocabulary:
  """All ids: text [0, text_size), continuous, discrete (if disjoint), separator, patch, hidden action, padding.

  Attributes:
    text_size: ids of subwords.
    bins: ids of continuous values.
    discrete_size: ids of discrete values.
    discrete_overlaps_text: the paper's layout: discrete values share ids with the first subwords.
    mu: of the mu-law.
    m: the magnitude at which the mu-law saturates.
  """

  text_size: int
  bins: int = 1024
  discrete_size: int = 1024
  discrete_overlaps_text: bool = True
  mu: float = 100.0
  m: float = 256.0

  def __post_init__(self):
    if min(self.text_size, self.bins, self.discrete_size) < 1 or min(self.mu, self.m) <= 0:
      raise InputError(f'data.vocabulary: sizes, mu and m must be positive: {self.to_json()}')
    if self.discrete_overlaps_text and self.text_size < self.discrete_size:
      raise InputError(
          f'data.vocabulary: {self.discrete_size} discrete values do not fit into {self.text_size} text ids; '
          'raise text_size, lower discrete_size, or set discrete_overlaps_text=False')

  @property
  def continuous_start(self) -> int:
    return self.text_size

  @property
  def discrete_start(self) -> int:
    return 0 if self.discrete_overlaps_text else self.text_size + self.bins

  @property
  def separator_id(self) -> int:
    return self.text_size + self.bins + (0 if self.discrete_overlaps_text else self.discrete_size)

  @property
  def patch_id(self) -> int:
    return self.separator_id + 1

  @property
  def hidden_action_id(self) -> int:
    return self.separator_id + 2

  @property
  def padding_id(self) -> int:
    return self.separator_id + 3

  @property
  def size(self) -> int:
    return self.padding_id + 1

  def bin_values(self) -> np.ndarray:
    """Bin centres in [-1, 1], float32 [bins]: what a continuous action's token stands for."""
    return bin_centres(self.bins).astype(np.float32)

  def encode_observation(self, spec: ArraySpec, value: np.ndarray) -> np.ndarray:
    """Tokens of a continuous or discrete observation item, row-major.

    Args:
      spec: the item's spec.
      value: [..., *spec.shape]; leading axes (time) are kept.

    Returns:
      int32 [..., spec.size] ids.

    Raises:
      InputError: wrong shape, NaN or infinite value, discrete value outside the spec.
    """
    if spec.kind == 'discrete':
      return self._encode_discrete(spec, value)
    # float32 first, so that a simulator's float64 gives the ids that its stored float32 gives.
    flat = _flatten(spec, value).astype(np.float32).astype(np.float64)
    _require_finite(flat)
    return self.continuous_start + to_bins(mu_law(flat, self.mu, self.m), self.bins)

  def decode_observation(self, spec: ArraySpec, ids: np.ndarray) -> np.ndarray:
    """The inverse, [..., *spec.shape]: de-companded bin centres (float32) or values (int32)."""
    if spec.kind == 'discrete':
      return self._decode_discrete(spec, ids)
    return inverse_mu_law(self._centres(spec, ids), self.mu, self.m).astype(np.float32)

  def encode_action(self, spec: ArraySpec, action: np.ndarray) -> np.ndarray:
    """Tokens of an action [..., *spec.shape], int32 [..., A]. Continuous ones are binned without mu-law.

    Raises:
      InputError: wrong shape, NaN, a continuous value outside [-1, 1] or a discrete one outside the spec.
    """
    if spec.kind == 'discrete':
      return self._encode_discrete(spec, action)
    flat = _flatten(spec, action).astype(np.float32).astype(np.float64)
    _require_finite(flat)
    if flat.size and np.abs(flat).max() > 1 + _ACTION_TOLERANCE:
      raise InputError(f'action {flat[np.abs(flat) > 1][0]:g} is outside [-1, 1]; clip or rescale it')
    return self.continuous_start + to_bins(flat, self.bins)

  def decode_action(self, spec: ArraySpec, ids: np.ndarray) -> np.ndarray:
    """The action [..., *spec.shape] of ids [..., A]: bin centres (float32) or values (int32).

    An id that no action of this spec has, which only unrestricted sampling gives, counts as the nearest one that has.
    """
    start, stop = self.action_ids(spec)
    ids = np.clip(ids, start, stop - 1)
    if spec.kind == 'discrete':
      return self._decode_discrete(spec, ids)
    return self._centres(spec, ids).astype(np.float32)

  def action_ids(self, spec: ArraySpec) -> tuple[int, int]:
    """[start, stop) of the ids that a token of this action can have."""
    if spec.kind == 'discrete':
      return self.discrete_start, self.discrete_start + spec.num_values
    return self.continuous_start, self.continuous_start + self.bins

  def to_json(self) -> dict[str, Any]:
    return dataclasses.asdict(self)

  @classmethod
  def from_json(cls, fields: Mapping[str, Any]) -> 'Vocabulary':
    return cls(**fields)

  @functools.cached_property
  def digest(self) -> str:
    return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:16]

  def _encode_discrete(self, spec: ArraySpec, value: np.ndarray) -> np.ndarray:
    flat = _flatten(spec, value)
    if flat.dtype.kind not in 'iub':
      raise InputError(f'discrete values must be integers, got {flat.dtype}')
    if spec.num_values > self.discrete_size:
      raise InputError(f'{spec.num_values} discrete values need data.vocabulary.discrete_size of at least that')
    if flat.size and (flat.min() < 0 or flat.max() >= spec.num_values):
      raise InputError(f'discrete value {flat.max() if flat.min() >= 0 else flat.min()} is outside '
                       f'[0, {spec.num_values})')
    return self.discrete_start + flat.astype(np.int32)

  def _decode_discrete(self, spec: ArraySpec, ids: np.ndarray) -> np.ndarray:
    return (np.asarray(ids, np.int32) - self.discrete_start).reshape(np.shape(ids)[:-1] + spec.shape)

  def _centres(self, spec: ArraySpec, ids: np.ndarray) -> np.ndarray:
    centres = bin_centres(self.bins)[np.asarray(ids) - self.continuous_start]
    return centres.reshape(np.shape(ids)[:-1] + spec.shape)


def _flatten(spec: ArraySpec, value: np.ndarray) -> np.ndarray:
  """[..., *spec.shape] -> contiguous [..., spec.size]."""
  value = np.asarray(value)
  leading = value.ndim - len(spec.shape)
  if leading < 0 or value.shape[leading:] != spec.shape:
    raise InputError(f'shape {value.shape} does not end in the spec\'s {spec.shape}')
  return np.ascontiguousarray(value).reshape(value.shape[:leading] + (spec.size,))


def _require_finite(flat: np.ndarray) -> None:
  if not np.isfinite(flat).all():
    step = np.argwhere(~np.isfinite(flat))[0].tolist()
    raise InputError(f'NaN or infinite value at {step}; repair or leave out the episode')


def token_count(spec: ArraySpec, text: int) -> int:
  """Tokens of an item of a timestep; of a text, which may have any number, `text`."""
  if spec.kind == 'image':
    return len(patch_intervals(*spec.shape[:2]))
  return text if spec.kind == 'text' else spec.size
