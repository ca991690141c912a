"""Counts of single photographs: sums of the whole list, matrices of each image, objects' sizes."""

import numpy as np
import pytest

from tool.image_counts import SIZES, ImageSweep, size_groups
from tool.metrics import ThresholdSweep, confusion_matrix, iou_table

THRESHOLDS = (0.0, 0.25, 0.5, 0.75)


def _image(generator, num_classes):
    """(maps, classes, mask); the scores lie on the thresholds and between."""
    keys = generator.permutation(num_classes - 1)[: generator.integers(num_classes)]
    cam = generator.choice(np.linspace(0, 1, 9), (len(keys), 5, 6)).astype(np.float32)
    mask = generator.choice([*range(num_classes), 255], (5, 6)).astype(np.uint8)
    return cam, keys, mask


def _prediction(cam, keys, threshold):
    """The released way: argmax of threshold and maps, the lowest class wins."""
    scores = np.zeros((1 + max([*keys, 0]) + 1, 5, 6), dtype=np.float32)
    scores[0] = threshold
    for map_, key in zip(cam, keys, strict=True):
        scores[key + 1] = map_
    return scores.argmax(axis=0)


@pytest.fixture
def swept():
    """(images, their sweep, the sweep of the whole)."""
    generator = np.random.default_rng(0)
    images = [_image(generator, 4) for _ in range(6)]
    images.append((np.zeros((0, 0, 0), np.float32), np.array([], int), images[0][2]))
    images.append((*images[1][:2], np.full((5, 6), 255, np.uint8)))
    whole = ThresholdSweep(THRESHOLDS, 4)
    return images, ImageSweep.of([whole.update(*image) for image in images], 4), whole


@pytest.mark.parametrize("place", range(4))
def test_every_image_at_every_threshold(swept, place):
    images, sweep, whole = swept
    for found in (sweep.at(place), sweep.only(place).at(0)):
        assert (found.images, found.count.min() > 0) == (8, True)
        assert found.count.sum() < 0.8 * 8 * 30  # 255 does not count
        np.testing.assert_array_equal(found.confusion(), whole.confusion()[place])
        hits, unions = found.hits_and_unions()
        for index, (cam, keys, mask) in enumerate(images):
            matrix = confusion_matrix(_prediction(cam, keys, THRESHOLDS[place]), mask, 4)
            np.testing.assert_array_equal(hits[index], np.diag(matrix))
            np.testing.assert_array_equal(
                unions[index], matrix.sum(axis=0) + matrix.sum(axis=1) - np.diag(matrix)
            )
            assert (found.count[found.image == index].sum()) == matrix.sum()
        iou = iou_table(found.confusion()).iou
        np.testing.assert_array_equal(iou, 100 * hits.sum(axis=0) / unions.sum(axis=0))


def test_as_many_classes_as_a_mask_can_hold():
    cam, mask = np.ones((1, 1, 2), np.float32), np.array([[254, 0]], np.uint8)
    whole = ThresholdSweep(np.arange(101) / 100, 255)
    found = ImageSweep.of([whole.update(cam, np.array([253]), mask)], 255).at(50)
    assert found.cell.tolist() == [254, 254 * 255 + 254]
    assert found.count.tolist() == [1, 1]


def test_objects_shares_by_hand():
    """What is 255 counts neither way; two classes are one share."""
    masks = [
        [0] * 96 + [1] * 2 + [2] * 2,
        [0] * 57 + [1] * 3 + [255] * 40,
        [0] * 80 + [1] * 10 + [2] * 10,
        [0] * 79 + [3] * 21,
        [0] * 100,
        [255] * 100,
    ]
    whole = ThresholdSweep((0.5,), 4)
    no_maps = np.zeros((0, 0, 0), np.float32), np.array([], int)
    parts = [whole.update(*no_maps, np.array([mask], np.uint8)) for mask in masks]
    shares = ImageSweep.of(parts, 4).at(0).object_shares()
    np.testing.assert_allclose(shares, [0.04, 0.05, 0.2, 0.21, 0, np.nan])
    groups = size_groups(shares)
    assert tuple(groups) == SIZES
    assert [np.flatnonzero(group).tolist() for group in groups.values()] == [[0, 4], [1, 2], [3]]
