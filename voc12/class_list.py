"""Class lists of a data set, in the forms in which people have them.

Our own has a foreground class a line, in the order of the mask values 1, 2, ... Read as well, with
a line that says so:

- a line for the background before the classes: `background`, Labelme's `_background_`,
  torchvision's `__background__`; it is mask value 0 and left out
- a line for ignored pixels, first or last: Labelme's `__ignore__`
- what stands around all names alike, as voc12/class_lines.py has it: numbers before them, from 1 or
  with 0 for the background, also under a heading, as Roboflow's `_classes.csv`; quotes, commas
- CVAT's `labelmap.txt`, name:r,g,b:parts:actions, whose colours say what RGB masks show, also those
  of another list beside it
- JSON: a list of names, {"1": "cat"} or {"cat": 1}

Where a list can be read in two ways it is refused, and so are lines that are no names, which would
be classes by their place. What write_class_list writes is read back as it was: names that lines
would not give back, "1. cat" among them, become JSON, and those that no list can hold are refused
before anything is written.
"""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tool.errors import InputError
from tool.file.atomic import atomic_write
from tool.file.text import numbered_lines, read_text, shortened, split_delimiter_line
from tool.mask_values import BACKGROUND, IGNORE_LABEL
from tool.names import name_fault, nfc
from tool.run.notes import note
from voc12.class_lines import NOT_CLASSES, Entry, entries_of_lines
from voc12.constants import CLASS_LIST_FILE, CLASSES

# Where a data set may keep its list: our own, CVAT's, Labelme's, Roboflow's.
LABELMAP_FILE = "labelmap.txt"
CLASS_LIST_FILES = (CLASS_LIST_FILE, LABELMAP_FILE, "class_names.txt", "_classes.csv")
HINT = "give a file with one foreground class name per line"
DECORATION = "_ <>[]()"
# by its letters alone: what more a list may call the background, as it may call a class
OTHER_BACKGROUNDS = ("bg", "none", "nothing", "noclass", "hintergrund", "fond", "fondo", "sfondo")
IGNORED_NAMES = ("ignore", "ignored", "void", "unlabeled", "unlabelled")
VALUE = re.compile(r"-1|\d{1,6}", re.ASCII)  # of a class, as text of JSON
# ASCII: int() takes neither U+001C, a space for others, nor all digits as they are meant
CVAT_LINE = re.compile(r"([^:]+):\s*(\d+\s*,\s*\d+\s*,\s*\d+)?\s*:[^:]*:[^:]*", re.ASCII)

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class ClassList:
    """names:   foreground classes in the order of the mask values 1, 2, ...
    colours: of mask values by RGB, where the list gives them (CVAT's), for masks in colours; 255 is
             ignored
    said:    what was made of the file beyond a name a line; "" for nothing
    counted: whether the file itself has the classes at 1, 2, ..., and something else at 0: by
             numbers, or by a background before them
    """

    names: tuple[str, ...]
    colours: tuple[tuple[Colour, int], ...] = ()
    said: str = ""
    counted: bool = False


def load_class_list(source: str | Path | None) -> tuple[str, ...]:
    """The foreground class names in the order of the mask values 1, 2, ...

    source: None for VOC's classes; a folder for its list (CLASS_LIST_FILES), or VOC's classes when
    it has none; or a file. What was left out of a list is said in a line.
    Raises InputError for a missing or empty file, a name given twice or with a slash, a background
    after the classes, numbers with gaps, and more names than mask values.
    """
    return read_class_list(source).names


def mask_colours(
    source: str | Path | None, classes: Sequence[str], folders: Sequence[str | Path] = ()
) -> dict[Colour, int]:
    """RGB -> mask value of classes, by the names in the first list that has colours: that of source
    (see load_class_list), or a labelmap.txt of CVAT beside it or in one of folders; {} without.

    classes: foreground names in the order of the values; the colours of others have the value
    behind theirs, which whoever reads the masks refuses. A line names these.
    Raises InputError where no name is one of the classes, or there is no value for others.
    """
    found, path = None, None if source is None else _list_of(Path(source))
    if path is not None:
        folders = (path.parent, *folders)
        found = read_class_list(path)
    for labelmap in dict.fromkeys(Path(folder) / LABELMAP_FILE for folder in folders):
        if found is not None and found.colours:
            break
        if labelmap.is_file() and labelmap != path:
            path, found = labelmap, _labelmap(labelmap)
    return {} if found is None else _by_names(path, found, classes)


