"""Tables of image labels, in text, read into entries: tags behind the images, a column a class, or
class numbers.
"""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tool.errors import InputError
from tool.file.text import numbered_lines, read_text, shortened
from tool.names import nfc
from tool.run.notes import note
from voc12.label_file.cells import (
    MINUS,
    NO,
    YES,
    answer,
    are_class_numbers,
    are_yes_or_no,
    class_number,
    is_missing,
    number_parts,
)
from voc12.label_file.classes import FILE_HELP, HINT, Reading, is_no_class
from voc12.label_file.entries import Entry, Known, key_of
from voc12.label_file.tables import (
    DELIMITERS,
    KEY_NAMES,
    Chosen,
    Table,
    delimiters_of,
    split_rows,
)

MAX_TEXT = 1 << 29  # bytes
DECIMAL_COMMA = re.compile(r"\d+,0+", re.ASCII)


@dataclass(frozen=True)
class _Read:
    """A table read in one way: images, which it names (Table.images); said, what it says of them;
    how, in words.
    """

    images: tuple[int, float]
    said: bytes
    how: str
    delimiter: str
    entries: list[Entry]
    table: Table


def from_text(reading: Reading, ids: Sequence[str], chosen: Chosen) -> list[Entry]:
    """The entries of a table, by the one delimiter and the one kind under which it names images of
    ids and classes.
    """
    path, known = reading.path, Known(ids)
    whole = table_text(path, "image labels")
    delimiters, text = delimiters_of(whole)
    read: list[_Read] = []
    failed: list[tuple[tuple[int, float], InputError]] = []
    for delimiter in delimiters:
        images = (0, 0.0)
        try:
            rows = split_rows(path, text, delimiter)
            table = Table(path, rows, known, chosen, lambda name: reading.find(name) is not None)
            images = table.images
            if images[0]:
                by_class = _has_class_columns(table, reading)
            kinds = {_CLASS_COLUMNS: _one_column_a_class} if images[0] and by_class else _KINDS
        except InputError as error:
            failed.append((images, error))
            continue
        for kind, parse in kinds.items() if images[0] else ():
            try:
                entries = parse(table, reading)
            except InputError as error:
                failed.append((images, error))
                continue
            if entries is not None:
                how = f"{kind}, parted by {DELIMITERS[delimiter]}"
                read.append(
                    _Read(images, _what_is_said(entries, known), how, delimiter, entries, table)
                )
    # a delimiter that is part of the others' fields finds fewer images
    most = max((one.images for one in read), default=(0, 0.0))
    worst = max(failed, key=lambda pair: pair[0], default=((0, 0.0), None))
    if worst[0] > most:
        raise worst[1]
    read = [one for one in read if one.images == most]
    if any(one.delimiter == "\t" for one in read):  # which are spaces too
        read = [one for one in read if one.delimiter != " "]
    different = {one.said: one for one in read}
    if len(different) > 1:
        one, two = [one.how for one in different.values()][:2]
        raise InputError(
            f"{path} can be read as {one}, and as {two}; write the classes' names, or a header "
            "with the classes as columns"
        )
    if different:
        found = next(iter(different.values()))
        if not found.how.startswith(_CLASS_COLUMNS):
            found.table.require_no_denials()
            if said := _columns(found.table):
                note(f"{path}: {said}")
        if found.how.startswith(_BY_NUMBER):
            numbers = _headed_numbers(found.table) or {
                number for _, _, row in _number_rows(found.table, reading) for number in row
            }
            if said := reading.numbers_said(numbers):
                note(f"{path}: {said}")
        return found.entries
    if worst[1] is not None:
        raise worst[1]
    raise InputError(
        f"{path} has no label of the {len(ids)} images, first {ids[0]}; its first line is "
        f"'{shortened(numbered_lines(whole)[0][1])}'; {FILE_HELP}"
    )


