"""Sets of photographs and tags as a user has them, cut from VOC 2012, to measure
masks_from_tags.py on.

    python -m experiments.own_sets --voc12_root VOC2012 --set three --out sets/three

Writes <out>/photos, links to photographs, and <out>/tags.csv, all that masks_from_tags.py gets;
<out>/masks, the real masks in the set's own numbers; and <out>/test, other photographs with masks
in VOC layout. What is of no class of the set is background in the masks.
"""

from tool.start import end_at_ctrl_c

if __name__ == "__main__":
    end_at_ctrl_c()  # while it imports

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tool.errors import InputError, run_script
from tool.file.atomic import atomic_write
from tool.file.images import read_mask, write_mask
from tool.mask_values import IGNORE_LABEL
from tool.run.flags import non_negative_int, positive_int
from tool.run.progress import progress
from voc12.constants import CLASS_LIST_FILE, CLASSES, IMAGE_DIR, LIST_DIR, MASK_DIR
from voc12.data_flags import add_list_flag, add_root_flag
from voc12.labels import load_labels
from voc12.lists import image_path, load_ids, mask_path


@dataclass(frozen=True)
class OwnSet:
    """Which photographs a set has.

    classes: its classes; count: photographs that show some of them and no other class of VOC;
    negatives: photographs that show none of them
    """

    classes: tuple[str, ...]
    count: int
    negatives: int = 0


SETS = {
    "three": OwnSet(("cat", "dog", "horse"), 112),
    "one": OwnSet(("cat",), 80, negatives=80),
    "six": OwnSet(("cat", "cow", "dog", "horse", "person", "sheep"), 400),
}


def drawing_parser(description: str | None, out: str) -> argparse.ArgumentParser:
    """The flags of what is drawn from a training list and tested on another; out: what --out is."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_root_flag(parser)
    add_list_flag(parser, "--list", default="animals_train_aug")
    add_list_flag(parser, "--test_list", default="animals_val")
    parser.add_argument(
        "--draw",
        type=non_negative_int,
        default=0,
        help="seed of the choice of photographs (default %(default)s)",
    )
    parser.add_argument("--out", required=True, help=f"folder for the {out}")
    return parser


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = drawing_parser(__doc__, "set")
    parser.add_argument("--set", choices=SETS, required=True, help="which set")
    parser.add_argument(
        "--count",
        type=positive_int,
        help="photographs that show a class of the set (default: the set's); those of a smaller "
        "set are among those of a larger one",
    )
    return parser.parse_args(argv)


def choose(labels: np.ndarray, own: OwnSet, seed: int) -> np.ndarray:
    """Sorted places of the set's photographs among labels (N, 20).

    They are drawn class by class in turn, so that the classes are as even as the photographs allow.
    Raises InputError where there are too few, or none of a class.
    """
    rng = np.random.default_rng(seed)
    columns = [CLASSES.index(name) for name in own.classes]
    inside = labels[:, columns] > 0
    only = inside.any(axis=1) & (labels.sum(axis=1) == inside.sum(axis=1))
    for name, shows in zip(own.classes, inside.T, strict=True):
        if not (only & shows).any():
            raise InputError(
                f"the list has no photograph of {name} without classes that the set has not; give "
                "another --list"
            )
    piles = [list(rng.permutation(np.flatnonzero(only & shows))) for shows in inside.T]
    chosen: dict[int, None] = {}
    while len(chosen) < own.count and any(piles):
        for pile in piles:
            while pile and pile[-1] in chosen:
                pile.pop()
            if pile and len(chosen) < own.count:
                chosen[pile.pop()] = None
    others = rng.permutation(np.flatnonzero(~inside.any(axis=1)))[: own.negatives]
    if len(chosen) < own.count or len(others) < own.negatives:
        raise InputError(
            f"the list has {len(chosen)} of {own.count} photographs of the set, and {len(others)} "
            f"of {own.negatives} without its classes; give a longer --list"
        )
    return np.sort(np.concatenate([list(chosen), others]).astype(int))


def value_table(classes: Sequence[str]) -> np.ndarray:
    """(256,) uint8: VOC's mask value -> the set's."""
    table = np.zeros(256, dtype=np.uint8)
    table[IGNORE_LABEL] = IGNORE_LABEL
    for value, name in enumerate(classes, start=1):
        table[CLASSES.index(name) + 1] = value
    return table


def link(target: Path, source: Path) -> None:
    """Make target a link to source; one that leads elsewhere is made anew."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink():
        if target.resolve() == source.resolve():
            return
        target.unlink()
    target.symlink_to(source.resolve())


def write_photographs(
    root: str, ids: Sequence[str], images: Path, masks: Path, classes: Sequence[str]
) -> None:
    """Link the photographs of ids into images, write their masks into masks."""
    table = value_table(classes)
    for name in progress(ids, unit="img"):
        path = image_path(root, name)
        link(images / path.name, path)
        write_mask(masks / f"{name}.png", table[read_mask(mask_path(root, name))], sync=False)


def write_set(root: str, list_name: str, own: OwnSet, draw: int, out: Path) -> int:
    """Write photographs, tags and masks of a set drawn from a list; how many photographs it has.
    Links to photographs of another set that was drawn into the folder are removed.
    """
    ids = load_ids(root, list_name)
    labels = load_labels(root, ids, CLASSES)
    chosen = choose(labels, own, draw)
    names = [ids[index] for index in chosen]
    write_photographs(root, names, out / "photos", out / "masks", own.classes)
    for path in (out / "photos").iterdir():
        if path.is_symlink() and path.stem not in names:
            path.unlink()
    with atomic_write(out / "tags.csv", "w") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["image", "tags"])
        for name, row in zip(names, labels[chosen], strict=True):
            shown = [tag for tag, hot in zip(CLASSES, row, strict=True) if hot]
            table.writerow([f"{name}.jpg", ";".join(tag for tag in shown if tag in own.classes)])
    return len(names)


def write_test(root: str, list_name: str, own: OwnSet, test: Path) -> int:
    """Write what tests the set's model, in VOC layout; how many photographs it has."""
    ids = load_ids(root, list_name)
    labels = load_labels(root, ids, CLASSES)
    if not own.negatives:
        columns = [CLASSES.index(name) for name in own.classes]
        others = np.delete(labels, columns, axis=1).any(axis=1)
        shown = labels[:, columns].any(axis=1) & ~others
        ids = [name for name, keep in zip(ids, shown, strict=True) if keep]
    write_photographs(root, ids, test / IMAGE_DIR, test / MASK_DIR, own.classes)
    for path, lines in (
        (test / CLASS_LIST_FILE, own.classes),
        (test / LIST_DIR / "val.txt", ids),
    ):
        with atomic_write(path, "w") as file:
            file.write("\n".join(lines) + "\n")
    return len(ids)


def main(args: argparse.Namespace) -> None:
    """Write the set."""
    own, out = SETS[args.set], Path(args.out)
    count = args.count or own.count
    own = replace(own, count=count, negatives=round(own.negatives * count / own.count))
    count = write_set(args.voc12_root, args.list, own, args.draw, out)
    tests = write_test(args.voc12_root, args.test_list, own, out / "test")
    print(f"{out}: {count} photographs of {', '.join(own.classes)}, {tests} to test")


if __name__ == "__main__":
    run_script(main, parse_args)
