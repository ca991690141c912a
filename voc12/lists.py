"""Image ids, the lists they stand in, and the files they name.

An id is the name of an image without folder and suffix, "2007_000032". A list is a text file with
an id per line, as in VOC's ImageSets/Segmentation, or a pair "/JPEGImages/2007_000032.jpg
/SegmentationClassAug/2007_000032.png" per line, as the released code of AffinityNet, SEAM and CPN
ships them. Wherever a script takes a list, NAME:N is N of its images, evenly spread.
"""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar

from tool.errors import InputError
from tool.file.photographs import PHOTOGRAPH_SUFFIXES
from tool.file.require import require_dir, require_file
from tool.file.text import numbered_lines, read_text, shortened
from tool.names import name_fault, require_names
from voc12.constants import DATA_HELP, IMAGE_DIR, LIST_DIR, MASK_DIR
from voc12.masks import ground_truth_dir, other_suffix

Item = TypeVar("Item")
CLASS_MARKS = ("1", "-1", "0")  # behind the ids of VOC's lists of one class
# VOC has .jpg only; the rest is for own images
IMAGE_SUFFIXES = (*PHOTOGRAPH_SUFFIXES, *(suffix.upper() for suffix in PHOTOGRAPH_SUFFIXES))
TRAIN_AUG = "train_aug"
OWN_LISTS = Path(__file__).parent / "image_lists"  # parts of VOC 2012 that docs/log measures on
LIST_HELP = (
    "list file, its name in ImageSets/Segmentation, or NAME:N for N of its images, evenly spread"
)


def read_list(path: str | Path) -> list[str]:
    """The image ids of a list file, in its order.

    Blank lines, Windows line ends and a byte-order mark are skipped; the suffix of an image on a
    plain id too.
    Raises InputError naming file and line for a missing or empty file, an id given twice, and an id
    that is not a plain name.
    """
    first_line: dict[str, int] = {}
    for number, line in numbered_lines(read_text(path, "image list", DATA_HELP)):
        name = _parse_id(line, f"{path} line {number}")
        if name in first_line:
            raise InputError(
                f"{path} line {number}: id {name} is already on line {first_line[name]}; remove "
                "one of them"
            )
        first_line[name] = number
    if not first_line:
        raise InputError(f"{path} is an empty image list; give one id per line")
    return list(first_line)


def require_root(voc12_root: str | Path) -> Path:
    """The data set folder. Raises InputError when it is missing, and for a folder of photographs
    that is no data set in VOC layout.
    """
    root = require_dir(voc12_root, "--voc12_root", DATA_HELP)
    if any((root / part).exists() for part in (IMAGE_DIR, LIST_DIR.parts[0], MASK_DIR)):
        return root
    within = (
        path for part in (root, *filter(Path.is_dir, root.iterdir())) for path in part.iterdir()
    )
    if any(path.suffix.lower() in PHOTOGRAPH_SUFFIXES for path in within):
        raise InputError(
            f"--voc12_root {root} holds photographs, but is no data set in VOC layout; `python "
            f"masks_from_tags.py --images {root} --tags FILE --out DIR` makes masks of photographs "
            "and their tags, see docs/own_photographs.md"
        )
    return root


def resolve_list(voc12_root: str | Path, name: str | Path) -> Path:
    """The list file that name means: a path, or a name with or without .txt in
    <voc12_root>/ImageSets/Segmentation or in OWN_LISTS.

    Raises InputError with the first two places when no place has the file.
    """
    folder = Path(voc12_root) / LIST_DIR
    candidates = (
        Path(name),
        folder / name,
        folder / f"{name}.txt",
        OWN_LISTS / f"{str(name).removesuffix('.txt')}.txt",
    )
    for path in candidates:
        if path.is_file():
            return path
    in_folder = candidates[1] if str(name).endswith(".txt") else candidates[2]
    raise InputError(f"image list not found: neither {name} nor {in_folder} is a file; {DATA_HELP}")


def split_part(name: str | Path) -> tuple[str, int | None]:
    """("val", 200) for "val:200", ("val", None) for "val"."""
    if part := re.fullmatch(r"(.+):([1-9]\d*)", str(name)):
        return part[1], int(part[2])
    return str(name), None


def list_stem(name: str | Path) -> str:
    """What files of the whole list are named after: "val" for "lists/val.txt:200"."""
    return Path(split_part(name)[0]).stem


def list_title(name: str | Path) -> str:
    """What numbers of the list are headed with: "val:200" for "lists/val.txt:200"."""
    count = split_part(name)[1]
    return list_stem(name) + ("" if count is None else f":{count}")