def table_text(path: Path, what: str) -> str:
    """The text of a table of labels. Raises InputError for one that is too large, empty or no
    text.
    """
    if path.stat().st_size > MAX_TEXT:
        raise InputError(f"{path} has over {MAX_TEXT >> 20} MiB; is it a list of image labels?")
    text = read_text(path, what, f"{HINT}, or {FILE_HELP}")
    if "\0" in text:
        raise InputError(f"{path} is no text: it has a NUL character; {FILE_HELP}")
    if not text.strip():
        raise InputError(f"{path} is empty; give a line for each image")
    return text


def _what_is_said(entries: Sequence[Entry], known: Known) -> bytes:
    """What entries say of the images that are known, to compare two readings."""
    said = {(known(str(entry.key)) or "", entry.row.tobytes()) for entry in entries}
    return repr(sorted(one for one in said if one[0])).encode()


def _columns(table: Table) -> str:
    """Which columns are read, where others are not; "" where all are."""
    heading = table.heading
    if heading is None:
        return f"images by column {table.key + 1}" if table.key else ""
    if not table.left_out:
        return ""
    tags = ", ".join(place_names(heading, table.columns))
    return (
        f"images by column '{shortened(heading[table.key])}', tags by '{shortened(tags)}'; left "
        f"out: {shortened(', '.join(table.left_out))}"
    )


def _has_class_columns(table: Table, reading: Reading) -> bool:
    """Whether the heading names classes: all of them, or one beside a column of images, or the
    columns chosen say yes or no. Raises InputError where another column has tags as well.
    """
    heading, chosen = table.heading, table.chosen.tags
    if heading is None:
        return False
    if chosen:
        return table.are_classes(table.columns)
    place = {reading.find(name): n for n, name in enumerate(heading) if n != table.key}
    place.pop(None, None)
    named = any(word in KEY_NAMES for word in table.words)
    columns = list(place.values())
    if _are_names(table.cells(columns), reading):
        return False
    if not (len(place) == len(reading.classes) < len(heading) or (named and bool(place))):
        # classes by number, or others' names
        return not table.tag_words and _are_others(table)
    tagged = [n for n in table.tag_words if n not in columns]
    if tagged and are_yes_or_no(table.cells(columns)):
        raise InputError(
            f"{table.path}: which has the tags, column '{heading[tagged[0]]}' or the columns "
            f"{shortened(', '.join(place_names(heading, columns)))}? Take the others "
            f"out{table.chosen.or_by('--tag_columns')}"
        )
    return not tagged


def _are_names(cells: Collection[str], reading: Reading) -> bool:
    """Whether cells are names of classes, also where their column is called as one of them is."""
    named = [cell for cell in cells if reading.find(cell) is not None]
    others = [cell for cell in cells if reading.find(cell) is None]
    nothing = all(is_missing(cell) or is_no_class(cell) for cell in others)
    return bool(named) and nothing and not are_yes_or_no(cells)


def place_names(heading: Sequence[str], columns: Iterable[int]) -> list[str]:
    """The headings of columns."""
    return [heading[n] for n in columns if n < len(heading)]


def _are_others(table: Table) -> bool:
    """Whether the columns are classes by other names than the class list has; numbers are none."""
    columns = table.columns
    numbers = all(name.isdigit() for name in place_names(table.heading, columns))
    return len(columns) > 1 and table.are_classes(columns) and not numbers


