"""A data set in VOC layout from COCO's instances JSON: COCO 2014 itself, or an export of CVAT,
Label Studio, Roboflow and other tools.

    python -m voc12.coco --instances annotations/instances_train2014.json --images train2014 \\
        --out data/coco14
    python -m voc12.coco --instances annotations/instances_val2014.json --images val2014 \\
        --out data/coco14

Reads the JSON and the photographs, and writes into --out

    JPEGImages/<id>.jpg            links to the photographs (copies where the disk has no links)
    SegmentationClassAug/<id>.png  masks: the value is the rank of the category's id, from 1
    ImageSets/Segmentation/<list>.txt, <list>_all.txt   images with a class; all images
    classes.txt, cls_labels.npy    class names in the order of the values; image labels
    coco.json                      what was converted

An id is a photograph's name without folder and suffix. Where objects overlap, the smaller one is on
top. A list "train" is written as train_aug.txt too, which the trainers take by default. The same
command with another JSON of the same classes adds to --out. A run that was cut off goes on where it
stopped; until it is through, all of it lies in <out>.part.
"""

from tool.start import end_at_ctrl_c

if __name__ == "__main__":
    end_at_ctrl_c()  # while it imports

import argparse
import contextlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from tool.errors import InputError, naming_file, run_script
from tool.file.atomic import atomic_write, write_json
from tool.file.coco_json import CocoImage, CocoJson, is_crowd, parse_annotation, read_coco
from tool.file.images import APPLY_EXIF, photograph_header, write_mask
from tool.file.require import require_dir
from tool.file.segmentation import area, box_rle, decode, segmentation_rle
from tool.mask_values import IGNORE_LABEL
from tool.names import JOINERS, nfc
from tool.run.machine_flags import add_switch, add_workers_flag
from tool.run.pool import background_calls
from tool.run.progress import progress
from voc12.class_list import (
    class_list_text,
    is_background,
    is_reserved,
    load_class_list,
    write_class_list,
)
from voc12.constants import CLASS_LIST_FILE, IMAGE_DIR, LABEL_FILE, LIST_DIR, MASK_DIR
from voc12.data_flags import add_exif_flag
from voc12.labels import load_labels, save_labels
from voc12.lists import IMAGE_SUFFIXES, TRAIN_AUG, read_list
from voc12.orientation import TURNED, other_exif

RECORD = "coco.json"
UNFINISHED = "unfinished.json"  # the settings of the work in <out>.part
CHUNK = 16  # images a call
CROWD_CLASS, CROWD_IGNORE = "class", "ignore"
LIST_WORDS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
# COCO 2014: images in all -> images with a class
COCO14_COUNTS = {82_783: 82_081, 40_504: 40_137}
COCO14_CLASSES = 80


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = parser.add_argument_group("data")
    data.add_argument("--instances", required=True, metavar="JSON", help="the annotations")
    data.add_argument(
        "--images", required=True, metavar="DIR", help="the folder of the photographs"
    )
    data.add_argument(
        "--list",
        metavar="NAME",
        help="what the list of images is called (default: train, val or test, as the JSON's name "
        "or its folder says, else train)",
    )
    add_workers_flag(data)

    reading = parser.add_argument_group("reading")
    reading.add_argument(
        "--crowd",
        choices=(CROWD_CLASS, CROWD_IGNORE),
        default=CROWD_CLASS,
        help="pixels of crowds: their class, or 255; labels have their class in both (default "
        "%(default)s, as the field's converters)",
    )
    add_exif_flag(reading)
    add_switch(reading, "--clip", "cut polygons that leave their image, instead of refusing them")
    add_switch(reading, "--merge_names", "categories of one name are one class")

    output = parser.add_argument_group("output")
    output.add_argument(
        "--out", required=True, metavar="DIR", help="the data set to make or add to"
    )
    return parser.parse_args(argv)


