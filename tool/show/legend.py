"""The colours of classes: as a file says them, and as a picture."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from tool.errors import InputError
from tool.file.require import require_file
from tool.show.letters import draw_text, text_width

COLOUR = re.compile(
    r"(?P<name>.*?)[\s:=,]*(?:#(?P<hex>[0-9a-fA-F]{6})"
    r"|(?<!\d)(?P<red>\d{1,3})[,\s]+(?P<green>\d{1,3})[,\s]+(?P<blue>\d{1,3}))[\s:]*"
)
ROW, FONT_SIZE = 24, 15  # pixels


def read_colours(path: str | Path, names: Sequence[str], palette: np.ndarray) -> np.ndarray:
    """The palette (256, 3) uint8 RGB with the colours of the file for the names, in the order of
    the mask values.

    A line is a class name and #rrggbb or r g b, "cat #ff8000", or CVAT's "cat:255,128,0::". A line
    that begins with # is a comment. Classes that the file does not name keep their colour. Raises
    InputError naming the line for an unknown name and for what is no colour.
    """
    path = require_file(path, "--colours", "give a class name and #rrggbb a line")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file: byte {error.start} is not UTF-8") from None
    palette = palette.copy()
    seen: dict[str, int] = {}
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or re.match(r"#(?![0-9a-fA-F]{6}\b)", line):
            continue
        where = f"{path} line {number}"
        found = COLOUR.fullmatch(line)
        if found is None or not found["name"]:
            raise InputError(f"{where}: '{line}' is no class name and colour, as 'cat #ff8000'")
        name = found["name"]
        if name not in names:
            raise InputError(f"{where}: '{name}' is none of the classes {', '.join(names)}")
        if name in seen:
            raise InputError(f"{where}: '{name}' has a colour on line {seen[name]} already")
        seen[name] = number
        values = (
            list(bytes.fromhex(found["hex"]))
            if found["hex"]
            else [int(found[part]) for part in ("red", "green", "blue")]
        )
        if max(values) > 255:
            raise InputError(f"{where}: '{line}' has a number over 255")
        palette[names.index(name)] = values
    return palette


def legend(names: Sequence[str], palette: np.ndarray) -> np.ndarray:
    """A picture of the names beside their colours, a row each: (H, W, 3) uint8 RGB on white."""
    width = 3 * ROW + max(int(text_width(name, FONT_SIZE)) + 1 for name in names)
    picture = Image.new("RGB", (width, ROW * len(names) + 8), (255, 255, 255))
    draw = ImageDraw.Draw(picture)
    for row, name in enumerate(names):
        top = 4 + row * ROW
        colour = tuple(int(value) for value in palette[row])
        box = (8, top + 3, 8 + 2 * ROW - 12, top + ROW - 3)
        draw.rectangle(box, fill=colour, outline=(0, 0, 0))
        draw_text(draw, (2 * ROW + 8, top + ROW // 2), name, FONT_SIZE, (0, 0, 0), "lm")
    return np.asarray(picture)
