"""A folder of photographs and their tags as a data set in VOC layout, made of links: what the other
scripts read.

    python -m voc12.own_photographs --images DIR --tags FILE --out DATA

Without --tags every subfolder of --images is a class, and one called background or none of them
holds photographs without any. Photographs are taken with all folders below, whatever their suffix;
of one that is longer than --long_side a smaller copy is made, others are linked. Writes in <out>:
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
import filecmp
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from tool.errors import InputError, run_script
from tool.file.atomic import atomic_write, write_json
from tool.file.digests import digest
from tool.file.images import APPLY_EXIF, photograph_header, read_image, write_image
from tool.file.photographs import PHOTOGRAPH_SUFFIXES, Photograph, find_photographs
from tool.file.require import require_dir
from tool.file.text import shortened
from tool.names import name_fault
from tool.run.flags import pixels
from tool.run.machine_flags import add_workers_flag
from tool.run.progress import progress
from voc12.class_list import class_list_text, load_class_list, write_class_list
from voc12.constants import CLASS_LIST_FILE, IMAGE_DIR, LABEL_FILE, LIST_DIR
from voc12.label_cells import nfc
from voc12.label_entries import Entry
from voc12.label_files import label_entries
from voc12.label_reading import is_no_class
from voc12.label_tables import BY_TABLE, Chosen
from voc12.labels import class_table, save_labels
from voc12.tag_names import tag_names

BACKGROUND, UNLABELLED, SKIP = UNTAGGED = ("background", "unlabelled", "skip")
PHOTOGRAPHS_FILE = "photographs.json"
SMALL_DIR = "small"  # beside JPEGImages: copies of long photographs
SMALL_DIGITS = 32
ROOTED = re.compile(r"[A-Za-z]:[\\/]|[\\/~]|[a-z]+://")  # C:/photos, /home, //server, ~, https://
SMALL_NAME = re.compile(rf"\.?[0-9a-f]{{{SMALL_DIGITS}}}\.png(\..*)?")  # or one begun
LONG_SIDE = 512
HELD = 10  # one labelled photograph in so many is held out
LEAST_HELD = 40  # labelled photographs from which on any is
ID_BYTES = 120


@dataclass(frozen=True)
class Own:
    """Photographs and what their tags say.

    ids, photographs: one each; classes: foreground names; labels: (N, C) multi-hot;
    labelled: (N,) whether labels says what the photograph shows
    """

    ids: list[str]
    photographs: list[Photograph]
    classes: tuple[str, ...]
    labels: np.ndarray
    labelled: np.ndarray


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


def relative_path(photograph: Photograph) -> str:
    """The photograph's path in the folder that was given, with slashes."""
    return (photograph.relative / photograph.path.name).as_posix()


