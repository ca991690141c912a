"""Colours of classes from a file, and the legend's colours in its picture."""

import pytest

from tool.errors import InputError
from tool.mask_values import voc_palette
from tool.show.legend import ROW, legend, read_colours

NAMES = ("background", "cat", "big dog")


def test_colours_in_the_forms_people_have_them(tmp_path):
    path = tmp_path / "colours.txt"
    path.write_text("# mine\nbig dog #ff8000\n\ncat:1,2,3::\n")
    palette = read_colours(path, NAMES, voc_palette())
    assert palette[:4].tolist() == [[0, 0, 0], [1, 2, 3], [255, 128, 0], [128, 128, 0]]
    path.write_text("background = 255 255 255\n")
    assert read_colours(path, NAMES, voc_palette())[:2].tolist() == [[255] * 3, [128, 0, 0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat", "line 1: 'cat' is no class name and colour"),
        ("#ff8000", "is no class name and colour"),
        ("cat #ff80", "is no class name and colour"),
        ("owl 1 2 3", "'owl' is none of the classes background, cat, big dog"),
        ("cat 1 2 256", "a number over 255"),
        ("cat 1 2 3\ncat 1 2 4", "line 2: 'cat' has a colour on line 1"),
    ],
)
def test_refused(tmp_path, text, message):
    path = tmp_path / "colours.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_colours(path, NAMES, voc_palette())


def test_legend_shows_every_colour_in_its_row():
    picture = legend(NAMES, voc_palette())
    for row in range(3):
        assert picture[4 + row * ROW + ROW // 2, 15].tolist() == voc_palette()[row].tolist()
    assert (picture[4 + ROW : 4 + 2 * ROW, 2 * ROW + 8 :] < 128).any()  # the name
