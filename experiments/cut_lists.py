"""Lists to test on that took no part in a choice, cut from a training list.

    python -m experiments.cut_lists --voc12_root PHOTOS --out CUT --avoid sets/three sets/six

Writes <out> in VOC layout, linked to the data set: the lists cut_1, cut_2 are drawn from the
training list's photographs that are in none of the --avoid folders, which are sets of
experiments.own_sets. The training list has the others, under its own name. The test list has what
it had and all that was cut, so that one run of reproduce.py scores all; the list test is what it
had. A list of many is drawn so that its classes are as even as the photographs allow.
"""

from tool.start import end_at_ctrl_c

if __name__ == "__main__":
    end_at_ctrl_c()  # while it imports

import argparse
from pathlib import Path

import numpy as np

from experiments.own_sets import OwnSet, choose, link
from tool.errors import InputError, run_script
from tool.file.atomic import atomic_write
from tool.run.flags import non_negative_int, positive_int
from voc12.constants import CLASSES, IMAGE_DIR, LABEL_FILE, LIST_DIR, MASK_DIR
from voc12.data_flags import add_list_flag, add_root_flag
from voc12.labels import load_labels
from voc12.lists import load_ids


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_root_flag(parser)
    add_list_flag(parser, "--list", default="animals_train_aug")
    add_list_flag(parser, "--test_list", default="animals_val")
    parser.add_argument(
        "--avoid",
        nargs="+",
        default=[],
        help="folders of experiments.own_sets whose photographs are not drawn",
    )
    parser.add_argument(
        "--cuts", type=positive_int, default=2, help="how many lists (default %(default)s)"
    )
    parser.add_argument(
        "--count",
        type=positive_int,
        default=100,
        help="photographs of each list (default %(default)s)",
    )
    parser.add_argument(
        "--draw",
        type=non_negative_int,
        default=0,
        help="seed of the choice of photographs (default %(default)s)",
    )
    parser.add_argument("--out", required=True, help="folder for the data set")
    return parser.parse_args(argv)


def avoided(folders: list[str]) -> set[str]:
    """Ids of the photographs in folders of experiments.own_sets."""
    seen: set[str] = set()
    for folder in folders:
        names = {path.stem for path in Path(folder, "photos").glob("*.jpg")}
        if not names:
            raise InputError(f"{folder}: no photographs in {folder}/photos; see --help")
        seen |= names
    return seen


def cut(labels: np.ndarray, free: np.ndarray, cuts: int, count: int, seed: int) -> list[np.ndarray]:
    """Sorted places of each list's photographs among labels (N, 20); free (N,) bool: may be drawn.

    Raises InputError where too few are free.
    """
    places = np.flatnonzero(free)
    if len(places) < cuts * count:
        raise InputError(f"{len(places)} photographs are free, {cuts} lists want {cuts * count}")
    shown = tuple(np.array(CLASSES)[labels[places].any(axis=0)])
    drawn = choose(labels[places], OwnSet(shown, cuts * count), seed)
    drawn = np.random.default_rng(seed).permutation(places[drawn])
    return [np.sort(part) for part in np.split(drawn, cuts)]


def write_list(folder: Path, name: str, ids: list[str]) -> None:
    """Write a list of ids."""
    with atomic_write(folder / f"{name}.txt", "w") as file:
        file.write("\n".join(ids) + "\n")


def main(args: argparse.Namespace) -> None:
    """Write the data set."""
    root, out = Path(args.voc12_root), Path(args.out)
    ids, tested = load_ids(str(root), args.list), load_ids(str(root), args.test_list)
    labels = load_labels(str(root), ids, CLASSES)
    avoid = avoided(args.avoid)
    free = np.array([name not in avoid for name in ids])
    drawn = cut(labels, free, args.cuts, args.count, args.draw)
    parts = [[ids[place] for place in part] for part in drawn]
    gone = {name for part in parts for name in part}
    for name in (IMAGE_DIR, MASK_DIR, LABEL_FILE):
        link(out / name, root / name)
    write_list(out / LIST_DIR, args.list, [name for name in ids if name not in gone])
    write_list(out / LIST_DIR, args.test_list, tested + [name for part in parts for name in part])
    write_list(out / LIST_DIR, "test", tested)
    for number, part in enumerate(parts, start=1):
        write_list(out / LIST_DIR, f"cut_{number}", part)
    print(
        f"{out}: {len(ids) - len(gone)} photographs to train on, {len(tested) + len(gone)} to test "
        f"on, {args.cuts} lists of {args.count} among them"
    )


if __name__ == "__main__":
    run_script(main, parse_args)
