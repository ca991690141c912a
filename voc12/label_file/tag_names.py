"""The names of classes that a file of image labels uses, for photographs that come without a class
list.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tool.errors import InputError
from tool.file.require import require_file
from tool.file.text import shortened
from tool.names import tidy
from tool.run.notes import note
from voc12.label_file.cells import is_missing, listed, names_of, split_tags
from voc12.label_file.classes import FILE_HELP, is_no_class
from voc12.label_file.entries import Known, is_file_name
from voc12.label_file.plausible import require_no_answers, require_no_parts, require_plausible
from voc12.label_file.read import (
    class_folders,
    json_items,
    npy_items,
    require_columns,
    split_base,
)
from voc12.label_file.tables import (
    BY_TABLE,
    NUMBER,
    Chosen,
    Table,
    delimiters_of,
    split_rows,
)
from voc12.label_file.text import table_text

SOME = 5  # class names that an error repeats


def tag_names(
    source: str | Path, stems: Sequence[str], chosen: Chosen = BY_TABLE
) -> tuple[str, ...]:
    """The class names of a file or folder of image labels (voc12/label_file/read.py), sorted; those
    that say that an image shows no class are none.

    stems: names of the photographs without suffix, by which a table is recognised; chosen: columns
    of a table that the user names
    Raises InputError where the classes are numbers, a table does not say in which column its tags
    are, a name looks like several parted by a space, all are yes or no, and for a class that only
    rows without a photograph have, a last row of totals.
    """
    path = split_base(source)[0]
    require_columns(path, chosen)
    if path.is_dir():
        found = [folder.name for folder in class_folders(path)]
        require_no_parts(path, sorted(found), of_folders=True)
    else:
        require_file(path, "--tags", FILE_HELP)
        suffix = path.suffix.lower()
        if suffix in (".npy", ".json"):
            items = npy_items(path) if suffix == ".npy" else json_items(path, chosen)
            found = _of_values(path, [value for _, value in items])
        else:
            found = _of_table(path, stems, chosen)
    said = {tidy(name) for name in found if not is_missing(name)}
    for name in sorted({name for name in found if name and is_missing(name)}):
        note(f"{path}: '{name}' is taken for no tag; where it is a class, give all by --classes")
    names = sorted(name for name in said if not is_no_class(name))
    if names and all(NUMBER.fullmatch(name) for name in names):
        raise InputError(
            f"{path} has numbers for classes ({', '.join(names[:SOME])}, ...); give their names by "
            "--classes FILE"
        )
    require_no_answers(path, said)
    if not path.is_dir():
        require_no_parts(path, names)
    require_plausible(path, names)
    return tuple(names)


def _of_values(path: Path, values: Iterable[Any]) -> list[str]:
    found: list[str] = []
    for value in values:
        names = listed(value, str(path)) if isinstance(value, str) else names_of(value)
        if names is not None:
            found += names
        elif isinstance(value, str):
            found += split_tags(value)
        elif isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
            found += [part.strip() for part in value]
        else:
            raise InputError(
                f"{path} has class numbers or 0 and 1 for classes; give their names by --classes "
                "FILE"
            )
    return found


def _of_table(path: Path, stems: Sequence[str], chosen: Chosen) -> list[str]:
    known = Known(stems)
    delimiters, text = delimiters_of(table_text(path, "--tags"))
    found = [Table(path, split_rows(path, text, one), known, chosen) for one in delimiters]
    table = max(found, key=lambda table: table.images, default=None)
    if table is None or not table.images[0]:
        raise InputError(
            f"{path} names none of the {len(stems)} photographs, e.g. '{stems[0]}'; {FILE_HELP}"
        )
    if table.are_classes(table.columns):
        return [table.heading[n] for n in table.columns if n < len(table.heading)]
    rows = [
        (number, key, [name for tag in tags for name in split_tags(tag)])
        for number, key, tags in table.fields()
    ]
    shown = {name for _, key, names in rows if known(key) or is_file_name(key) for name in names}
    for number, key, names in rows:
        if others := [
            name for name in names if not (name in shown or is_missing(name) or is_no_class(name))
        ]:
            raise InputError(
                f"{path} line {number}: '{shortened(key)}' names no photograph, and no photograph "
                f"has the tag '{shortened(others[0])}'; remove the line, or give the classes by "
                "--classes FILE"
            )
    return [name for _, _, names in rows for name in names]
