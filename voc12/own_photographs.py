"""A folder of photographs and their tags as a data set in VOC layout, made of links: what the other
scripts read.

    python -m voc12.own_photographs --images DIR --tags FILE --out DATA

Without --tags every subfolder of --images is a class, and one called background or none of them
holds photographs without any. Photographs are taken with all folders below, linked ones too,
whatever their suffix; of one that is longer than --long_side a smaller copy is made, others are
linked. Photographs that are copies of each other, or links to one, show all that any of them shows,
and none of them is held out where another trains. Writes in <out>:
JPEGImages, small (the copies), classes.txt, cls_labels.npy, photographs.json (id -> path in
--images), and the lists all (every photograph), train and held (those with labels; held is a tenth
that does not train, for the scores of the classifier), tagged (both) and untagged.

Tags are in any of the forms of docs/data.md#image-labels. Their names are the classes, unless
--classes gives a list. A photograph without a row, or with an empty one, has no tags; --untagged
says what that means. The tag background or none is one: the photograph shows no class.
"""

from tool.start import end_at_ctrl_c

if __name__ == "__main__":
    end_at_ctrl_c()  # while it imports

import argparse
import re
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from tool.errors import InputError, run_script
from tool.file.atomic import atomic_write, write_json
from tool.file.digests import digest, first_copies
from tool.file.images import APPLY_EXIF, photograph_header, read_image, write_image
from tool.file.photographs import Photograph, find_photographs
from tool.file.require import require_dir
from tool.file.text import shortened
from tool.names import nfc
from tool.run.flags import pixels
from tool.run.machine_flags import add_workers_flag
from tool.run.progress import progress
from voc12.class_list import read_class_list, write_class_list
from voc12.constants import CLASS_LIST_FILE, IMAGE_DIR, LABEL_FILE, LIST_DIR
from voc12.label_file.tables import Chosen
from voc12.labels import class_table, save_labels
from voc12.named_photographs import relative_path
from voc12.own_tags import join_copies, read_tags, tags_of_folders

BACKGROUND, UNLABELLED, SKIP = UNTAGGED = ("background", "unlabelled", "skip")
PHOTOGRAPHS_FILE = "photographs.json"
SMALL_DIR = "small"  # beside JPEGImages: copies of long photographs
SMALL_DIGITS = 32
SMALL_NAME = re.compile(rf"\.?[0-9a-f]{{{SMALL_DIGITS}}}\.png(\..*)?")  # or one begun
LONG_SIDE = 512
HELD = 10  # one labelled photograph in so many is held out
LEAST_HELD = 40  # labelled photographs from which on any is
ID_BYTES = 120


@dataclass(frozen=True)
class Own:
    """Photographs and what their tags say.

    ids, photographs: one each; classes: foreground names; labels: (N, C) multi-hot;
    labelled: (N,) whether labels says what the photograph shows; copy_of: (N,) the place of the
    first photograph of the same content, its own where none before it has it
    """

    ids: list[str]
    photographs: list[Photograph]
    classes: tuple[str, ...]
    labels: np.ndarray
    labelled: np.ndarray
    copy_of: np.ndarray


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_own_flags(parser)
    parser.add_argument("--out", required=True, help="folder for the data set")
    add_workers_flag(parser, "processes")
    return parser.parse_args(argv)


