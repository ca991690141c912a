"""Image labels: for every image, which foreground classes it shows, from any of the places where a
data set keeps them.

The field exchanges them as cls_labels.npy, a pickled dict from id to a multi-hot float32 vector.
VOC's own source is the XML annotations; masks say it too, for data sets that have nothing else.
"""

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from tool.errors import InputError
from tool.file.atomic import atomic_write
from tool.file.require import require_file
from tool.file.text import shortened
from tool.mask_values import IGNORE_LABEL
from tool.names import nfc
from tool.run.notes import note
from voc12.class_list import has_class_list, read_class_list
from voc12.constants import ANNOTATION_DIR, DATA_HELP, LABEL_FILE
from voc12.label_file.classes import FILE_HELP, SUFFIXES
from voc12.label_file.read import labels_from_file, some_of, split_base
from voc12.masks import ground_truth_dir, mask_reader, masks_missing, other_suffix

# What is alone in a smaller share of its images, and whose images correlate more than this with
# another's, is taken for a part of it: riders of VOC's horses are at 0.0 and 0.4.
SELDOM, ENTANGLED = 0.1, 0.25
FEW = 10  # images of a class, under which a training has little to go by
LABEL_SOURCES = ("auto", "npy", "xml", "mask")
OF_OBJECTS = ("object", "box", "bndbox", "polygon")  # what VOC annotations have in an object alone


def load_labels(
    voc12_root: str | Path,
    ids: Sequence[str],
    classes: Sequence[str],
    source: str | Path = "auto",
    mask_values: str | None = None,
) -> np.ndarray:
    """The image labels of ids: (len(ids), len(classes)) float32, 1 where the image shows the class.

    source: "npy", <voc12_root>/cls_labels.npy; "xml", Annotations/<id>.xml, all objects, difficult
      ones too; "mask", the values of the masks without 255; "auto", the first of these three that
      exists; or the path of a file or folder in one of the forms of voc12/label_file/read.py.
    mask_values: how masks are read, as --mask_values has it; None where no such flag is about them
    A row may be all zeros: the image shows no class.
    Raises InputError for ids without a label, vectors of another length, values other than 0 and 1,
    and unknown classes.
    """
    root = Path(voc12_root)
    if str(source) == "auto":
        source = _first_source(root)
    if str(source) == "npy":
        require_file(root / LABEL_FILE, "image labels", DATA_HELP)
        return labels_from_file(str(root / LABEL_FILE), ids, classes, _counted(root, classes))
    if str(source) == "xml":
        return _labels_from_xml(root / ANNOTATION_DIR, ids, classes)
    if str(source) == "mask":
        return _labels_from_masks(root, ids, classes, mask_values)
    path = split_base(source)[0]
    if path.is_dir() and any(path.glob("*.xml")):
        return _labels_from_xml(path, ids, classes)
    if not path.is_dir() and path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"label source '{source}' is none of {', '.join(LABEL_SOURCES)}; {FILE_HELP}"
        )
    return labels_from_file(str(source), ids, classes, _counted(root, classes))


def _counted(root: Path, classes: Sequence[str]) -> bool:
    """Whether classes are of a list in root that has them at 1, 2, ... itself."""
    if not has_class_list(root):
        return False
    found = read_class_list(root)
    return found.counted and found.names == tuple(classes)


def label_source(voc12_root: str | Path, source: str | Path = "auto") -> str:
    """Where load_labels takes the labels from, for the user to read."""
    return str(_first_source(Path(voc12_root)) if str(source) == "auto" else source)


def class_counts(root: str | Path, ids: Sequence[str], classes: Sequence[str]) -> np.ndarray | None:
    """(C,) in how many images the data set's own labels name a class; None where it has none, or
    none that fit, which is said in a line.
    """
    if not ((Path(root) / LABEL_FILE).is_file() or (Path(root) / ANNOTATION_DIR).is_dir()):
        return None
    try:
        return load_labels(root, ids, classes).sum(axis=0).astype(np.int64)
    except InputError as error:
        note(f"note: what the labels name is not counted: {error}")
        return None


def class_table(labels: np.ndarray, classes: Sequence[str]) -> str:
    """Lines that say in how many images (N, C) each class is, and which classes are too rare,
    everywhere, or too seldom without another, to be learnt well.
    """
    shows = labels > 0
    counts = shows.sum(axis=0)
    others = shows[:, counts < len(labels)].sum(axis=1)  # what is everywhere tells nothing
    alone = shows[others == 1].sum(axis=0)
    empty = int((~labels.any(axis=1)).sum())
    rows = [*zip(classes, counts.tolist(), strict=True), ("(no class)", empty)]
    width = max(len(name) for name, _ in rows)
    lines = [f"{'class':{width}}  images"]
    for place, (name, count) in enumerate(rows[: -1 if not empty else None]):
        remark = ""
        if name in classes and count < FEW:
            remark = "  few: expect little of it" if count else "  none: nothing is learnt of it"
        elif name in classes and count == len(labels):
            remark = "  all: nothing tells it from the background"
        elif name in classes and alone[place] < SELDOM * count:
            other, correlation = _shown_with(shows, place)
            if correlation > ENTANGLED:
                remark = f"  alone in {alone[place]}: tags hardly tell it from {classes[other]}"
        lines.append(f"{name:{width}}  {count:6}{remark}")
    return "\n".join(lines)


def _shown_with(shows: np.ndarray, place: int) -> tuple[int, float]:
    """(another class, correlation) that shows most where the class at place shows; shows (N, C)."""
    # a class that is nowhere, or everywhere, has no correlation
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = np.nan_to_num(np.corrcoef(shows, rowvar=False)[place])
    correlation[place] = 0
    return int(correlation.argmax()), float(correlation.max())