# ============ tags ============
class Finder:
    """Finds the photograph that a tags file means by a name: its path in the folder, or the end of
    that. With suffix or without, and whatever the capitals, if none fits as it is written; a number
    finds the photograph that is called so, also with zeros before.

    A path that begins above the folder is one in it below the folder's own name, or below the
    folder that all such paths of the file have in common. Any other path that is not there is of a
    photograph that is gone, whatever its last part.

    above: the parts of that common folder, () for none
    """

    def __init__(
        self, photographs: Sequence[Photograph], names: Iterable[str | int], folder: str | Path
    ) -> None:
        """names: all that the file says; folder: of the photographs."""
        self.paths = [_plain(relative_path(photograph)) for photograph in photographs]
        self.forms = [
            (form, name_form, self._places(form, _whole), self._places(form, _tails))
            for form, name_form in FORMS
        ]
        self.folder = tuple(_plain(str(Path(folder).resolve())).casefold().split("/"))
        self.above = self._common_root([str(name) for name in names if str(name).strip()])

    def _places(
        self, form: Callable[[str], str], names: Callable[[str], list[str]]
    ) -> dict[str, list[int]]:
        table: dict[str, list[int]] = {}
        for place, path in enumerate(self.paths):
            for name in names(form(path)):
                table.setdefault(name, []).append(place)
        return table

    def __call__(self, entry: Entry) -> int | None:
        """The photograph's place, None where there is none. Raises InputError where it may be
        several.
        """
        key = _plain(str(entry.key))
        below = self._below(key, is_rooted(str(entry.key)))
        for form, name_form, whole, tails in self.forms:
            name = name_form(key)
            found = whole.get(name) or tails.get(name) or []
            # not if another suffix differs as well
            if not found and (form in (str, str.casefold) or _stem(key) == key):
                paths = map(name_form, below)
                found = next((whole[path] for path in paths if path in whole), [])
            if len(found) == 1:
                return found[0]
            if found:
                raise InputError(
                    f"{entry.where}: '{shortened(entry.key)}' may be {self.paths[found[0]]} and "
                    f"{self.paths[found[1]]}; write its path in the folder of photographs, with "
                    "the suffix"
                )
        return None

    def _below(self, key: str, rooted: bool) -> list[str]:
        """The paths in the folder that one which begins above it may mean, the longest first."""
        parts = key.split("/")
        found = []
        for n in range(1, len(parts)):
            above = tuple(part.casefold() for part in parts[:n] if part != "..")
            # another machine has other folders above
            length = 1 if rooted else len(above)
            known = bool(above) and above[-length:] == self.folder[-length:]
            if known or tuple(parts[:n]) == self.above:
                found.append("/".join(parts[n:]))
        return found

    def _common_root(self, names: Sequence[str]) -> tuple[str, ...]:
        """The folder in common of all paths that begin above the folder, below which they are
        photographs' paths; () for none. Paths from a root, C:/me/photos, are such; others where
        none is a bare name or a path in the folder, and half of them fit.
        """
        whole = self._places(_folded_stem, _whole)
        inside = {*whole, *self._places(_folded_stem, _tails)}
        paths = [_plain(name).split("/") for name in names if is_rooted(name)]
        least = 1
        if not paths:
            others = [_plain(name) for name in names]
            if any("/" not in one or _folded_stem(one) in inside for one in others):
                return ()
            paths = [one.split("/") for one in others]
            least = len(paths) / 2
        best, most = 0, 0
        for length in range(1, min((len(path) for path in paths), default=0)):
            if len({tuple(path[:length]) for path in paths}) > 1:
                break
            found = sum(_folded_stem("/".join(path[length:])) in whole for path in paths)
            if found >= least and found > most:
                best, most = length, found
        return tuple(paths[0][:best]) if paths else ()


def is_rooted(name: str) -> bool:
    """Whether a path begins at a root: C:/photos, /home, //server, ~, https://."""
    return ROOTED.match(name.strip()) is not None


def _plain(name: str) -> str:
    parts = nfc(name.replace("\\", "/")).strip().split("/")
    return "/".join(part for part in parts if part not in ("", "."))


def _whole(name: str) -> list[str]:
    return [name]


def _tails(name: str) -> list[str]:
    """What is left of a path without its first folders, the longest first."""
    parts = name.split("/")
    return ["/".join(parts[start:]) for start in range(1, len(parts))]


def _stem(name: str) -> str:
    head, dot, suffix = name.rpartition(".")
    return head if dot and f".{suffix.lower()}" in PHOTOGRAPH_SUFFIXES else name


def _folded_stem(name: str) -> str:
    return _stem(name).casefold()


def _number(name: str) -> str:
    stem = _stem(name)
    return str(int(stem)) if re.fullmatch(r"\d{1,12}", stem, re.ASCII) else stem


def _number_said(name: str) -> str:
    """7 may be 007.jpg, as Excel takes zeros away; 007 is not 7.jpg."""
    return f"{name} is no number" if name != "0" and name.startswith("0") else _number(name)


# of the photographs' paths, and of a name in a file of tags
FORMS = (
    (str, str),
    (_stem, _stem),
    (str.casefold, str.casefold),
    (_folded_stem, _folded_stem),
    (_number, _number_said),
)