def _one_column_a_class(table: Table, reading: Reading) -> list[Entry]:
    header, key, body = table.heading, table.key, table.body
    read = table.columns if table.chosen.tags else range(len(header))
    place = {
        c: i
        for i in read
        if i != key and i < len(header) and (c := reading.find(header[i])) is not None
    }
    where = f"{reading.path} line {table.rows[0][0]}"
    for c, name in enumerate(reading.classes):
        if c not in place:
            raise InputError(f"{where}: no column for class '{shortened(name)}'; add it")
    for number, row in body:
        if len(row) != len(header):
            raise InputError(
                f"{reading.path} line {number}: {len(row)} fields, the header has {len(header)}"
            )
    for i in set(read) - {key, *place.values()}:
        name = header[i]
        if table.words[i] not in KEY_NAMES and not is_no_class(name):
            told = table.cells([i])
            if are_yes_or_no(told) or all(answer(cell) in NO for cell in told):
                raise InputError(f"{where}: {reading.unknown(name)}")
    none = [i for i in read if i != key and reading.says_none([header[i]])]
    cells = table.cells(list(place.values()))
    no = NO | MINUS if NO.isdisjoint(map(answer, cells)) else NO
    meaning = {cell: answer(cell) in YES for cell in cells if answer(cell) in YES | no}
    meaning |= {cell: None for cell in cells if is_missing(cell)}
    says_no = False in meaning.values()
    entries = []
    for number, row in body:
        at = f"{reading.path} line {number}"
        hot = np.zeros(len(reading.classes), dtype=np.float32)
        said = {c: meaning.get(row[i], row[i]) for c, i in place.items()}
        values = set(said.values())
        if not values <= {True, False, None} or (says_no and None in values and len(values) > 1):
            _refuse_cells(said, reading, at)
        hot[[c for c, value in said.items() if value]] = 1
        negative = values == {False} or any(answer(row[i]) in YES for i in none)
        entries.append(Entry(at, key_of(row[key]), hot, negative))
    return entries


def _refuse_cells(said: dict[int, bool | str | None], reading: Reading, where: str) -> None:
    """Raise InputError for the first cell that is neither yes nor no; said: class -> what it is."""
    for c, value in said.items():
        name = shortened(reading.classes[c])
        if isinstance(value, str):
            raise InputError(f"{where}: class '{name}' has '{shortened(value)}'; give 0 or 1")
        if value is None and not any(isinstance(other, str) for other in said.values()):
            raise InputError(
                f"{where}: nothing is said of class '{name}'; write 0 or 1 there, or nothing in "
                "the whole row"
            )


def _tags(table: Table, reading: Reading) -> list[Entry] | None:
    fields = table.fields()
    if _all_numbers(fields, reading) or _are_signs(fields, reading):
        return None
    entries = []
    for number, name, tags in fields:
        where = f"{reading.path} line {number}"
        said = [reading.of_field(where, key_of(name), tag) for tag in tags]
        row = sum((one.row for one in said), np.zeros(len(reading.classes)))
        negative = any(one.negative for one in said)
        entries.append(Entry(where, key_of(name), np.minimum(row, 1).astype(np.float32), negative))
    return entries


def _all_numbers(fields: list[tuple[int, str, list[str]]], reading: Reading) -> bool:
    """Whether the tags are class numbers."""
    parts = {part for _, _, tags in fields for part in _parts(tags)}
    return are_class_numbers(parts, reading.classes)


def _number_rows(table: Table, reading: Reading) -> list[tuple[str, str | int, list[int]]] | None:
    fields = table.fields()
    if not _all_numbers(fields, reading):
        return None
    _require_no_decimal_comma(table.path, {tag for _, _, tags in fields for tag in tags if tag})
    return [
        (
            f"{reading.path} line {number}",
            key_of(name),
            [class_number(part) for part in _parts(tags)],
        )
        for number, name, tags in fields
    ]


def _require_no_decimal_comma(path: Path, tags: Collection[str]) -> None:
    """Raise InputError where all tags are 1,0 or the like: one number in German, or two classes."""
    if all(map(DECIMAL_COMMA.fullmatch, tags)):
        tag = max(tags)
        whole, zero = tag.split(",")
        raise InputError(
            f"{path}: is '{tag}' the number {whole} with a decimal comma, or the classes {whole} "
            f"and {int(zero)}? Write {whole} for the one, '{whole} {int(zero)}' for the other"
        )


def _numbers(table: Table, reading: Reading) -> list[Entry] | None:
    items = _number_rows(table, reading)
    if items is None or any(len(set(row)) < len(row) for _, _, row in items):
        return None
    return None if _headed_numbers(table) else reading.of_numbers(items)


