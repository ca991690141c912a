"""Names that tags or folders have and that are hardly classes. Where no class list says that they
are, they are asked about.
"""

import re
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path

from tool.errors import InputError
from tool.file.text import shortened
from tool.names import tidy
from tool.run.notes import note
from voc12.label_file.cells import NO_WORDS, answer, are_yes_or_no
from voc12.label_file.tables import NUMBER, SPLITS

CALLED = {  # names that are all of one kind say something else than what a photograph shows
    "years": re.compile(r"(19|20)\d\d", re.ASCII),
    "dates": re.compile(
        r"((19|20)\d\d[-_./]?[01]\d([-_./]?[0-3]\d)?|[0-3]?\d[-_./][0-3]?\d[-_./](19|20)\d\d"
        r"|(19|20)\d\d)([ T_][\d:.-]+)?",
        re.ASCII,
    ),
    "folders of a camera": re.compile(r"[1-9]\d\d[A-Z0-9_]{5}", re.ASCII),
    "sizes": re.compile(r"\d+ ?[x×] ?\d+"),
}
# folders beside those of classes; a train is a vehicle as well
NO_CLASSES = {*SPLITS, "unsorted", "untagged", "dcim"} - {"train"}
OF_DATA_SETS = re.compile(
    r"jpegimages|images|labels|masks|annotations|imagesets|segmentation(class|object).*"
)
FORMULA_ERROR = re.compile(r"#.*[!?]")
NEGATION = re.compile(r"(?:no|not|non|without|kein|keine|ohne|sin|sans)[ _-]+(.*)")
SCORE = re.compile(r".*[^\W\d].*([:=]\s*\d*[.,]?\d+\s*%?|\(\s*(\d*[.,]\d+|\d+([.,]\d+)?\s*%)\s*\))")
SPACE = re.compile(" ")
JOINS = re.compile(r"\s*[+&，、；]\s*|\s+(?:and|und|et|y)\s+")  # 1st parts, beside spaces
SOME = 5  # names that an error repeats
BY_LIST = "give the classes by --classes FILE"


def require_no_answers(source: str | Path, said: Collection[str]) -> None:
    """Raise InputError where all that is said is yes or no."""
    if are_yes_or_no(said):
        raise InputError(
            f"{source} has {', '.join(sorted(said)[:SOME])} for tags: of which class? Call the "
            "column, or the folder of the yes, as the class is called, or give the class names in "
            "the place of yes and no"
        )


def require_plausible(source: str | Path, names: Sequence[str]) -> None:
    """Raise InputError, starting with source, for a name without a letter or digit, an error of a
    formula, a no, a class with a score, several classes in one name, and one class in two
    spellings. Singular and plural are said in a line.
    """
    lower = {name.lower() for name in names}
    for name in names:
        if FORMULA_ERROR.fullmatch(name):
            raise InputError(
                f"{source}: '{shortened(name)}' is an error of a spreadsheet's formula; correct it"
            )
        denied = NEGATION.fullmatch(name.lower())
        if not _has_letters(name) or answer(name) in NO_WORDS or (denied and denied[1] in lower):
            raise InputError(
                f"{source}: is '{shortened(name)}' a class? Where a photograph shows none of them "
                f"write 'none', where nobody looked leave it empty; if it is a class, {BY_LIST}"
            )
        if SCORE.fullmatch(name):
            raise InputError(
                f"{source}: does '{shortened(name)}' have a score behind the class? Take it out, "
                f"and the tags that are not sure; if all of it is a class, {BY_LIST}"
            )
        _require_single(source, name, names)
    _require_one_spelling(source, names)


def _has_letters(name: str) -> bool:
    """Whether a name has a letter, a digit or a picture."""
    kinds = map(unicodedata.category, name)
    return any(kind[0] in "LN" or kind == "So" for kind in kinds)


def _require_single(source: str | Path, name: str, names: Sequence[str]) -> None:
    """Raise InputError where a name is made of others: "cat dog" beside "cat" and "dog"."""
    for between in (SPACE, JOINS):
        parts = between.split(name)
        if len(parts) > 1 and all(part in names for part in parts):
            raise InputError(
                f"{source}: is '{shortened(name)}' one class, or {' and '.join(parts)}? Part tags "
                "by ';', or give the class names by --classes FILE"
            )


def _require_one_spelling(source: str | Path, names: Sequence[str]) -> None:
    known: dict[str, str] = {}
    for name in names:
        key = name if NUMBER.fullmatch(name) else _folded(name)
        other = known.setdefault(key, name)
        if other.casefold() != name.casefold():
            raise InputError(
                f"{source}: are '{shortened(other)}' and '{shortened(name)}' one class? Write one "
                f"of them; if they are two, {BY_LIST}"
            )
    for key, name in known.items():
        if other := known.get(f"{key}s"):
            note(f"{source}: '{name}' and '{other}' are two classes; write one of them for one")


def _folded(name: str) -> str:
    """A name without its capitals, and without _ - . and spaces but between two digits."""
    name = re.sub(r"(?<=\d)[\s_.-]+(?=\d)", " ", tidy(name).casefold())
    return re.sub(r"(?<!\d)[\s_.-]+|[\s_.-]+(?!\d)", "", name)


def require_no_parts(source: str | Path, names: Sequence[str], of_folders: bool = False) -> None:
    """Raise InputError where names are all called as parts of a data set, as years, dates, sizes or
    folders of a camera; of folders also where one is no class for certain.
    """
    called = next(
        (what for what, form in CALLED.items() if names and all(map(form.fullmatch, names))), ""
    )
    # one tag alone may be the train of a railway
    if len(names) > (not of_folders) and all(name.casefold() in SPLITS for name in names):
        called = "parts of a data set"
    said = shortened(", ".join(names))
    if called and of_folders:
        raise InputError(
            f"{source}: are its folders {said} classes? They are called as {called}; give "
            f"the folder that has a folder a class, {Path(source) / names[0]} for one, or a "
            "file of tags by --tags, or the classes by --classes FILE"
        )
    if called:
        raise InputError(
            f"{source}: are its tags {said} classes? They are called as {called}; call the column "
            f"of the tags 'tags', or {BY_LIST}"
        )
    for name in names if of_folders else ():
        if name.casefold() in NO_CLASSES or OF_DATA_SETS.fullmatch(name.casefold()):
            raise InputError(
                f"{source}: is its folder '{shortened(name)}' a class? Give the folder that has a "
                "folder a class, and name those that hold something else by --leave_out; if it is "
                f"a class, {BY_LIST}"
            )
