"""What photographs show, by a file of tags or by the folders that they lie in."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from tool.errors import InputError
from tool.file.photographs import PHOTOGRAPH_SUFFIXES, Photograph
from tool.file.text import shortened
from tool.names import name_fault, nfc, tidy
from voc12.class_list import ClassList, class_list_text
from voc12.label_file.classes import is_no_class
from voc12.label_file.entries import Entry, without_suffix
from voc12.label_file.plausible import require_no_answers, require_no_parts, require_plausible
from voc12.label_file.read import label_entries
from voc12.label_file.tables import BY_TABLE, NUMBER, Chosen
from voc12.label_file.tag_names import tag_names
from voc12.named_photographs import Finder, plain_path


def read_tags(
    path: str,
    photographs: Sequence[Photograph],
    copy_of: np.ndarray,
    given: ClassList | None,
    folder: str | Path,
    chosen: Chosen = BY_TABLE,
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """(classes, (N, C) multi-hot, (N,) whether the file says it) of a file of tags; rows of
    photographs that it does not name are zero. copy_of: as in voc12.own_photographs.Own; given:
    --classes; folder: --images; chosen: --image_column and --tag_columns.

    Raises InputError when it names none of the photographs, for a name that may be several of
    them, and for two rows that say different things of one.
    """
    stems = list(dict.fromkeys(photograph.path.stem for photograph in photographs))
    classes = given.names if given else tag_names(path, stems, chosen)
    require_class_names(path, classes)
    entries = label_entries(path, stems, classes, chosen, bool(given and given.counted))
    find = Finder(photographs, copy_of, [entry.key for entry in entries], folder)
    if find.above and find.above[-1].casefold() != find.folder[-1]:
        above = shortened("/".join(find.above))
        print(f"{path}: its paths below '{above}' are taken for those in {folder}")
    said: dict[int, Entry] = {}
    lost = []
    for entry in entries:
        place = find(entry)
        if place is None:
            lost.append(entry)
            continue
        other = said.setdefault(place, entry)
        if not np.array_equal(other.row, entry.row) or (
            other.negative != entry.negative and not entry.row.any()
        ):
            raise InputError(
                f"{other.where} and {entry.where} say different things of {find.paths[place]}; "
                "leave one, with all its tags"
            )
    if not said:
        raise InputError(
            f"{path} names none of the {len(photographs)} photographs, the first of which is "
            f"'{find.paths[0]}'; its first is '{shortened(lost[0].key) if lost else ''}'"
        )
    if lost:
        names = ", ".join(shortened(entry.key) for entry in lost[:3])
        print(f"{path}: {len(lost)} of its photographs are not in the folder, e.g. {names}")
    _say_how_found(path, {place: str(entry.key) for place, entry in said.items()}, find.paths)
    labels = np.zeros((len(photographs), len(classes)), dtype=np.float32)
    labelled = np.zeros(len(photographs), dtype=bool)
    for place, entry in said.items():
        labels[place] = entry.row
        labelled[place] = entry.row.any() or entry.negative
    return classes, labels, labelled


def _say_how_found(path: str, names: dict[int, str], paths: Sequence[str]) -> None:
    """Say which photographs were found by less than a file says elsewhere: by a name alone where
    others are paths, and under another suffix. names: place in paths -> what the file says.
    """
    keys = {place: plain_path(name) for place, name in names.items()}
    suffixes = {place: PurePosixPath(key).suffix.lower() for place, key in keys.items()}
    by_name = [place for place, key in keys.items() if "/" not in key and "/" in paths[place]]
    plain = {place: without_suffix(key) for place, key in keys.items()}
    by_path = any("/" in key and key == without_suffix(paths[p]) for p, key in plain.items())
    other = [
        place
        for place, suffix in suffixes.items()
        if suffix in PHOTOGRAPH_SUFFIXES and not paths[place].lower().endswith(suffix)
    ]
    by_less = {"name alone": by_name if by_path else [], "name before the suffix": other}
    for what, places in by_less.items():
        if places:
            print(
                f"{path}: {len(places)} photographs are found by their {what}, e.g. "
                f"{paths[places[0]]} by '{shortened(keys[places[0]])}'"
            )


def require_class_names(source: str, classes: Sequence[str]) -> None:
    """Raise InputError where there are no classes, one cannot be part of a file's name, two differ
    by capitals alone, or a class list would not give them back.
    """
    if not classes:
        raise InputError(f"{source} has no tags; nothing can be learnt without")
    known: dict[str, str] = {}
    for name in classes:
        if fault := name_fault(name):
            raise InputError(f"{source}: tag '{shortened(name)}' cannot be a class: it {fault}")
        other = known.setdefault(nfc(name).casefold(), name)
        if other != name:
            raise InputError(
                f"{source}: tags '{other}' and '{name}' differ by capitals alone; write one of them"
            )
    class_list_text(classes, source)


def tags_of_folders(
    root: Path, photographs: Sequence[Photograph], given: ClassList | None
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """(classes, (N, C) multi-hot, (N,) whether a folder says it) of subfolders a class. Raises
    InputError without subfolders, and where they are parts of a data set.
    """
    first = [photograph.relative.parts[:1] for photograph in photographs]
    names = sorted({tidy(parts[0]) for parts in first if parts})
    classes = given.names if given else tuple(name for name in names if not is_no_class(name))
    if given is None:
        require_no_parts(root, names, of_folders=True)
        if not all(map(NUMBER.fullmatch, names)):
            require_no_answers(root, names)
            require_plausible(root, classes)
    if not classes:
        raise InputError(
            f"--images {root} has no subfolder of a class, and no --tags says what the photographs "
            "show; give a file of tags, or put the photographs into a subfolder a class"
        )
    require_class_names(str(root), classes)
    index = {tidy(name).casefold(): c for c, name in enumerate(classes)}
    labels = np.zeros((len(photographs), len(classes)), dtype=np.float32)
    labelled = np.zeros(len(photographs), dtype=bool)
    for row, (parts, photograph) in enumerate(zip(first, photographs, strict=True)):
        if not parts:  # beside the folders of classes
            continue
        name = tidy(parts[0]).casefold()
        labelled[row] = True
        if name in index:
            labels[row, index[name]] = 1
        elif not is_no_class(parts[0]):
            raise InputError(
                f"{photograph.path}: its folder '{parts[0]}' is not in --classes; add it there, or "
                "call the folder 'background' if its photographs show no class"
            )
    return classes, labels, labelled


def join_copies(
    photographs: Sequence[Photograph],
    copy_of: np.ndarray,
    labels: np.ndarray,
    labelled: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """(labels, labelled) in which copies of one photograph show all that any of them shows; says so
    in a line where there are copies. copy_of: (N,) as in Own.

    Raises InputError where one is said to show no class and another a class.
    """
    copies = np.flatnonzero(copy_of != np.arange(len(copy_of)))
    if not len(copies):
        return labels, labelled
    labels, labelled, before = labels.copy(), labelled.copy(), (labels, labelled)
    for first in np.unique(copy_of[copies]):
        places = np.flatnonzero(copy_of == first)
        said = places[before[1][places]]
        shows = before[0][said].any(axis=1)
        if shows.any() and not shows.all():
            some, none = photographs[said[shows][0]].path, photographs[said[~shows][0]].path
            raise InputError(
                f"{none} is said to show no class, and its copy {some} to show one; leave one of "
                "them, or say the same of both"
            )
        labels[places] = before[0][places].max(axis=0)
        labelled[places] = before[1][places].any()
    changed = (labels != before[0]).any(axis=1) | (labelled != before[1])
    print(
        f"{len(copies)} photographs are copies of others, e.g. {photographs[copies[0]].path} of "
        f"{photographs[copy_of[copies[0]]].path}: each shows all that any of its copies shows "
        f"({int(changed.sum())} gain tags), and none is held out where another trains"
    )
    return labels, labelled
