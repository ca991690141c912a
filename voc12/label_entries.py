"""What a file of image labels says of an image, and which image it means by a name."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from voc12.lists import IMAGE_SUFFIXES


@dataclass(frozen=True)
class Entry:
    """What a file says of an image: where, for messages; key, as the file names it; row, (C,)
    multi-hot; negative, whether it says in words that the image shows no class.
    """

    where: str
    key: str | int
    row: np.ndarray
    negative: bool = False


class Images:
    """Finds the entries of an id by id, file name, path, or number."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.by_name: dict[str, list[tuple[str, Entry]]] = {}
        self.by_number: dict[int, list[Entry]] = {}
        for entry in entries:
            if isinstance(entry.key, int):
                self.by_number.setdefault(entry.key, []).append(entry)
                continue
            whole = without_suffix(entry.key.replace("\\", "/").strip("/ "))
            for name in {whole.rpartition("/")[2], entry.key}:
                self.by_name.setdefault(name, []).append((whole, entry))

    def __getitem__(self, image_id: str) -> list[Entry]:
        found = []
        for whole, entry in self.by_name.get(image_id.rpartition("/")[2], []):
            if entry.key == image_id or f"/{whole}".endswith(f"/{image_id}"):
                found.append(entry)
        for number in numbers_of(image_id) if self.by_number else ():
            found += self.by_number.get(number, [])
        return found


def without_suffix(name: str) -> str:
    path = PurePosixPath(name)
    known = path.suffix.lower() in {suffix.lower() for suffix in IMAGE_SUFFIXES}
    return name.removesuffix(path.suffix) if known else name


def numbers_of(image_id: str) -> set[int]:
    """IRN's number of a VOC id, 2007_000032 -> 2007000032, and COCO's of
    COCO_train2014_000000000009, 9.
    """
    if re.fullmatch(r"\d{4}_\d{6}", image_id, re.ASCII):
        return {int(image_id.replace("_", ""))}
    found = re.fullmatch(r"(?:COCO_(?:train|val|test)\d{4}_)?(\d{1,12})", image_id, re.ASCII)
    return {int(found[1])} if found else set()
