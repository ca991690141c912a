"""Image ids, the lists they stand in, the files they name, and the class list.

An id is the name of an image without folder and suffix, "2007_000032". A list is a text file with an id per line, as in VOC's
ImageSets/Segmentation, or a pair "/JPEGImages/2007_000032.jpg /SegmentationClassAug/2007_000032.png" per line, as the released
code of AffinityNet, SEAM and CPN ships them. Wherever a script takes a list, NAME:N is N of its images, evenly spread.
"""

import codecs
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tool.errors import InputError
from tool.files import require_dir, require_file
from voc12.constants import (
    BACKGROUND,
    CLASS_LIST_FILE,
    CLASSES,
    DATA_HELP,
    IGNORE_LABEL,
    IMAGE_DIR,
    LIST_DIR,
    MASK_DIR,
)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")  # VOC has .jpg only; the rest is for own images
TRAIN_AUG = "train_aug"
OWN_LISTS = Path(__file__).parent / "image_lists"  # parts of VOC 2012 that docs/LOG.md measures on
LIST_HELP = "list file, its name in ImageSets/Segmentation, or NAME:N for N of its images, evenly spread"


def read_list(path: str | Path) -> list[str]:
    """The image ids of a list file, in its order.

    Blank lines, Windows line ends and a byte-order mark are skipped; the suffix of an image on a plain id too.
    Raises InputError naming file and line for a missing or empty file, an id given twice, and an id that is not a plain name.
    """
    first_line: dict[str, int] = {}
    for number, line in _lines(path, "image list", DATA_HELP):
        name = _parse_id(line, f"{path} line {number}")
        if name in first_line:
            raise InputError(f"{path} line {number}: id {name} is already on line {first_line[name]}; remove one of them")
        first_line[name] = number
    if not first_line:
        raise InputError(f"{path} is an empty image list; give one id per line")
    return list(first_line)


def resolve_list(voc12_root: str | Path, name: str | Path) -> Path:
    """The list file that name means: a path, or a name with or without .txt in <voc12_root>/ImageSets/Segmentation or in OWN_LISTS.

    Raises InputError with the first two places when no place has the file.
    """
    folder = Path(voc12_root) / LIST_DIR
    candidates = (Path(name), folder / name, folder / f"{name}.txt", OWN_LISTS / f"{str(name).removesuffix('.txt')}.txt")
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


def load_ids(voc12_root: str | Path, name: str | Path) -> list[str]:
    """The image ids of the list `name` (see resolve_list); train_aug without a file is derived from the masks on disk.

    "NAME:200" means 200 of its images, evenly spread over the list. Raises InputError when it has fewer.
    """
    whole, count = split_part(name)
    if count is not None:
        ids = load_ids(voc12_root, whole)
        if count > len(ids):
            raise InputError(f"{name} asks for {count} images, the list {whole} has {len(ids)}")
        return [ids[index * len(ids) // count] for index in range(count)]
    try:
        path = resolve_list(voc12_root, name)
    except InputError:
        if str(name).removesuffix(".txt") != TRAIN_AUG:
            raise
        return derive_train_aug(voc12_root)
    return read_list(path)


def derive_train_aug(voc12_root: str | Path) -> list[str]:
    """The sorted ids that have a mask in SegmentationClassAug and are not in val.txt: 10,582 for VOC 2012 with SBD.

    Raises InputError when the masks or val.txt are missing, or nothing is left.
    """
    masks = require_dir(Path(voc12_root) / MASK_DIR, "folder of masks", f"{TRAIN_AUG} is derived from it; {DATA_HELP}")
    val = set(read_list(resolve_list(voc12_root, "val")))
    ids = sorted({path.stem for path in masks.glob("[!.]*.png")} - val)
    if not ids:
        raise InputError(f"{masks} has no mask outside val.txt to derive {TRAIN_AUG} from; {DATA_HELP}")
    return ids


def image_path(voc12_root: str | Path, image_id: str) -> Path:
    """The image file of an id: .jpg, else .jpeg or .png. Raises InputError naming the id when there is none."""
    folder = Path(voc12_root) / IMAGE_DIR
    for suffix in IMAGE_SUFFIXES:
        path = folder / f"{image_id}{suffix}"
        if path.is_file():
            return path
    raise InputError(f"no image for id {image_id}: {folder / image_id}.jpg not found, nor .jpeg or .png; {DATA_HELP}")


def mask_path(voc12_root: str | Path, image_id: str) -> Path:
    """The ground-truth mask file of an id. Raises InputError naming the id when there is none."""
    path = Path(voc12_root) / MASK_DIR / f"{image_id}.png"
    return require_file(path, f"mask of id {image_id}", DATA_HELP)


def load_class_list(source: str | Path | None) -> tuple[str, ...]:
    """The foreground class names in the order of the mask values 1, 2, ...

    source: None for VOC's classes; a folder for its classes.txt, or VOC's classes when it has none; or a file with a name a line.
    Raises InputError for a missing or empty file, a name given twice or with a slash, the name 'background', and more names than mask
    values.
    """
    if source is None:
        return CLASSES
    path = Path(source)
    if path.is_dir():
        path = path / CLASS_LIST_FILE
        if not path.exists():
            return CLASSES
    names: list[str] = []
    for number, name in _lines(path, "class list", "give a file with one foreground class name per line"):
        if name.lower() == BACKGROUND:
            raise InputError(f"{path} line {number}: '{name}' is implied as mask value 0; list the foreground classes only")
        if not set(name).isdisjoint("/\\"):
            raise InputError(f"{path} line {number}: class '{name}' cannot be part of a file's name; leave out / and \\")
        if name in names:
            raise InputError(f"{path} line {number}: class '{name}' is listed twice; remove one of them")
        names.append(name)
    if not names:
        raise InputError(f"{path} is an empty class list; give one foreground class name per line")
    if len(names) >= IGNORE_LABEL:
        raise InputError(f"{path} lists {len(names)} classes; masks have room for {IGNORE_LABEL - 1} below the ignore label")
    return tuple(names)


def _lines(path: str | Path, what: str, hint: str) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, stripped text) of the lines that are not blank."""
    raw = require_file(path, what, hint).read_bytes()
    # Windows PowerShell redirects as UTF-16.
    encoding = "utf-16" if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        lines = raw.decode(encoding).splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file: byte {error.start} is not {encoding.upper()}; {hint}") from None
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, line.strip()


def _parse_id(line: str, where: str) -> str:
    """The id in one line of a list, "id" or "/JPEGImages/id.jpg /SegmentationClassAug/id.png"."""
    image, *mask = line.split()
    name = _without_suffix(image.removeprefix(f"/{IMAGE_DIR}/").removeprefix(f"{IMAGE_DIR}/"))
    if name in ("", ".", "..") or not name.isprintable() or not set(name).isdisjoint("/\\"):
        raise InputError(f"{where}: '{image}' is not an image id; an id is the name of a file in {IMAGE_DIR} without its suffix")
    if mask and [_without_suffix(PurePosixPath(path).name) for path in mask] != [name]:
        raise InputError(
            f"{where}: '{line}' is neither one id nor the pair /{IMAGE_DIR}/id.jpg /{MASK_DIR}/id.png; ids have no spaces"
        )
    return name


def _without_suffix(name: str) -> str:
    path = PurePosixPath(name)
    return name.removesuffix(path.suffix) if path.suffix in IMAGE_SUFFIXES else name
