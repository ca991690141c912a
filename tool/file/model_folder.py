"""The folder that masks_from_tags.py leaves, read: networks, settings, scores and how sure each
mask is; and the file of corrected tags that its owner adds.
"""

import csv
import filecmp
import io
import json
import math
import os
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tool.choices import REFINEMENTS
from tool.errors import InputError
from tool.file.atomic import atomic_write, hold
from tool.file.require import require_dir, require_file
from tool.file.text import read_text, shortened
from tool.mask_values import BACKGROUND
from tool.names import nfc, require_names

ROAD_FILE, CORRECTIONS, MASKS = "road.json", "corrections.csv", "masks"
HINT = "give the folder that masks_from_tags.py --out has made"
HEAD = ("image", "labels")
BETWEEN_TAGS = ";"
AMBIGUOUS = re.compile(r"[,;|]|^[\[{(]")  # in a name: it would be parted, or read as a list
_writing = threading.Lock()


@dataclass(frozen=True)
class ModelFolder:
    """What road.json says.

    images: folder of the photographs; classes: foreground; classifier, model: files of weights;
    refinement: what refines the classifier's CAM, None as it was trained; scales, long_side: sizes
    at which photographs are computed; threshold: background score of the CAM's masks; min_score:
    class -> probability from which on it counts as seen; masks: photograph, by its path in images
    -> its mask's path in the folder of masks; sureness: photograph -> how sure its mask is, 0..1
    """

    path: Path
    images: Path
    classes: tuple[str, ...]
    classifier: Path
    model: Path
    refinement: str | None
    scales: tuple[float, ...]
    long_side: int | None
    threshold: float
    min_score: Mapping[str, float]
    masks: Mapping[str, str]
    sureness: Mapping[str, float]

    def photograph(self, name: str) -> Path:
        """The file of a photograph by its path in images; InputError for one outside or missing."""
        return self._within(self.images, name)

    def mask(self, name: str) -> Path:
        """The file of its mask; InputError likewise, and where none is known."""
        if name not in self.masks:
            raise InputError(f"{self.path / ROAD_FILE} knows no mask of {shortened(name)}; {HINT}")
        return self._within(self.path / MASKS, self.masks[name])

    def worst_first(self) -> list[str]:
        """The photographs whose masks have a sureness, least sure first."""
        return sorted(self.sureness, key=lambda name: (self.sureness[name], name))

    def name_of(self, path: str | Path) -> str | None:
        """The one photograph of images that has the content of the file at path, called as it is
        where several have; None where none has: a name alone, IMG_1.jpg, says little.
        """
        same = [name for name in {**self.sureness, **self.masks} if self._is_same(name, Path(path))]
        called = [name for name in same if Path(name).name == Path(path).name]
        found = called or same
        return found[0] if len(found) == 1 else None

    def _is_same(self, name: str, path: Path) -> bool:
        try:
            other = self.photograph(name)
            return other.stat().st_size == path.stat().st_size and filecmp.cmp(
                other, path, shallow=False
            )
        except (InputError, OSError):  # gone, or not to be read
            return False

    def namesake(self, name: str) -> str | None:
        """A photograph of images that a file of tags would mean by the bare name of another."""
        stem = _stem(name)
        found = (other for other in {**self.sureness, **self.masks} if _stem(other) == stem)
        return next(found, None)

    @staticmethod
    def _within(folder: Path, name: str) -> Path:
        path = Path(os.path.normpath(folder / name))  # links in it are the owner's
        if not path.is_relative_to(os.path.normpath(folder)):
            raise InputError(f"{name} is not in {folder}")
        return require_file(path, "photograph or mask", "was it moved since masks_from_tags.py?")


def _stem(name: str) -> str:
    return nfc(Path(name).stem).casefold()


def read_model_folder(path: str | Path) -> ModelFolder:
    """The folder at path. Raises InputError, one line, where it is none, or is damaged."""
    folder = require_dir(path, "--model", HINT)
    file = folder / ROAD_FILE
    if not file.is_file():
        raise InputError(f"--model: {folder} has no {ROAD_FILE}; {HINT}")
    try:
        said = json.loads(read_text(file, "road", HINT))
        found = _parsed(folder, said)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f"{file} is damaged ({_reason(error)}); {HINT}") from None
    require_names(found.classes, f"{file}: class")
    return found