def evenly(items: Sequence[Item], most: int) -> list[Item]:
    """At most `most` of the items, evenly spread, in their order."""
    count = min(most, len(items))
    return [items[index * len(items) // count] for index in range(count)]


def load_ids(voc12_root: str | Path, name: str | Path) -> list[str]:
    """The image ids of the list `name` (see resolve_list); train_aug without a file is derived from
    the masks on disk.

    "NAME:200" means 200 of its images, evenly spread over the list. Raises InputError when it has
    fewer.
    """
    whole, count = split_part(name)
    if count is not None:
        ids = load_ids(voc12_root, whole)
        if count > len(ids):
            raise InputError(f"{name} asks for {count} images, the list {whole} has {len(ids)}")
        return evenly(ids, count)
    try:
        path = resolve_list(voc12_root, name)
    except InputError:
        if str(name).removesuffix(".txt") != TRAIN_AUG:
            raise
        return derive_train_aug(voc12_root)
    return read_list(path)


def derive_train_aug(voc12_root: str | Path) -> list[str]:
    """The sorted ids that have a mask in SegmentationClassAug and are not in val.txt: 10,582 for
    VOC 2012 with SBD.

    Raises InputError when the masks or val.txt are missing, or nothing is left.
    """
    masks = require_dir(
        Path(voc12_root) / MASK_DIR,
        "folder of masks",
        f"{TRAIN_AUG} is derived from it; {DATA_HELP}",
    )
    val = set(read_list(resolve_list(voc12_root, "val")))
    ids = sorted({path.stem for path in masks.glob("[!.]*.png")} - val)
    if not ids:
        raise InputError(
            f"{masks} has no mask outside val.txt to derive {TRAIN_AUG} from; {DATA_HELP}"
        )
    require_names(ids, f"{masks}: mask")
    return ids


def find_image(folder: str | Path, image_id: str) -> Path | None:
    """The image file of an id in folder: .jpg, else .jpeg or .png, else others, in small letters,
    in capitals or in both; None where there is none.
    """
    folder = Path(folder)
    paths = (folder / f"{image_id}{suffix}" for suffix in IMAGE_SUFFIXES)
    if path := next((path for path in paths if path.is_file()), None):
        return path
    return next(iter(images_by_stem(folder).get(image_id, ())), None) if folder.is_dir() else None


def images_by_stem(folder: str | Path) -> dict[str, list[Path]]:
    """Name without suffix -> the images of that name, sorted, of a folder alone."""
    found: dict[str, list[Path]] = {}
    for path in sorted(Path(folder).iterdir()):
        if path.suffix.lower() in PHOTOGRAPH_SUFFIXES and path.is_file():
            found.setdefault(path.stem, []).append(path)
    return found


def image_path(voc12_root: str | Path, image_id: str) -> Path:
    """find_image in JPEGImages. Raises InputError naming the id when there is none."""
    folder = Path(voc12_root) / IMAGE_DIR
    if path := find_image(folder, image_id):
        return path
    raise InputError(
        f"no image for id {image_id}: {folder / image_id}.jpg not found, nor .jpeg or .png; "
        f"{DATA_HELP}"
    )


def mask_path(voc12_root: str | Path, image_id: str) -> Path:
    """The ground-truth mask file of an id. Raises InputError naming the id when there is none."""
    folder = ground_truth_dir(voc12_root)
    hint = DATA_HELP + other_suffix(folder, [image_id])
    return require_file(folder / f"{image_id}.png", f"mask of id {image_id}", hint)


def _parse_id(line: str, where: str) -> str:
    """The id in one line of a list, "id" or "/JPEGImages/id.jpg /SegmentationClassAug/id.png", with
    or without folders before JPEGImages.
    """
    image, *mask = line.split()
    _, folder, rest = f"/{image}".replace("\\", "/").rpartition(f"/{IMAGE_DIR}/")
    name = _without_suffix(rest if folder else image)
    if fault := name_fault(name):
        raise InputError(
            f"{where}: '{shortened(image)}' is not an image id; an id is the name of a file in "
            f"{IMAGE_DIR} without its suffix, and it {fault}"
        )
    if len(mask) == 1 and mask[0] in CLASS_MARKS:
        raise InputError(
            f"{where}: '{shortened(line)}' is of VOC's list of one class, which marks the images "
            "that show it by 1, others by -1 and hard ones by 0; keep the first column of the "
            "lines that you want"
        )
    if mask and [_without_suffix(re.split(r"[/\\]", path)[-1]) for path in mask] != [name]:
        raise InputError(
            f"{where}: '{shortened(line)}' is neither one id nor the pair /{IMAGE_DIR}/id.jpg "
            f"/{MASK_DIR}/id.png; ids have no spaces"
        )
    return name


def _without_suffix(name: str) -> str:
    path = PurePosixPath(name)
    return name.removesuffix(path.suffix) if path.suffix.lower() in PHOTOGRAPH_SUFFIXES else name
