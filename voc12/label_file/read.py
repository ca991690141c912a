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
known as well. Class numbers count as those of the class list, where it has numbers or begins with
the background: 0 is no class then. Else they count from 0 where one is 0, from 1 where one is C;
where neither occurs, FILE:0 and FILE:1 say it. An image may stand in a file twice where both say
the same.
"""

import filecmp
import json
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from tool.errors import InputError
from tool.file.folders import files_below, is_of_system
from tool.file.require import require_file
from tool.file.safe_pickle import load_pickled_npy
from tool.file.text import read_text, shortened
from tool.run.notes import note
from voc12.constants import DATA_HELP
from voc12.label_file.cells import (
    are_class_numbers,
    class_number,
    json_value,
    listed,
    names_of,
    number_parts,
    plain_value,
    split_tags,
)
from voc12.label_file.classes import FILE_HELP, HINT, Reading
from voc12.label_file.entries import Entry, Images, is_file_name
from voc12.label_file.tables import (
    BY_TABLE,
    STRONG,
    TAG_NAMES,
    WEAK,
    Chosen,
    heading_word,
    require_no_denial,
    tag_word,
)
from voc12.label_file.text import from_text
from voc12.lists import IMAGE_SUFFIXES


def labels_from_file(
    source: str, ids: Sequence[str], classes: Sequence[str], counted: bool = False
) -> np.ndarray:
    """The labels (len(ids), C) float32 of ids in the file or folder that source names, FILE:0 or
    FILE:1 saying from where class numbers count.

    counted: whether the class list has its classes at 1, 2, ... (voc12.class_list.ClassList)

    Raises InputError, one line, for images without a label, those of which it says two things,
    unknown classes, and content that has two readings.
    """
    path = split_base(source)[0]
    return _pick(label_entries(source, ids, classes, counted=counted), ids, path, len(classes))


def label_entries(
    source: str,
    ids: Sequence[str],
    classes: Sequence[str],
    chosen: Chosen = BY_TABLE,
    counted: bool = False,
) -> list[Entry]:
    """All that the file or folder of labels_from_file says, whichever images it names.

    ids: some names of images that a table is to be recognised by; chosen: columns of a table, or
    fields of the objects in a .json list, that the user names; counted: as in labels_from_file
    """
    path, base = split_base(source)
    reading = Reading(path, tuple(classes), base, counted)
    require_columns(path, chosen)
    if path.is_dir():
        return _from_folders(path, reading)
    require_file(path, "image labels", FILE_HELP)
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return _from_table(npy_items(path), reading)
    if suffix == ".json":
        return _from_table(json_items(path, chosen), reading)
    return from_text(reading, ids, chosen)


def require_columns(path: Path, chosen: Chosen) -> None:
    """Raise InputError where columns are chosen of what has none: a folder, or a pickled dict."""
    if chosen.any and (path.is_dir() or path.suffix.lower() == ".npy"):
        raise InputError(f"--image_column and --tag_columns are for tables; {path} is none")


def split_base(source: str | Path) -> tuple[Path, int | None]:
    """(path, 0 or 1) of "tags.csv:0", (path, None) of "tags.csv"."""
    found = re.fullmatch(r"(.+):([01])", str(source))
    if found and not Path(source).exists():
        return Path(found[1]), int(found[2])
    return Path(source), None


# ============ images ============
def _pick(entries: Sequence[Entry], ids: Sequence[str], path: Path, count: int) -> np.ndarray:
    images = Images(entries, ids)
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


# ============ dicts ============
def npy_items(path: Path) -> list[tuple[str | int, Any]]:
    """(key, value) of the dict in a pickled .npy."""
    table = load_pickled_npy(path)
    if not isinstance(table, dict):
        raise InputError(
            f"{path} holds a {type(table).__name__}; image labels are a dict from id to multi-hot "
            "vector, class names or class numbers"
        )
    return [(key, plain_value(value)) for key, value in table.items()]


def json_items(path: Path, chosen: Chosen = BY_TABLE) -> list[tuple[str | int, Any]]:
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
        found = [
            _record(path, number, item, chosen) for number, item in enumerate(content, start=1)
        ]
        _require_no_denials(path, content, [repr(value) for _, value in found], chosen)
        return found
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no labels: an object or a list of objects is needed")
    if chosen.any:
        raise InputError(f"--image_column and --tag_columns are for tables; {path} is none")
    return [(key, json_value(value)) for key, value in content.items()]


class _Twice(Exception):
    """A key of a JSON object that stands there with two values."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        other = found.setdefault(key, value)
        if other is not value and other != value:  # NaN is not equal to itself
            raise _Twice(key)
    return found