# ============ classes ============
@dataclass(frozen=True)
class Classes:
    """names: in the order of the mask values; value: (categories,) of every category of the file,
    0 for one that is left out; notes: lines that say what was left out or changed.
    """

    names: tuple[str, ...]
    value: tuple[int, ...]
    notes: tuple[str, ...]


def choose_classes(coco: CocoJson, merge_names: bool) -> Classes:
    """The classes in the order of the categories' ids: numbers as numbers, before ids of text.

    Left out, where no annotation is of them: what a class list takes for background or ignored
    pixels, and the class 0 that Roboflow puts above its classes. Raises InputError for annotations
    of the former, for a name that two categories have (unless merge_names), for names that a class
    list would not give back, and for more classes than mask values.
    """
    used = set(np.unique(coco.category).tolist())
    parents = Counter(category.supercategory for category in coco.categories)
    notes: list[str] = []
    names: list[str] = []
    value = [0] * len(coco.categories)
    for place in sorted(range(len(value)), key=lambda place: _rank(coco.categories[place].id)):
        category = coco.categories[place]
        if is_reserved(category.name):
            background = is_background(category.name)
            if place in used:
                raise InputError(
                    f"{coco.path}: annotations are of category {category.id}, '{category.name}'; "
                    + ("what no object covers is background, so " if background else "")
                    + "take them out of the file, or call the category otherwise if it is a class"
                )
            value_of = ", mask value 0" if background else ", without annotations"
            notes.append(f"left out: category {category.id}, '{category.name}'{value_of}")
            continue
        if place not in used and category.id == "0" and _is_roof(category, parents):
            notes.append(
                f"left out: category 0, '{category.name}', which stands above the others and has "
                "no annotation"
            )
            continue
        name = re.sub(r"[/\\]", "_", re.sub(r"\s", " ", category.name).strip())
        if name != category.name:
            notes.append(f"class '{category.name}' is called '{name}': it is part of files' names")
        alike = [n for n, known in enumerate(names) if nfc(known) == nfc(name)]
        if alike:
            if not merge_names:
                raise InputError(
                    f"{coco.path}: two categories are called '{name}'; rename one, or give "
                    "--merge_names to make them one class"
                )
            notes.append(f"category {category.id} is merged into class '{name}' of that name")
        else:
            names.append(name)
        value[place] = (alike[0] if alike else names.index(name)) + 1
    if not names:
        raise InputError(f"{coco.path} has no class; its categories are empty or background")
    class_list_text(names, str(coco.path))  # refuses what could not be written
    return Classes(tuple(names), tuple(value), tuple(notes))


def _rank(key: str) -> tuple[bool, int, str]:
    return (False, int(key), "") if re.fullmatch(r"-?\d{1,18}", key, re.ASCII) else (True, 0, key)


def _is_roof(category: object, parents: Counter[str]) -> bool:
    """Whether a category only groups others, as Roboflow's first: itself of no group."""
    grouped = parents[category.name] - (category.supercategory == category.name)
    return grouped > 0 and category.supercategory in ("none", "", category.name)


# ============ photographs ============
def image_id(image: CocoImage) -> str:
    """Its name without folder and suffix. Ids have no spaces, nothing else that cannot be printed,
    and do not end as files do: _ stands for it, and for the dot of a second suffix.
    """
    stem = "".join(
        char if char in JOINERS or (char.isprintable() and not char.isspace()) else "_"
        for char in _stem(image)
    )
    second = PurePosixPath(stem).suffix
    return f"{stem.removesuffix(second)}_{second[1:]}" if second in IMAGE_SUFFIXES else stem


def _stem(image: CocoImage) -> str:
    return PurePosixPath(_file_name(image)).stem


def _file_name(image: CocoImage) -> str:
    """With slashes, and without what Label Studio puts before the names of local files."""
    return image.file_name.replace("\\", "/").rpartition("?d=")[2]


