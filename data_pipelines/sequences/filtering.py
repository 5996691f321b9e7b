"""Which control episodes are trained on: those with good returns, as the paper's data was filtered, or some of them."""

import numpy as np

from data_pipelines.errors import InputError

_WIDEST_WINDOW = 1000
_WINDOW_SHARE = 0.1  # of the episodes


def expert_return(returns: np.ndarray) -> float:
  """The best mean return of successive episodes, over windows of min(1000, a tenth of them), one at least.

  Args:
    returns: float [E], in the order in which the episodes were made; E is 1 at least.
  """
  width = max(1, int(min(_WIDEST_WINDOW, _WINDOW_SHARE * len(returns))))
  sums = np.concatenate([[0], np.cumsum(returns, dtype=float)])
  return float((sums[width:] - sums[:-width]).max() / width)


def good_episodes(returns: np.ndarray, noisy: np.ndarray, min_return_share: float) -> np.ndarray:
  """Which episodes to train on.

  An episode is good if its return is at least `min_return_share` of the expert's. Where the expert's return is
  negative, that share is taken off by the same amount: with 0.8, an expert of -100 lets episodes of -120 pass.

  A noisy episode is neither judged nor part of the expert's return: its return says how much it was disturbed, while
  all its targets are the expert's.

  Args:
    returns: float [E], undiscounted, in the order in which the episodes were made; success, 0 or 1, where the task is
      scored by that, as its demonstrations end when they succeed, the best ones with the smallest return.
    noisy: bool [E], whether noise was injected.
    min_return_share: from 0, which lets all pass, to 1.

  Returns:
    bool [E].

  Raises:
    InputError: the share is out of bounds, or a return is not known.
  """
  if not 0 <= min_return_share <= 1:
    raise InputError(f"min_return_share is {min_return_share}; it is a share of the expert's return, from 0 to 1")
  if not min_return_share or noisy.all():
    return np.ones(len(returns), bool)
  if not np.isfinite(returns[~noisy]).all():
    raise InputError(f'min_return_share is {min_return_share} but there are episodes without a return: leave it at 0')
  expert = expert_return(returns[~noisy])
  return noisy | (returns >= expert - (1 - min_return_share) * abs(expert))


def drawn_episodes(scores: np.ndarray, count: int, best: int, seed: int) -> np.ndarray:
  """So many episodes, for few-shot learning; with the same other arguments, fewer are a part of more.

  Args:
    scores: float [E], return or success of each episode.
    count: how many to draw.
    best: only from so many with the highest score, of equals the first; 0: from all.
    seed: of the draw.

  Returns:
    bool [E].

  Raises:
    InputError: there are not as many to draw from.
  """
  pool = np.argsort(-scores, kind='stable')[:best or None]
  if not 0 < count <= len(pool):
    raise InputError(f'{count} episodes are to be drawn from {len(pool)}: make more with data.mixture.*.episodes, or '
                     'draw fewer')
  drawn = np.zeros(len(scores), bool)
  drawn[np.random.default_rng(seed).permutation(pool)[:count]] = True
  return drawn
