"""Outlines: filled again they are the mask, holes and corners that touch included."""

import numpy as np
import pytest

from tool.file.outlines import outline
from tool.file.segmentation import box, decode, encode, parts, segmentation_rle


def filled(polygon, size):
    return decode(segmentation_rle([polygon.ravel().tolist()], size))


def test_square_has_four_corners():
    mask = np.zeros((6, 7), dtype=bool)
    mask[1:4, 2:6] = True
    assert {tuple(point) for point in outline(mask)} == {(2, 1), (6, 1), (6, 4), (2, 4)}
    assert len(outline(mask)) == 4
    assert box(mask) == [2, 1, 4, 3]


def test_whole_image():
    mask = np.ones((3, 2), dtype=bool)
    np.testing.assert_array_equal(filled(outline(mask), mask.shape), mask)


def test_holes_that_touch_at_a_corner():
    mask = np.ones((7, 8), dtype=bool)
    mask[2, 2] = mask[3, 3] = mask[5, 6] = False
    (part,) = parts(mask)
    np.testing.assert_array_equal(filled(outline(part), mask.shape), mask)


@pytest.mark.parametrize("seed", range(30))
def test_random_masks(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 15, 2)) < rng.choice([0.3, 0.6, 0.9])
    whole = np.zeros_like(mask)
    for part in parts(mask):
        np.testing.assert_array_equal(filled(outline(part), mask.shape), part)
        assert not (whole & part).any()
        whole |= part
    np.testing.assert_array_equal(whole, mask)


def test_parts_touch_over_sides_alone():
    assert len(parts(np.eye(3, dtype=bool))) == 3


def test_encode_is_what_the_reader_reads():
    mask = np.random.default_rng(0).random((9, 7)) < 0.5
    np.testing.assert_array_equal(decode(segmentation_rle(encode(mask), mask.shape)), mask)
