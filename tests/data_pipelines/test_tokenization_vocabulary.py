"""Ids of values: numbers worked out by hand from Gato's formulas, and the test vectors of GIA's documentation."""

import json

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from data_pipelines.environments.specs import ArraySpec
from data_pipelines.errors import InputError
from data_pipelines.tokenization.continuous import inverse_mu_law, mu_law, to_bins
from data_pipelines.tokenization.vocabulary import Vocabulary

PAPER = Vocabulary(32_000)
DISJOINT = Vocabulary(500, discrete_overlaps_text=False)
SCALAR = ArraySpec('continuous')

OBSERVATIONS = [  # value, companded, id, decoded
    (0, 0, 32512, '0.0001'), (0.001, 0.009390, 32516, '0.00093'), (0.01, 0.068288, 32546, '0.00982'),
    (0.1, 0.236237, 32632, '0.0990'), (0.5, 0.387357, 32710, '0.5018'), (1, 0.454674, 32744, '0.9941'),
    (-1, -0.454674, 32279, '-0.9941'), (2, 0.522473, 32779, '1.99975'), (10, 0.680640, 32860, '10.0025'),
    (100, 0.907398, 32976, '99.83'), (256, 1, 33023, '253.5'), (300, 1, 33023, '253.5'), (1e6, 1, 33023, '253.5'),
    (-256, -1, 32000, '-253.5')]
ACTIONS = [(-1, 32000, -0.99902), (-0.5, 32256, -0.49902), (0, 32512, 0.00098), (0.25, 32640, 0.25098),
           (0.9, 32972, 0.89941), (1.0, 33023, 0.99902)]


@pytest.mark.parametrize(('value', 'companded', 'token', 'decoded'), OBSERVATIONS)
def test_worked_observations(value, companded, token, decoded):
  assert np.clip(mu_law(np.float64(value), 100, 256), -1, 1) == pytest.approx(companded, abs=1e-6)
  assert PAPER.encode_observation(SCALAR, np.float32(value)).tolist() == [token]
  last_digit = 10.0 ** -len(decoded.partition('.')[2])
  assert PAPER.decode_observation(SCALAR, np.array([token])) == pytest.approx(float(decoded), abs=0.51 * last_digit)


@pytest.mark.parametrize(('value', 'token', 'decoded'), ACTIONS)
def test_worked_actions(value, token, decoded):
  spec = ArraySpec('continuous', (1,))
  assert PAPER.encode_action(spec, np.array([value], np.float32)).tolist() == [token]
  assert PAPER.decode_action(spec, np.array([token])) == pytest.approx([decoded], abs=1e-5)


def test_bins_clip_what_lies_outside():
  assert to_bins(np.array([1.3, 1.0, -1.0, -7.0]), 1024).tolist() == [1023, 1023, 0, 0]


def test_gia_vectors():
  values = [[-0.6285, -5.1349, 3.9317, -3.5854], [3.9263, -1.8975, 7.3103, -7.3467], [-6.9724, -2.9982, 9.1740, 0.1002]]
  bins = [[302, 197, 813, 215], [813, 247, 844, 179], [181, 224, 856, 633]]
  ids = PAPER.encode_observation(ArraySpec('continuous', (4,)), np.array(values, np.float32))
  np.testing.assert_array_equal(ids - PAPER.continuous_start, bins)


def test_bins_spent_on_small_values():
  ends = [to_bins(mu_law(np.array([-limit, limit]), 100, 256), 1024) for limit in (0.1, 1, 10, 100)]
  assert [int(high - low + 1) for low, high in ends] == [242, 466, 698, 930]


def test_layout_of_the_paper():
  assert PAPER.continuous_start == 32_000 and PAPER.discrete_start == 0
  assert (PAPER.separator_id, PAPER.patch_id, PAPER.hidden_action_id, PAPER.padding_id) == (33024, 33025, 33026, 33027)
  assert PAPER.size == 33028


def test_disjoint_layout():
  assert (DISJOINT.continuous_start, DISJOINT.discrete_start, DISJOINT.separator_id) == (500, 1524, 2548)
  spec = ArraySpec('discrete', (), 7)
  assert DISJOINT.encode_action(spec, np.int32(3)).tolist() == [1527]
  assert DISJOINT.action_ids(spec) == (1524, 1531)
  assert DISJOINT.action_ids(SCALAR) == (500, 1524)