def add_own_flags(group: argparse._ActionsContainer) -> None:
    """What photographs and tags are, and how they are read."""
    group.add_argument(
        "--images", required=True, metavar="DIR", help="folder of photographs, with all below it"
    )
    group.add_argument(
        "--tags",
        metavar="FILE",
        help="which classes each photograph shows: .csv, .json, ... (docs/data.md); default: a "
        "subfolder a class",
    )
    group.add_argument(
        "--classes",
        metavar="FILE",
        help="class names, one a line (default: all names that occur in the tags)",
    )
    group.add_argument(
        "--image_column",
        metavar="NAME",
        help="heading, or number from 1, of the column of --tags that names the photographs "
        "(default: as the headings say, docs/own_photographs.md)",
    )
    group.add_argument(
        "--tag_columns",
        nargs="+",
        metavar="NAME",
        help="headings, or numbers, of the columns of --tags that hold tags, or a class each as "
        "yes and no (default: as the headings say)",
    )
    group.add_argument(
        "--untagged",
        choices=UNTAGGED,
        help="photographs without tags: background, they show no class; unlabelled, nobody looked: "
        "they train nothing and get masks; skip, leave them out (default unlabelled; background "
        "where there is one class alone)",
    )
    group.add_argument(
        "--long_side",
        type=pixels,
        default=LONG_SIDE,
        help="photographs that are longer are made smaller to work on, pixels (default "
        "%(default)s)",
    )
    group.add_argument(
        "--leave_out",
        nargs="+",
        metavar="DIR",
        help="folders below --images that hold something else than photographs, masks for instance "
        "(default: those that are written to)",
    )


# ============ photographs and ids ============
def photograph_ids(photographs: Sequence[Photograph]) -> list[str]:
    """An id for each: its path in the folder, without suffix, what no id may have replaced by _;
    the later ones of equal ids are numbered.
    """
    taken: set[str] = set()
    ids = []
    for photograph in photographs:
        path = photograph.relative / photograph.name
        plain = nfc("_".join(path.parts))
        plain = re.sub(r"[^\w-]+", "_", plain).strip("_") or "photograph"
        while len(plain.encode()) > ID_BYTES:
            plain = plain[:-1]
        name, number = plain, 1
        while name.casefold() in taken:
            number += 1
            name = f"{plain}_{number}"
        taken.add(name.casefold())
        ids.append(name)
    return ids


# ============ the data set ============
def read_own(args: argparse.Namespace) -> Own:
    """The photographs of --images with what --tags, or their folders, say of them."""
    root = require_dir(args.images, "--images", "give the folder of photographs")
    photographs = find_photographs([args.images], "masks", ignored_folders(args), links=True)
    copy_of = np.array(first_copies([one.path for one in photographs]))
    given = read_class_list(args.classes) if args.classes else None
    chosen = Chosen(args.image_column, tuple(args.tag_columns or ()), by_flags=True)
    if args.tags:
        classes, labels, labelled = read_tags(
            args.tags, photographs, copy_of, given, args.images, chosen
        )
    elif chosen.any:
        raise InputError("--image_column and --tag_columns are of --tags, which is not given")
    else:
        classes, labels, labelled = tags_of_folders(root, photographs, given)
        named = shortened(", ".join(classes))
        print(
            f"no --tags: what a photograph shows is the folder of {root} that it lies in: {named}"
        )
    labels, labelled = join_copies(photographs, copy_of, labels, labelled)
    untagged = args.untagged or (BACKGROUND if len(classes) == 1 else UNLABELLED)
    if count := int((~labelled).sum()):
        why = "" if args.untagged else " (--untagged says otherwise)"
        means = {
            BACKGROUND: "are taken as background: they show no class",
            UNLABELLED: "are unlabelled: they train nothing and get masks",
            SKIP: "are left out",
        }
        print(f"{count} photographs without tags {means[untagged]}{why}")
    if untagged == SKIP:
        kept = np.flatnonzero(labelled)
        photographs = [photographs[place] for place in kept]
        labels, labelled = labels[kept], labelled[kept]
        copy_of = np.searchsorted(kept, copy_of[kept])  # copies stay or go together
    elif untagged == BACKGROUND:
        labelled[:] = True
    own = Own(photograph_ids(photographs), photographs, classes, labels, labelled, copy_of)
    require_something_to_learn(own)
    return own


def ignored_folders(args: argparse.Namespace) -> list[str]:
    """Folders below --images that hold something else than photographs: --out, --leave_out and
    --masks of masks_from_tags.py. Raises InputError where one of the latter is --images itself.
    """
    masks = getattr(args, "masks", None)
    given = [("--leave_out", folder) for folder in args.leave_out or ()]
    given += [("--masks", masks)] if masks else []
    for flag, folder in given:
        if require_dir(folder, flag, "give a folder").resolve() == Path(args.images).resolve():
            raise InputError(
                f"{flag} {folder} is --images as well, where what it holds would be taken for "
                "photographs; put one of them into a folder of its own"
            )
    return [args.out, *(folder for _, folder in given)]


