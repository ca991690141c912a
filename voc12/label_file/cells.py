"""What a cell of a table of image labels says: yes or no, nothing, or a list of names in it."""

import ast
import json
import re
import warnings
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from tool.errors import InputError
from tool.file.text import shortened
from tool.names import nfc, tidy, unquoted

# yes and no of one table; letters come with their own kind alone: "x" and "y" are two classes
WORDS = (
    ("1", "0"),
    ("1.0", "0.0"),
    ("1,0", "0,0"),
    ("100%", "0%"),
    ("true", "false"),
    ("yes", "no"),
    ("on", "off"),
    ("present", "absent"),
    ("wahr", "falsch"),  # as Excel writes true and false elsewhere
    ("ja", "nein"),
    ("vrai", "faux"),
    ("oui", "non"),
    ("vero", "falso"),
    ("verdadero", "falso"),
    ("verdadeiro", "falso"),
    ("sí", "no"),
    ("si", "no"),
    ("sim", "não"),
    ("tak", "nie"),
    ("да", "нет"),
    ("是", "否"),
    ("有", "无"),
    ("はい", "いいえ"),
    ("✓", "✗"),
    ("✔", "✘"),
    ("☑", "☐"),
    ("✅", "❌"),
)
LETTERS = (("y", "n"), ("t", "f"), ("j", "n"), ("x", "-"), ("+", "-"))
YES = frozenset(yes for yes, _ in (*WORDS, *LETTERS))
NO = frozenset(no for _, no in (*WORDS, *LETTERS))
NO_WORDS = frozenset(no for _, no in WORDS)  # that are no class beside others
MINUS = frozenset(("-1", "-1.0"))  # a no where there is no other
MISSING = frozenset(  # as pandas reads them, as Excel writes them, as people do
    ("nan", "-nan", "null", "n/a", "#n/a", "na", "<na>", "#nv", "n.a.", "todo", "tbd")
)
EMOJI = "\ufe0f"  # behind a sign that is drawn as a picture
TAG = re.compile(r"[,;|]")
BETWEEN_NUMBERS = re.compile(r"[,;|\s]+")
CLASS_NUMBER = re.compile(r"\d{1,9}(\.0+)?", re.ASCII)  # 1.0 where pandas saw an empty cell
OPENS = re.compile(r"[\[{(]\s*['\"]")
# where Label Studio keeps names
NAMED = ("choices", "labels", "rectanglelabels", "polygonlabels", "brushlabels", "ellipselabels")


class Exact(str):
    """A name that stood in a list: no separator in it parts names."""


def answer(cell: str) -> str:
    """A cell as YES and NO have it."""
    return nfc(cell.strip()).lower().rstrip(EMOJI)


def is_missing(cell: str) -> bool:
    """Whether a cell says that nothing was written."""
    return tidy(cell).lower() in ("", *MISSING)


def are_yes_or_no(cells: Iterable[str]) -> bool:
    """Whether cells say yes or no, and one says yes; empty ones may be among them."""
    said = {answer(cell) for cell in cells if not is_missing(cell)}
    letters = said & {letter for pair in LETTERS for letter in pair}
    one_kind = any(letters <= set(pair) for pair in LETTERS)
    return one_kind and said <= YES | NO | MINUS and bool(said & YES)


def split_tags(field: str) -> list[str]:
    """The names of a field of tags. Not parted at spaces: "traffic light" is one."""
    if isinstance(field, Exact):
        return [field]
    return [tidy(part) for part in TAG.split(unquoted(field))]


def number_parts(field: str) -> list[str]:
    """The parts of a field that may hold class numbers."""
    return [part for part in BETWEEN_NUMBERS.split(field) if part]


def are_class_numbers(parts: Collection[str], classes: Collection[str]) -> bool:
    """Whether parts are numbers, some are there, and they are no names of classes."""
    return (
        bool(parts)
        and all(map(CLASS_NUMBER.fullmatch, parts))
        and not all(part in classes for part in parts)
    )


def class_number(part: str) -> int:
    """The number that a text of CLASS_NUMBER says."""
    return int(part.partition(".")[0])


def plain_value(value: Any) -> Any:
    """A value of JSON or of a pickled dict as other files have it: a list of names for an array of
    them, and without None.
    """
    if isinstance(value, np.ndarray) and value.dtype.kind == "U":
        return value.ravel().tolist()
    if isinstance(value, list | tuple) and any(isinstance(part, str) for part in value):
        return [part for part in value if part is not None]
    return value


def json_value(value: Any) -> Any:
    """A value of JSON, "" for null and NaN: a table has an empty cell there."""
    is_nan = isinstance(value, float) and value != value
    return "" if value is None or is_nan else plain_value(value)


def listed(cell: str, where: str) -> list[str] | None:
    """The names in a cell that holds a list, as Python and JSON write it, or Label Studio's object,
    {"choices": ["cat", "dog"]}; None for a cell of another kind. Names are Exact, numbers are text.

    where: for messages. Raises InputError for a list that is cut, and one of other things.
    """
    cell = cell.strip()
    if len(cell) < 2 or cell[0] + cell[-1] not in ("[]", "{}", "()"):
        if OPENS.match(cell):
            raise InputError(f"{where}: {_fault(cell)}")
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a backslash in a name
                value = read(cell)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        if cell[0] == "(" and not isinstance(value, tuple):  # brackets of a name
            return None
        names = _names(value)
        if names is not None:
            return [name for name in names if name]
        break
    if cell[0] == "(" and not OPENS.match(cell):
        return None
    raise InputError(f"{where}: {_fault(cell)}")


def _fault(cell: str) -> str:
    return f"'{shortened(cell)}' is no list of names; write ['cat', 'dog'] in a cell, or cat;dog"


def names_of(value: Any) -> list[str] | None:
    """The names in Label Studio's object; None for another value."""
    return _names(value) if isinstance(value, dict) else None


def _names(value: Any) -> list[str] | None:
    """The names in a list, or in Label Studio's object or a list of them; None for other things."""
    if isinstance(value, str):
        return [Exact(value.strip())]
    if isinstance(value, int) and not isinstance(value, bool):
        return [str(value)]
    if isinstance(value, dict):
        named = [value[key] for key in NAMED if key in value]
        return _names(named[0]) if len(named) == 1 and not isinstance(named[0], int) else None
    if not isinstance(value, list | tuple | set):
        return None
    parts = [_names(part) for part in value]
    if any(part is None for part in parts):
        return None
    return [name for part in parts for name in part]
