"""Masks for other tools: one COCO JSON, a Labelme JSON a photograph, or colour PNGs with a legend.

Reads a folder of masks <id>.png, of infer_seg.py, make_masks.py, infer_irn.py or of other tools, in
the forms of docs/data.md#masks: 0 background, 1 the first class, 255 ignored, which no format has
and which is left out.
Masks in folders below it are of the photographs in the same folders below --images, of those that
they say they are of, or else of the same name.
Class names are those that the masks carry, else those of the data set that the folder lies in, else
--classes. Writes --out: a file for coco, a folder for labelme and png.

    python export_masks.py results/seg/mask --to coco --images data/VOCdevkit/VOC2012/JPEGImages \\
        --out results/seg/masks.json
"""

from tool.start import end_at_ctrl_c

if __name__ == "__main__":
    end_at_ctrl_c()  # while it imports

import argparse
import csv
import json
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from tool.errors import InputError, run_script
from tool.file import labelme
from tool.file.atomic import atomic_write, write_json
from tool.file.folders import files_below
from tool.file.images import (
    APPLY_EXIF,
    PHOTOGRAPH_PATH,
    photograph_header,
    read_mask_meta,
    write_image,
)
from tool.file.mask_reader import MaskReader
from tool.file.outlines import outline
from tool.file.require import require_dir, require_no_folder
from tool.file.segmentation import box, encode, parts, without_specks
from tool.mask_values import BACKGROUND, IGNORE_LABEL, voc_palette
from tool.run.flags import unit_number
from tool.run.machine_flags import add_overwrite_flag, add_workers_flag
from tool.run.pool import pool_map
from tool.show.legend import legend, read_colours
from voc12.class_list import has_class_list, load_class_list
from voc12.constants import IMAGE_DIR
from voc12.data_flags import add_mask_values_flag
from voc12.lists import images_by_stem
from voc12.masks import mask_reader

COCO, LABELME, PNG = "coco", "labelme", "png"
RLE, POLYGON = "rle", "polygon"
PART, CLASS = "part", "class"
LEGEND = "legend"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = parser.add_argument_group("data")
    data.add_argument("masks", metavar="MASKS", help="the folder of masks <id>.png")
    data.add_argument(
        "--images",
        metavar="DIR",
        help="for coco and labelme: the folder of the photographs (default: JPEGImages "
        "beside MASKS)",
    )
    data.add_argument(
        "--classes",
        metavar="FILE",
        help="class names, one a line in the order of the values 1, 2, ..., or CVAT's labelmap.txt "
        "with the masks' colours (default: the masks' own)",
    )
    add_mask_values_flag(data)
    add_workers_flag(data)

    output = parser.add_argument_group("output")
    output.add_argument("--to", required=True, choices=(COCO, LABELME, PNG), help="what to write")
    output.add_argument(
        "--each",
        choices=(PART, CLASS),
        help=f"for coco and labelme: an annotation a connected part, or a class (default {PART})",
    )
    output.add_argument(
        "--shape",
        choices=(RLE, POLYGON),
        help="for coco and labelme: exact masks (run-lengths; Labelme's mask shapes), or polygons "
        f"on the pixels' corners, holes joined by a line (default {RLE})",
    )
    output.add_argument(
        "--min_area",
        type=unit_number,
        metavar="SHARE",
        help="for coco and labelme: connected parts under this share of the photograph are left "
        "out (default 0: none)",
    )
    output.add_argument(
        "--colours",
        metavar="FILE",
        help="for png: a class name and #rrggbb a line (default: VOC's colours)",
    )
    output.add_argument(
        "--out", required=True, help="the JSON file for coco, the folder for labelme and png"
    )
    add_overwrite_flag(output, "files")
    return parser.parse_args(argv)


# ============ what is exported ============
def find_masks(folder: Path) -> list[Path]:
    """The masks of a folder and of all below it, by path. Raises InputError when it has none."""
    paths = [path for path in files_below(folder).files if path.suffix.lower() == ".png"]
    if not paths:
        raise InputError(f"{folder} has no mask <id>.png; give the folder that --out_mask wrote")
    return paths


def own_classes(path: Path) -> tuple[str, ...] | None:
    """The class names that a mask carries, None where it carries none."""
    classes = read_mask_meta(path).get("classes")
    if classes is None:
        return None
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise InputError(f"{path}: the class names it carries are damaged; give --classes")
    return tuple(classes)


def choose_classes(
    folder: Path, found: list[tuple[str, ...] | None], given: str | None
) -> tuple[tuple[str, ...], str | Path | None]:
    """(the foreground class names, the class list that they are from): --classes, the masks' own
    (None), or the data set's.

    Raises InputError when there are none, and when masks carry several lists.
    """
    if given:
        return load_class_list(given), given
    own = set(found)
    if len(own) > 1:
        raise InputError(
            f"the masks of {folder} are of several class lists, or some carry none; export them "
            "apart, or give --classes"
        )
    if own != {None}:
        return own.pop(), None
    root = folder.absolute().parent
    if has_class_list(root) or (root / IMAGE_DIR).is_dir():
        return load_class_list(root), root
    raise InputError(f"the masks of {folder} carry no class names; give --classes FILE")


