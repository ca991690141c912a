"""Photographs and masks of a segmentation network's training."""

import numpy as np
import pytest

from tool.errors import InputError
from tool.file.images import read_mask, write_mask
from voc12.constants import MASK_DIR
from voc12.lists import load_ids
from voc12.seg_data import SegTrainSet


@pytest.fixture
def masks(pets_root, tmp_path):
    """(ids, their masks, second masks that lack the left half)."""
    ids = load_ids(pets_root, "train")
    first = [pets_root / MASK_DIR / f"{name}.png" for name in ids]
    second = [tmp_path / path.name for path in first]
    for path, other in zip(first, second, strict=True):
        mask = read_mask(path)
        mask[:, : mask.shape[1] // 2] = 0
        write_mask(other, mask)
    return ids, first, second


def whole(image, label, _rng):
    return image, label


def test_where_second_masks_differ_there_is_no_class_to_learn(pets_root, masks):
    ids, first, second = masks
    data = SegTrainSet(pets_root, ids, first, 4, whole, 0, others=(second, read_mask))
    differ = 0
    for index, (one, other) in enumerate(zip(first, second, strict=True)):
        label = data[0, index]["label"].numpy()
        one, other = read_mask(one), read_mask(other)
        assert label.dtype == np.uint8
        assert np.array_equal(label, np.where(one == other, one, 255))
        differ += (one != other).sum()
    assert differ


def test_a_second_mask_of_another_size_is_named(pets_root, masks):
    ids, first, second = masks
    write_mask(second[0], np.zeros((3, 4), dtype=np.uint8))
    data = SegTrainSet(pets_root, ids, first, 4, whole, 0, others=(second, read_mask))
    with pytest.raises(InputError, match=rf"{second[0].name} is of size \(3, 4\), its image"):
        data[0, 0]
