"""The facts of VOC 2012 that every other module builds on."""

import numpy as np

from tool.mask_values import BACKGROUND, IGNORE_LABEL, voc_palette
from voc12.constants import CLASSES


def test_classes_are_vocs_twenty_in_alphabetical_order_without_background():
    assert len(set(CLASSES)) == 20
    assert list(CLASSES) == sorted(CLASSES)
    assert BACKGROUND not in CLASSES
    assert len(CLASSES) < IGNORE_LABEL


def test_voc_palette_has_the_known_colours():
    known = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        15: (192, 128, 128),
        20: (0, 64, 128),
        255: (224, 224, 192),
    }
    assert {entry: tuple(voc_palette()[entry].tolist()) for entry in known} == known


def test_voc_palette_gives_every_value_its_own_colour():
    palette = voc_palette()
    assert (palette.shape, palette.dtype) == ((256, 3), np.uint8)
    assert len(np.unique(palette, axis=0)) == 256
    np.testing.assert_array_equal(voc_palette(21), palette[:21])
