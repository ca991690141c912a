"""Masks of a data set made by voc12.own_photographs, put back into the places and sizes of the
photographs: <out>/<path of the photograph>.png.

    python -m voc12.own_masks --data_root DATA --images DIR --mask_dir results/seg/mask \\
        --out MASKS --json sureness.json

Photographs of one path but for the suffix keep it: x.jpg.png and x.png.png. How sure a mask is is
what infer_seg.py --cam_dir says of it: how far the segmentation network agrees with what it was
taught. Where the two contradict each other, one of them is wrong.
"""

from tool.start import end_at_ctrl_c

if __name__ == "__main__":
    end_at_ctrl_c()  # while it imports

import argparse
import json
import shutil
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from tool.errors import InputError, naming_file, run_script
from tool.expand.seed import AGREEMENT
from tool.file.atomic import atomic_write, write_json
from tool.file.folders import files_below
from tool.file.images import (
    APPLY_EXIF,
    PHOTOGRAPH_DIGEST,
    PHOTOGRAPH_PATH,
    mask_size,
    photograph_header,
    read_mask,
    read_mask_meta,
    write_mask,
)
from tool.file.mask_reader import AUTO, MaskReader
from tool.file.require import require_dir
from tool.file.text import read_text, shortened
from tool.mask_values import IGNORE_LABEL
from tool.metrics import confusion_matrix
from tool.run.machine_flags import add_workers_flag
from tool.run.pool import pool_map
from voc12.class_list import mask_colours
from voc12.constants import CLASS_LIST_FILE, IMAGE_DIR, MASK_DIR
from voc12.data_flags import add_root_flag
from voc12.label_file.entries import Entry
from voc12.masks import mask_reader
from voc12.named_photographs import Finder, relative_path
from voc12.own_photographs import PHOTOGRAPHS_FILE, Own, write_list

PREDICTED = "predicted"  # folder of a scored data set: the masks to be scored
NAME_BYTES = 255 - len("..part")  # of a file, beside what its temporary file is called by


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_root_flag(parser)
    parser.add_argument("--images", required=True, help="folder of the photographs")
    parser.add_argument("--mask_dir", required=True, help="folder of masks <id>.png")
    parser.add_argument("--out", required=True, help="folder for the masks")
    parser.add_argument("--json", required=True, help="file for how sure each mask is")
    add_workers_flag(parser, "processes")
    return parser.parse_args(argv)


def read_photographs(root: Path) -> dict[str, str]:
    """id -> path in the folder of photographs. Raises InputError where the data set has none."""
    path = root / PHOTOGRAPHS_FILE
    return json.loads(read_text(path, "photographs", "make it with voc12.own_photographs"))


def mask_places(photographs: Mapping[str, str]) -> dict[str, Path]:
    """id -> where its mask goes, below the folder of masks; each has a place of its own."""
    names = {name: str(PurePosixPath(path).with_suffix("")) for name, path in photographs.items()}
    while True:  # x.jpg.tif is called as x.jpg is beside x.png
        counts = Counter(path.casefold() for path in names.values())
        alike = [name for name, path in names.items() if counts[path.casefold()] > 1]
        if all(names[name] == photographs[name] for name in alike):
            return {name: Path(f"{path}.png") for name, path in names.items()}
        names |= {name: photographs[name] for name in alike}


def require_mask_places(own: Own, masks: Path) -> None:
    """Raise InputError where the mask of a photograph would have no place in the folder of masks,
    and where that has PNGs that are none of ours and of none of the photographs, of which
    export_masks.py would not know what they are.
    """
    paths = {name: relative_path(one) for name, one in zip(own.ids, own.photographs, strict=True)}
    places = mask_places(paths)
    taken = {place: paths[name] for name, place in places.items()}
    for name, place in places.items():
        if len(place.name.encode()) > NAME_BYTES:
            raise InputError(
                f"{shortened(paths[name])}: its mask's name would have "
                f"{len(place.name.encode())} bytes, of which {NAME_BYTES} are allowed; give the "
                "photograph a shorter name"
            )
        if folder := next((one for one in place.parents if one in taken), None):
            raise InputError(
                f"the mask of {taken[folder]} would be called as the folder {folder}, which has "
                f"{paths[name]}; rename one of them"
            )
    if not masks.is_dir():
        return
    for path in files_below(masks).files:
        if path.suffix.lower() != ".png" or path.relative_to(masks) in taken:
            continue
        if PHOTOGRAPH_PATH not in read_mask_meta(path):
            raise InputError(
                f"{path} is the mask of none of the photographs, and not of this script; move it "
                "away, all masks there are exported"
            )