def _labelmap(path: Path) -> ClassList | None:
    """What a labelmap.txt beside a class list says of colours; None where it is not CVAT's, or has
    none.
    """
    text = read_text(path, "labelmap", HINT)
    found = _parse_text(path, text) if _is_cvat(numbered_lines(text)) else None
    if found is None or not found.colours:
        return None
    note(f"{path}: masks in its colours are read by its names")
    return found


def _by_names(path: Path, found: ClassList, classes: Sequence[str]) -> dict[Colour, int]:
    """The colours of a list, whose values are those of the classes of its names."""
    numbers = {nfc(name): value for value, name in enumerate(classes, start=1)}
    others = [name for name in found.names if nfc(name) not in numbers]
    if others and found.colours:
        named = shortened(", ".join(others))
        if len(others) == len(found.names):
            raise InputError(
                f"{path}: none of its names, {named}, is one of the classes, "
                f"{shortened(', '.join(classes))}; call them alike, or move the file away"
            )
        if len(classes) + 1 == IGNORE_LABEL:
            raise InputError(
                f"{path}: {named} is none of the {len(classes)} classes, and no mask value is left "
                "for it; take it out"
            )
        note(f"{path}: {named} is none of the classes; masks that show it are refused")
    values = [numbers.get(nfc(name), len(classes) + 1) for name in found.names]
    table = {0: 0, IGNORE_LABEL: IGNORE_LABEL} | dict(enumerate(values, start=1))
    return {colour: table[value] for colour, value in found.colours}


def read_class_list(source: str | Path | None) -> ClassList:
    """The names and colours of load_class_list's source."""
    path = None if source is None else _list_of(Path(source))
    if path is None:
        return ClassList(CLASSES)
    found = _parse(path)
    if found.said:
        note(f"{path}: {found.said}; classes 1..{len(found.names)}: {_listed(found.names)}")
    return found


def class_list_text(names: Sequence[str], source: str) -> str:
    """What a class list of names holds, so that load_class_list gives them back: a name a line, or
    JSON where lines would be read otherwise, with numbers where its names could mean no class.

    source: where the names are from, for messages. Raises InputError for names that no list gives
    back: those that mean the background or ignored pixels, that cannot be part of a file's name,
    or are given twice; and for more names than mask values.
    """
    if len(names) >= IGNORE_LABEL:
        raise InputError(
            f"{source} has {len(names)} classes; masks have room for {IGNORE_LABEL - 1} below the "
            "ignore label"
        )
    for name in names:
        _require_class(name, source)
    lines = "".join(f"{name}\n" for name in names)
    as_json, numbered = (
        json.dumps(content, ensure_ascii=False) + "\n"
        for content in (list(names), {str(value): name for value, name in enumerate(names, 1)})
    )
    fault = ""
    for text in (lines, as_json, numbered):
        try:
            if _parse_text(Path(CLASS_LIST_FILE), text).names == tuple(names):
                return text
        except InputError as error:
            fault = f": {error}"
    raise InputError(f"{source}: no class list would give its classes back{fault}")


def is_reserved(name: str) -> bool:
    """Whether a name may mean the background or ignored pixels in a class list."""
    return _letters(name) == BACKGROUND or name.strip(DECORATION).lower() in IGNORED_NAMES


def _require_class(name: str, source: str) -> None:
    if is_reserved(name):
        raise InputError(
            f"{source}: '{shortened(name)}' cannot be a class: in a class list it would mean the "
            "background, or ignored pixels; call it otherwise, or take it out"
        )


def write_class_list(path: str | Path, names: Sequence[str], source: str = "") -> None:
    """Write names as class_list_text has them; path itself is the source where none is given."""
    text = class_list_text(names, source or str(path))
    with atomic_write(path, "w") as file:
        file.write(text)


def has_class_list(folder: str | Path) -> bool:
    """Whether something is named as a class list there, for load_class_list to read or refuse: a
    link to nothing too.
    """
    return _list_in(Path(folder)) is not None


def _list_of(source: Path) -> Path | None:
    return _list_in(source) if source.is_dir() else source


def _list_in(folder: Path) -> Path | None:
    return next(
        (folder / name for name in CLASS_LIST_FILES if os.path.lexists(folder / name)), None
    )


def _letters(name: str) -> str:
    return re.sub(r"[\W\d_]", "", name).lower()


