"""Patches and their places (Gato paper, appendix C.3)."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from data_pipelines.errors import InputError
from data_pipelines.tokenization.images import patch_intervals, patchify, unpatchify


@pytest.mark.parametrize(('height', 'width', 'patches'), [
    (64, 80, 20), (64, 64, 16), (96, 96, 36), (128, 128, 64), (192, 192, 144), (224, 224, 196), (56, 56, 16),
    (1, 17, 2)])
def test_number_of_patches(height, width, patches):
  assert patchify(np.zeros((height, width, 3), np.uint8))[0].shape == (patches, 16, 16, 3)


def test_intervals_of_the_papers_figure():
  intervals = patch_intervals(64, 80).reshape(4, 5, 2, 2)
  assert intervals[1, 2].tolist() == [[32, 64], [51, 77]]
  assert intervals[:, 0, 0, 0].tolist() == [0, 32, 64, 96] and intervals[-1, -1].tolist() == [[96, 128], [102, 128]]
  assert intervals[0, :, 1, 0].tolist() == [0, 26, 51, 77, 102]


@pytest.mark.parametrize(('patches', 'means'), [
    (4, [16, 48, 80, 112]), (5, [13, 39, 64, 90, 115]), (6, [11, 32, 54, 75, 96, 118]), (8, list(range(8, 128, 16)))])
def test_rounded_means(patches, means):
  columns = patch_intervals(16, 16 * patches)[:, 1].astype(int)
  assert np.floor(columns.mean(axis=1) + 0.5).tolist() == means


def test_raster_order_and_padding():
  image = np.random.default_rng(0).integers(1, 256, (56, 56, 3), dtype=np.uint8)
  patches, _ = patchify(image)
  np.testing.assert_array_equal(patches[1], image[:16, 16:32])
  np.testing.assert_array_equal(patches[4], image[16:32, :16])
  np.testing.assert_array_equal(patches[15][:8, :8], image[48:, 48:])
  assert not patches[15][8:].any() and not patches[15][:, 8:].any()


def test_babyai_tiles_fall_into_patches_whole():
  tiles = np.arange(49, dtype=np.uint8).reshape(7, 7)
  image = np.repeat(np.kron(tiles, np.ones((8, 8), np.uint8))[..., None], 3, axis=-1)
  patches, _ = patchify(image)
  padded = np.pad(tiles, ((0, 1), (0, 1)))
  for i, patch in enumerate(patches):
    row, column = divmod(i, 4)
    np.testing.assert_array_equal(patch[::8, ::8, 0], padded[2 * row:2 * row + 2, 2 * column:2 * column + 2])


@settings(max_examples=30)
@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 3))
def test_pictures_come_back(height, width, count):
  images = np.random.default_rng(0).integers(256, size=(count, height, width, 3), dtype=np.uint8)
  patches, intervals = patchify(images)
  assert patches.shape[:2] == (count, len(intervals))
  np.testing.assert_array_equal(unpatchify(patches, height, width), images)
  np.testing.assert_array_equal(patches[-1], patchify(images[-1])[0])


@pytest.mark.parametrize('image', [np.zeros((8, 8, 3)), np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8),
                                   np.zeros((0, 8, 3), np.uint8)])
def test_bad_pictures(image):
  with pytest.raises(InputError, match='uint8'):
    patchify(image)