def test_overlap_needs_enough_text():
  with pytest.raises(InputError, match='raise text_size'):
    Vocabulary(500)


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=20))
def test_observations_decode_within_half_a_bin(values):
  spec = ArraySpec('continuous', (len(values),))
  decoded = PAPER.decode_observation(spec, PAPER.encode_observation(spec, np.array(values, np.float32)))
  companded = [mu_law(np.clip(array.astype(float), -256, 256), 100, 256) for array in (np.array(values), decoded)]
  assert np.abs(companded[0] - companded[1]).max() <= 1 / 1024 + 1e-6


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=20), st.sampled_from([PAPER, DISJOINT]))
def test_actions_decode_within_half_a_bin(values, vocabulary):
  spec = ArraySpec('continuous', (len(values),))
  ids = vocabulary.encode_action(spec, np.array(values, np.float32))
  start, stop = vocabulary.action_ids(spec)
  assert ids.dtype == np.int32 and ids.min() >= start and ids.max() < stop
  decoded = vocabulary.decode_action(spec, ids)
  assert np.abs(decoded - np.array(values)).max() <= 1 / 1024 + 1e-6
  np.testing.assert_array_equal(vocabulary.encode_action(spec, decoded), ids)


@given(st.lists(st.integers(0, 9), min_size=6, max_size=6), st.sampled_from([PAPER, DISJOINT]))
def test_discrete_values_come_back(values, vocabulary):
  spec = ArraySpec('discrete', (2, 3), 10)
  array = np.array(values, np.int32).reshape(2, 3)
  ids = vocabulary.encode_observation(spec, array)
  np.testing.assert_array_equal(ids - vocabulary.discrete_start, values)
  np.testing.assert_array_equal(vocabulary.decode_observation(spec, ids), array)


def test_leading_axes_are_kept_and_change_nothing():
  spec = ArraySpec('continuous', (2, 3))
  values = np.random.default_rng(0).normal(size=(5, 4, 2, 3)).astype(np.float32)
  ids = PAPER.encode_observation(spec, values)
  assert ids.shape == (5, 4, 6)
  np.testing.assert_array_equal(ids[3, 1], PAPER.encode_observation(spec, values[3, 1]))
  assert PAPER.decode_observation(spec, ids).shape == values.shape


def test_float64_gives_the_ids_of_float32():
  values = inverse_mu_law(np.arange(-511, 512) / 512, 100, 256)  # on the edges of bins, where rounding decides
  spec = ArraySpec('continuous', (1023,))
  np.testing.assert_array_equal(PAPER.encode_observation(spec, values),
                                PAPER.encode_observation(spec, values.astype(np.float32)))


def test_bin_values_are_what_actions_decode_to():
  values = PAPER.bin_values()
  assert values.dtype == np.float32 and values.shape == (1024,)
  np.testing.assert_array_equal(values, [PAPER.decode_action(SCALAR, np.array([32_000 + b])) for b in range(1024)])


def test_ids_that_no_action_has_count_as_the_nearest():
  assert PAPER.decode_action(ArraySpec('discrete', (), 7), np.array([5000])) == 6
  assert PAPER.decode_action(SCALAR, np.array([3])) == pytest.approx(-0.99902, abs=1e-5)


@pytest.mark.parametrize(('call', 'message'), [
    (lambda: PAPER.encode_observation(SCALAR, np.float32('nan')), 'NaN'),
    (lambda: PAPER.encode_observation(SCALAR, np.float32('inf')), 'infinite'),
    (lambda: PAPER.encode_observation(ArraySpec('continuous', (3,)), np.zeros((5, 2), np.float32)), 'shape'),
    (lambda: PAPER.encode_action(ArraySpec('continuous', (1,)), np.array([1.3], np.float32)), '1.3 is outside'),
    (lambda: PAPER.encode_action(ArraySpec('discrete', (), 7), np.int32(7)), r'7 is outside \[0, 7\)'),
    (lambda: PAPER.encode_action(ArraySpec('discrete', (), 7), np.int32(-2)), '-2 is outside'),
    (lambda: PAPER.encode_action(ArraySpec('discrete', (), 7), np.float32(1)), 'integers'),
    (lambda: PAPER.encode_observation(ArraySpec('discrete', (), 2000), np.int32(1)), 'discrete_size'),
])
def test_bad_values(call, message):
  with pytest.raises(InputError, match=message):
    call()


def test_json_and_digest():
  assert Vocabulary.from_json(json.loads(json.dumps(DISJOINT.to_json()))) == DISJOINT
  assert DISJOINT.digest == Vocabulary(500, discrete_overlaps_text=False).digest != Vocabulary(501, 1024, 501).digest