def is_background(name: str) -> bool:
    """Whether a name means mask value 0: background, _background_, __background__, ..."""
    return name.strip(DECORATION).lower() == BACKGROUND


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f", ... {names[-1]}" if len(names) > 6 else "")


def _parse(path: Path) -> ClassList:
    return _parse_text(path, read_text(path, "class list", HINT))


def _parse_text(path: Path, text: str) -> ClassList:
    text = split_delimiter_line(text)[1]
    entries, how = _entries(path, text)
    if not entries:
        raise InputError(f"{path} is an empty class list; give one foreground class name per line")
    kept, left_out = _foreground(path, entries)
    names: dict[str, str] = {}
    known: set[str] = set()
    for entry in kept:
        if fault := name_fault(entry.name):
            raise InputError(
                f"{entry.where}: class '{shortened(entry.name)}' cannot be part of a file's name: "
                f"it {fault}"
            )
        same = nfc(entry.name)
        if same in known:
            raise InputError(
                f"{entry.where}: class '{shortened(entry.name)}' is listed twice; remove one of "
                "them"
            )
        known.add(same)
        names[entry.name] = entry.where
    if not names:
        raise InputError(f"{path} lists no foreground class; give one name per line")
    if len(names) >= IGNORE_LABEL:
        raise InputError(
            f"{path} lists {len(names)} classes; masks have room for {IGNORE_LABEL - 1} below the "
            "ignore label"
        )
    parts = [how] if how else []
    if left_out:
        parts.append(f"left out {' and '.join(shortened(entry.name) for entry in left_out)}")
    before = entries[: entries.index(kept[0])]
    counted = kept[0].number is not None or any(is_background(entry.name) for entry in before)
    return ClassList(tuple(names), _colours(path, kept, left_out), ", ".join(parts), counted)


def _entries(path: Path, text: str) -> tuple[list[Entry], str]:
    """The lines of a list and, if it is no plain one, how it was read."""
    if text.lstrip().startswith(("[", "{")) and not text.lstrip().startswith("[ignore"):
        return _from_json(path, text), "read as JSON"
    lines = numbered_lines(text)
    if _is_cvat(lines):
        return _from_cvat(path, lines), "read as CVAT's labelmap"
    return entries_of_lines(path, lines)


def _is_cvat(lines: list[tuple[int, str]]) -> bool:
    content = [line for _, line in lines if not line.startswith("#")]
    commented = any(line.startswith("# label:") for _, line in lines)
    return bool(content) and (commented or all(CVAT_LINE.fullmatch(line) for line in content))


def _from_cvat(path: Path, lines: list[tuple[int, str]]) -> list[Entry]:
    entries = []
    for number, line in lines:
        if line.startswith("#"):
            continue
        found = CVAT_LINE.fullmatch(line)
        colour = tuple(int(part) for part in found[2].split(",")) if found and found[2] else None
        if not found or (colour and max(colour) > 255):
            raise InputError(
                f"{path} line {number}: '{shortened(line)}' is not name:r,g,b:parts:actions, as "
                "CVAT's labelmap has it"
            )
        entries.append(Entry(f"{path} line {number}", found[1].strip(), colour=colour))
    return entries


def _from_json(path: Path, text: str) -> list[Entry]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise InputError(
            f"{path} is no class list: it begins as JSON and is none; {HINT}"
        ) from None
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return [Entry(f"{path} entry {i}", name.strip()) for i, name in enumerate(content, 1)]
    if isinstance(content, dict):
        pairs = list(content.items())
        if not all(map(VALUE.fullmatch, content)):
            pairs = [(value, key) for key, value in pairs]
        if all(VALUE.fullmatch(str(number)) and isinstance(name, str) for number, name in pairs):
            return [
                Entry(f"{path} entry {number}", name.strip(), int(number)) for number, name in pairs
            ]
    raise InputError(
        f"{path} is no class list: JSON of another kind (a list of names, or names with their mask "
        "values, is one; instances of COCO are not)"
    )


