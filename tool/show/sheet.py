"""A sheet of a few photographs, each with its maps and masks, captions, and a legend: a picture of
fixed width that can be read in a page of text.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw

from tool.mask_values import voc_palette
from tool.show.letters import draw_text, text_width
from tool.show.overlay import scale_bar

WIDTH = 936  # of the sheet, pixels: four tiles of 224, the size of the sample
GAP = 8  # between tiles, pixels
TALLEST = 1.0  # of a tile, in its width: a portrait is fitted into it
TITLE, TEXT = 17, 14  # sizes of letters, pixels
INK, SOFT, PAPER = (28, 32, 36), (96, 100, 108), (255, 255, 255)


class Tile(NamedTuple):
    """A picture (H, W, 3) uint8 RGB of any size, and the line under it."""

    picture: np.ndarray
    text: str


class Example(NamedTuple):
    """A photograph of the sheet: a heading, and rows of as many tiles as the sheet has columns."""

    heading: str
    rows: Sequence[Sequence[Tile]]


def fitted(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """The picture as large as fits into (height, width)."""
    scale = min(height / picture.shape[0], width / picture.shape[1])
    size = [max(1, round(side * scale)) for side in picture.shape[1::-1]]
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(picture, size, interpolation=how)


def _lines(text: str, size: int, width: int) -> list[str]:
    """text, letters of size pixels, in lines of at most width pixels, broken at spaces."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if text_width(longer, size) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


class _Paper:
    """Draws downwards on a page that grows."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.strips: list[np.ndarray] = []

    def text(self, text: str, size: int, colour: tuple[int, int, int]) -> None:
        """A paragraph."""
        for line in _lines(text, size, self.width - 2 * GAP):
            strip = Image.new("RGB", (self.width, size + 7), PAPER)
            draw_text(ImageDraw.Draw(strip), (GAP, 2), line, size, colour)
            self.strips.append(np.asarray(strip))

    def tiles(self, tiles: Sequence[Tile], columns: int) -> None:
        """Pictures side by side, the line of each below it."""
        side = (self.width - GAP) // columns - GAP
        pictures = [fitted(tile.picture, round(TALLEST * side), side) for tile in tiles]
        height = max(picture.shape[0] for picture in pictures)
        strip = np.full((height + TEXT + 10, self.width, 3), 255, np.uint8)
        for column, picture in enumerate(pictures):
            left = GAP + column * (side + GAP)
            strip[: picture.shape[0], left : left + picture.shape[1]] = picture
        image = Image.fromarray(strip)
        draw = ImageDraw.Draw(image)
        for column, tile in enumerate(tiles):
            draw_text(draw, (GAP + column * (side + GAP), height + 3), tile.text, TEXT, INK)
        self.strips.append(np.asarray(image))

    def legend(self, colours: Mapping[str, Sequence[int]], bar: str) -> None:
        """Colour and name of each class, as many lines as it takes; then the scale of the maps,
        with the words `bar` after it.
        """
        side = TEXT + 2
        wide = [side + 6 + int(text_width(name, TEXT)) + 18 for name in colours]
        places, x, row = [], GAP, 0
        for width in wide:
            if x + width > self.width - GAP and x > GAP:
                x, row = GAP, row + 1
            places.append((x, row))
            x += width
        image = Image.new("RGB", (self.width, (row + 2) * (side + 8)), PAPER)
        draw = ImageDraw.Draw(image)
        for (name, colour), (x, row) in zip(colours.items(), places, strict=True):
            top = row * (side + 8) + 2
            draw.rectangle((x, top, x + side, top + side), tuple(map(int, colour)))
            draw_text(draw, (x + side + 6, top + 1), name, TEXT, INK)
        top = (row + 1) * (side + 8) + 2
        image.paste(Image.fromarray(scale_bar(side, 160)), (GAP, top))
        draw_text(draw, (GAP + 168, top + 1), bar, TEXT, INK)
        self.strips.append(np.asarray(image))

    def space(self, height: int = GAP) -> None:
        """White."""
        self.strips.append(np.full((height, self.width, 3), 255, np.uint8))


def example_sheet(
    title: str,
    examples: Sequence[Example],
    classes: Mapping[int, str],
    bar: str,
    width: int = WIDTH,
) -> np.ndarray:
    """The sheet, (H, width, 3) uint8 RGB on white.

    classes: mask value -> name, those that the legend shows; bar: what the scale of the maps means
    """
    paper, palette = _Paper(width), voc_palette()
    paper.space()
    paper.text(title, TEXT, SOFT)
    for example in examples:
        paper.space()
        paper.text(example.heading, TITLE, INK)
        for tiles in example.rows:
            paper.tiles(tiles, len(tiles))
    paper.space()
    paper.legend({name: palette[value] for value, name in classes.items()}, bar)
    return np.concatenate(paper.strips)
