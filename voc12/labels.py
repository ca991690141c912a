"""Image labels: for every image, which foreground classes it shows, from any of the places where a data set keeps them.

The field exchanges them as cls_labels.npy, a pickled dict from id to a multi-hot float32 vector. VOC's own source is the XML
annotations; masks say it too, for data sets that have nothing else.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from tool.errors import InputError
from tool.files import atomic_write, require_file
from tool.images import read_mask
from tool.safe_pickle import load_pickled_npy
from voc12.constants import ANNOTATION_DIR, DATA_HELP, IGNORE_LABEL, LABEL_FILE, MASK_DIR

LABEL_SOURCES = ("auto", "npy", "xml", "mask")


def load_labels(voc12_root: str | Path, ids: Sequence[str], classes: Sequence[str], source: str | Path = "auto") -> np.ndarray:
    """The image labels of ids: (len(ids), len(classes)) float32, 1 where the image shows the class.

    source: "npy", <voc12_root>/cls_labels.npy, keys "2007_000032" or IRN's 2007000032; "xml", Annotations/<id>.xml, all objects,
      difficult ones too; "mask", the values of SegmentationClassAug/<id>.png without 255; "auto", the first of these three that
      exists; or the path of a .npy file like cls_labels.npy.
    A row may be all zeros (a mask of background only, an annotation without objects); see require_positive.
    Raises InputError for ids without a label, vectors of another length, values other than 0 and 1, and unknown classes.
    """
    root = Path(voc12_root)
    if str(source) == "auto":
        source = _first_source(root)
    if str(source) == "npy":
        return _labels_from_npy(root / LABEL_FILE, ids, len(classes))
    if str(source) == "xml":
        return _labels_from_xml(root / ANNOTATION_DIR, ids, classes)
    if str(source) == "mask":
        return _labels_from_masks(root, ids, len(classes))
    if not str(source).endswith(".npy"):
        raise InputError(f"label source '{source}' is none of {', '.join(LABEL_SOURCES)} and no path of a .npy file")
    return _labels_from_npy(Path(source), ids, len(classes))


def label_source(voc12_root: str | Path, source: str | Path = "auto") -> str:
    """Where load_labels takes the labels from, for the user to read."""
    return str(_first_source(Path(voc12_root)) if str(source) == "auto" else source)


def require_positive(ids: Sequence[str], labels: np.ndarray) -> None:
    """Raise InputError naming the images whose label has no class: training on them has no CAM to learn from."""
    empty = [name for name, label in zip(ids, labels, strict=True) if not label.any()]
    if empty:
        raise InputError(f"no foreground class in the image label of {_some(empty, ids)}; take them out of the list")


def save_labels(path: str | Path, ids: Sequence[str], labels: np.ndarray) -> None:
    """Write the field's cls_labels.npy: a pickled dict from id (str) to multi-hot float32 vector."""
    table = {name: np.array(label, dtype=np.float32) for name, label in zip(ids, labels, strict=True)}
    with atomic_write(path) as file:
        np.save(file, table, allow_pickle=True)


def _first_source(root: Path) -> str:
    places = {"npy": root / LABEL_FILE, "xml": root / ANNOTATION_DIR, "mask": root / MASK_DIR}
    for source, path in places.items():
        if path.exists():
            return source
    raise InputError(f"no image labels in {root}: none of {', '.join(path.name for path in places.values())} exists; {DATA_HELP}")


def _labels_from_npy(path: Path, ids: Sequence[str], class_count: int) -> np.ndarray:
    table = load_pickled_npy(require_file(path, "image labels", DATA_HELP))
    if not isinstance(table, dict):
        raise InputError(f"{path} holds a {type(table).__name__}; image labels are a dict from id to multi-hot vector")
    keys = {name: name if name in table else _int_key(name) for name in ids}
    _require_all([name for name, key in keys.items() if key not in table], ids, path)
    labels = np.zeros((len(ids), class_count), dtype=np.float32)
    for row, name in zip(labels, ids, strict=True):
        value = np.asarray(table[keys[name]])
        if value.shape != (class_count,):
            raise InputError(f"{path}: the label of {name} has shape {value.shape}, the class list has {class_count} names")
        if not np.isin(value, (0, 1)).all():
            raise InputError(f"{path}: the label of {name} has values other than 0 and 1: {value.tolist()}")
        row[:] = value
    return labels


def _int_key(name: str) -> int | None:
    """IRN's key of a VOC id, 2007_000032 -> 2007000032; None for other ids."""
    return int(name.replace("_", "")) if re.fullmatch(r"\d{4}_\d{6}", name, re.ASCII) else None


def _labels_from_xml(folder: Path, ids: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    paths = [folder / f"{name}.xml" for name in ids]
    _require_all([path.stem for path in paths if not path.is_file()], ids, folder)
    index = {name: c for c, name in enumerate(classes)}
    labels = np.zeros((len(ids), len(classes)), dtype=np.float32)
    for row, path in zip(labels, paths, strict=True):
        for name in _object_names(path):
            if name not in index:
                raise InputError(f"{path}: class '{name}' is not in the class list ({', '.join(classes)})")
            row[index[name]] = 1
    return labels


class _NoDoctype(ElementTree.TreeBuilder):
    """Builds the tree of a document without DOCTYPE, so without entities that could expand to gigabytes or read files."""

    def doctype(self, *declaration: str | None) -> None:
        raise InputError("DOCTYPE declarations are refused")


def _object_names(path: Path) -> list[str]:
    """The class of every object of a VOC annotation; the parts of an object (head, hand, foot) are no objects."""
    try:
        annotation = ElementTree.parse(path, ElementTree.XMLParser(target=_NoDoctype())).getroot()
    except (ElementTree.ParseError, ValueError, LookupError, InputError) as error:
        raise InputError(f"{path} is not a VOC annotation: {error}") from None
    names = [(item.findtext("name") or "").strip() for item in annotation.findall("object")]
    if "" in names:
        raise InputError(f"{path} is not a VOC annotation: object {names.index('') + 1} has no name")
    return names


def _labels_from_masks(root: Path, ids: Sequence[str], class_count: int) -> np.ndarray:
    labels = np.zeros((len(ids), class_count), dtype=np.float32)
    _require_all([name for name in ids if not (root / MASK_DIR / f"{name}.png").is_file()], ids, root / MASK_DIR)
    for row, name in zip(labels, ids, strict=True):
        path = root / MASK_DIR / f"{name}.png"
        present = np.bincount(read_mask(path).ravel(), minlength=IGNORE_LABEL + 1)[:IGNORE_LABEL] > 0
        if present[class_count + 1 :].any():
            value = int(present.nonzero()[0][-1])
            raise InputError(f"{path} has value {value}; {class_count} classes use 0..{class_count}, and 255 is ignored")
        row[:] = present[1 : class_count + 1]
    return labels


def _require_all(missing: Sequence[str], ids: Sequence[str], where: Path) -> None:
    if missing:
        raise InputError(f"{where} has no image label for {_some(missing, ids)}; {DATA_HELP}")


def _some(names: Sequence[str], ids: Sequence[str]) -> str:
    """ "3 of 10 images: a, b, c", with at most ten names."""
    return f"{len(names)} of {len(ids)} images: {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}"