def find_photograph(folder: Path, image: CocoImage, where: str) -> Path:
    """The file of an image below folder: file_name, or what is left of it without leading folders.

    Raises InputError naming the image when there is none, or it is no JPEG or PNG.
    """
    parts = [part for part in _file_name(image).split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        raise InputError(f"{where}: '{image.file_name}' is no name of a file in {folder}")
    for first in range(len(parts)):
        path = folder.joinpath(*parts[first:])
        try:
            found = path.is_file()
        except OSError:  # a name that is too long
            found = False
        if found:
            if path.suffix.lower() not in IMAGE_SUFFIXES:
                raise InputError(f"{path} is no .jpg, .jpeg or .png; convert it, and name it so")
            return path
    raise InputError(f"{where}: photograph {folder / image.file_name} not found; check --images")


def name_images(coco: CocoJson, taken: dict[str, str]) -> list[str]:
    """The id of every image. Raises InputError naming both when two files have one id.

    taken: ids of the data set already, and where they are from.
    """
    seen = dict(taken)
    ids = []
    for image in coco.images:
        name = image_id(image)
        if name in ("", ".", "..") or name.startswith("."):
            raise InputError(f"{coco.path}: '{image.file_name}' gives no image id; rename the file")
        if name in seen:
            raise InputError(
                f"{coco.path}: '{image.file_name}' and {seen[name]} have the same id, {name}; "
                "rename one of them"
            )
        seen[name] = f"'{image.file_name}'"
        ids.append(name)
    return ids


def photograph_size(path: Path, image: CocoImage, exif: str) -> tuple[int, int]:
    """(H, W) of a photograph as read under exif. Raises InputError when the JSON has another."""
    header = photograph_header(path)
    size = header.size(exif)
    if image.size not in (None, size):
        why = "is it the photograph that was annotated?"
        other = other_exif(exif)
        if image.size == header.size(other):
            why = (
                f"the annotations fit it {TURNED[other].format(header.orientation)}, so give "
                f"--exif {other}, here and to all scripts that read the data set"
            )
        raise InputError(
            f"{path} is of size {list(size)}, the JSON says {list(image.size)} (height, width); "
            f"{why}"
        )
    return size


def link(source: Path, target: Path) -> None:
    """Make target a link to source, or a copy where the disk has no links."""
    target.unlink(missing_ok=True)
    source = source.resolve()
    for make in (os.symlink, os.link):
        try:
            make(source, target)
            return
        except OSError:
            continue
    with atomic_write(target) as file:
        file.write(source.read_bytes())


# ============ masks ============
@dataclass(frozen=True)
class Painter:
    """Draws the masks of one file. value: of every category; masks: whether any is drawn."""

    instances: Path
    part: Path
    value: tuple[int, ...]
    crowd: str
    clip: bool
    exif: str
    masks: bool

    def __call__(self, items: Sequence["Item"]) -> int:
        """Link and draw images, the mask last: it says that the image is finished. How many
        segmentations draw no pixel.
        """
        empty = 0
        for item in items:
            size = photograph_size(item.path, item.image, self.exif)
            if self.masks:
                mask, without = self.paint(item, size)
                empty += without
            link(item.path, self.part / IMAGE_DIR / f"{item.id}{item.path.suffix.lower()}")
            if self.masks:
                write_mask(self.part / MASK_DIR / f"{item.id}.png", mask, sync=False)
        return empty

    def paint(self, item: "Item", size: tuple[int, int]) -> tuple[np.ndarray, int]:
        """(the mask (H, W) uint8, how many segmentations draw no pixel): from the largest object to
        the smallest, of equal ones the first in the file on top.
        """
        layers = [self.layer(item, size, *annotation) for annotation in item.annotations]
        # boxes lie below all that is drawn
        layers.sort(key=lambda layer: (layer.drawn, -layer.area, -layer.number))
        columns = np.zeros(size[::-1], dtype=np.uint8)  # (W, H): run-lengths go down the columns
        for layer in layers:
            if layer.area:
                np.copyto(columns, layer.value, where=decode(layer.rle).T)
        return np.ascontiguousarray(columns.T), sum(one.drawn and not one.area for one in layers)

    def layer(
        self, item: "Item", size: tuple[int, int], category: int, number: int, text: str
    ) -> "Layer":
        """What an annotation draws."""
        with naming_file(f"{self.instances}: annotation {number + 1} of '{item.image.file_name}'"):
            annotation = parse_annotation(text)
            drawn = annotation.get("segmentation")
            if not drawn or drawn == [[]]:
                rle = box_rle(annotation.get("bbox"), size)
                return Layer(False, area(rle), number, IGNORE_LABEL, rle)
            rle = segmentation_rle(drawn, size, self.clip)
            ignored = self.crowd == CROWD_IGNORE and is_crowd(annotation)
            value = IGNORE_LABEL if ignored else self.value[category]
            return Layer(True, area(rle) if rle else 0, number, value, rle)


@dataclass(frozen=True)
class Layer:
    """An annotation's pixels: whether it has a segmentation, how many, its number, their value."""

    drawn: bool
    area: int
    number: int
    value: int
    rle: dict | None


@dataclass(frozen=True)
class Item:
    """An image to convert; annotations: (place in categories, number, JSON text)."""

    id: str
    image: CocoImage
    path: Path
    annotations: list[tuple[int, int, str]]


# ============ what is there ============
def list_name(args: argparse.Namespace) -> str:
    """What the list is called: --list, or what the JSON's name says, or its folder's, or train."""
    if args.list:
        if not re.fullmatch(r"[\w.-]+", args.list):
            raise InputError(f"--list {args.list} is no name of a file; use letters, digits, _ - .")
        return args.list.removesuffix(".txt")
    path = Path(args.instances).absolute()
    folder = re.fullmatch(r"([a-z]+)\d*", path.parent.name.lower())  # Roboflow's, a split a folder
    for word in (*re.findall(r"[a-z]+", path.stem.lower()), folder[1] if folder else ""):
        if word in LIST_WORDS:
            return LIST_WORDS[word]
    return "train"


def read_record(out: Path) -> dict:
    """What --out says was converted into it, {} where nothing is.

    Raises InputError for a folder with something else.
    """
    path = out / RECORD
    if path.is_file():
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(record, dict) and isinstance(record.get("sources"), list):
                return record
        except (ValueError, RecursionError):
            pass
        raise InputError(f"{path} is damaged; delete {out}, and convert again")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there, and not from this command; give another --out")
    return {}


def prepare_part(part: Path, settings: dict) -> None:
    """Make the folder of unfinished work, or keep the one of a run with these settings."""
    path = part / UNFINISHED
    try:
        same = json.loads(path.read_text(encoding="utf-8")) == settings
    except (OSError, ValueError):
        same = False
    if not same:
        if part.exists():
            shutil.rmtree(part)
        write_json(path, settings)
    for folder in (IMAGE_DIR, MASK_DIR):
        (part / folder).mkdir(parents=True, exist_ok=True)
        for path in (part / folder).glob(".*.part"):  # what a kill left half-written
            path.unlink()


def finished(part: Path, masks: bool) -> set[str]:
    """The ids that a run before this one has finished. An empty mask is what a power cut leaves."""
    with os.scandir(part / (MASK_DIR if masks else IMAGE_DIR)) as entries:
        return {
            Path(entry.name).stem
            for entry in entries
            if not entry.name.startswith(".") and (not masks or entry.stat().st_size)
        }


def image_labels(coco: CocoJson, classes: Classes) -> np.ndarray:
    """(images, classes) float32, 1 where any annotation, crowds and boxes too, is of the class."""
    labels = np.zeros((len(coco.images), len(classes.names)), dtype=np.float32)
    labels[coco.image, np.array(classes.value)[coco.category] - 1] = 1
    return labels


def check_coco14(coco: CocoJson, classes: Classes, with_class: int) -> str:
    """A line on COCO 2014's counts, "" for another set. Raises InputError when they are others."""
    text = " ".join(str(coco.info.get(key, "")) for key in ("description", "year", "url"))
    if "coco" not in text.lower() or "2014" not in text or len(classes.names) != COCO14_CLASSES:
        return ""
    wanted = COCO14_COUNTS.get(len(coco.images))
    if wanted is None:
        return (
            f"COCO 2014 by its description, but {len(coco.images):,} images are neither of "
            f"{' and '.join(f'{count:,}' for count in COCO14_COUNTS)}: counts are not checked"
        )
    if with_class != wanted:
        raise InputError(
            f"{coco.path} is COCO 2014's, but {with_class:,} of its images have a class where "
            f"{wanted:,} do; the file is not whole, download it again"
        )
    return f"COCO 2014: {with_class:,} of {len(coco.images):,} images have a class, as they should"


def finish(part: Path, out: Path, classes: Classes, lists: dict, table: dict, record: dict) -> None:
    """Make a data set of the finished part: the part itself where out is not there yet, else by
    moving its files there. The record comes last.
    """
    with contextlib.suppress(OSError):
        (part / MASK_DIR).rmdir()  # where no masks are made
    os.sync()  # the masks
    root = out if (out / RECORD).is_file() else part
    if root == out:
        for folder in (IMAGE_DIR, MASK_DIR):
            for path in (part / folder).glob("*"):
                (out / folder).mkdir(exist_ok=True)
                os.replace(path, out / folder / path.name)
    write_class_list(root / CLASS_LIST_FILE, classes.names)
    save_labels(root / LABEL_FILE, list(table), np.array(list(table.values())))
    for name, ids in lists.items():
        with atomic_write(root / LIST_DIR / f"{name}.txt", "w") as file:
            file.writelines(f"{image}\n" for image in ids)
    write_json(root / RECORD, record)
    (part / UNFINISHED).unlink()
    if root == part:
        os.replace(part, out)
    else:
        shutil.rmtree(part)


def earlier_images(
    out: Path, record: dict, classes: Classes, path: Path, name: str
) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """(id -> whose image it is, id -> label) of what out holds from other JSONs.

    record: what out says of itself, {} where it is new. Raises InputError where it has other
    classes or a list of this name.
    """
    taken: dict[str, str] = {}
    if not record:
        return taken, {}
    sources = record.get("sources", [])
    if load_class_list(out) != classes.names:
        raise InputError(
            f"{out} was made for other classes ({', '.join(load_class_list(out)[:5])}, ...) "
            f"than {path} has ({', '.join(classes.names[:5])}, ...); give another --out"
        )
    if any(source.get("list") == name for source in sources):
        raise InputError(f"{out} has a list {name} already; give --list another name")
    for source in sources:
        ids = read_list(out / LIST_DIR / f"{source['list']}_all.txt")
        taken |= dict.fromkeys(ids, f"an image of {source.get('instances')} in {out}")
    labels = load_labels(out, list(taken), classes.names, "npy")
    return taken, dict(zip(taken, labels, strict=True))


def paint(
    painter: Painter,
    coco: CocoJson,
    ids: list[str],
    paths: list[Path],
    done: set[str],
    workers: int,
) -> int:
    """Link the photographs and draw the masks of the images that are not done, under a bar. How
    many of their segmentations draw no pixel.
    """
    todo = [place for place, image_id in enumerate(ids) if image_id not in done]
    if len(todo) < len(ids):
        print(f"{len(ids) - len(todo)} of {len(ids)} images are finished already")
    bounds = np.searchsorted(coco.image, np.arange(len(ids) + 1))

    def item(place: int) -> Item:
        annotations = coco.annotations(bounds[place], bounds[place + 1])
        return Item(ids[place], coco.images[place], paths[place], annotations)

    empty: list[int] = []
    bar = progress(total=len(todo), desc="masks" if painter.masks else "links", unit="img")
    with bar, background_calls(workers if len(todo) > CHUNK else 0, empty.append) as call:
        for first in range(0, len(todo), CHUNK):
            places = todo[first : first + CHUNK]
            call(painter, [item(place) for place in places])
            bar.update(len(places))
    return sum(empty)


def note_boxes(coco: CocoJson, masks: bool) -> None:
    """Say how many annotations have a box alone, and what becomes of them."""
    if boxes := int((~coco.drawn).sum()):
        how = "their pixels are 255 where nothing else is" if masks else "no masks are made"
        print(f"{boxes} of {len(coco.drawn)} annotations have no segmentation, only a box: {how}")


def note_empty(coco: CocoJson, empty: int, part: Path) -> None:
    """Say how many segmentations draw no pixel. Raises InputError where none draws any, and leaves
    nothing of the work, which another run would take for finished.
    """
    drawn = int(coco.drawn.sum())
    if empty and empty == drawn:
        shutil.rmtree(part)
        raise InputError(
            f"{coco.path}: none of its {drawn} segmentations draws a pixel; a polygon has three "
            "points or more, x, y by turns; where they are boxes, give them as bbox alone"
        )
    if empty:
        print(f"{empty} of {drawn} segmentations draw no pixel: points, lines, or outside")


def main(args: argparse.Namespace) -> None:
    """Convert one JSON."""
    # ============ what is asked for ============
    out, folder = Path(args.out), require_dir(args.images, "--images", "give the photographs")
    part = out.with_name(f"{out.name}.part")
    record, name = read_record(out), list_name(args)
    print(f"reading {args.instances}")
    coco = read_coco(args.instances)
    classes = choose_classes(coco, args.merge_names)
    labels = image_labels(coco, classes)
    with_class = int(labels.any(axis=1).sum())
    for note in filter(None, [*classes.notes, check_coco14(coco, classes, with_class)]):
        print(note)
    if not with_class:
        raise InputError(f"{coco.path} has no annotation; there is nothing to learn from")

    # ============ what is there ============
    settings = {
        "instances": coco.path.name,
        "digest": coco.digest,
        "list": name,
        "crowd": args.crowd,
        "clip": args.clip,
        "merge_names": args.merge_names,
        "images": len(coco.images),
        "images_with_class": with_class,
    }
    if args.exif != APPLY_EXIF:
        settings["exif"] = args.exif
    sources = record.get("sources", [])
    if settings in sources:
        print(f"{out} has {args.instances} already; nothing to do")
        return
    taken, table = earlier_images(out, record, classes, coco.path, name)
    ids = name_images(coco, taken)
    paths = [find_photograph(folder, image, str(coco.path)) for image in coco.images]
    spaced = sum(_stem(image) != key for image, key in zip(coco.images, ids, strict=True))
    if spaced:
        print(f"{spaced} names have spaces or a second suffix, which ids have not: _ stands there")

    # ============ masks ============
    prepare_part(part, settings | {"classes": list(classes.names), "from": str(folder.resolve())})
    masks = bool(coco.drawn.any())
    note_boxes(coco, masks)
    how = (args.crowd, args.clip, args.exif)
    painter = Painter(coco.path, part, classes.value, *how, masks)
    empty = paint(painter, coco, ids, paths, finished(part, masks), args.num_workers)
    note_empty(coco, empty, part)

    # ============ lists and labels ============
    table |= dict(zip(ids, labels, strict=True))
    shown = [image_id for image_id, label in zip(ids, labels, strict=True) if label.any()]
    lists = {name: shown, f"{name}_all": ids} | ({TRAIN_AUG: shown} if name == "train" else {})
    record = {"sources": [*sources, settings], "classes": list(classes.names)}
    finish(part, out, classes, lists, table, record)
    print(
        f"{out}: list {name}, {len(shown)} images with a class; {name}_all, {len(ids)} images; "
        f"{len(classes.names)} classes"
    )


if __name__ == "__main__":
    run_script(main, parse_args)