def enlarged(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A label mask (h, w) at size (H, W), its outlines smooth: each class is resized linearly, and
    the highest wins.
    """
    if mask.shape == size:
        return mask
    best, out = np.full(size, -1, np.float32), np.zeros(size, np.uint8)
    for value in np.unique(mask):
        share = cv2.resize((mask == value).astype(np.float32), size[::-1])
        higher = share > best
        out[higher], best[higher] = value, share[higher]
    return out


@dataclass(frozen=True)
class Returned:
    """Puts back one mask: (id, path of the photograph, place of the mask) -> how sure it is, None
    where it does not say.
    """

    images: Path
    mask_dir: Path
    out: Path

    def __call__(self, item: tuple[str, str, Path]) -> float | None:
        """Write the mask."""
        name, photograph, place = item
        path = self.mask_dir / f"{name}.png"
        mask = read_mask(path)
        size = photograph_header(self.images / photograph).size(APPLY_EXIF)
        meta = read_mask_meta(path) | {PHOTOGRAPH_PATH: photograph}
        meta.pop(PHOTOGRAPH_DIGEST, None)  # of the data set's copy of the photograph
        write_mask(self.out / place, enlarged(mask, size), meta)
        return meta.get(AGREEMENT)


def drop_old_masks(out: Path, places: Collection[Path]) -> int:
    """Remove the masks below out that were put back for photographs that are gone: those that say
    whose they are and are at none of these places. Their number.
    """
    old = [
        path
        for path in out.rglob("*.png")
        if path.relative_to(out) not in places and PHOTOGRAPH_PATH in read_mask_meta(path)
    ]
    for path in old:
        path.unlink()
    return len(old)


@dataclass(frozen=True)
class RealMasks:
    """Real masks of photographs. paths: id -> mask; read: reads one into the numbers of the
    photographs' classes.
    """

    paths: dict[str, Path]
    read: MaskReader


def match_masks(
    folder: str | Path,
    own: Own,
    images: str | Path,
    out: str | Path,
    class_list: str | Path | None = None,
    values: str = AUTO,
) -> RealMasks:
    """The real masks of photographs, of those that folder has: PNGs of their names.

    images, out: folders of photographs and of what is made; what these have in folder is no mask.
    class_list: --classes, which may name the masks' colours; values: as --mask_values has it
    Raises InputError for a folder whose masks are of none of the photographs, or that are made
    here, two masks of one photograph, a mask that is not of its photograph's size, and values that
    are none of the classes.
    """
    root, made = require_dir(folder, "--masks", "give the folder of masks"), Path(out).resolve()
    if root.resolve().is_relative_to(made / "masks"):
        raise InputError(f"--masks {root} is where masks are written to; give the real masks")
    others = (images, made / "masks", made / "work")
    below = files_below(root, others)
    keys = {
        path: path.relative_to(root).with_suffix("").as_posix()
        for path in below.files
        if path.suffix.lower() == ".png"
    }
    find = Finder(own.photographs, own.copy_of, keys.values(), root)
    found, lost = {}, len(below.files) - len(keys)
    for path, key in keys.items():
        place = find(Entry(str(path), key, np.zeros(0)))
        if place is None:
            lost += 1
            continue
        if (other := found.get(own.ids[place])) is not None:
            raise InputError(
                f"{other} and {path} are both masks of {own.photographs[place].path}; leave one of "
                "them"
            )
        size = photograph_header(own.photographs[place].path).size(APPLY_EXIF)
        if mask_size(path) != size:
            raise InputError(
                f"{path} is of size {mask_size(path)}, its photograph "
                f"{own.photographs[place].path} of {size} (height, width)"
            )
        found[own.ids[place]] = path
    if not found:
        raise InputError(
            f"--masks {root} has no mask of any of the {len(own.ids)} photographs: PNGs of their "
            "names are looked for" + "".join(f"; {line}" for line in below.left_out())
        )
    colours = mask_colours(class_list, own.classes, (root, root.absolute().parent))
    real = RealMasks(found, mask_reader(None, list(found.values()), own.classes, values, colours))
    require_mask_values(real, own.classes)
    numbers = ", ".join(f"{value} {name}" for value, name in enumerate(own.classes, start=1))
    print(
        f"{root}: masks of {len(found)} photographs score the result, read as {shortened(numbers)}"
        + (f"; {lost} files are of no photograph, or no PNGs" if lost else "")
        + "".join(f"; {line}" for line in below.left_out())
    )
    return real


def require_mask_values(real: RealMasks, classes: Sequence[str]) -> None:
    """Raise InputError where real masks cannot be scored with, as evaluation_cam.py would at the
    end: one has a value that is no class, or no pixel of any is of a class.

    classes: foreground names
    """
    paths, seen = list(real.paths.values()), np.zeros(len(classes) + 1, np.int64)
    for path in paths:
        mask = real.read(path)
        with naming_file(path):
            counted = confusion_matrix(np.zeros_like(mask), mask, len(classes) + 1)
        seen += counted.sum(axis=1)
    if not seen[1:].any():
        raise InputError(
            f"--masks: no pixel of the {len(paths)} masks, the first of which is {paths[0]}, is of "
            f"a class: all are 0, background, or {IGNORE_LABEL}, ignored; are their values those "
            "of classes.txt?"
        )


def write_evaluated(out: Path, own: Own, real: RealMasks, masks: Path, data: Path) -> None:
    """Write a data set in VOC layout: links to the photographs that have real masks, these masks as
    class numbers, list val, and in PREDICTED links to the masks of them that the road leaves.
    """
    places = mask_places(
        {name: relative_path(one) for name, one in zip(own.ids, own.photographs, strict=True)}
    )
    for folder in (IMAGE_DIR, MASK_DIR, PREDICTED):
        shutil.rmtree(out / folder, ignore_errors=True)
        (out / folder).mkdir(parents=True)
    for name, photograph in zip(own.ids, own.photographs, strict=True):
        if name in real.paths:
            suffix = photograph.path.suffix.lower()
            (out / IMAGE_DIR / f"{name}{suffix}").symlink_to(photograph.path.resolve())
            mask = real.read(real.paths[name])
            write_mask(out / MASK_DIR / f"{name}.png", mask, {}, sync=False)  # ours: 255 is ignored
            (out / PREDICTED / f"{name}.png").symlink_to((masks / places[name]).resolve())
    write_list(out, "val", [name for name in own.ids if name in real.paths])
    with atomic_write(out / CLASS_LIST_FILE, "w") as file:
        file.write((data / CLASS_LIST_FILE).read_text(encoding="utf-8"))


def main(args: argparse.Namespace) -> None:
    """Put back all masks."""
    root = Path(args.voc12_root)
    photographs = read_photographs(root)
    places = mask_places(photographs)
    images = require_dir(args.images, "--images", "give the folder of photographs")
    back = Returned(images, Path(args.mask_dir), Path(args.out))
    items = [(name, photographs[name], places[name]) for name in photographs]
    sure = pool_map(back, items, args.num_workers, "masks")
    found = {
        name: value for name, value in zip(photographs, sure, strict=True) if value is not None
    }
    if old := drop_old_masks(Path(args.out), set(places.values())):
        print(f"{args.out}: {old} masks of photographs that are gone are removed")
    write_json(args.json, dict(sorted(found.items(), key=lambda pair: pair[1])))
    print(f"masks: {args.out}, {len(items)} photographs")


if __name__ == "__main__":
    run_script(main, parse_args)
