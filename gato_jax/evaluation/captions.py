"""CIDEr, the captioning benchmarks' score (Vedantam, Zitnick, Parikh 2015), as COCO's evaluation computes it: CIDEr-D.

Not from a library: the one that installs brings 100 MB of Java programs for other scores, and its words need Java too.
"""

from collections import Counter
from collections.abc import Sequence
import math
import re

import numpy as np

LONGEST = 4  # words of an n-gram
SIGMA = 6.0  # of the penalty for captions of another length
SCALE = 10.0

Vectors = list[dict[tuple[str, ...], float]]  # tf-idf weights of the n-grams of 1, 2, ... words


def words(text: str) -> list[str]:
  """Lower case, without punctuation. COCO's tokenizer, the Penn treebank's, also splits `can't` into two."""
  return re.findall(r"\w+(?:['’]\w+)*", text.lower())


def cider(wanted: Sequence[Sequence[str]], given: Sequence[str]) -> float:
  """Mean over pictures of the similarity of the n-grams of captions, those that tell pictures apart weighing most.

  Args:
    wanted: one or more captions of each picture.
    given: the model's.

  Returns:
    0: nothing in common; 10: all captions of four or more words exactly as wanted, with one wanted for each picture.
    Shorter captions have no n-grams of four words and stay below. 0 for a single picture: nothing tells it apart.
  """
  counts = [[_ngrams(caption) for caption in captions] for captions in wanted]
  pictures = Counter(ngram for captions in counts for ngram in set().union(*captions))
  scores = []
  for captions, own in zip(counts, map(_ngrams, given), strict=True):
    scores.append(np.mean([_similarity(own, caption, pictures, len(wanted)) for caption in captions]))
  return SCALE * float(np.mean(scores))


def _ngrams(text: str) -> Counter[tuple[str, ...]]:
  of = words(text)
  return Counter(tuple(of[start : start + size]) for size in range(1, LONGEST + 1)
                 for start in range(len(of) - size + 1))


def _similarity(own: Counter, wanted: Counter, pictures: Counter, count: int) -> float:
  """Mean over the n-grams' sizes of the clipped cosine, less what the lengths differ by."""
  cosines = []
  for one, other in zip(_vectors(own, pictures, count), _vectors(wanted, pictures, count), strict=True):
    common = sum(min(weight, other[ngram]) * other[ngram] for ngram, weight in one.items() if ngram in other)
    norms = math.hypot(*one.values()) * math.hypot(*other.values())
    cosines.append(common / norms if norms else 0.0)
  return float(np.mean(cosines)) * math.exp(-((_length(own) - _length(wanted)) ** 2) / (2 * SIGMA**2))


def _vectors(counts: Counter, pictures: Counter, count: int) -> Vectors:
  vectors: Vectors = [{} for _ in range(LONGEST)]
  for ngram, times in counts.items():
    vectors[len(ngram) - 1][ngram] = times * math.log(count / max(1, pictures[ngram]))
  return vectors


def _length(counts: Counter) -> int:
  """In pairs of words, as COCO's code has it."""
  return sum(times for ngram, times in counts.items() if len(ngram) == 2)
