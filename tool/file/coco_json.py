"""Reading COCO's instances JSON, as COCO itself, CVAT, Label Studio, Roboflow and others write it.

The file is walked item by item, so that memory is the text's own size and some 50 bytes an
annotation, 100 while it is read: annotations are kept as the places where they stand, and are
parsed again where they are drawn. (pycocotools' own COCO class holds all of them as Python objects,
and checks none.)
"""

import json
import unicodedata
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tool.errors import InputError
from tool.file.digests import file_digest
from tool.file.require import require_file
from tool.names import JOINERS

UNIT = 1.01  # up to which coordinates are shares of a side, a little overshot
# what a segmentation is: none, run-lengths or undecided, polygons in pixels, in shares of the sides
BOX, OTHER, PIXELS, SHARES = range(4)
CROWDS = {"0": False, "false": False, "1": True, "true": True}
HINT = "an instances JSON of COCO has images, annotations and categories"
SPACE = " \t\n\r"
# Categories of Unicode that no name has: control and format characters, halves of others, ends of
# lines. Spaces of all kinds are ordinary: macOS writes U+202F into the names of screenshots.
NAMELESS = ("Cc", "Cf", "Cs", "Zl", "Zp")


@dataclass(frozen=True)
class CocoImage:
    """A photograph of the file; size: (H, W), None where the file does not say."""

    id: str
    file_name: str
    size: tuple[int, int] | None


@dataclass(frozen=True)
class CocoCategory:
    """A class of the file; supercategory: "" where the file does not say."""

    id: str
    name: str
    supercategory: str


@dataclass(frozen=True, eq=False)
class CocoJson:
    """What an instances JSON holds.

    info:     its description of itself, {} where there is none
    image, category: (n,) int64, of every annotation the places in images and categories
    drawn:    (n,) bool, whether the annotation has a segmentation, not a box alone
    number:   (n,) int64, place of the annotation in the file, from 0
    spans:    (n, 2) int64, where it stands in text
    The annotations are sorted by image, those of one image as in the file.
    """

    path: Path
    digest: str
    info: dict[str, Any]
    images: list[CocoImage]
    categories: list[CocoCategory]
    image: np.ndarray
    category: np.ndarray
    drawn: np.ndarray
    number: np.ndarray
    spans: np.ndarray
    text: str

    def annotations(self, first: int, last: int) -> list[tuple[int, int, str]]:
        """(place in categories, number, JSON text) of the annotations first..last - 1."""
        return [
            (int(self.category[i]), int(self.number[i]), self.text[slice(*self.spans[i])])
            for i in range(first, last)
        ]


