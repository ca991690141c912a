"""Text in pictures: no two names look the same, what has no letters is said."""

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from tool.mask_values import voc_palette
from tool.run.notes import forget_notes
from tool.show import letters
from tool.show.legend import legend
from tool.show.letters import draw_text, text_width
from tool.show.overlay import caption, with_inner_legend, with_legend
from tool.show.sheet import Example, Tile, example_sheet

PAIRS = [("Ü", "Ö"), ("кот", "пёс"), ("חתול", "לותח"), ("tiếng", "tiêng")]
HAN = [("猫", "犬")] * hasattr(cv2, "FontFace")  # without OpenCV 5 a font of the machine has them


@pytest.fixture(autouse=True)
def _afresh():
    forget_notes()
    letters._letters.cache_clear()
    letters._font_for.cache_clear()


def _line(text, size=20, anchor="la"):
    picture = Image.new("RGB", (300, 60), "white")
    draw_text(ImageDraw.Draw(picture), (20, 20), text, size, "black", anchor)
    return np.asarray(picture)


def _sheet(name):
    tile = Tile(np.zeros((60, 80, 3), np.uint8), name)
    return example_sheet("t", [Example("h", [[tile, tile]])], {1: name}, "bar", 400)


PHOTOGRAPH, MASK = np.zeros((60, 300, 3), np.uint8), np.ones((60, 300), np.uint8)


@pytest.mark.parametrize(("one", "other"), PAIRS + HAN)
@pytest.mark.parametrize(
    "picture",
    [
        lambda name: caption(PHOTOGRAPH, name),
        lambda name: with_legend(PHOTOGRAPH, MASK, ("background", name)),
        lambda name: with_inner_legend(PHOTOGRAPH, MASK, ("background", name)),
        lambda name: legend(("background", name), voc_palette()),
        _sheet,
    ],
    ids=["caption", "with_legend", "with_inner_legend", "legend", "sheet"],
)
def test_names_differ_in_every_picture(picture, one, other, capsys):
    assert not np.array_equal(picture(one), picture(other))
    assert capsys.readouterr().out == ""


def test_ascii_is_written_in_pillows_font():
    picture = Image.new("RGB", (300, 60), "white")
    font = ImageFont.load_default(20)
    ImageDraw.Draw(picture).text((20, 20), "cat", "black", font, anchor="lm")
    np.testing.assert_array_equal(_line("cat", anchor="lm"), np.asarray(picture))
    assert text_width("cat", 20) == font.getlength("cat")


@pytest.mark.parametrize("text", ["Bäume", "собака", "חתול", *(pair[0] for pair in HAN)])
def test_letters_stand_where_ascii_would(text):
    """At the left end, as wide as said, as high as a line; black on white."""
    for anchor, top in (("la", 20), ("lm", 7)):
        rows, columns = np.nonzero(_line(text, anchor=anchor).min(axis=2) < 128)
        assert 20 <= columns.min() <= 23
        assert columns.max() <= 20 + text_width(text, 20)
        assert top <= rows.min()
        assert rows.max() <= top + 26
        assert _line(text, anchor=anchor).min() < 60


def test_letters_of_two_code_points_are_drawn_as_of_one():
    np.testing.assert_array_equal(_line("Ba\u0308ume"), _line("Bäume"))


def test_writing_from_right_to_left_is_not_turned():
    """The letter that is read first stands at the right."""
    wide, narrow = "ש", "י"
    ink = (_line(wide + narrow).min(axis=2) < 128).sum(axis=0)[20:]
    used = ink[: np.flatnonzero(ink).max() + 1]
    half = len(used) // 2
    assert used[:half].sum() < used[half:].sum()


def test_opencv_is_not_asked_for_writing_from_right_to_left():
    if HAN:
        assert letters._opencv_has(frozenset("猫שب")) == {"猫"}


def test_a_letter_that_no_font_has_is_noted_once(monkeypatch, capsys):
    monkeypatch.setattr(letters, "_known", lambda font: frozenset(map(ord, " abc")))
    monkeypatch.setattr(letters, "_opencv_has", lambda found: found & set("abc"))
    np.testing.assert_array_equal(_line("ab\U0001340a"), _line("ab\U0001340a"))
    _line("ab\U0001340a", size=12)
    assert capsys.readouterr().out == (
        "note: no font has \U0001340a (U+1340A) of 'ab\U0001340a'; in pictures ? stands in the "
        "place; install a font that has it, such as a Noto Sans\n"
    )


def test_without_opencvs_font_those_of_the_machine_are_used(monkeypatch):
    monkeypatch.delattr(cv2, "FontFace", raising=False)
    assert not np.array_equal(_line("Ü"), _line("Ö"))


def test_damaged_font_files_have_no_letters(tmp_path):
    path = tmp_path / "x.ttf"
    path.write_bytes(b"\0\1\0\0 no font")
    assert letters._known(path) == frozenset()
    assert letters._known(tmp_path / "gone.ttf") == frozenset()