def note_labels(ids: Sequence[str], labels: np.ndarray, classes: Sequence[str]) -> None:
    """Say how many images show no class, and when nothing can be learnt because all show the same.

    Raises InputError when none shows any.
    """
    if not labels.any():
        raise InputError(
            f"none of the {len(ids)} images shows a class, by their labels; check --labels"
        )
    if empty := int((~labels.any(axis=1)).sum()):
        note(
            f"{empty} of {len(ids)} images show no class: background, for the classification loss "
            "alone"
        )
    if len(labels) > 1 and (labels == labels[0]).all():
        shown = ", ".join(name for name, hot in zip(classes, labels[0], strict=True) if hot)
        note(
            f"all {len(ids)} images have the same labels, {shown}: nothing can be learnt from them "
            "alone; add photographs without it, as background"
        )


def save_labels(path: str | Path, ids: Sequence[str], labels: np.ndarray) -> None:
    """Write the field's cls_labels.npy: a pickled dict from id (str) to multi-hot float32
    vector.
    """
    table = {
        name: np.array(label, dtype=np.float32) for name, label in zip(ids, labels, strict=True)
    }
    with atomic_write(path) as file:
        np.save(file, table, allow_pickle=True)


def _first_source(root: Path) -> str:
    masks = ground_truth_dir(root)
    places = {"npy": root / LABEL_FILE, "xml": root / ANNOTATION_DIR, "mask": masks}
    for source, path in places.items():
        if path.exists():
            return source
    raise InputError(
        f"no image labels in {root}: none of {', '.join(path.name for path in places.values())} "
        f"exists; {DATA_HELP}"
    )


def _labels_from_xml(folder: Path, ids: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    paths = [folder / f"{name}.xml" for name in ids]
    _require_all([path.stem for path in paths if not path.is_file()], ids, folder)
    index = {nfc(name): c for c, name in enumerate(classes)}
    labels = np.zeros((len(ids), len(classes)), dtype=np.float32)
    deleted = []
    for row, path in zip(labels, paths, strict=True):
        for name, is_there in _objects(path):
            if not is_there:
                deleted.append(path)
                continue
            if nfc(name) not in index:
                raise InputError(
                    f"{path}: class '{name}' is not in the class list ({', '.join(classes)})"
                )
            row[index[nfc(name)]] = 1
    if deleted:
        note(f"{folder}: {len(deleted)} objects are marked as deleted, e.g. in {deleted[0].name}")
    return labels


class _NoDoctype(ElementTree.TreeBuilder):
    """Builds the tree of a document without DOCTYPE, so without entities that could expand to
    gigabytes or read files.
    """

    def doctype(self, *declaration: str | None) -> None:
        raise InputError("DOCTYPE declarations are refused")


def _objects(path: Path) -> list[tuple[str, bool]]:
    """(class, whether it is there) of every object of a VOC annotation, also under a namespace; one
    that LabelMe marks as deleted is not there. The parts of an object (head, hand, foot) are no
    objects. Raises InputError for other XML.
    """
    try:
        annotation = ElementTree.parse(path, ElementTree.XMLParser(target=_NoDoctype())).getroot()
        _require_annotation(annotation)
        objects = [child for child in annotation if _tag(child) == "object"]
        names = [_text(item, "name") for item in objects]
        if "" in names:
            raise InputError(f"object {names.index('') + 1} has no name")
    except (ElementTree.ParseError, ValueError, LookupError, InputError) as error:
        raise InputError(f"{path} is not a VOC annotation: {error}") from None
    there = [_text(item, "deleted") != "1" for item in objects]
    return list(zip(names, there, strict=True))


def _require_annotation(root: ElementTree.Element) -> None:
    """Raise InputError for the XML of something else: objects or boxes elsewhere would be none."""
    if _tag(root) != "annotation":
        raise InputError(f"it is <{shortened(_tag(root))}>, not <annotation>")
    for child in root:
        for item in child.iter() if _tag(child) != "object" else ():
            if _tag(item) in OF_OBJECTS:
                raise InputError(
                    f"<{_tag(item)}> is not where VOC has it: an <object> is in <annotation> "
                    "itself, its box in the <object>"
                )


def _tag(item: ElementTree.Element) -> str:
    """The name of an element in small letters, without its namespace."""
    return str(item.tag).rpartition("}")[2].lower()


def _text(item: ElementTree.Element, tag: str) -> str:
    """The text of the first child of this name; "" where there is none."""
    return next(((child.text or "").strip() for child in item if _tag(child) == tag), "")


def _labels_from_masks(
    root: Path, ids: Sequence[str], classes: Sequence[str], mask_values: str | None
) -> np.ndarray:
    count = len(classes)
    labels = np.zeros((len(ids), count), dtype=np.float32)
    folder = ground_truth_dir(root)
    missing = masks_missing(folder, ids)
    _require_all(missing, ids, folder, other_suffix(folder, missing))
    paths = [folder / f"{name}.png" for name in ids]
    read = mask_reader(root, paths, classes, mask_values)
    for row, path in zip(labels, paths, strict=True):
        present = np.bincount(read(path).ravel(), minlength=IGNORE_LABEL + 1)[:IGNORE_LABEL] > 0
        if present[count + 1 :].any():
            value = int(present.nonzero()[0][-1])
            raise InputError(
                f"{path} has value {value}; {count} classes use 0..{count}, and 255 is ignored"
            )
        row[:] = present[1 : count + 1]
    return labels


def _require_all(missing: Sequence[str], ids: Sequence[str], where: Path, seen: str = "") -> None:
    if missing:
        raise InputError(
            f"{where} has no image label for {some_of(missing, ids)}{seen}; {DATA_HELP}"
        )
