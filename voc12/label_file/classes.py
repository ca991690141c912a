"""Class names and class numbers of a file of image labels, read into multi-hot rows."""

import difflib
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from tool.errors import InputError
from tool.file.text import shortened
from tool.names import nfc, tidy, unquoted
from voc12.class_list import is_background
from voc12.label_file.cells import Exact, is_missing, split_tags
from voc12.label_file.entries import Entry

TAG_SEPARATORS = (",", ";", "|", " ")
NO_CLASS = ("none", "nothing", "negative", "negatives", "no class", "no object", "no objects", "bg")
TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
SUFFIXES = (".npy", ".json", *TEXT_SUFFIXES)
FILE_HELP = f"image labels are a file {', '.join(SUFFIXES)}, or a folder with a subfolder a class"
HINT = "give UTF-8 text"
AT_0 = "; where 0 is the background, write 'background' before the classes of the class list"


def is_no_class(name: str) -> bool:
    """Whether a tag says that an image shows no class, unless the class list has it."""
    words = re.sub(r"[\s_-]+", " ", tidy(name)).strip().lower()
    return is_background(tidy(name)) or words in NO_CLASS


@dataclass(frozen=True)
class Reading:
    """How the values of a file become rows. base: from where class numbers count, None unknown;
    counted: whether the class list has its classes at 1, 2, ... (voc12.class_list.ClassList).
    """

    path: Path
    classes: tuple[str, ...]
    base: int | None
    counted: bool = False

    @cached_property
    def places(self) -> tuple[dict[str, int], dict[str, list[int]]]:
        """(name -> index, tidy name in lower case -> indices) of the classes."""
        exact = {nfc(name): c for c, name in enumerate(self.classes)}
        lower: dict[str, list[int]] = {}
        for name, c in exact.items():
            lower.setdefault(tidy(name).lower(), []).append(c)
        return exact, lower

    def find(self, name: str) -> int | None:
        """The index of a class name, whatever its spelling of Unicode, and its capitals, spaces
        and quotes if that is certain.
        """
        exact, lower = self.places
        found = exact.get(nfc(name.strip()))
        if found is None:
            alike = lower.get(tidy(name).lower(), [])
            found = alike[0] if len(alike) == 1 else None
        return found

    def of_names(self, names: Iterable[str], where: str) -> np.ndarray:
        """The row of class names; the background's is no class."""
        row = np.zeros(len(self.classes), dtype=np.float32)
        for name in names:
            if self.find(name) is None and (is_missing(name) or is_no_class(name)):
                continue
            if self.find(name) is None:
                raise InputError(f"{where}: {self.unknown(name)}")
            row[self.find(name)] = 1
        return row

    def of_field(self, where: str, key: str | int, field: str) -> Entry:
        """What one field of tags says of an image."""
        parts = {field}
        if not isinstance(field, Exact):
            parts |= {part for separator in TAG_SEPARATORS for part in field.split(separator)}
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
        if isinstance(field, Exact):
            return self.of_names([field], where)
        field = unquoted(field)
        splits = {(field,)}
        splits |= {tuple(field.split(separator)) for separator in TAG_SEPARATORS}
        splits.add(tuple(re.split(r"[,;|]", field)))
        fitting = {}
        for parts in splits:
            names = [part.strip() for part in parts if part.strip()]
            if all(self.find(name) is not None or _is_nothing(name) for name in names):
                fitting[self.of_names(names, where).tobytes()] = names
        if len(fitting) > 1:
            one, two = list(fitting.values())[:2]
            raise InputError(
                f"{where}: '{shortened(field)}' can be read as {one} and as {two}; put each tag in "
                "a row of a .json list"
            )
        if fitting:
            return self.of_names(next(iter(fitting.values())), where)
        return self.of_names(split_tags(field), where)

    def of_numbers(
        self,
        items: Sequence[tuple[str, str | int, list[int]]],
        every: Iterable[int] = (),
    ) -> list[Entry]:
        """Rows of class numbers, which count from 0 or from 1 in the whole file (base_of); 0 is no
        class where the class list has its classes at 1, 2, ...

        every: numbers that the file has beside those of items. Raises InputError for numbers that
        no class has.
        """
        count = len(self.classes)
        self._require_no_background_column([row for _, _, row in items if row])
        base = self.base_of({*every, *(number for _, _, row in items for number in row)})
        entries = []
        for where, key, row in items:
            hot = np.zeros(count, dtype=np.float32)
            negative = self.counted and base == 1 and 0 in row
            for number in row:
                if number == 0 and negative:
                    continue
                if not base <= number < count + base:
                    raise InputError(
                        f"{where}: class number {shortened(number)}; {count} classes have "
                        f"{base}..{count - 1 + base}" + (AT_0 if number == 0 else "")
                    )
                hot[number - base] = 1
            entries.append(Entry(where, key, hot, negative))
        return entries

    def _require_no_background_column(self, rows: Sequence[list[int]]) -> None:
        """Raise InputError where the rows of one class may be numbers, of which 0 is the
        background, or 0 or 1 of the background and of the class.
        """
        pairs = len(self.classes) == 1 and self.counted and self.base is None
        if pairs and [1, 0] in rows and all(sorted(row) == [0, 1] for row in rows):
            raise InputError(
                f"{self.path}: are 1 and 0 class numbers, or a yes and a no of background and "
                f"{shortened(self.classes[0])}? Give one number an image, 1 for "
                f"{shortened(self.classes[0])}, else 0"
            )

    def base_of(self, numbers: Collection[int]) -> int:
        """From where the class numbers of a file count: as the user says, as the class list does,
        or as the numbers themselves show. Raises InputError where that leaves two readings.
        """
        count = len(self.classes)
        if self.base is not None:
            return self.base
        if self.counted:
            return 1
        if not numbers or not set(numbers) <= set(range(count + 1)):
            return 0
        if 0 in numbers and count in numbers:
            raise InputError(
                f"{self.path}: class numbers with 0 and {count} for {count} classes do not fit them"
                f"{AT_0}"
            )
        if 0 not in numbers and count not in numbers:
            raise InputError(
                f"{self.path}: class numbers with neither 0 nor {count} for {count} classes can "
                f"count from 0, where 0 is {shortened(self.classes[0])}, or from 1; give "
                f"{self.path}:0 or {self.path}:1 as the file"
            )
        return 0 if 0 in numbers else 1

    def numbers_said(self, numbers: Collection[int]) -> str:
        """From where class numbers were taken to count, for the user to read; "" where the user
        says it, and where there are none.
        """
        if self.base is not None or not numbers:
            return ""
        base = self.base_of(numbers)
        by_list = ", as in the class list, and 0 is no class" if self.counted else ""
        return f"class numbers count from {base}{by_list}: {base} is {shortened(self.classes[0])}"


def _is_nothing(name: str) -> bool:
    return is_missing(name) or is_no_class(name)