def _headed_numbers(table: Table) -> list[int]:
    """The class numbers that head columns of yes and no; [] where others do."""
    names = place_names(table.heading or [], table.columns)
    if not table.are_classes(table.columns):
        return []
    numbers = [int(name) for name in names if re.fullmatch(r"\d{1,9}", name, re.ASCII)]
    return numbers if len(numbers) == len(names) == len(set(numbers)) else []


def _numbered_columns(table: Table, reading: Reading) -> list[Entry] | None:
    headed, items = _headed_numbers(table), _number_rows(table, reading)
    if not headed or items is None:
        return None
    base, count = reading.base_of(headed), len(reading.classes)
    missing = set(range(base, count + base)) - set(headed)
    if missing:
        raise InputError(
            f"{table.path} line {table.rows[0][0]}: no column for class number {min(missing)}, "
            f"{shortened(reading.classes[min(missing) - base])}; add it"
        )
    if not all(len(row) == len(headed) and set(row) <= {0, 1} for _, _, row in items):
        return None
    shown = [
        (where, key, [number for number, hot in zip(headed, row, strict=True) if hot])
        for where, key, row in items
    ]
    entries = reading.of_numbers(shown, headed)
    return [replace(entry, negative=not entry.row.any()) for entry in entries]


def _multi_hot(table: Table, reading: Reading) -> list[Entry] | None:
    items = _number_rows(table, reading)
    count = len(reading.classes)
    if items is None or _headed_numbers(table):
        return None
    if not all(len(row) == count and set(row) <= {0, 1} for _, _, row in items):
        return None
    return [
        Entry(where, key, np.array(row, dtype=np.float32), not any(row))
        for where, key, row in items
    ]


def _are_signs(fields: list[tuple[int, str, list[str]]], reading: Reading) -> bool:
    """Whether the tags are a 1 or -1 a class, and one is -1; 0 may be among them."""
    rows = [_parts(tags) for _, _, tags in fields]
    said = {part for parts in rows for part in parts}
    fits = all(len(parts) == len(reading.classes) for parts in rows)
    return fits and {"-1"} <= said <= {"1", "-1", "0"} and not said & set(reading.classes)


def _parts(tags: list[str]) -> list[str]:
    return [part for tag in tags for part in number_parts(tag)]


def _signs(table: Table, reading: Reading) -> list[Entry] | None:
    """Of VOC's file of a class, 1 or -1 behind the image, or of as many columns as there are
    classes. Raises InputError for a 0 where the file is not called as VOC's, cat_train.txt, in
    which it says that all objects of the class are difficult.
    """
    fields, count = table.fields(), len(reading.classes)
    if not _are_signs(fields, reading):
        return None
    rows = [(number, name, _parts(tags)) for number, name, tags in fields]
    if any("0" in parts for _, _, parts in rows):
        if count > 1 or not nfc(table.path.stem).startswith(f"{nfc(reading.classes[0])}_"):
            raise InputError(
                f"{table.path}: what is 0 beside 1 and -1? Write 1 or -1; a file that is called "
                f"as VOC's, {shortened(reading.classes[0])}_train.txt, has 0 where all objects of "
                "the class are difficult"
            )
        note(f"{table.path}: 0, difficult objects alone, is taken for 1, as --labels xml does")
    return [
        Entry(
            f"{table.path} line {number}",
            key_of(name),
            np.array([part != "-1" for part in parts], dtype=np.float32),
            set(parts) == {"-1"},
        )
        for number, name, parts in rows
    ]


_CLASS_COLUMNS = "one column a class"
_BY_NUMBER = "class numbers"
_KINDS: dict[str, Callable[[Table, Reading], list[Entry] | None]] = {
    "tags behind the image": _tags,
    f"{_BY_NUMBER} behind the image": _numbers,
    f"{_BY_NUMBER} above columns of 0 and 1": _numbered_columns,
    "0 or 1 a class behind the image": _multi_hot,
    "1 or -1 a class behind the image": _signs,
}
