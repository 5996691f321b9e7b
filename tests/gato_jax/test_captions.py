"""CIDEr against the values of COCO's own code (pycocoevalcap 1.2, `CiderScorer`, on the same words)."""

import pytest

from gato_jax.evaluation.captions import cider, words

WANTED = [
    ['a red car on the street', 'a car drives down a street'],
    ['two dogs play on the grass'],
    ['the digit five'],
    ['a man riding a horse on a beach', 'a man on a horse', 'someone rides a horse by the sea'],
]
GIVEN = ['a red car on a street street', 'two dogs on the beach', 'the digit five', 'horse']


def test_cider_is_that_of_cocos_code():
  assert cider(WANTED, GIVEN) == pytest.approx(3.466849841933376)
  assert cider(WANTED[1:], GIVEN[1:]) == pytest.approx(3.5523645742709284)
  assert cider(WANTED[:2], ['', 'two dogs play on the grass']) == pytest.approx(5.0)


def test_ten_is_the_most_and_one_picture_says_nothing():
  long = [['one two three four five'], ['six seven eight nine']]
  assert cider(long, [captions[0] for captions in long]) == pytest.approx(10)
  assert cider(long[:1], long[0]) == 0
  assert cider(long, ['six seven eight nine', 'one two three four five']) == 0


def test_words_have_no_case_and_no_punctuation():
  assert words('A dog, a cat - and "Né"; it can’t.') == ['a', 'dog', 'a', 'cat', 'and', 'né', 'it', 'can’t']