def find_photographs(folder: Path, masks: list[Path], names: list[Path]) -> list[Path]:
    """The photograph in folder of every mask: the one that it says it is of, else that of its name;
    names: of the masks in theirs, without .png, which may end in a photograph's suffix. Raises
    InputError for a mask that has none, or may be of several, and for two of one photograph.
    """
    by_stem: dict[Path, dict[str, list[Path]]] = {}
    found: dict[Path, Path] = {}
    for mask, name in zip(masks, names, strict=True):
        path = said_photograph(folder, mask) or folder / name
        if not (path.suffix and path.is_file()):
            if path.parent not in by_stem:
                by_stem[path.parent] = images_by_stem(path.parent) if path.parent.is_dir() else {}
            several = by_stem[path.parent].get(name.name, [])
            several = [one for one in several if not one.samefile(mask)]
            if not several:
                raise InputError(
                    f"no photograph for mask {mask}: {folder / name}.jpg not found, nor another"
                )
            path, *others = several
            if others:
                raise InputError(
                    f"mask {mask} may be of {path} or {others[0]}; call it {path.name}.png or "
                    f"{others[0].name}.png"
                )
        if (other := found.setdefault(path, mask)) is not mask:
            raise InputError(f"{other} and {mask} are both masks of {path}; leave one of them")
    return list(found)


def said_photograph(folder: Path, mask: Path) -> Path | None:
    """The photograph in folder that a mask says it is of, as those of voc12.own_masks do; None
    where it does not, and where there is no such.
    """
    said = read_mask_meta(mask).get(PHOTOGRAPH_PATH)
    if not isinstance(said, str) or PurePosixPath(said).is_absolute() or ".." in said.split("/"):
        return None
    return folder / said if (folder / said).is_file() else None


@dataclass(frozen=True)
class Checker:
    """Looks at a mask before anything is written; read: reads it; classes: foreground names."""

    read: MaskReader
    classes: tuple[str, ...]

    def __call__(self, item: tuple[Path, Path | None]) -> bool:
        """Whether the mask of (mask, photograph) has ignored pixels. Raises InputError for a value
        that is no class, and a mask of another size than its photograph.
        """
        path, photograph = item
        mask = self.read(path)
        values = np.unique(mask)
        strange = values[(values > len(self.classes)) & (values != IGNORE_LABEL)]
        if len(strange):
            raise InputError(
                f"{path} has value {strange[-1]}, there are {len(self.classes)} classes "
                f"({', '.join(self.classes[:5])}{', ...' if len(self.classes) > 5 else ''}); give "
                "--classes"
            )
        if photograph is not None:
            require_size(photograph, path, mask.shape)
        return bool(values[-1] == IGNORE_LABEL)


@dataclass(frozen=True)
class Exporter:
    """Exports one mask of folder; min_area: share of the photograph under which a part is left out;
    read: reads it; classes: foreground names; palette: (256, 3) colours.
    """

    to: str
    each: str
    shape: str
    min_area: float
    read: MaskReader
    classes: tuple[str, ...]
    palette: np.ndarray
    folder: Path
    out: Path

    def __call__(self, item: tuple[Path, Path | None]) -> tuple[list[dict[str, Any]], Any, int]:
        """(annotations for COCO, size (H, W), number of parts left out) of (mask, photograph),
        which Checker has looked at; the other formats' files are written.
        """
        path, photograph = item
        mask = self.read(path)
        values = [int(value) for value in np.unique(mask) if 0 < value != IGNORE_LABEL]
        if self.to == PNG:
            write_image(self.out / path.relative_to(self.folder), self.palette[mask])
            return [], mask.shape, 0
        objects, small = [], 0
        for value in values:
            kept, left_out = without_specks(mask == value, self.min_area * mask.size)
            small += left_out
            if kept.any():
                found = [kept] if self.each == CLASS else parts(kept)
                objects += [(value, part) for part in found]
        if self.to == COCO:
            return [self.annotation(*item) for item in objects], mask.shape, small
        shapes = [
            shape for group, item in enumerate(objects) for shape in self.shapes(*item, group)
        ]
        target = self.out / path.relative_to(self.folder).with_suffix(".json")
        name = os.path.relpath(photograph, target.parent)
        write_json(target, labelme.label_file(shapes, name, mask.shape))
        return [], mask.shape, small

    def annotation(self, value: int, mask: np.ndarray) -> dict[str, Any]:
        """COCO's annotation of an object, mask (H, W) bool, without its ids."""
        segmentation = (
            encode(mask)
            if self.shape == RLE
            else [outline(part).ravel().tolist() for part in parts(mask)]
        )
        return {
            "category_id": value,
            "segmentation": segmentation,
            "area": int(mask.sum()),
            "bbox": box(mask),
            "iscrowd": 0,
        }

    def shapes(self, value: int, mask: np.ndarray, group: int) -> list[dict[str, Any]]:
        """Labelme's shapes of an object; those of one object are of one group."""
        label = self.classes[value - 1]
        if self.shape == RLE:
            return [labelme.mask_shape(label, mask, box(mask), group)]
        return [labelme.polygon_shape(label, outline(part), group) for part in parts(mask)]


