"""Lines of a class list: names, numbers before them, and what is neither.

What stands around all names alike is read: numbers before them, quotes, commas or colons behind
them. What one line alone does not tell from a name is told by all of them: numbers that go up by
one, further columns. A list with lines that are no names is refused.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tool.errors import InputError
from tool.file.text import shortened
from tool.mask_values import IGNORE_LABEL

NOT_CLASSES = (-1, IGNORE_LABEL)  # numbers of ignored pixels; -1 is Labelme's
# A dot before a digit is of the number, 1.0 or 1.5; a dash without spaces may be of a name, 2-door.
NUMBERED = re.compile(
    r"[(\[]?(-1|\d{1,6})(?:\.0+)?\s*(?:\s[-\u2013\u2014]\s|[-=]>|[:;,)\]|=\t ]|\.(?!\d))\s*(\S.*)"
)
BY_SPACE = re.compile(r"-?\d+(\.0+)? +\S")
HEADING = re.compile(r"(pixel.?value|value|index|id|number|class.?id)\W+(\w.*)", re.IGNORECASE)
# what stands above the names of a list, or beside them, and is none
TITLE = re.compile(
    r"(\d+ +)?((class|label|category)[_\W]*)?(names?|class(es)?|labels?|categor(y|ies)|objects)"
    r"(\s*[:,;\t].*)?|(pixel.?value|value|index|id|number|class.?id)\s*[,;\t].*",
    re.IGNORECASE,
)
TOTAL = re.compile(
    r"[^\d:]*[^\W\d]\s*:\s*\d+|(sum|total|count)\s*=?\s*\d+", re.IGNORECASE | re.ASCII
)
LISTED = re.compile(r"[-*]\s+\S.*")  # a name of a list in YAML
CODE = re.compile(r"-{3,}|\.{3}|[\w.]+\s*=\s*[\[({'\"].*")
QUOTED = re.compile(r"\"([^\"]+)\"|'([^']+)'")
NUMBERS_BEHIND = re.compile(r"[^,;:\t]*\w[^,;:\t]*[,;:\t][\d\s,;:]*\d", re.ASCII)
# a number at an end of a line, and the rest, the name
LAST_NUMBER = re.compile(r"(?P<name>.*?)[\W_]*?(?P<number>\d+)\W*", re.ASCII)
FIRST_NUMBER = re.compile(
    r"(?P<before>\D*?)(?P<number>\d+)(?!\.\d)(?P<name>\s*[^\w\s].*)", re.ASCII
)
BRACKETS = ("()", "[]", "{}")
COLUMN = re.compile(r"[,;|\t]")
# a name with three numbers, or a colour, behind it, or three numbers before it
COLUMNS = re.compile(
    r".*?([\s,;:|]+\d+(\.\d+)?){3}|.*[\s,;:|]#[0-9a-f]{6,8}|(\d+(\.\d+)?[\s,;:|]+){3}.*",
    re.IGNORECASE | re.ASCII,
)

LONGEST = 1000  # characters of a line, numbers and columns included; patterns take their square
Line = tuple[int, str]  # its number and text


@dataclass(frozen=True)
class Entry:
    """A name of a list: where, for messages; mask value and colour where the list gives them."""

    where: str
    name: str
    number: int | None = None
    colour: tuple[int, int, int] | None = None


def entries_of_lines(path: Path, lines: Sequence[Line]) -> tuple[list[Entry], str]:
    """(the names of a list, with their numbers if it has any; how it was read, "" for as it is).

    Raises InputError for lines that are no names, or not all numbered.
    """
    for number, line in lines:
        if len(line) > LONGEST:
            raise InputError(
                f"{path} line {number}: '{shortened(line)}' has {len(line)} characters, more than "
                "a name; write a name a line"
            )
    lines, taken = _undressed(lines)
    body = lines[1:] if len(lines) > 1 and HEADING.fullmatch(lines[0][1]) else lines
    found = [NUMBERED.fullmatch(line) for _, line in body]
    if body and all(found):
        names, quoted = _unquoted(_numbered_names(path, body, found))
        numbers, taken = [int(match[1]) for match in found], taken + quoted
        how = "read by its numbers"
    else:
        _require_all_or_none(path, body, found)
        _require_names(path, lines)
        body, names = lines, [line for _, line in lines]
        numbers, how = [None] * len(lines), "read" if taken else ""
    entries = [
        Entry(f"{path} line {at}", name, number)
        for (at, _), name, number in zip(body, names, numbers, strict=True)
    ]
    return entries, how + (f" without {' and '.join(taken)}" if taken else "")


def _undressed(lines: Sequence[Line]) -> tuple[list[Line], list[str]]:
    """(the lines without what all have behind and around the name, what that is): commas or
    semicolons, which the last may lack, colons, quotes.
    """
    texts, taken = [line for _, line in lines], []
    for mark, what in ((",", "commas"), (";", "semicolons"), (":", "colons")):
        needed = texts[:-1] if len(texts) > 1 and mark != ":" else texts
        if (mark != ":" or len(texts) > 1) and all(text.endswith(mark) for text in needed):
            texts, taken = [text.removesuffix(mark).rstrip() for text in texts], [*taken, what]
    texts, quoted = _unquoted(texts)
    kept = [(at, text) for (at, _), text in zip(lines, texts, strict=True) if text]
    return kept, taken + quoted


def _unquoted(names: list[str]) -> tuple[list[str], list[str]]:
    """(the names without quotes, ["quotes"]) where all have them, (the names, []) else."""
    found = [QUOTED.fullmatch(name) for name in names]
    if not found or not all(found):
        return names, []
    return [(match[1] or match[2]).strip() for match in found], ["quotes"]


# ============ numbers before the names ============
def _numbered_names(path: Path, lines: Sequence[Line], found: Sequence[re.Match]) -> list[str]:
    """The names behind the numbers. Raises InputError where these may belong to the names, and
    where the names have further columns behind or before them.
    """
    numbers = [int(match[1]) for match in found]
    by_space = all(BY_SPACE.match(line) for _, line in lines)
    if by_space and len(numbers) > 1 and not _go_up(numbers):
        raise InputError(
            f"{path}: every line begins with a number, {numbers[0]}, {numbers[1]}, ...; where they "
            "are mask values write them as 1: name, where they belong to the names put _ for the "
            "space"
        )
    parts = [{*match[0][match.end(1) : match.start(2)]} & {*",;|\t"} for match in found]
    again = all(part & {*match[2]} for part, match in zip(parts, found, strict=True))
    names = [match[2].strip(" ,;\t") for match in found]
    if again or all(map(COLUMNS.fullmatch, names)) or (len(names) == 1 and COLUMN.search(names[0])):
        number, line = lines[0]
        raise InputError(
            f"{path} line {number}: '{shortened(line)}' has further columns; leave the number and "
            "the name alone"
        )
    return names


def _go_up(numbers: Sequence[int]) -> bool:
    """Whether numbers count from 0 or 1 by one, apart from those of ignored pixels."""
    counted = [number for number in numbers if number not in NOT_CLASSES]
    return counted in (list(range(len(counted))), list(range(1, len(counted) + 1)))


def _require_all_or_none(
    path: Path, lines: Sequence[Line], found: Sequence[re.Match | None]
) -> None:
    """Raise InputError where some lines have numbers: "7 segment display" is a name; "7: x" or
    "7,x" among names is a slip.
    """
    if any(match and not BY_SPACE.match(match[0]) for match in found):
        number, line = lines[found.index(None)]
        raise InputError(
            f"{path} line {number}: '{shortened(line)}' has no number, other lines have; number "
            "all classes, or none"
        )


# ============ names alone ============
def _require_names(path: Path, lines: Sequence[Line]) -> None:
    """Raise InputError where lines are not names of classes alone. A list of one line may have any
    name without a colon or what parts columns.
    """
    texts = [line for _, line in lines]
    place, what = 0, _list_fault(texts) if texts else ""
    if not what:
        faults = ((place, _line_fault(text)) for place, text in enumerate(texts))
        place, what = next((fault for fault in faults if fault[1]), (0, ""))
    if what:
        number, line = lines[place]
        raise InputError(
            f"{path} line {number}: '{shortened(line)}' {what}. If it is a class, write the list "
            'as JSON, ["cat", "dog"]'
        )


def _list_fault(texts: Sequence[str]) -> str:
    """Why the lines of a list are no names, or the first is none; "" where they may be."""
    if texts[0].endswith(":") or (TITLE.fullmatch(texts[0]) and len(texts) > 1):
        return "looks like a heading; remove it"
    if all(map(LISTED.fullmatch, texts)):
        return "looks like YAML; write a name a line alone"
    columns = all(map(COLUMNS.fullmatch, texts))
    if columns or all(map(NUMBERS_BEHIND.fullmatch, texts)) or _counted_by(LAST_NUMBER, texts):
        return "has numbers behind the name; write 1: cat where they are mask values, else the name"
    if _counted_by(FIRST_NUMBER, texts):
        return (
            "has a number before the name; write 1: cat where it is the mask value, else the name"
        )
    if len(texts) == 1 and COLUMN.search(texts[0]):
        return "is one class, as it is one line; write a name a line"
    return ""


def _counted_by(pattern: re.Pattern, texts: Sequence[str]) -> bool:
    """Whether the numbers that pattern finds count the lines, of which no two have one name without
    them: type 1 and type 2 are names.
    """
    found = [pattern.fullmatch(text) for text in texts]
    if len(found) < 2 or not all(found):
        return False
    names = {match["name"] for match in found}
    before = {match.groupdict().get("before") for match in found}
    return (
        len(names) == len(found)
        and "" not in names
        and len(before) == 1
        and _go_up([int(match["number"]) for match in found])
    )


def _line_fault(text: str) -> str:
    """Why a line is no name, "" where it may be one."""
    if text.startswith("#"):
        return "looks like a comment; remove it"
    if text.startswith(("nc:", "names:")):
        return "looks like YAML; write a name a line alone"
    if text.endswith(":"):
        return "ends in a colon, as a heading does; remove it"
    if CODE.fullmatch(text) or any(text.count(one) != text.count(two) for one, two in BRACKETS):
        return "looks like code, or a part of it; write a name a line alone"
    if TOTAL.fullmatch(text):
        return "looks like a total, a number beside a word; remove it"
    return ""
