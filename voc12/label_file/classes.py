"""Class names and class numbers of a file of image labels, read into multi-hot rows."""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from tool.errors import InputError
from tool.file.text import shortened
from tool.names import nfc
from voc12.class_list import is_background
from voc12.label_file.cells import Exact, is_missing, split_tags
from voc12.label_file.entries import Entry

TAG_SEPARATORS = (",", ";", "|", " ")
NO_CLASS = ("none", "nothing", "negative", "negatives", "no class")  # beside the background's names
TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
SUFFIXES = (".npy", ".json", *TEXT_SUFFIXES)
FILE_HELP = f"image labels are a file {', '.join(SUFFIXES)}, or a folder with a subfolder a class"
HINT = "give UTF-8 text"


def is_no_class(name: str) -> bool:
    """Whether a tag says that an image shows no class, unless the class list has it."""
    return is_background(name) or name.strip().lower() in NO_CLASS


@dataclass(frozen=True)
class Reading:
    """How the values of a file become rows. base: from where class numbers count, None unknown."""

    path: Path
    classes: tuple[str, ...]
    base: int | None

    @cached_property
    def places(self) -> tuple[dict[str, int], dict[str, list[int]]]:
        """(name -> index, lower case name -> indices) of the classes."""
        exact = {nfc(name): c for c, name in enumerate(self.classes)}
        lower: dict[str, list[int]] = {}
        for name, c in exact.items():
            lower.setdefault(name.lower(), []).append(c)
        return exact, lower

    def find(self, name: str) -> int | None:
        """The index of a class name, whatever its spelling of Unicode, and its capitals if that is
        certain.
        """
        name = nfc(name.strip())
        exact, lower = self.places
        alike = lower.get(name.lower(), [])
        return exact.get(name, alike[0] if len(alike) == 1 else None)

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
        field = field.strip()
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


def _is_nothing(name: str) -> bool:
    return is_missing(name) or is_no_class(name)