def read_coco(path: str | Path) -> CocoJson:
    """The instances JSON at path. Raises InputError, naming the file and the item, for what is no
    JSON, NaN and infinity, missing keys, ids given twice, annotations of unknown images or
    categories, and polygons that are all in shares of the sides. What else is wrong with
    segmentations parse_annotation and tool/file/segmentation.py see.
    """
    path = require_file(path, "instances JSON", "check --instances")
    text = _read_text(path)
    info: Any = {}
    raw: dict[str, list] = {"images": [], "categories": []}
    found: set[str] = set()
    columns = array("q")  # five numbers an annotation: its ids' places in these, drawn, start, end
    image_ids: dict[str, int] = {}
    category_ids: dict[str, int] = {}
    scanner = _Scanner(text, path)
    for key in scanner.members():
        if key in ("images", "categories", "annotations"):
            if key in found:
                raise InputError(f"{path} has '{key}' twice; {HINT}")
            found.add(key)
        if key == "images":
            raw[key] = [_image(item, n, path) for n, (item, *_) in enumerate(scanner.items(key))]
        elif key == "categories":
            raw[key] = [_category(item, n, path) for n, (item, *_) in enumerate(scanner.items(key))]
        elif key == "annotations":
            for number, (item, start, end) in enumerate(scanner.items(key)):
                image, category, drawn = _references(item, number, path)
                image = image_ids.setdefault(image, len(image_ids))
                category = category_ids.setdefault(category, len(category_ids))
                columns.extend((image, category, drawn, start, end))
        elif key == "info":
            info = scanner.value()
        else:
            scanner.skip()
    for key in ("images", "annotations", "categories"):
        if key not in found:
            raise InputError(f"{path} has no '{key}'; {HINT}")
    images, categories = raw["images"], raw["categories"]
    image_place = _places(images, "image", path)
    category_place = _places(categories, "category", path)
    if not images:
        raise InputError(f"{path} has no image; {HINT}")
    arrays = np.array(columns, dtype=np.int64).reshape(-1, 5)
    del columns
    unknown = []  # (annotation, which of its ids, the id)
    for column, (ids, places) in enumerate(
        ((image_ids, image_place), (category_ids, category_place))
    ):
        names = list(ids)
        place = np.array([places.get(name, -1) for name in names], dtype=np.int64)
        found = place[arrays[:, column]]
        if (found < 0).any():
            number = int((found < 0).argmax())
            unknown.append((number, column, names[arrays[number, column]]))
        arrays[:, column] = found
    if unknown:
        number, column, name = min(unknown)
        raise InputError(
            f"{path}: annotation {number + 1} is of {('image', 'category')[column]} {name}, which "
            "the file does not have; is it whole?"
        )
    if (arrays[:, 2] == SHARES).any() and not (arrays[:, 2] == PIXELS).any():
        raise InputError(
            f"{path}: all coordinates of its polygons are between 0 and 1, shares of the sides; "
            "COCO's are pixels: multiply x by the width and y by the height of the image"
        )
    order = np.argsort(arrays[:, 0], kind="stable")
    arrays = arrays[order]
    return CocoJson(
        path,
        file_digest(path),
        info if isinstance(info, dict) else {},
        images,
        categories,
        arrays[:, 0],
        arrays[:, 1],
        arrays[:, 2] != BOX,
        order,
        arrays[:, 3:],
        text,
    )


def parse_annotation(text: str) -> dict[str, Any]:
    """The object of an annotation's text. Raises InputError as read_coco does."""
    return _Scanner(text, "annotation").value()


def is_crowd(annotation: dict[str, Any]) -> bool:
    """Whether an annotation is of a crowd. Raises InputError where it does not say 0 or 1."""
    value = annotation.get("iscrowd")
    if value is None:
        return False
    word = str(int(value) if value in (0, 1) else value).strip().lower()
    if word not in CROWDS:
        raise InputError(f"its 'iscrowd' is {_short(value)}; give 0 or 1")
    return CROWDS[word]


# ============ the text ============
def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no JSON: byte {error.start} is not UTF-8; {HINT}") from None


def _refuse_constant(word: str) -> None:
    raise InputError(f"{word} is no number of JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


class _Scanner:
    """Walks a JSON object's text; every error names the file and the place."""

    def __init__(self, text: str, path: Path | str) -> None:
        self._text, self._path, self._place = text, path, 0

    def members(self) -> Iterator[str]:
        """The keys of the outermost object; the caller takes each value before it goes on."""
        if self._next() != "{":
            kind = "a list" if self._next() == "[" else "no object"
            raise InputError(f"{self._path} holds {kind}; {HINT}")
        self._place += 1
        if self._next() == "}":
            self._place += 1
        else:
            while True:
                key = self.value()
                if not isinstance(key, str):
                    self._fail("a key is no text")
                self._take(":")
                self._next()
                yield key
                if self._take(",}") == "}":
                    break
        if self._next():
            self._fail("there is text after the end")

    def items(self, key: str) -> Iterator[tuple[dict, int, int]]:
        """(object, start, end) of every item of a list of objects."""
        if self._next() != "[":
            raise InputError(f"{self._path}: '{key}' is no list; {HINT}")
        for number, (item, start, end) in enumerate(self._elements()):
            if not isinstance(item, dict):
                raise InputError(f"{self._path}: item {number + 1} of '{key}' is no object; {HINT}")
            yield item, start, end

    def skip(self) -> None:
        """Go past a value without keeping it."""
        if self._next() == "[":
            for _ in self._elements():
                pass
        else:
            self.value()

    def value(self) -> Any:
        """The value here, whole."""
        self._next()
        try:
            value, self._place = _DECODER.raw_decode(self._text, self._place)
        except InputError as error:
            self._fail(str(error))
        except json.JSONDecodeError as error:
            self._place = error.pos
            self._fail(error.msg)
        except RecursionError:
            self._fail("it is nested too deep")
        except ValueError:  # Python's limit
            self._fail("a number has too many digits")
        return value

    def _elements(self) -> Iterator[tuple[Any, int, int]]:
        self._take("[")
        if self._next() == "]":
            self._place += 1
            return
        while True:
            self._next()
            start = self._place
            value = self.value()
            yield value, start, self._place
            if self._take(",]") == "]":
                return

    def _next(self) -> str:
        """The next character that is no space, "" at the end."""
        text, place = self._text, self._place
        while place < len(text) and text[place] in SPACE:
            place += 1
        self._place = place
        return text[place : place + 1]

    def _take(self, wanted: str) -> str:
        found = self._next()
        if not found or found not in wanted:
            expected = " or ".join(f"'{char}'" for char in wanted)
            self._fail(f"{expected} expected, {f'{found!r} found' if found else 'the file ends'}")
        self._place += 1
        return found

    def _fail(self, why: str) -> None:
        raise InputError(f"{self._path} is no JSON: {why}, at character {self._place + 1}; {HINT}")


# ============ the items ============
def _id(item: dict, key: str, where: str) -> str:
    """An id as text: whole numbers, also as text or as 3.0."""
    if key not in item:
        raise InputError(f"{where} has no '{key}'; {HINT}")
    value = item[key]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | str) or str(value).strip() == "":
        raise InputError(f"{where}: '{key}' is {_short(value)}; an id is a whole number or a text")
    return str(value).strip()