def require_size(photograph: Path, path: Path, size: tuple[int, int]) -> None:
    """Raise InputError when a photograph, as it is shown, is not of its mask's size."""
    header = photograph_header(photograph)
    shown = header.size(APPLY_EXIF)
    if shown == size:
        return
    why = "is it another image's?"
    if header.stored == size:
        why = (
            "it follows the stored pixels, where other tools turn them by their EXIF orientation; "
            "make it with --exif apply"
        )
    raise InputError(
        f"{path} is of size {list(size)}, its photograph {photograph} {list(shown)} (height, "
        f"width); {why}"
    )


# ============ what is written at the end ============
def write_coco(
    out: Path, classes: tuple[str, ...], names: list[str], found: list[tuple[list, Any, int]]
) -> int:
    """Write the JSON, and return the number of annotations."""
    images, annotations = [], []
    for number, (name, (objects, size, _)) in enumerate(zip(names, found, strict=True), start=1):
        images.append({"id": number, "file_name": name, "height": size[0], "width": size[1]})
        for item in objects:
            annotations.append({"id": len(annotations) + 1, "image_id": number} | item)
    categories = [{"id": value, "name": name} for value, name in enumerate(classes, start=1)]
    content = {
        "info": {"description": "masks of export_masks.py"},
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }
    with atomic_write(out, "w") as file:
        json.dump(content, file)
        file.write("\n")
    return len(annotations)


def write_legend(out: Path, names: tuple[str, ...], palette: np.ndarray) -> None:
    """Write legend.png and legend.csv: value, name, red, green, blue."""
    write_image(out / f"{LEGEND}.png", legend(names, palette))
    with atomic_write(out / f"{LEGEND}.csv", "w") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["value", "name", "red", "green", "blue"])
        for value, name in enumerate(names):
            table.writerow([value, name, *palette[value].tolist()])


def main(args: argparse.Namespace) -> None:
    """Export all masks of the folder."""
    # ============ flags that go together ============
    unread = {
        COCO: ("colours",),
        LABELME: ("colours",),
        PNG: ("images", "each", "shape", "min_area"),
    }
    for flag in unread[args.to]:
        if getattr(args, flag) is not None:
            raise InputError(f"--{flag} is not for --to {args.to}; leave it out")
    out, folder = Path(args.out), require_dir(args.masks, "MASKS", "give the folder of masks")
    if args.to == COCO:
        require_no_folder(out, "out")

    # ============ masks, classes, photographs ============
    masks = find_masks(folder)
    places = [path.relative_to(folder) for path in masks]
    found = [None] if args.classes else [own_classes(path) for path in masks]
    classes, class_list = choose_classes(folder, found, args.classes)
    shown = (BACKGROUND, *classes)
    palette = voc_palette()
    if args.colours:
        palette = read_colours(args.colours, shown, palette)
    photographs: list[Path | None] = [None] * len(masks)
    if args.to != PNG:
        images = Path(args.images) if args.images else folder.absolute().parent / IMAGE_DIR
        images = require_dir(images, "folder of photographs", "give --images DIR")
        photographs = find_photographs(images, masks, [name.with_suffix("") for name in places])
    targets = {
        COCO: [out],
        LABELME: [out / name.with_suffix(".json") for name in places],
        PNG: [out / name for name in (f"{LEGEND}.png", f"{LEGEND}.csv", *places)],
    }[args.to]
    if len(set(targets)) < len(targets):
        raise InputError(f"{folder} has a mask {LEGEND}.png, as the legend is called; rename it")
    there = [path for path in targets if path.exists()]
    if there and not args.overwrite:
        raise InputError(f"{there[0]} is there already; give another --out, or --overwrite")

    # ============ masks, before anything is written ============
    read = mask_reader(class_list, masks, classes, args.mask_values)
    items = list(zip(masks, photographs, strict=True))
    ignored = sum(pool_map(Checker(read, classes), items, args.num_workers, "masks"))

    # ============ export ============
    how = (args.each or PART, args.shape or RLE, args.min_area or 0.0)
    export = Exporter(args.to, *how, read, classes, palette, folder, out)
    results = pool_map(export, items, args.num_workers, args.to)
    made = f"{len(masks)} files"
    if args.to == COCO:
        names = [path.relative_to(images).as_posix() for path in photographs]
        made = f"{len(masks)} images, {write_coco(out, classes, names, results)} annotations"
    if args.to == PNG:
        write_legend(out, shown, palette)
    if small := sum(result[2] for result in results):
        print(f"{small} parts under {args.min_area:g} of their photographs are left out")
    if ignored:
        colour = ", ".join(map(str, palette[IGNORE_LABEL].tolist()))
        kept = f"of the colour {colour}" if args.to == PNG else "left out"
        print(f"{ignored} of {len(masks)} masks have ignored pixels (255), which are {kept}")
    print(f"{args.to}: {out}, {made}, {len(classes)} classes")


if __name__ == "__main__":
    run_script(main, parse_args)
