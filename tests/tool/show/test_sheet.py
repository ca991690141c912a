"""The sheet of examples: its width, pictures that keep their shape, words and colours."""

import math

import numpy as np
import pytest

from tool.mask_values import voc_palette
from tool.show.letters import text_width
from tool.show.sheet import Example, Tile, _lines, example_sheet, fitted


def _sheet(pictures, classes=None, width=500):
    tiles = [Tile(picture, f"IoU {index}.0") for index, picture in enumerate(pictures)]
    return example_sheet("title", [Example("best", [tiles])], classes or {1: "cat"}, "map", width)


@pytest.mark.parametrize(("shape", "expected"), [((40, 20), (100, 50)), ((20, 40), (30, 60))])
def test_pictures_are_fitted_in_their_shape(shape, expected):
    assert fitted(np.zeros((*shape, 3), np.uint8), 100, 60).shape[:2] == expected


def test_tiles_stand_side_by_side_as_large_as_the_width_allows():
    pictures = [np.full((30, 40, 3), value, np.uint8) for value in (50, 100)]
    sheet = _sheet(pictures)
    assert sheet.shape[1] == 500
    side = (500 - 8) // 2 - 8
    for column, value in enumerate((50, 100)):
        rows, columns = np.nonzero((sheet == value).all(axis=2))
        assert columns.max() - columns.min() + 1 == side
        assert columns.min() == 8 + column * (side + 8)
        assert rows.max() - rows.min() + 1 == round(side * 30 / 40)


def test_legend_has_the_colour_of_each_class_and_breaks_where_it_must():
    few, many = (
        _sheet([np.zeros((30, 40, 3), np.uint8)] * 2, {n: f"class {n}" for n in range(1, count)})
        for count in (3, 21)
    )
    for value in range(1, 21):
        assert (many == voc_palette()[value]).all(axis=2).any()
    assert not (few == voc_palette()[5]).all(axis=2).any()
    assert many.shape[0] > few.shape[0]


def test_long_headings_are_broken_at_spaces():
    two = math.ceil(text_width("one two", 14))
    assert _lines("one two three", 14, two) == ["one two", "three"]
    assert _lines("longer than", 14, 3) == ["longer", "than"]