def _short(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _name(item: dict, key: str, where: str) -> str:
    value = item.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where} has no '{key}'; {HINT}")
    for place, character in enumerate(value):
        if unicodedata.category(character) in NAMELESS and character not in JOINERS:
            near = _short(value[max(place - 12, 0) : place + 12])
            raise InputError(
                f"{where}: '{key}' has the character U+{ord(character):04X}, which cannot be "
                f"printed, in {near}; take it out"
            )
    return value.strip(" ")  # other spaces may be part of a file's name


def _image(item: dict, number: int, path: Path) -> CocoImage:
    where = f"{path}: image {number + 1}"
    key = _id(item, "id", where)
    where = f"{where} (id {key})"
    sides = [item.get("height"), item.get("width")]
    size = None
    if sides != [None, None]:
        if not all(
            isinstance(side, int | float) and side == side // 1 and side >= 1 for side in sides
        ):
            raise InputError(f"{where}: height and width are {_short(sides)}; give whole pixels")
        size = (int(sides[0]), int(sides[1]))
    return CocoImage(key, _name(item, "file_name", where), size)


def _category(item: dict, number: int, path: Path) -> CocoCategory:
    where = f"{path}: category {number + 1}"
    key = _id(item, "id", where)
    above = item.get("supercategory")
    return CocoCategory(
        key,
        _name(item, "name", f"{where} (id {key})"),
        above.strip() if isinstance(above, str) else "",
    )


def _references(item: dict, number: int, path: Path) -> tuple[str, str, int]:
    where = f"{path}: annotation {number + 1}"
    return (
        _id(item, "image_id", where),
        _id(item, "category_id", where),
        _drawn(item.get("segmentation")),
    )


def _drawn(segmentation: Any) -> int:
    """BOX for no segmentation, SHARES for polygons within 0..1, PIXELS for those beyond, OTHER for
    run-lengths, points, lines and what may be either: corners of the first pixel.
    """
    if not segmentation or segmentation == [[]]:
        return BOX
    if not isinstance(segmentation, list):
        return OTHER
    polygons = segmentation if isinstance(segmentation[0], list) else [segmentation]
    polygons = [one for one in polygons if isinstance(one, list) and len(one) >= 6]
    if not polygons:
        return OTHER
    values = [value for one in polygons for value in one]
    if not all(isinstance(value, int | float) and abs(value) <= UNIT for value in values):
        return PIXELS
    return OTHER if all(value in (0, 1) for value in values) else SHARES


def _places(items: list, what: str, path: Path) -> dict[str, int]:
    places: dict[str, int] = {}
    for place, item in enumerate(items):
        if item.id in places:
            raise InputError(
                f"{path}: {what} id {item.id} is given twice, items {places[item.id] + 1} and "
                f"{place + 1}; ids say which one an annotation is of"
            )
        places[item.id] = place
    return places