def _record(path: Path, number: int, item: Any, chosen: Chosen) -> tuple[str | int, Any]:
    where = f"{path} entry {number}"
    pairs = item.items() if type(item) is dict else ()
    fields = {heading_word(str(key)): value for key, value in pairs}
    key = _record_key(fields, where, chosen)
    words = [heading_word(name) for name in chosen.tags] or [w for w in fields if tag_word(w)]
    values = [json_value(fields[word]) for word in words if word in fields]
    if not isinstance(key, str | int) or not values:
        raise InputError(
            f"{where}: no object with an image (image, filename, file, ...) and its labels "
            "(labels, label, tags, ...)"
        )
    plain = [word for word in words if word in TAG_NAMES]
    if not chosen.tags and (len(plain) > 1 or len({tag_word(word) for word in words}) > 1):
        raise InputError(
            f"{where}: which of {', '.join(words)} has the tags? Call it 'tags', and take the "
            f"others out{chosen.or_by('--tag_columns')}"
        )
    if len(values) == 1:
        return key, values[0]
    return key, [name for value in values for name in _names_in(value, where)]


def _require_no_denials(
    path: Path, items: Sequence[dict[str, Any]], tags: Sequence[str], chosen: Chosen
) -> None:
    """Raise InputError where a field of objects that is not read says no of some labels."""
    said: dict[str, list[tuple[str, str]]] = {}
    for item, labels in zip(items, tags, strict=True):
        for name, value in item.items():
            if isinstance(value, str | int | float) and not tag_word(heading_word(name)):
                said.setdefault(name, []).append((labels, str(value)))
    for name, rows in said.items() if not chosen.tags else ():
        require_no_denial(str(path), heading_word(name), name, rows, chosen)


def _record_key(fields: dict[str, Any], where: str, chosen: Chosen) -> Any:
    """The image of an object. Raises InputError where two fields may be it."""
    if chosen.image is not None:
        return fields.get(heading_word(chosen.image))
    strong = [word for word in fields if word in STRONG]
    found = strong or [word for word in fields if word in WEAK]
    others = [
        word
        for word, value in fields.items()
        if isinstance(value, str) and is_file_name(value) and not tag_word(word)
    ]
    rivals = found if strong else [*found[:1], *(word for word in others if word not in found)]
    if not rivals:
        return None
    stems = {PurePosixPath(str(fields[word]).replace("\\", "/")).stem for word in rivals}
    if len(stems) > 1:
        raise InputError(
            f"{where}: which of {', '.join(rivals)} names the photograph? Call it 'image', and "
            f"take the others out{chosen.or_by('--image_column')}"
        )
    return fields[rivals[0]]


def _names_in(value: Any, where: str) -> list[str]:
    """The names of a value of tags."""
    if isinstance(value, str):
        return listed(value, where) or split_tags(value)
    names = list(value) if isinstance(value, list | tuple) else names_of(value)
    if names is None or not all(isinstance(name, str) for name in names):
        raise InputError(f"{where}: '{shortened(value)}' is no list of class names")
    return names


def _from_table(items: Sequence[tuple[str | int, Any]], reading: Reading) -> list[Entry]:
    """Entries of key -> multi-hot vector, names or numbers; one kind a file."""
    texts, vectors = [], []
    for key, value in items:
        where = f"{reading.path}: the label of {shortened(key)}"
        if not isinstance(key, str | int):
            raise InputError(
                f"{where}: a key must be an image's name; it is a {type(key).__name__}"
            )
        value = _as_text(value, where, reading)
        if isinstance(value, str) or (
            isinstance(value, list | tuple) and any(isinstance(part, str) for part in value)
        ):
            texts.append((where, key, value))
        else:
            vectors.append((where, key, _vector(value, where)))
    if numbers := _numbers_in_texts(texts, reading):
        return _from_vectors(vectors + numbers, reading)
    named = []
    for where, key, value in texts:
        if isinstance(value, str):
            named.append(reading.of_field(where, key, value))
        else:
            names = [part if isinstance(part, str) else repr(part) for part in value]
            row = reading.of_names(names, where)
            named.append(Entry(where, key, row, reading.says_none(names)))
    return named + _from_vectors(vectors, reading)


