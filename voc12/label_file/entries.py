"""What a file of image labels says of an image, and which image it means by a name."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from tool.file.photographs import PHOTOGRAPH_SUFFIXES
from tool.names import nfc

COCO_NUMBER = re.compile(r"0\d{11}", re.ASCII)


@dataclass(frozen=True)
class Entry:
    """What a file says of an image: where, for messages; key, as the file names it; row, (C,)
    multi-hot; negative, whether it says that the image shows no class: in words, by a no to all of
    them, or by the background's number.
    """

    where: str
    key: str | int
    row: np.ndarray
    negative: bool = False


def key_of(text: str) -> str | int:
    """The key of an Entry: a number where text is one without zeros before, which belong to names:
    007 is not 7.
    """
    return int(text) if re.fullmatch(r"0|[1-9]\d{0,11}", text, re.ASCII) else text


class Images:
    """Finds the entries of an id by id, file name, path, or number.

    ids: of all images; one that is a number has the entry of this number for itself
    """

    def __init__(self, entries: Iterable[Entry], ids: Sequence[str] = ()) -> None:
        self.by_name: dict[str, list[tuple[str, Entry]]] = {}
        self.by_number: dict[int, list[Entry]] = {}
        self.plain = {int(name) for name in ids if isinstance(key_of(name), int)}
        for entry in entries:
            if isinstance(entry.key, int):
                self.by_number.setdefault(entry.key, []).append(entry)
                continue
            if COCO_NUMBER.fullmatch(entry.key):
                self.by_number.setdefault(int(entry.key), []).append(entry)
            whole = without_suffix(nfc(entry.key).replace("\\", "/").strip("/ "))
            for name in {whole.rpartition("/")[2], nfc(entry.key)}:
                self.by_name.setdefault(name, []).append((whole, entry))

    def __getitem__(self, image_id: str) -> list[Entry]:
        found = []
        name = nfc(image_id)
        for whole, entry in self.by_name.get(name.rpartition("/")[2], []):
            if nfc(entry.key) == name or f"/{whole}".endswith(f"/{name}"):
                found.append(entry)
        for number in numbers_of(image_id) if self.by_number else ():
            if str(number) == image_id or number not in self.plain:
                found += self.by_number.get(number, [])
        return found


class Known:
    """Recognises images in the cells of a table: the id that a cell names by an id, a file name or
    a path, whatever its capitals and its spelling of Unicode, or by number; None for another cell.
    """

    def __init__(self, ids: Sequence[str]) -> None:
        self.ids = ids
        self.names = {_folded(name.rpartition("/")[2]): name for name in reversed(ids)}
        self.numbers = {number: name for name in reversed(ids) for number in numbers_of(name)}
        self.cells: dict[str, str | None] = {}

    def __call__(self, cell: str) -> str | None:
        """The id that cell names."""
        if cell not in self.cells:
            self.cells[cell] = self._find(cell)
        return self.cells[cell]

    def _find(self, cell: str) -> str | None:
        name = _folded(cell.replace("\\", "/").strip("/ ").rpartition("/")[2])
        for form in (name, without_suffix(name)):
            if form in self.names:
                return self.names[form]
        if isinstance(key_of(cell), int) or COCO_NUMBER.fullmatch(cell):
            return self.numbers.get(int(cell))
        return None


def is_file_name(cell: str) -> bool:
    """Whether a cell ends as a photograph's file does."""
    return PurePosixPath(cell).suffix.lower() in PHOTOGRAPH_SUFFIXES


def _folded(name: str) -> str:
    return nfc(name).casefold()


def without_suffix(name: str) -> str:
    """A name without the suffix of an image's file, if it has one."""
    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in PHOTOGRAPH_SUFFIXES else name


def numbers_of(image_id: str) -> set[int]:
    """IRN's number of a VOC id, 2007_000032 -> 2007000032, and COCO's of
    COCO_train2014_000000000009, 9.
    """
    if re.fullmatch(r"\d{4}_\d{6}", image_id, re.ASCII):
        return {int(image_id.replace("_", ""))}
    found = re.fullmatch(r"(?:COCO_(?:train|val|test)\d{4}_)?(\d{1,12})", image_id, re.ASCII)
    return {int(found[1])} if found else set()
