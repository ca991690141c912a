"""The names of classes that a file of image labels uses, for photographs that come without a class
list.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tool.errors import InputError
from tool.file.require import require_file
from tool.file.text import read_text, shortened
from voc12.label_files import FILE_HELP, HINT, is_no_class, json_items, npy_items, split_base
from voc12.label_tables import (
    DELIMITERS,
    KEY_NAMES,
    NO,
    TAG,
    TAG_NAMES,
    YES,
    Rows,
    find_header,
    known_keys,
    split_rows,
    tag_fields,
)

SOME = 5  # class names that an error repeats


def tag_names(source: str | Path, stems: Sequence[str]) -> tuple[str, ...]:
    """The class names of a file or folder of image labels (voc12/label_files.py), sorted; those
    that say that an image shows no class are none.

    stems: names of the photographs without suffix, by which a table is recognised
    Raises InputError where the classes are numbers, a table does not say in which column its tags
    are, and a name looks like several parted by a space.
    """
    path = split_base(source)[0]
    if path.is_dir():
        found = [part.name for part in path.iterdir() if part.is_dir() and part.name[0] != "."]
    else:
        require_file(path, "--tags", FILE_HELP)
        suffix = path.suffix.lower()
        if suffix in (".npy", ".json"):
            items = npy_items(path) if suffix == ".npy" else json_items(path)
            found = _of_values(path, [value for _, value in items])
        else:
            found = _of_table(path, stems)
    names = sorted({name for name in found if name and not is_no_class(name)})
    if names and all(re.fullmatch(r"\d+(\.0)?", name, re.ASCII) for name in names):
        raise InputError(
            f"{path} has numbers for classes ({', '.join(names[:SOME])}, ...); give their names by "
            "--classes FILE"
        )
    _require_single(path, names)
    return tuple(names)


def _split(field: str) -> list[str]:
    # not at spaces: "traffic light" is one name
    return [part.strip() for part in TAG.split(field)]


def _of_values(path: Path, values: Iterable[Any]) -> list[str]:
    found: list[str] = []
    for value in values:
        if isinstance(value, str):
            found += _split(value)
        elif isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
            found += [part.strip() for part in value]
        else:
            raise InputError(
                f"{path} has class numbers or 0 and 1 for classes; give their names by --classes "
                "FILE"
            )
    return found


def _of_table(path: Path, stems: Sequence[str]) -> list[str]:
    text = read_text(path, "--tags", HINT)
    tables = []
    for delimiter in DELIMITERS:
        if delimiter in text and "\0" not in text:
            rows = split_rows(path, text, delimiter)
            tables.append((known_keys(rows, stems) if rows else 0, rows))
    known, rows = max(tables, key=lambda table: table[0], default=(0, []))
    if not known:
        raise InputError(
            f"{path} names none of the {len(stems)} photographs, e.g. '{stems[0]}'; {FILE_HELP}"
        )
    return _of_class_columns(rows, stems) or _of_fields(path, rows, stems)


def _of_class_columns(rows: Rows, stems: Sequence[str]) -> list[str]:
    """The names of a heading whose columns hold 0 and 1, [] where there is none such."""
    heading, body = rows[0][1], rows[1:]
    if known_keys(rows[:1], stems) or not body:
        return []
    key = find_header(rows, stems)[0]
    columns = [place for place in range(len(heading)) if place != key and heading[place]]
    columns = [place for place in columns if heading[place].lower() not in KEY_NAMES]
    cells = {row[place].lower() for _, row in body for place in columns if place < len(row)}
    if cells <= {*YES, *NO, "-1", "-1.0"} and not any(
        heading[place].lower() in TAG_NAMES for place in columns
    ):
        return [heading[place] for place in columns]
    return []


def _of_fields(path: Path, rows: Rows, stems: Sequence[str]) -> list[str]:
    key, column, body = find_header(rows, stems)
    if len(body) == len(rows) and not known_keys(rows[:1], stems):
        body = rows[1:]  # a heading in words that find_header does not know
        if len(rows[0][1]) > 2:
            raise InputError(
                f"{path}: which of its columns has the tags? Call it 'tags', and that of the "
                f"photographs 'image' (its first line is '{shortened(', '.join(rows[0][1]))}')"
            )
    elif column is None and len(body) < len(rows) and len(rows[0][1]) > 2:
        raise InputError(
            f"{path}: which of the columns {shortened(', '.join(rows[0][1]))} has the tags? Call "
            "it 'tags'"
        )
    return [
        name for _, _, tags in tag_fields(body, key, column) for t in tags for name in _split(t)
    ]


def _require_single(path: Path, names: Sequence[str]) -> None:
    """Raise InputError where a name is made of others: "cat dog" beside "cat" and "dog"."""
    for name in names:
        parts = name.split(" ")
        if len(parts) > 1 and all(part in names for part in parts):
            raise InputError(
                f"{path}: is '{shortened(name)}' one class, or {' and '.join(parts)}? Part tags by "
                "';', or give the class names by --classes FILE"
            )