def _as_text(value: Any, where: str, reading: Reading) -> Any:
    """A value, of one that holds a list in another form its names."""
    if isinstance(value, str) and reading.find(value) is None:
        names = listed(value, where)
        return value if names is None else names
    names = names_of(value)
    return value if names is None else names


def _numbers_in_texts(
    texts: Sequence[tuple[str, str | int, Any]], reading: Reading
) -> list[tuple[str, str | int, np.ndarray]]:
    """Texts that are class numbers, "1" or ["1", "2"], as vectors; [] where they are others."""
    rows = [
        number_parts(value) if isinstance(value, str) else [str(part) for part in value]
        for _, _, value in texts
    ]
    if not are_class_numbers({part for row in rows for part in row}, reading.classes):
        return []
    return [
        (where, key, np.array([class_number(part) for part in row], dtype=np.int64))
        for (where, key, _), row in zip(texts, rows, strict=True)
    ]


def _vector(value: Any, where: str) -> np.ndarray:
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError):
        array = np.array(None)
    if array.size == 0:
        array = np.zeros(0, dtype=np.int64)
    if not isinstance(value, np.ndarray) and array.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            whole = array.astype(np.int64)
        array = whole if np.array_equal(whole, array) else array  # JSON's 1.0 is a class number
    if array.dtype.kind not in "biuf" or array.ndim > 2 or (array.ndim == 2 and len(array) > 1):
        raise InputError(
            f"{where} has shape {array.shape} and type {array.dtype}; give a multi-hot vector, "
            "class names or class numbers"
        )
    return array.reshape(-1)


def _from_vectors(
    items: Sequence[tuple[str, str | int, np.ndarray]], reading: Reading
) -> list[Entry]:
    count = len(reading.classes)
    whole = [(w, k, v) for w, k, v in items if v.size]
    as_numbers = (reading.base is not None or any(v.size != count for _, _, v in whole)) and all(
        v.dtype.kind in "iu" and len(np.unique(v)) == v.size and np.isin(v, range(count + 1)).all()
        for _, _, v in whole
    )
    if as_numbers:
        numbers = [(w, k, [int(n) for n in v]) for w, k, v in items]
        entries = reading.of_numbers(numbers)
        if said := reading.numbers_said({number for _, _, row in numbers for number in row}):
            note(f"{reading.path}: {said}")
        return entries
    entries = []
    for where, key, vector in items:
        row = vector if vector.size else np.zeros(count)
        if row.shape != (count,):
            raise InputError(f"{where} has shape {row.shape}, the class list has {count} names")
        if not np.isin(row, (0, 1)).all():
            raise InputError(f"{where} has values other than 0 and 1: {shortened(row.tolist())}")
        negative = bool(vector.size) and not row.any()
        entries.append(Entry(where, key, row.astype(np.float32), negative))
    return entries


# ============ folders ============
def class_folders(root: Path) -> list[Path]:
    """The subfolders a class, sorted; not hidden ones and those that a system makes, which are
    said in a line.
    """
    folders = sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")
    for path in folders:
        if is_of_system(path.name):
            note(f"{root}: folder {path.name} of a system is left out")
    return [path for path in folders if not is_of_system(path.name)]


def _from_folders(root: Path, reading: Reading) -> list[Entry]:
    """Entries of root/<class>/<image>: an image shows the classes of all folders that hold it."""
    folders = class_folders(root)
    if not folders:
        raise InputError(f"{root} has no subfolder of a class; {FILE_HELP}")
    suffixes = {suffix.lower() for suffix in IMAGE_SUFFIXES}
    found: dict[str, tuple[Path, np.ndarray]] = {}
    negative = set()
    for folder in folders:
        row = reading.of_names([folder.name], str(folder))
        below = files_below(folder)
        for words in below.left_out():
            note(f"{folder}: {words}")
        for path in below.files:
            if path.suffix.lower() not in suffixes:
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