def _foreground(path: Path, entries: list[Entry]) -> tuple[list[Entry], list[Entry]]:
    """(the classes in the order of the mask values, what is left out: background and ignored)."""
    if entries[0].number is not None:
        return _by_number(path, entries)
    backgrounds = [entry for entry in entries if is_background(entry.name)]
    ignored = [entry for entry in entries if _is_ignored(entry)]
    kept = [entry for entry in entries if entry not in backgrounds and entry not in ignored]
    if len(backgrounds) > 1:
        raise InputError(
            f"{backgrounds[1].where}: '{backgrounds[1].name}' is a second background, beside "
            f"'{backgrounds[0].name}'; remove one of them"
        )
    coloured = all(entry.colour for entry in entries)  # then the order says nothing of masks
    if kept and not coloured:
        first, last = entries.index(kept[0]), entries.index(kept[-1])
        for entry in backgrounds:
            if entries.index(entry) > first:
                raise InputError(
                    f"{entry.where}: '{entry.name}' comes after a class, '{kept[0].name}'; it is "
                    "mask value 0: put it first, or leave it out"
                )
        for entry in ignored:
            if first < entries.index(entry) < last:
                raise InputError(
                    f"{entry.where}: '{entry.name}' stands between classes; which mask value is "
                    "it? Put it first or last, or leave it out"
                )
    for entry in kept if coloured else kept[:1]:
        _require_no_background(entry, OTHER_BACKGROUNDS)
    for entry in kept:
        _require_no_background(entry, (BACKGROUND,))
    return kept, [*ignored, *backgrounds]


def _require_no_background(entry: Entry, words: Sequence[str]) -> None:
    """Raise InputError for an unnumbered name that is one of words but for what is no letter."""
    if _letters(entry.name) in words:
        raise InputError(
            f"{entry.where}: is '{shortened(entry.name)}' a class or the background (0)? Write "
            f"{BACKGROUND} alone for the latter; a class may have a number, 1: name, or another "
            "name"
        )


def _is_ignored(entry: Entry) -> bool:
    """Whether an unnumbered name means ignored pixels. Raises InputError for a plain name that may
    mean them, or the background, or a class.
    """
    bare = entry.name.strip(DECORATION)
    if bare.lower() not in IGNORED_NAMES:
        return False
    if bare == entry.name and entry.colour is None:
        raise InputError(
            f"{entry.where}: is '{entry.name}' a class, the background (0) or ignored (255)? Write "
            f"__background__ or __ignore__ for the latter two, another name for a class"
        )
    return True


def _by_number(path: Path, entries: list[Entry]) -> tuple[list[Entry], list[Entry]]:
    by_number: dict[int, Entry] = {}
    for entry in entries:
        if entry.number in by_number:
            raise InputError(
                f"{entry.where}: the number {entry.number} is given twice, to "
                f"'{shortened(by_number[entry.number].name)}' and '{shortened(entry.name)}'; "
                "correct one of them"
            )
        by_number[entry.number] = entry
    left_out = [by_number.pop(number) for number in (0, *NOT_CLASSES) if number in by_number]
    if left_out and left_out[0].number == 0:
        zero = left_out[0]
        if not is_reserved(zero.name) and _letters(zero.name) not in OTHER_BACKGROUNDS:
            raise InputError(
                f"{zero.where}: number 0 is '{shortened(zero.name)}', but mask value 0 is the "
                "background; number the classes from 1, as the masks do"
            )
    kept = [by_number[number] for number in sorted(by_number)]
    for place, entry in enumerate(kept, start=1):
        if entry.number != place:
            raise InputError(
                f"{entry.where}: '{shortened(entry.name)}' has number {entry.number}, {place} is "
                "next; classes have the mask values 1, 2, ... without gaps"
            )
        if _letters(entry.name) == BACKGROUND:
            raise InputError(
                f"{entry.where}: '{entry.name}' has number {entry.number}; the background is mask "
                "value 0"
            )
    return kept, left_out


def _colours(
    path: Path, kept: list[Entry], left_out: list[Entry]
) -> tuple[tuple[Colour, int], ...]:
    """RGB -> mask value of a list whose classes all have a colour; () else."""
    if not all(entry.colour for entry in kept):
        return ()
    values = {}
    numbered = [(entry, place) for place, entry in enumerate(kept, start=1)]
    for entry in left_out:
        numbered.append((entry, 0 if is_background(entry.name) else IGNORE_LABEL))
    for entry, value in numbered:
        if entry.colour in values and values[entry.colour] != value:
            raise InputError(
                f"{entry.where}: '{shortened(entry.name)}' has the colour {entry.colour} of "
                "another class; masks could not tell them apart"
            )
        if entry.colour is not None:
            values[entry.colour] = value
    return tuple(values.items())
