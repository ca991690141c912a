"""Lists to test on that took no part in a choice, cut from a training list.

    python -m experiments.cut_lists --voc12_root PHOTOS --out CUT --avoid sets/three sets/six

Writes <out> in VOC layout, linked to the data set: the lists cut_1, cut_2 are drawn from the
training list's photographs that are in none of the --avoid folders, which are sets of
experiments.own_sets. The training list has the others, under its own name. The test list has what
it had and all that was cut, so that one run of reproduce.py scores all; the list test is what it
had. What is cut has its classes as even as the photographs allow.
"""

from tool.start import end_at_ctrl_c

if __name__ == "__main__":
    end_at_ctrl_c()  # while it imports

import argparse
from pathlib import Path

import numpy as np

from experiments.own_sets import OwnSet, choose, drawing_parser, link
from tool.errors import InputError, run_script
from tool.run.flags import positive_int
from voc12.constants import (
    ANNOTATION_DIR,
    CLASSES,
    IMAGE_DIR,
    LABEL_FILE,
    LIST_DIR,
    MASK_DIR,
)
from voc12.labels import load_labels
from voc12.lists import load_ids
from voc12.own_photographs import write_list


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = drawing_parser(__doc__, "data set")
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


def require_name(root: Path, name: str, flag: str) -> None:
    """Raise InputError unless it is the name of a list of the data set, which stays its name."""
    if not (root / LIST_DIR / f"{name}.txt").is_file():
        raise InputError(f"{flag} {name} is no list in {root / LIST_DIR}; give its name alone")


def main(args: argparse.Namespace) -> None:
    """Write the data set."""
    root, out = Path(args.voc12_root), Path(args.out)
    require_name(root, args.list, "--list")
    require_name(root, args.test_list, "--test_list")
    ids, tested = load_ids(str(root), args.list), load_ids(str(root), args.test_list)
    labels = load_labels(str(root), ids, CLASSES)
    avoid = avoided(args.avoid)
    free = np.array([name not in avoid for name in ids])
    drawn = cut(labels, free, args.cuts, args.count, args.draw)
    parts = [[ids[place] for place in part] for part in drawn]
    gone = {name for part in parts for name in part}
    for name in (IMAGE_DIR, MASK_DIR, LABEL_FILE, ANNOTATION_DIR):
        if (root / name).exists():
            link(out / name, root / name)
    write_list(out, args.list, [name for name in ids if name not in gone])
    write_list(out, args.test_list, tested + [name for part in parts for name in part])
    write_list(out, "test", tested)
    for number, part in enumerate(parts, start=1):
        write_list(out, f"cut_{number}", part)
    print(
        f"{out}: {len(ids) - len(gone)} photographs to train on, {len(tested) + len(gone)} to test "
        f"on, {args.cuts} lists of {args.count} among them"
    )


if __name__ == "__main__":
    run_script(main, parse_args)
