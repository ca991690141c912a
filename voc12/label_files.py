"""Files of image labels in the forms in which people have them, read into multi-hot rows.

| file | what it holds |
|---|---|
| .npy | a pickled dict, image -> (C,) or (1, C) multi-hot, class names, or class numbers |
| .json | the same as an object, or a list of {"image": ..., "labels": ...} |
| .csv, .tsv, .txt | images in a column, tags parted by , ; or | in another, or behind the image |
| | a column of images and a column of 0 and 1 a class |
| | class numbers, or C times 0 or 1, behind the image |
| folder | a subfolder a class, which holds the images that show it |

An image is an id, a file name, or a path that ends in one; IRN's and COCO's numbers for ids are
known as well. Class numbers count from 0 where one is 0, from 1 where one is C; where neither
occurs, FILE:0 and FILE:1 say it. An image may stand in a file twice where both say the same.
"""

import difflib
import filecmp
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tool.errors import InputError
from tool.file.require import require_file
from tool.file.safe_pickle import load_pickled_npy
from tool.file.text import numbered_lines, read_text, shortened
from voc12.class_list import is_background
from voc12.constants import DATA_HELP
from voc12.label_entries import Entry, Images
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
from voc12.lists import IMAGE_SUFFIXES

TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
SUFFIXES = (".npy", ".json", *TEXT_SUFFIXES)
TAG_SEPARATORS = (",", ";", "|", " ")
MAX_TEXT = 1 << 29  # bytes
HINT = "give UTF-8 text"
NO_CLASS = ("none", "nothing", "negative", "negatives", "no class")  # beside the background's names
FILE_HELP = f"image labels are a file {', '.join(SUFFIXES)}, or a folder with a subfolder a class"


