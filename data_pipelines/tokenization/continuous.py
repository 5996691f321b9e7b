"""Continuous values as bins: mu-law companding and uniform bins on [-1, 1] (paper section 2.1, appendix B)."""

import numpy as np


def mu_law(x: np.ndarray, mu: float, m: float) -> np.ndarray:
  """sgn(x) ln(mu |x| + 1) / ln(mu m + 1): odd, +-1 at +-m, steepest at 0."""
  return np.sign(x) * np.log1p(mu * np.abs(x)) / np.log1p(mu * m)


def inverse_mu_law(c: np.ndarray, mu: float, m: float) -> np.ndarray:
  return np.sign(c) * np.expm1(np.abs(c) * np.log1p(mu * m)) / mu


def to_bins(c: np.ndarray, bins: int) -> np.ndarray:
  """Bin index, int32: floor on a half-open grid, 1 itself in the last bin; values outside [-1, 1] are clipped."""
  scaled = np.floor((np.clip(c, -1, 1) + 1) / 2 * bins)
  return np.minimum(scaled, bins - 1).astype(np.int32)


def bin_centres(bins: int) -> np.ndarray:
  """float64 [bins]: what a bin decodes to. The centre halves the worst error of the left edge."""
  return (2 * np.arange(bins) + 1) / bins - 1