def require_something_to_learn(own: Own) -> None:
    """Print the classes with their photographs, and what is wrong with them. Raises InputError
    where nothing can be learnt: all photographs have the same labels.
    """
    labels = own.labels[own.labelled]
    print(class_table(labels, own.classes))
    if len(labels) == 0:
        raise InputError(
            f"none of the {len(own.ids)} photographs has a tag: nothing can be learnt; add tags, "
            "or put the photographs into a subfolder a class"
        )
    if (labels == labels[0]).all():
        shown = ", ".join(name for name, hot in zip(own.classes, labels[0], strict=True) if hot)
        raise InputError(
            f"all {len(labels)} photographs with tags show the same, {shown or 'nothing'}: nothing "
            "can be learnt from them; add photographs without it, in a subfolder called background "
            "or by --untagged background"
        )


def held_out(labels: np.ndarray, labelled: np.ndarray, copy_of: np.ndarray) -> np.ndarray:
    """(N,) bool: the labelled photographs that do not train: every tenth in the order of their
    classes, with its copies, none where there are under LEAST_HELD.

    labels: (N, C) multi-hot; labelled: (N,) bool; copy_of: (N,) as in Own, by which copies have the
    same labels
    """
    held = np.zeros(len(labels), dtype=bool)
    places = np.flatnonzero(labelled & (copy_of == np.arange(len(labels))))
    if len(places) < LEAST_HELD:
        return held
    order = places[np.lexsort(labels[places].T)]
    held[order[HELD // 2 :: HELD]] = True
    held = held[copy_of]
    for column in labels.T > 0:  # a class keeps more than it lends
        own = np.flatnonzero(column & labelled)
        if held[own].all():
            held[own] = False
    return held


@dataclass(frozen=True)
class Links:
    """Reads photographs and gives them their places in JPEGImages: (photograph, id) -> (the link's
    name, where it leads, the smaller copy's name or None).

    A link leads to the photograph or, where that is longer than long_side, to a smaller copy in
    SMALL_DIR, named after what it was made from; so neither can be of another photograph or size.
    """

    out: Path
    long_side: int

    def __call__(self, item: tuple[Path, str]) -> tuple[str, Path, str | None]:
        """Make the copy if it is missing. Raises InputError for a photograph that cannot be
        read.
        """
        source, name = item
        try:
            small = self._copy(source)
        except InputError as error:  # --images has no list
            raise InputError(str(error).replace("off the list", "out of --images")) from None
        if small is None:
            return name + source.suffix.lower(), source.resolve(), None
        return f"{name}.png", Path("..", SMALL_DIR, small), small

    def _copy(self, source: Path) -> str | None:
        height, width = photograph_header(source).size(APPLY_EXIF)
        if max(height, width) <= self.long_side:
            read_image(source)  # what is damaged is found here, and not after a training
            return None
        info = source.stat()
        made_from = [str(source.resolve()), info.st_size, info.st_mtime_ns, self.long_side]
        small = f"{digest({'made_from': made_from}, SMALL_DIGITS)}.png"
        if not (self.out / SMALL_DIR / small).is_file():
            factor = self.long_side / max(height, width)
            size = max(1, round(width * factor)), max(1, round(height * factor))
            shrunk = cv2.resize(read_image(source), size, interpolation=cv2.INTER_AREA)
            write_image(self.out / SMALL_DIR / small, shrunk)
        return small

    def make(self, name: str, target: Path) -> None:
        """Make a link in JPEGImages, or leave the one that is there."""
        link = self.out / IMAGE_DIR / name
        if not link.is_symlink() or link.readlink() != target:
            link.unlink(missing_ok=True)
            link.symlink_to(target)


def require_own_folder(out: Path, sources: Collection[Path]) -> None:
    """Raise InputError where out has photographs of its own, or links and copies that this module
    has not made: those that are of no use here would be removed.

    sources: the photographs; a run that was cut off leaves links to them, and no PHOTOGRAPHS_FILE.
    """
    finished = (out / PHOTOGRAPHS_FILE).is_file()
    own, copies = {path.resolve() for path in sources}, (out / SMALL_DIR).resolve()

    def is_ours(link: Path) -> bool:
        return link.resolve() in own or link.resolve().parent == copies

    for path in out.glob(f"{IMAGE_DIR}/*"):
        if not path.is_symlink():
            raise InputError(
                f"--out {out} has photographs of its own, e.g. {path.name} in {IMAGE_DIR}; give a "
                "new folder, which will hold links"
            )
        if not finished and not is_ours(path):
            raise InputError(
                f"--out {out} has links of another program, e.g. {path.name} in {IMAGE_DIR}; give "
                "a new folder"
            )
    for path in out.glob(f"{SMALL_DIR}/*"):
        if not finished and not SMALL_NAME.fullmatch(path.name):
            raise InputError(
                f"--out {out} has files of another program, e.g. {SMALL_DIR}/{path.name}; give a "
                "new folder"
            )


def drop_others(folder: Path, names: Collection[str]) -> None:
    """Remove what is not of these names: links and copies of photographs that are gone."""
    for path in folder.glob("*"):
        if path.name not in names:
            path.unlink()


def write_list(out: Path, name: str, ids: Iterable[str]) -> None:
    """Write the list ImageSets/Segmentation/<name>.txt; none where ids are none."""
    path = out / LIST_DIR / f"{name}.txt"
    lines = list(ids)
    if not lines:
        path.unlink(missing_ok=True)
        return
    with atomic_write(path, "w") as file:
        file.write("\n".join(lines) + "\n")


def write_own(own: Own, out: Path, long_side: int, num_workers: int) -> None:
    """Write the data set in VOC layout; photographs.json last. Raises InputError where out has
    photographs or links of another program.
    """
    require_own_folder(out, [one.path for one in own.photographs])
    links = Links(out, long_side)
    items = [(one.path, name) for name, one in zip(own.ids, own.photographs, strict=True)]
    # threads: what takes the time is reading, and Pillow and OpenCV let others run meanwhile
    with ThreadPoolExecutor(max_workers=max(1, num_workers)) as pool:
        made = pool.map(links, items)
        found = list(progress(made, total=len(items), desc="photographs", unit="img"))
    # where one is damaged there is no JPEGImages, which would pass for a data set
    (out / IMAGE_DIR).mkdir(parents=True, exist_ok=True)
    for name, target, _ in found:
        links.make(name, target)
    names, _, copies = zip(*found, strict=True)
    drop_others(out / IMAGE_DIR, set(names))
    drop_others(out / SMALL_DIR, set(copies))
    write_class_list(out / CLASS_LIST_FILE, own.classes)
    ids = np.array(own.ids)
    held = held_out(own.labels, own.labelled, own.copy_of)
    save_labels(out / LABEL_FILE, ids[own.labelled].tolist(), own.labels[own.labelled])
    write_list(out, "all", ids)
    write_list(out, "tagged", ids[own.labelled])
    write_list(out, "train", ids[own.labelled & ~held])
    write_list(out, "held", ids[held])
    write_list(out, "untagged", ids[~own.labelled])
    paths = {name: relative_path(one) for name, one in zip(own.ids, own.photographs, strict=True)}
    write_json(out / PHOTOGRAPHS_FILE, paths)
    print(
        f"{out}: {len(ids)} photographs, {int(own.labelled.sum())} with labels, of which "
        f"{int(held.sum())} are held out; {len(own.classes)} classes"
    )


def main(args: argparse.Namespace) -> None:
    """Write the data set."""
    write_own(read_own(args), Path(args.out), args.long_side, args.num_workers)


if __name__ == "__main__":
    run_script(main, parse_args)