def labels_from_file(source: str, ids: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """The labels (len(ids), C) float32 of ids in the file or folder that source names, FILE:0 or
    FILE:1 saying from where class numbers count.

    Raises InputError, one line, for images without a label, those of which it says two things,
    unknown classes, and content that has two readings.
    """
    path = split_base(source)[0]
    return _pick(label_entries(source, ids, classes), ids, path, len(classes))


def label_entries(source: str, ids: Sequence[str], classes: Sequence[str]) -> list[Entry]:
    """All that the file or folder of labels_from_file says, whichever images it names.

    ids: some names of images that a table is to be recognised by
    """
    path, base = split_base(source)
    reading = _Reading(path, tuple(classes), base)
    if path.is_dir():
        return _from_folders(path, reading)
    require_file(path, "image labels", FILE_HELP)
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return _from_table(npy_items(path), reading)
    if suffix == ".json":
        return _from_table(json_items(path), reading)
    return _from_text(reading, ids)


def is_no_class(name: str) -> bool:
    """Whether a tag says that an image shows no class, unless the class list has it."""
    return is_background(name) or name.strip().lower() in NO_CLASS


def split_base(source: str | Path) -> tuple[Path, int | None]:
    """(path, 0 or 1) of "tags.csv:0", (path, None) of "tags.csv"."""
    found = re.fullmatch(r"(.+):([01])", str(source))
    if found and not Path(source).exists():
        return Path(found[1]), int(found[2])
    return Path(source), None


# ============ images ============
def _pick(entries: Sequence[Entry], ids: Sequence[str], path: Path, count: int) -> np.ndarray:
    images = Images(entries)
    labels = np.zeros((len(ids), count), dtype=np.float32)
    missing = []
    for row, name in zip(labels, ids, strict=True):
        found = images[name]
        if not found:
            missing.append(name)
            continue
        other = next((e for e in found if not np.array_equal(e.row, found[0].row)), None)
        if other is not None:
            raise InputError(
                f"{found[0].where} and {other.where} say different things of {name}; leave one, "
                "with all classes of the image"
            )
        row[:] = found[0].row
    if missing:
        raise InputError(f"{path} has no image label for {some_of(missing, ids)}; {DATA_HELP}")
    return labels


def some_of(names: Sequence[str], ids: Sequence[str]) -> str:
    """ "3 of 10 images: a, b, c", with at most ten names."""
    return (
        f"{len(names)} of {len(ids)} images: "
        f"{', '.join(names[:10])}{', ...' if len(names) > 10 else ''}"
    )


# ============ classes ============
@dataclass(frozen=True)
class _Reading:
    """How the values of a file become rows. base: from where class numbers count, None unknown."""

    path: Path
    classes: tuple[str, ...]
    base: int | None

    def find(self, name: str) -> int | None:
        """The index of a class name, whatever its capitals if that is certain."""
        name = name.strip()
        if name in self.classes:
            return self.classes.index(name)
        alike = [c for c, known in enumerate(self.classes) if known.lower() == name.lower()]
        return alike[0] if len(alike) == 1 else None

    def of_names(self, names: Iterable[str], where: str) -> np.ndarray:
        """The row of class names; the background's is no class."""
        row = np.zeros(len(self.classes), dtype=np.float32)
        for name in names:
            if not name.strip() or (self.find(name) is None and is_no_class(name)):
                continue
            if self.find(name) is None:
                raise InputError(f"{where}: {self.unknown(name)}")
            row[self.find(name)] = 1
        return row

    def of_field(self, where: str, key: str | int, field: str) -> Entry:
        """What one field of tags says of an image."""
        parts = {field} | {part for separator in TAG_SEPARATORS for part in field.split(separator)}
        return Entry(where, key, self.of_tags(field, where), self.says_none(parts))

    def says_none(self, names: Iterable[str]) -> bool:
        """Whether one of the names says that an image shows no class."""
        return any(self.find(name) is None and is_no_class(name) for name in names)

    def unknown(self, name: str) -> str:
        """What is wrong with a name."""
        near = difflib.get_close_matches(name[:60], self.classes, n=1)
        hint = f"did you mean '{near[0]}'?" if near else "correct it, or add it to the class list"
        return (
            f"'{shortened(name)}' is not in the class list "
            f"({shortened(', '.join(self.classes), 120)}); {hint}"
        )

    def of_tags(self, field: str, where: str) -> np.ndarray:
        """The row of one field of tags, whatever separates them."""
        field = field.strip()
        splits = {(field,)}
        splits |= {tuple(field.split(separator)) for separator in TAG_SEPARATORS}
        splits.add(tuple(re.split(r"[,;|]", field)))
        fitting = {}
        for parts in splits:
            names = [part.strip() for part in parts if part.strip()]
            if all(self.find(name) is not None or is_no_class(name) for name in names):
                fitting[self.of_names(names, where).tobytes()] = names
        if len(fitting) > 1:
            one, two = list(fitting.values())[:2]
            raise InputError(
                f"{where}: '{shortened(field)}' can be read as {one} and as {two}; put each tag in "
                "a row of a .json list"
            )
        if fitting:
            return self.of_names(next(iter(fitting.values())), where)
        return self.of_names(re.split(r"[,;|]", field), where)

    def of_numbers(self, items: Sequence[tuple[str, str | int, list[int]]]) -> list[Entry]:
        """Rows of class numbers, which count from 0 or from 1 in the whole file."""
        count = len(self.classes)
        numbers = {number for _, _, row in items for number in row}
        wrong = {number for number in numbers if not 0 <= number <= count}
        base = self.base
        if base is None and not wrong and numbers:
            if (0 in numbers) == (count in numbers):
                both = "0 and " if 0 in numbers else "neither 0 nor "
                raise InputError(
                    f"{self.path}: class numbers with {both}{count} for {count} classes "
                    + ("do not fit them" if 0 in numbers else "can count from 0 or from 1")
                    + f"; give --labels {self.path}:0 or {self.path}:1"
                )
            base = 0 if 0 in numbers else 1
        base = base or 0
        entries = []
        for where, key, row in items:
            hot = np.zeros(count, dtype=np.float32)
            for number in row:
                if not base <= number < count + base:
                    raise InputError(
                        f"{where}: class number {shortened(number)}; {count} classes have "
                        f"{base}..{count - 1 + base}"
                    )
                hot[number - base] = 1
            entries.append(Entry(where, key, hot))
        return entries


# ============ dicts ============
def npy_items(path: Path) -> list[tuple[str | int, Any]]:
    """(key, value) of the dict in a pickled .npy."""
    table = load_pickled_npy(path)
    if not isinstance(table, dict):
        raise InputError(
            f"{path} holds a {type(table).__name__}; image labels are a dict from id to multi-hot "
            "vector, class names or class numbers"
        )
    return list(table.items())


def json_items(path: Path) -> list[tuple[str | int, Any]]:
    """(key, value) of a JSON object, or of a list of objects with an image and its labels."""
    text = read_text(path, "image labels", HINT)
    try:
        content = json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON: {shortened(error)}; correct it") from None
    except _Twice as error:
        raise InputError(
            f"{path} says different things of '{shortened(error)}'; leave one of them"
        ) from None
    if isinstance(content, dict) and {"images", "annotations"} <= content.keys():
        raise InputError(
            f"{path} holds instances as COCO's; convert it to labels and masks with `python -m "
            "voc12.coco`"
        )
    if isinstance(content, list):
        return [_record(path, number, item) for number, item in enumerate(content, start=1)]
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no labels: an object or a list of objects is needed")
    return list(content.items())


class _Twice(Exception):
    """A key of a JSON object that stands there with two values."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if found.setdefault(key, value) != value:
            raise _Twice(key)
    return found


def _record(path: Path, number: int, item: Any) -> tuple[str | int, Any]:
    fields = {str(key).lower(): value for key, value in item.items()} if type(item) is dict else {}
    key = next((fields[name] for name in KEY_NAMES if name in fields), None)
    tags = next((fields[name] for name in TAG_NAMES if name in fields), None)
    if not isinstance(key, str | int) or tags is None:
        raise InputError(
            f"{path} entry {number}: no object with an image ({', '.join(KEY_NAMES[:3])}, ...) and "
            f"its labels ({', '.join(TAG_NAMES[:3])}, ...)"
        )
    return key, tags


def _from_table(items: Sequence[tuple[str | int, Any]], reading: _Reading) -> list[Entry]:
    """Entries of key -> multi-hot vector, names or numbers; one kind a file."""
    named, vectors = [], []
    for key, value in items:
        where = f"{reading.path}: the label of {shortened(key)}"
        if not isinstance(key, str | int):
            raise InputError(
                f"{where}: a key must be an image's name; it is a {type(key).__name__}"
            )
        if isinstance(value, str):
            named.append(reading.of_field(where, key, value))
        elif isinstance(value, list | tuple) and any(isinstance(part, str) for part in value):
            names = [part if isinstance(part, str) else repr(part) for part in value]
            row = reading.of_names(names, where)
            named.append(Entry(where, key, row, reading.says_none(names)))
        else:
            vectors.append((where, key, _vector(value, where)))
    return named + _from_vectors(vectors, reading)


def _vector(value: Any, where: str) -> np.ndarray:
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError):
        array = np.array(None)
    if array.size == 0:
        array = np.zeros(0, dtype=np.int64)
    if array.dtype.kind not in "biuf" or array.ndim > 2 or (array.ndim == 2 and len(array) > 1):
        raise InputError(
            f"{where} has shape {array.shape} and type {array.dtype}; give a multi-hot vector, "
            "class names or class numbers"
        )
    return array.reshape(-1)


def _from_vectors(
    items: Sequence[tuple[str, str | int, np.ndarray]], reading: _Reading
) -> list[Entry]:
    count = len(reading.classes)
    whole = [(w, k, v) for w, k, v in items if v.size]
    as_numbers = (reading.base is not None or any(v.size != count for _, _, v in whole)) and all(
        v.dtype.kind in "iu" and len(np.unique(v)) == v.size and np.isin(v, range(count + 1)).all()
        for _, _, v in whole
    )
    if as_numbers:
        return reading.of_numbers([(w, k, [int(n) for n in v]) for w, k, v in items])
    entries = []
    for where, key, vector in items:
        row = vector if vector.size else np.zeros(count)
        if row.shape != (count,):
            raise InputError(f"{where} has shape {row.shape}, the class list has {count} names")
        if not np.isin(row, (0, 1)).all():
            raise InputError(f"{where} has values other than 0 and 1: {shortened(row.tolist())}")
        entries.append(Entry(where, key, row.astype(np.float32)))
    return entries


# ============ text ============
def _from_text(reading: _Reading, ids: Sequence[str]) -> list[Entry]:
    """The entries of a table, by the one delimiter and the one kind under which it names images of
    ids and classes.
    """
    path = reading.path
    if path.stat().st_size > MAX_TEXT:
        raise InputError(f"{path} has over {MAX_TEXT >> 20} MiB; is it a list of image labels?")
    text = read_text(path, "image labels", f"{HINT}, or {FILE_HELP}")
    if "\0" in text:
        raise InputError(f"{path} is no text: it has a NUL character; {FILE_HELP}")
    if not text.strip():
        raise InputError(f"{path} is empty; give a line for each image")
    read: list[tuple[int, bytes, str, list[Entry]]] = []
    failed: list[tuple[int, InputError]] = []
    for delimiter, spoken in DELIMITERS.items():
        if delimiter not in text:
            continue
        try:
            rows = split_rows(path, text, delimiter)
        except InputError as error:
            failed.append((0, error))
            continue
        known = known_keys(rows, ids)
        if not known:
            continue
        kinds = (
            {_CLASS_COLUMNS: _one_column_a_class} if _has_class_columns(rows, reading) else _KINDS
        )
        for kind, parse in kinds.items():
            try:
                entries = parse(rows, reading, ids)
            except InputError as error:
                failed.append((known, error))
                continue
            if entries is not None:
                images = Images(entries)
                found = b"".join(e.row.tobytes() for name in ids for e in images[name])
                read.append((known, found, f"{kind}, parted by {spoken}", entries))
    # a delimiter that is part of the others' fields finds fewer images
    most = max((known for known, *_ in read), default=0)
    different = {found: (what, entries) for known, found, what, entries in read if known == most}
    if len(different) > 1:
        one, two = [what for what, _ in different.values()][:2]
        raise InputError(
            f"{path} can be read as {one}, and as {two}; write the classes' names, or a header "
            "with the classes as columns"
        )
    if different:
        return next(iter(different.values()))[1]
    if failed:
        raise max(failed, key=lambda pair: pair[0])[1]
    raise InputError(
        f"{path} has no label of the {len(ids)} images, first {ids[0]}; its first line is "
        f"'{shortened(numbered_lines(text)[0][1])}'; {FILE_HELP}"
    )


def _key(text: str) -> str | int:
    return int(text) if re.fullmatch(r"\d{1,12}", text, re.ASCII) else text


def _has_class_columns(rows: Rows, reading: _Reading) -> bool:
    """Whether the first row names a column of images, or has all classes, and columns of
    classes.
    """
    header = rows[0][1]
    place = {reading.find(name) for name in header} - {None}
    named = any(name.lower() in (*KEY_NAMES, "") for name in header)
    return len(place) == len(reading.classes) < len(header) or (named and bool(place))


def _one_column_a_class(rows: Rows, reading: _Reading, ids: Sequence[str]) -> list[Entry]:
    header = rows[0][1]
    place = {c: i for i, name in enumerate(header) if (c := reading.find(name)) is not None}
    where = f"{reading.path} line {rows[0][0]}"
    body = rows[1:]
    key = find_header(rows, ids)[0]
    for c, name in enumerate(reading.classes):
        if c not in place:
            raise InputError(f"{where}: no column for class '{shortened(name)}'; add it")
    for number, row in body:
        if len(row) != len(header):
            raise InputError(
                f"{reading.path} line {number}: {len(row)} fields, the header has {len(header)}"
            )
    for i, name in enumerate(header):
        told = {row[i].lower() for _, row in body}
        if i != key and i not in place.values() and told <= {*YES, *NO} and not is_no_class(name):
            raise InputError(f"{where}: {reading.unknown(name)}")
    none = [i for i, name in enumerate(header) if i != key and reading.says_none([name])]
    cells = {row[i].lower() for _, row in body for i in place.values()}
    no = (*NO, "-1", "-1.0") if cells.isdisjoint(NO) else NO
    entries = []
    for number, row in body:
        hot = np.zeros(len(reading.classes), dtype=np.float32)
        for c, i in place.items():
            if row[i].lower() not in (*YES, *no):
                raise InputError(
                    f"{reading.path} line {number}: class '{shortened(reading.classes[c])}' has "
                    f"'{shortened(row[i])}'; give 0 or 1"
                )
            hot[c] = row[i].lower() in YES
        negative = any(row[i].lower() in YES for i in none)
        entries.append(Entry(f"{reading.path} line {number}", _key(row[key]), hot, negative))
    return entries


def _tags(rows: Rows, reading: _Reading, ids: Sequence[str]) -> list[Entry] | None:
    key, column, body = find_header(rows, ids)
    fields = tag_fields(body, key, column)
    if _all_numbers(fields, reading):
        return None
    entries = []
    for number, name, tags in fields:
        where = f"{reading.path} line {number}"
        if number == rows[0][0] and _is_heading(rows, ids, tags, reading):
            continue
        said = [reading.of_field(where, _key(name), tag) for tag in tags]
        row = sum((one.row for one in said), np.zeros(len(reading.classes)))
        negative = any(one.negative for one in said)
        entries.append(Entry(where, _key(name), np.minimum(row, 1).astype(np.float32), negative))
    return entries


def _is_heading(rows: Rows, ids: Sequence[str], tags: list[str], reading: _Reading) -> bool:
    """Whether the first row, with these tags, names no image and no class, as a heading in words
    that are not known here does, and the next one does name an image.
    """
    names_image = [known_keys(rows[place : place + 1], ids) > 0 for place in range(2)]
    names_class = any(reading.find(part) is not None for tag in tags for part in TAG.split(tag))
    return names_image == [False, True] and not names_class and any(tags)


def _all_numbers(fields: list[tuple[int, str, list[str]]], reading: _Reading) -> bool:
    """Whether the tags are numbers, some are there, and they are no names of classes."""
    parts = {part for _, _, tags in fields for tag in tags for part in re.split(r"[,;|\s]+", tag)}
    parts -= {""}
    return (
        bool(parts)
        and all(re.fullmatch(r"\d{1,9}", part, re.ASCII) for part in parts)
        and not all(part in reading.classes for part in parts)
    )


def _number_rows(
    rows: Rows, reading: _Reading, ids: Sequence[str]
) -> list[tuple[str, str | int, list[int]]] | None:
    key, column, body = find_header(rows, ids)
    fields = tag_fields(body, key, column)
    if not _all_numbers(fields, reading):
        return None
    return [
        (
            f"{reading.path} line {number}",
            _key(name),
            [int(part) for tag in tags for part in re.split(r"[,;|\s]+", tag) if part],
        )
        for number, name, tags in fields
    ]


def _numbers(rows: Rows, reading: _Reading, ids: Sequence[str]) -> list[Entry] | None:
    items = _number_rows(rows, reading, ids)
    if items is None or any(len(set(row)) < len(row) for _, _, row in items):
        return None
    return reading.of_numbers(items)


def _multi_hot(rows: Rows, reading: _Reading, ids: Sequence[str]) -> list[Entry] | None:
    items = _number_rows(rows, reading, ids)
    count = len(reading.classes)
    if items is None or not all(len(row) == count and set(row) <= {0, 1} for _, _, row in items):
        return None
    return [Entry(where, key, np.array(row, dtype=np.float32)) for where, key, row in items]


_CLASS_COLUMNS = "one column a class"
_KINDS: dict[str, Callable[[Rows, _Reading, Sequence[str]], list[Entry] | None]] = {
    "tags behind the image": _tags,
    "class numbers behind the image": _numbers,
    "0 or 1 a class behind the image": _multi_hot,
}


# ============ folders ============
def _from_folders(root: Path, reading: _Reading) -> list[Entry]:
    """Entries of root/<class>/<image>: an image shows the classes of all folders that hold it."""
    folders = sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")
    if not folders:
        raise InputError(f"{root} has no subfolder of a class; {FILE_HELP}")
    suffixes = {suffix.lower() for suffix in IMAGE_SUFFIXES}
    found: dict[str, tuple[Path, np.ndarray]] = {}
    negative = set()
    for folder in folders:
        row = reading.of_names([folder.name], str(folder))
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() not in suffixes or path.name[0] == ".":
                continue
            other, known = found.setdefault(path.stem, (path, row))
            if other != path and not filecmp.cmp(other, path, shallow=False):
                raise InputError(
                    f"{other} and {path} are two photographs of one name; rename one of them"
                )
            found[path.stem] = (other, np.maximum(known, row))
            if reading.says_none([folder.name]):
                negative.add(path.stem)
    return [Entry(str(path), key, row, key in negative) for key, (path, row) in found.items()]
