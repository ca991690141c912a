"""Tables of image labels: their rows, the column of the images, and that of the tags."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tool.errors import InputError
from tool.file.text import numbered_lines
from voc12.label_entries import Entry, Images

DELIMITERS = {",": "','", ";": "';'", "\t": "a tab", "|": "'|'", " ": "spaces"}
KEY_NAMES = ("image", "filename", "file", "file_name", "filepath", "path", "id", "image_id", "name")
TAG_NAMES = ("labels", "label", "tags", "tag", "classes", "class", "categories", "category")
TAG = re.compile(r"[,;|]")
YES, NO = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no")
Rows = list[tuple[int, list[str]]]  # line number, fields


def split_rows(path: Path, text: str, delimiter: str) -> Rows:
    """(line number, stripped fields) of the rows of a table that are not blank."""
    if delimiter == " ":
        return [(number, line.split()) for number, line in numbered_lines(text)]
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        found = [(rows.line_num, [field.strip() for field in row]) for row in rows]
    except csv.Error as error:
        raise InputError(f"{path} line {rows.line_num}: {error}; is it a table?") from None
    return [(number, row) for number, row in found if any(row)]


def known_keys(rows: Rows, ids: Sequence[str]) -> int:
    """How many of ids are keys of the rows."""
    nothing = np.zeros(0)
    images = Images(Entry("", field, nothing) for _, row in rows for field in row[:3])
    numbers = Images(
        Entry("", int(row[0]), nothing) for _, row in rows if re.fullmatch(r"\d{1,12}", row[0])
    )
    return sum(bool(images[name] or numbers[name]) for name in ids)


def find_header(rows: Rows, ids: Sequence[str]) -> tuple[int, int | None, Rows]:
    """(column of the images, column of the tags if a header names one, rows without the header)."""
    first = [field.lower() for field in rows[0][1]]
    key = next((first.index(name) for name in KEY_NAMES if name in first), None)
    tags = next((first.index(name) for name in TAG_NAMES if name in first), None)
    is_image = known_keys(rows[:1], ids) > 0
    if is_image or (key is None and tags is None):
        return 0, None, rows
    return key or 0, tags, rows[1:]


def tag_fields(body: Rows, key: int, column: int | None) -> list[tuple[int, str, list[str]]]:
    """(line, image, its tags): those of the named column and what an unquoted comma parted from it,
    or all behind the image.
    """
    start = column if column is not None and column > key else key + 1
    found = []
    for number, row in body:
        only = [row[column]] if column is not None and column < key < len(row) else row[start:]
        found.append((number, row[key] if key < len(row) else "", only))
    return found
