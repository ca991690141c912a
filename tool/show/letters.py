"""Text in pictures: names in whatever writing, in a font that has their letters."""

import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tool.names import JOINERS, nfc
from tool.run.notes import note

INSTEAD = "?"  # of a letter that no font has
RIGHT_TO_LEFT = ("R", "AL")  # as unicodedata names them
PROBE = 24  # pixels, letters by which fonts are tried


def text_width(text: str, size: int) -> float:
    """Pixels that draw_text takes for text in letters of size pixels."""
    if text.isascii():
        return ImageFont.load_default(size).getlength(text)
    return float(_letters(text, size).shape[1])


def draw_text(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    size: int,
    ink: str | tuple[int, int, int],
    anchor: str = "la",
) -> None:
    """Write text in letters of size pixels into a picture.

    place: (x, y), the left end, and by anchor the upper edge, "la", or the middle, "lm". Pillow's
    own font has ASCII alone. Text with other letters is in one font that has them all: matplotlib's
    DejaVu Sans, OpenCV's (from OpenCV 5 on), or one of this machine. Where there is none, question
    marks stand for the letters that are missing, and a note names them.
    """
    if text.isascii():
        draw.text(place, text, ink, ImageFont.load_default(size), anchor=anchor)
        return
    letters = _letters(text, size)
    x, y = place
    top = y - letters.shape[0] // 2 if anchor == "lm" else y
    draw.bitmap((x, top), Image.fromarray(letters), ink)


@lru_cache(256)
def _letters(text: str, size: int) -> np.ndarray:
    """How much of each pixel of a line the text covers: (H, W) uint8, H the height of a line in
    Pillow's font.
    """
    text = nfc(text)
    font, missing = _font_for(frozenset(text) - frozenset(JOINERS))
    if missing:
        named = " ".join(f"{one} (U+{ord(one):04X})" for one in sorted(missing))
        note(
            f"note: no font has {named} of '{text}'; in pictures {INSTEAD} stands in the place; "
            "install a font that has it, such as a Noto Sans"
        )
        text = "".join(INSTEAD if one in missing else one for one in text)
    ascent, descent = ImageFont.load_default(size).getmetrics()
    if font is None:
        return _by_opencv(text, size, ascent, ascent + descent)
    face = ImageFont.truetype(font, size)
    line = Image.new("L", (max(1, int(face.getlength(text)) + 1), ascent + descent))
    ImageDraw.Draw(line).text((0, ascent), text, 255, face, anchor="ls")
    return np.asarray(line)


@cache
def _font_for(letters: frozenset[str]) -> tuple[Path | None, frozenset[str]]:
    """The font file that has the most of letters, None for OpenCV's font, and those it has not."""
    fewest: tuple[Path | None, frozenset[str]] | None = None
    for font in _fonts():
        has = (
            _opencv_has(letters)
            if font is None
            else frozenset(one for one in letters if ord(one) in _known(font))
        )
        if fewest is None or len(letters - has) < len(fewest[1]):
            fewest = font, letters - has
        if not fewest[1]:
            break
    return fewest


def _fonts() -> Iterator[Path | None]:
    """The fonts to try, one after the other."""
    import matplotlib  # here, as start-up does not wait for it

    yield Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    if hasattr(cv2, "FontFace"):
        yield None
    from matplotlib import font_manager  # a second, for letters that neither has

    yield from map(Path, sorted(font_manager.findSystemFonts()))


@cache
def _known(font: Path) -> frozenset[int]:
    """The code points that a font file has."""
    from fontTools.ttLib import TTFont, TTLibError  # here, as start-up does not wait for it

    try:
        ImageFont.truetype(font, PROBE)  # a font of coloured pictures has not this size
        with TTFont(font, fontNumber=0, lazy=True) as file:
            return frozenset(file.getBestCmap() or ())
    except (OSError, TTLibError, KeyError, ValueError, AssertionError):
        return frozenset()


def _opencv_has(letters: frozenset[str]) -> frozenset[str]:
    """Without those that are written from right to left, which OpenCV writes the other way."""
    lacking = _by_opencv(INSTEAD, PROBE, PROBE, 2 * PROBE)  # what it draws for others
    return frozenset(
        one
        for one in letters
        if unicodedata.bidirectional(one) not in RIGHT_TO_LEFT
        and (
            one == INSTEAD or not np.array_equal(_by_opencv(one, PROBE, PROBE, 2 * PROBE), lacking)
        )
    )


def _by_opencv(text: str, size: int, baseline: int, height: int) -> np.ndarray:
    """The line (height, W) uint8 in OpenCV's font."""
    face = cv2.FontFace("sans")
    _, _, width, _ = cv2.getTextSize((0, 0), text, (0, baseline), face, size)
    line = np.zeros((height, width + size, 3), np.uint8)
    cv2.putText(line, text, (0, baseline), (255, 255, 255), face, size)
    return line[:, : max(1, width), 0]