def _reason(error: Exception) -> str:
    text = str(error).splitlines()[0][:80] if str(error) else type(error).__name__
    return f"no entry {text}" if isinstance(error, KeyError) else text


def _parsed(folder: Path, said: dict[str, Any]) -> ModelFolder:
    classes = tuple(_filled(said, "classes"))
    long_side = said.get("long_side")
    return ModelFolder(
        folder,
        Path(said["images"]),
        classes,
        folder / str(said["classifier"]),
        folder / str(said["model"]),
        _refinement(said),
        tuple(_number(scale, "scale", 16, low=0.01) for scale in _filled(said, "scales")),
        None if long_side is None else int(_number(long_side, "long_side", 16384, low=1)),
        _number(said["threshold"], "threshold", 1),
        {name: _number(value, "min_score", 1) for name, value in _table(said, "min_score")},
        {name: str(place) for name, place in _table(said, "masks")},
        {name: _number(value, "sureness", 1) for name, value in _table(said, "sureness")},
    )


def _filled(said: dict[str, Any], key: str) -> list[Any]:
    if not isinstance(said[key], list) or not said[key]:
        raise ValueError(f"{key} is no list, or an empty one")
    return said[key]


def _refinement(said: dict[str, Any]) -> str | None:
    found = said.get("refinement")
    if found not in (None, *REFINEMENTS):
        raise ValueError(f"refinement is none of {', '.join(REFINEMENTS)}")
    return found


def _table(said: dict[str, Any], key: str) -> list[tuple[str, Any]]:
    return list((said.get(key) or {}).items())


def read_cut_offs(path: str | Path, classes: Sequence[str]) -> list[float]:
    """The probability from which on each of classes counts as seen, by a road.json or what
    voc12.class_scores --json writes.

    Raises InputError for another file, and for one that does not know a class.
    """
    what = "give road.json of masks_from_tags.py, or --json of voc12.class_scores"
    try:
        said = json.loads(read_text(path, "cut-offs", what))
        known = said.get("min_score")
        if known is None:
            known = {name: its["cut_off"] for name, its in said["classes"].items()}
        found = {name: _number(value, "cut-off", 1) for name, value in known.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} holds no cut-offs of classes ({_reason(error)}); {what}"
        ) from None
    if missing := [name for name in classes if name not in found]:
        raise InputError(f"{path} has no cut-off of {missing[0]}; is it of these weights?")
    return [found[name] for name in classes]


def _number(value: Any, what: str, high: float, low: float = 0) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{what} is no number")
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError(f"{what} {value} is not in {low}..{high}")
    return float(value)


def correct_tags(path: str | Path, image: str, tags: Sequence[str]) -> int:
    """Add the tags of an image to a CSV of image and labels, in the place of what it said of it;
    none are the tag "background", and names with a separator stand in a JSON list. The file is
    there whole, old or new, at any moment, and two writers wait for each other. Returns how many
    images it has.

    Raises InputError for a file that is there and is no such CSV.
    """
    path = Path(path)
    lock = path.with_name(f".{path.name}.lock")
    with _writing, hold(lock, on_wait=lambda: None):  # threads, then processes
        rows = _corrections(path)
        rows[image] = _joined(tags) or BACKGROUND
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([HEAD, *rows.items()])
        with atomic_write(path, "w") as file:
            file.write(text.getvalue())
    return len(rows)


def _joined(tags: Sequence[str]) -> str:
    if any(AMBIGUOUS.search(tag) for tag in tags):
        return json.dumps(list(tags), ensure_ascii=False)
    return BETWEEN_TAGS.join(tags)


def _corrections(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    text = read_text(path, "corrections", "move it away")
    try:
        head, *rows = [tuple(row) for row in csv.reader(io.StringIO(text, newline="")) if row]
        if head == HEAD and all(len(row) == len(HEAD) for row in rows):
            return dict(rows)
    except (ValueError, csv.Error):
        pass
    raise InputError(f"{path} is not a CSV of image,labels, which would be added to; move it away")