def read_tags(
    path: str,
    photographs: Sequence[Photograph],
    given: Sequence[str] | None,
    folder: str | Path,
    chosen: Chosen = BY_TABLE,
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """(classes, (N, C) multi-hot, (N,) whether the file says it) of a file of tags; rows of
    photographs that it does not name are zero. given: --classes; folder: --images; chosen:
    --image_column and --tag_columns.

    Raises InputError when it names none of the photographs, for a name that may be several of
    them, and for two rows that say different things of one.
    """
    stems = list(dict.fromkeys(photograph.path.stem for photograph in photographs))
    classes = tuple(given or tag_names(path, stems, chosen))
    require_class_names(path, classes)
    entries = label_entries(path, stems, classes, chosen)
    find = Finder(photographs, [entry.key for entry in entries], folder)
    if find.above and find.above[-1].casefold() != find.folder[-1]:
        above = shortened("/".join(find.above))
        print(f"{path}: its paths below '{above}' are taken for those in {folder}")
    said: dict[int, Entry] = {}
    lost = []
    for entry in entries:
        place = find(entry)
        if place is None:
            lost.append(entry)
            continue
        other = said.setdefault(place, entry)
        if not np.array_equal(other.row, entry.row) or (
            other.negative != entry.negative and not entry.row.any()
        ):
            raise InputError(
                f"{other.where} and {entry.where} say different things of {find.paths[place]}; "
                "leave one, with all its tags"
            )
    if not said:
        raise InputError(
            f"{path} names none of the {len(photographs)} photographs, the first of which is "
            f"'{find.paths[0]}'; its first is '{shortened(lost[0].key) if lost else ''}'"
        )
    if lost:
        names = ", ".join(shortened(entry.key) for entry in lost[:3])
        print(f"{path}: {len(lost)} of its photographs are not in the folder, e.g. {names}")
    _say_how_found(path, {place: str(entry.key) for place, entry in said.items()}, find.paths)
    labels = np.zeros((len(photographs), len(classes)), dtype=np.float32)
    labelled = np.zeros(len(photographs), dtype=bool)
    for place, entry in said.items():
        labels[place] = entry.row
        labelled[place] = entry.row.any() or entry.negative
    return classes, labels, labelled


def _say_how_found(path: str, names: dict[int, str], paths: Sequence[str]) -> None:
    """Say which photographs were found by less than a file says elsewhere: by a name alone where
    others are paths, and under another suffix. names: place in paths -> what the file says.
    """
    keys = {place: _plain(name) for place, name in names.items()}
    suffixes = {place: PurePosixPath(key).suffix.lower() for place, key in keys.items()}
    by_name = [place for place, key in keys.items() if "/" not in key and "/" in paths[place]]
    by_path = any("/" in _stem(key) and _stem(key) == _stem(paths[p]) for p, key in keys.items())
    other = [
        place
        for place, suffix in suffixes.items()
        if suffix in PHOTOGRAPH_SUFFIXES and not paths[place].lower().endswith(suffix)
    ]
    by_less = {"name alone": by_name if by_path else [], "name before the suffix": other}
    for what, places in by_less.items():
        if places:
            print(
                f"{path}: {len(places)} photographs are found by their {what}, e.g. "
                f"{paths[places[0]]} by '{shortened(keys[places[0]])}'"
            )


def require_class_names(source: str, classes: Sequence[str]) -> None:
    """Raise InputError where there are no classes, one cannot be part of a file's name, two differ
    by capitals alone, or a class list would not give them back.
    """
    if not classes:
        raise InputError(f"{source} has no tags; nothing can be learnt without")
    known: dict[str, str] = {}
    for name in classes:
        if fault := name_fault(name):
            raise InputError(f"{source}: tag '{shortened(name)}' cannot be a class: it {fault}")
        other = known.setdefault(nfc(name).casefold(), name)
        if other != name:
            raise InputError(
                f"{source}: tags '{other}' and '{name}' differ by capitals alone; write one of them"
            )
    class_list_text(classes, source)


def tags_of_folders(
    root: Path, photographs: Sequence[Photograph], given: Sequence[str] | None
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """(classes, (N, C) multi-hot, (N,) whether a folder says it) of subfolders a class.

    A photograph of which the folders of several classes have a copy, under one name, shows all of
    them. Raises InputError without subfolders.
    """
    first = [photograph.relative.parts[:1] for photograph in photographs]
    names = sorted({nfc(parts[0]) for parts in first if parts})
    classes = tuple(given or [name for name in names if not is_no_class(name)])
    if not classes:
        raise InputError(
            f"--images {root} has no subfolder of a class, and no --tags says what the photographs "
            "show; give a file of tags, or put the photographs into a subfolder a class"
        )
    require_class_names(str(root), classes)
    index = {nfc(name).casefold(): c for c, name in enumerate(classes)}
    labels = np.zeros((len(photographs), len(classes)), dtype=np.float32)
    labelled = np.zeros(len(photographs), dtype=bool)
    for row, (parts, photograph) in enumerate(zip(first, photographs, strict=True)):
        if not parts:  # beside the folders of classes
            continue
        name = nfc(parts[0]).casefold()
        labelled[row] = True
        if name in index:
            labels[row, index[name]] = 1
        elif not is_no_class(parts[0]):
            raise InputError(
                f"{photograph.path}: its folder '{parts[0]}' is not in --classes; add it there, or "
                "call the folder 'background' if its photographs show no class"
            )
    for copies in _copies(photographs):
        labels[copies] = labels[copies].max(axis=0)
    return classes, labels, labelled


def _copies(photographs: Sequence[Photograph]) -> Iterator[list[int]]:
    """The places of photographs that are copies of each other, with the same name and content."""
    named: dict[str, list[int]] = {}
    for place, photograph in enumerate(photographs):
        named.setdefault(photograph.path.name, []).append(place)
    for places in named.values():
        while len(places) > 1:
            first = photographs[places[0]].path
            same = [
                place
                for place in places
                if filecmp.cmp(first, photographs[place].path, shallow=False)
            ]
            if len(same) > 1:
                yield same
            places = [place for place in places if place not in same]


# ============ the data set ============
def read_own(args: argparse.Namespace) -> Own:
    """The photographs of --images with what --tags, or their folders, say of them."""
    root = require_dir(args.images, "--images", "give the folder of photographs")
    photographs = find_photographs([args.images], "masks", ignored_folders(args))
    given = load_class_list(args.classes) if args.classes else None
    chosen = Chosen(args.image_column, tuple(args.tag_columns or ()))
    if args.tags:
        classes, labels, labelled = read_tags(args.tags, photographs, given, args.images, chosen)
    elif chosen != BY_TABLE:
        raise InputError("--image_column and --tag_columns are of --tags, which is not given")
    else:
        classes, labels, labelled = tags_of_folders(root, photographs, given)
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
    elif untagged == BACKGROUND:
        labelled[:] = True
    own = Own(photograph_ids(photographs), photographs, classes, labels, labelled)
    require_something_to_learn(own)
    return own


def ignored_folders(args: argparse.Namespace) -> list[str]:
    """Folders below --images that hold what was written, not photographs."""
    return [args.out]


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


def held_out(labels: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """(N,) bool: the labelled photographs that do not train: every tenth in the order of their
    classes, none where there are under LEAST_HELD.
    """
    held = np.zeros(len(labels), dtype=bool)
    places = np.flatnonzero(labelled)
    if len(places) < LEAST_HELD:
        return held
    order = places[np.lexsort(labels[places].T)]
    held[order[HELD // 2 :: HELD]] = True
    for column in labels.T > 0:  # a class keeps more than it lends
        own = np.flatnonzero(column & labelled)
        if held[own].all():
            held[own] = False
    return held


@dataclass(frozen=True)
class Links:
    """Gives photographs their places in JPEGImages: (photograph, id) -> (link, smaller copy or
    None), names alone.

    A link leads to the photograph or, where that is longer than long_side, to a smaller copy in
    SMALL_DIR, named after what it was made from; so neither can be of another photograph or size.
    """

    out: Path
    long_side: int

    def __call__(self, item: tuple[Path, str]) -> tuple[str, str | None]:
        """Make the link, and the copy if it is missing."""
        source, name = item
        height, width = photograph_header(source).size(APPLY_EXIF)
        if max(height, width) <= self.long_side:
            return self._link(name + source.suffix.lower(), source.resolve()), None
        info = source.stat()
        made_from = [str(source.resolve()), info.st_size, info.st_mtime_ns, self.long_side]
        small = f"{digest({'made_from': made_from}, SMALL_DIGITS)}.png"
        if not (self.out / SMALL_DIR / small).is_file():
            factor = self.long_side / max(height, width)
            size = max(1, round(width * factor)), max(1, round(height * factor))
            shrunk = cv2.resize(read_image(source), size, interpolation=cv2.INTER_AREA)
            write_image(self.out / SMALL_DIR / small, shrunk)
        return self._link(f"{name}.png", Path("..", SMALL_DIR, small)), small

    def _link(self, name: str, target: Path) -> str:
        link = self.out / IMAGE_DIR / name
        if not link.is_symlink() or link.readlink() != target:
            link.unlink(missing_ok=True)
            link.symlink_to(target)
        return name


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
    (out / IMAGE_DIR).mkdir(parents=True, exist_ok=True)
    items = [(one.path, name) for name, one in zip(own.ids, own.photographs, strict=True)]
    # threads: what takes the time is reading, and Pillow and OpenCV let others run meanwhile
    with ThreadPoolExecutor(max_workers=max(1, num_workers)) as pool:
        made = pool.map(Links(out, long_side), items)
        links, copies = zip(
            *progress(made, total=len(items), desc="photographs", unit="img"), strict=True
        )
    drop_others(out / IMAGE_DIR, set(links))
    drop_others(out / SMALL_DIR, set(copies))
    write_class_list(out / CLASS_LIST_FILE, own.classes)
    ids = np.array(own.ids)
    held = held_out(own.labels, own.labelled)
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
