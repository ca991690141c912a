"""Segmentations: the pixels that pycocotools gives, and refusals where its C code would believe."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tool.errors import InputError
from tool.file.segmentation import area, box_rle, decode, run_lengths, segmentation_rle

SIZE = (9, 12)
SQUARE = [3, 2, 8, 2, 8, 6, 3, 6]


def drawn(segmentation, size=SIZE, **settings):
    return decode(segmentation_rle(segmentation, size, **settings))


def inside(rows, columns, size=SIZE):
    mask = np.zeros(size, dtype=bool)
    mask[rows, columns] = True
    return mask


def packed(mask):
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


def test_polygon_covers_the_pixels_between_its_corners():
    mask = inside(slice(2, 6), slice(3, 8))
    np.testing.assert_array_equal(drawn([SQUARE]), mask)
    np.testing.assert_array_equal(drawn(SQUARE), mask)  # without its list


def test_polygons_are_one_object():
    mask = inside(slice(2, 6), slice(3, 8)) | inside(slice(0, 3), slice(0, 4))
    rle = segmentation_rle([SQUARE, [0, 0, 4, 0, 4, 3, 0, 3]], SIZE)
    np.testing.assert_array_equal(decode(rle), mask)
    assert area(rle) == mask.sum()


@pytest.mark.parametrize("seed", range(5))
def test_run_lengths_as_list_and_as_text(seed):
    mask = np.random.default_rng(seed).random((40, 57)) < 0.1 + 0.2 * seed
    mask[:, 20:50] = seed % 2  # long runs, more than one character each
    text = {"size": [40, 57], "counts": packed(mask)}
    np.testing.assert_array_equal(drawn(text, (40, 57)), mask)
    counts = run_lengths(text, (40, 57)).tolist()
    np.testing.assert_array_equal(drawn({"size": [40, 57], "counts": counts}, (40, 57)), mask)


def test_parts_without_area_are_left_out():
    assert segmentation_rle([[1, 1, 5, 5]], SIZE) is None
    np.testing.assert_array_equal(drawn([SQUARE, [1, 1]]), drawn([SQUARE]))


def test_polygon_that_overshoots_a_little_is_cut_at_the_frame():
    np.testing.assert_array_equal(
        drawn([[-0.5, -0.4, 12.9, 0, 12.9, 3, -0.5, 3]]), inside(slice(0, 3), slice(0, 12))
    )


def test_polygon_far_outside_is_refused_unless_cut():
    far = [6, 4, 40, 4, 40, 30, 6, 30]
    with pytest.raises(InputError, match=r"point \(40, 4\), outside its image of 12 x 9"):
        segmentation_rle([far], SIZE)
    np.testing.assert_array_equal(drawn([far], clip=True), inside(slice(4, 9), slice(6, 12)))
    assert segmentation_rle([[40, 40, 50, 40, 50, 50]], SIZE, clip=True) is None
    slanted = drawn([[-6, 4.5, 6, -7.5, 18, 4.5, 6, 16.5]], clip=True)
    np.testing.assert_array_equal(slanted, drawn([[-6, 4.5, 6, -7.5, 18, 4.5, 6, 16.5]], clip=True))
    assert slanted.all()


def test_box_is_cut_at_the_frame():
    np.testing.assert_array_equal(
        decode(box_rle([8.5, 5, 20, 20], SIZE)), inside(slice(5, 9), slice(8, 12))
    )


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[1, 2, 3, 4, 5, 6, 7]], "7 numbers, an odd one"),
        ([["1", "2", "3", "4", "5", "6"]], "no list of numbers"),
        ([[1, 2, None, 4, 5, 6]], "no list of numbers"),
        ([[1, 2, 10**400, 4, 5, 6]], "beyond all images"),
        ([[1, 2, float("inf"), 4, 5, 6]], "beyond all images"),
        ([[0, 0, 12, 9] * 100_000], "outline is"),
        ("abc", "is a str"),
        ([{"size": [9, 12], "counts": [108]}], "no list of numbers"),
        ({"counts": [108]}, "of size None"),
        ({"size": [12, 9], "counts": [108]}, r"of size \[12, 9\], its image \[9, 12\]"),
        ({"size": [9, 12]}, "neither a list of numbers nor a text"),
        ({"size": [9, 12], "counts": [100]}, "do not fill the 108 pixels"),
        ({"size": [9, 12], "counts": [10**9]}, "no whole numbers of pixels"),
        ({"size": [9, 12], "counts": [-4, 112]}, "no whole numbers of pixels"),
        ({"size": [9, 12], "counts": [0.5, 107.5]}, "no whole numbers of pixels"),
        ({"size": [9, 12], "counts": [0] * 1000}, "1000 run-lengths"),
        ({"size": [9, 12], "counts": "\u00e4"}, "belong to none"),
        ({"size": [9, 12], "counts": ""}, "end within a number"),
        ({"size": [9, 12], "counts": "oooo"}, "end within a number"),
        ({"size": [9, 12], "counts": "oooooooo0"}, "beyond all images"),
        ({"size": [9, 12], "counts": "00000"}, "do not fill"),
    ],
)
def test_refused(segmentation, message):
    with pytest.raises(InputError, match=message):
        segmentation_rle(segmentation, SIZE)


@pytest.mark.parametrize("box", [None, [1, 2, 3], [1, 2, -3, 4], [1, 2, "3", 4], [1, 2, 1e300, 4]])
def test_box_refused(box):
    with pytest.raises(InputError, match="neither a segmentation nor a box"):
        box_rle(box, SIZE)
