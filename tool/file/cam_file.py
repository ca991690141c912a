"""CAM files: one per image, our own formats and the two that the field exchanges, all read into the
same units.

packed (ours), <id>.npz, read without pickle, a sixth of the size of npz:
  header.json  version (2), id, keys, size and meta as below, maps: a recipe for each key and the
               number of its bytes
  maps         the bytes of all maps, one after the other (tool/file/packed_maps.py); values are
               less than 1 / 20,000 too high

npz (ours before, and exact), <id>.npz, read without pickle:
  id    text         the image id
  keys  (n,) int64   foreground classes, 0-based: class c has mask value c + 1
  cam   (n, H, W) float32, "unit": a map normalised per class to [0, 1]
  size  (2,) int64   (H, W), also for an image without classes (n = 0)
  meta  JSON text    where the maps come from: stage ("cam", "cam_refined", "seed_crf", ...), digest
        of the weights, scales, ...

released (CPN), <id>.npy: a pickled dict {class: (H, W) float32} of halved unit maps, which is exact
  in float32. So the released threshold 0.25 is 0.50 on a unit map. An image without classes is an
  empty dict: its size is lost and reads as (0, 0). SEAM and AffinityNet write whole unit maps in
  the same layout; values over 0.5 tell, and are refused.

irn (IRN's make_cam.py), <id>.npy: a pickled dict with keys (n,) without background, 0-based; cam
(n, h, w) at stride 4,
  h = (H - 1) // 4 + 1; high_res (n, H, W), the one that is read. Both unit. IRN itself saves keys
  and cam as torch tensors.

Values below 0 occur: the released normalisation sets a map's values under min + 1e-5 to 0 and
subtracts the minimum afterwards, so the minimum m of a map with maximum M becomes -m / (M - m), and
a labelled class without any response is -1 everywhere (-0.5 in a released file). They are kept
unchanged; background thresholds are not negative, so none of them counts as foreground.
"""

import hashlib
import json
import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np

from tool.errors import InputError
from tool.file.atomic import atomic_write
from tool.file.digests import FILE_DIGITS, file_digest
from tool.file.packed_maps import pack_map, unpack_map
from tool.file.safe_pickle import NPY_MAGIC, load_pickled_npy

PACKED, EXACT = OWN_FORMATS = ("packed", "npz")
FORMATS = (EXACT, "released", "irn", PACKED)
PACKED_VERSION = 2  # the float32 files are the first
HEADER, MAPS = "header.json", "maps"
META_MEMBER = "meta.npy"  # of a file of the first version
CAM_SUFFIXES = (".npz", ".npy")  # the first is taken where both are there
ZIP_MAGIC = b"PK\x03\x04"
IRN_STRIDE = 4
MAX_VALUE = 1 + 1e-5  # rounding of someone else's normalisation
PHOTOGRAPH = "photograph"  # in the meta: the digest of the photograph's file


@dataclass(frozen=True, eq=False)
class CamFile:
    """The CAM of one image in unit scale; fields as in the module docstring, meta a dict of what
    JSON can hold.
    """

    id: str
    keys: np.ndarray
    cam: np.ndarray
    size: tuple[int, int]
    meta: dict[str, Any]


def save_cam(directory: str | Path, cam_file: CamFile, format: str = EXACT) -> Path:
    """Write cam_file into directory and return the path; the formats are those of the module
    docstring. Scripts write packed files.

    "released" and "irn" lose meta. Raises InputError for maps that load_cam would not read back,
    and for an unknown format.
    """
    if format not in FORMATS:
        raise InputError(f"unknown CAM format {format!r}; choose one of {', '.join(FORMATS)}")
    check_cam(cam_file, f"CAM of {cam_file.id}")
    path = Path(directory) / f"{cam_file.id}.{'npz' if format in OWN_FORMATS else 'npy'}"
    with atomic_write(path) as file:
        if format == PACKED:
            _write_packed(file, cam_file)
        elif format == EXACT:
            meta = json.dumps(cam_file.meta, allow_nan=False)
            np.savez(
                file,
                id=cam_file.id,
                keys=cam_file.keys,
                cam=cam_file.cam,
                size=np.array(cam_file.size),
                meta=meta,
            )
        else:
            np.save(
                file,
                _released(cam_file) if format == "released" else _irn(cam_file),
                allow_pickle=True,
            )
    return path


def first_bytes(path: Path) -> bytes:
    """By which ZIP_MAGIC and NPY_MAGIC tell the formats of a CAM file. Raises InputError naming a
    file that cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(len(NPY_MAGIC))
    except OSError as error:
        raise InputError(
            f"cannot read CAM file {path}: {error.strerror}; check the path"
        ) from error


def load_cam(path: str | Path) -> CamFile:
    """The CAM in a file of any of the three formats, told apart by content. keys keep the file's
    order.

    meta of the pickled formats is {"format": "released"} or {"format": "irn"}: they do not say
    which stage wrote them.
    Raises InputError naming the file when it is missing, damaged, of no known format, or holds keys
    or maps out of range.
    """
    path = Path(path)
    magic = first_bytes(path)
    if magic.startswith(ZIP_MAGIC):
        cam_file = _load_npz(path)
    elif magic == NPY_MAGIC:
        cam_file = _load_pickled(path)
    else:
        raise InputError(
            f"{path} is no CAM file: neither .npz nor .npy by its first bytes; write it again with "
            "infer_cam.py"
        )
    check_cam(cam_file, str(path))
    return cam_file


def load_cam_header(path: str | Path) -> tuple[tuple[int, int], dict[str, Any]] | None:
    """(size, meta) of a file of our own format, without its maps; None for other files and damaged
    ones, which load_cam tells apart.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if HEADER in arrays.files:
                header = json.loads(arrays.zip.read(HEADER))
                (height, width), meta = header["size"], header["meta"]
            else:
                height, width = (int(side) for side in arrays["size"])
                meta = json.loads(str(arrays["meta"]))
    # damaged bytes reach zipfile, zlib, numpy and json: whatever they raise means no header
    except Exception:
        return None
    return ((height, width), meta) if isinstance(meta, dict) else None


def cam_content(path: str | Path) -> str:
    """What tells the classes and maps in a CAM file from others, whatever its meta says of the way
    that they were made: the first FILE_DIGITS of a SHA-256. Of the field's formats and of
    damaged files the whole file counts.
    """
    found = hashlib.sha256()
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names = sorted(name for name in arrays.zip.namelist() if name != META_MEMBER)
            for name in names:
                content = arrays.zip.read(name)
                if name == HEADER:
                    header = {**json.loads(content), "meta": None}
                    content = json.dumps(header, sort_keys=True).encode()
                found.update(f"{name} {len(content)} ".encode() + content)
    # damaged bytes reach zipfile, zlib, numpy and json: whatever they raise means another file
    except Exception:
        return file_digest(path)
    return found.hexdigest()[:FILE_DIGITS]


def is_packed(path: str | Path) -> bool:
    """Whether a file of one of our own formats, if it is whole, is packed and no float32."""
    with np.load(path, allow_pickle=False) as arrays:
        return HEADER in arrays.files


def find_cam(directory: str | Path, image_id: str) -> Path:
    """The CAM file of an image, <id>.npz or <id>.npy. Raises InputError naming both when there is
    neither, and when there are both: another run's, most likely.
    """
    paths = [Path(directory) / f"{image_id}{suffix}" for suffix in CAM_SUFFIXES]
    found = [path for path in paths if path.is_file()]
    if len(found) == 2:
        raise InputError(
            f"two CAM files for {image_id}: {paths[0]} and {paths[1].name}; take those of one kind "
            "out of the folder, or write to another"
        )
    if found:
        return found[0]
    raise InputError(
        f"no CAM file for {image_id}: neither {paths[0]} nor {paths[1].name} exists; run "
        "infer_cam.py for it"
    )


def has_cam(directory: str | Path, image_id: str) -> bool:
    """Whether find_cam finds the CAM file of an image."""
    return any((Path(directory) / f"{image_id}{suffix}").is_file() for suffix in CAM_SUFFIXES)


def require_made_for(meta: dict[str, Any], classes: Sequence[str], where: str = "the CAM") -> None:
    """Raise InputError, starting with where, when meta names other foreground classes than
    these.
    """
    if meta.get("classes", list(classes)) != list(classes):
        raise InputError(
            f"{where} was made for other classes than {', '.join(classes)}; check --voc12_root and "
            "the class list"
        )


def require_cam_labels(cam_file: CamFile, label: np.ndarray, where: str | Path) -> None:
    """Raise InputError, starting with where, when a class of cam_file is not in the image's label,
    (C,) multi-hot: its maps were read under wrong numbers, or are another image's.
    """
    wrong = [int(key) for key in cam_file.keys if key >= len(label) or not label[key]]
    if wrong:
        shown = ", ".join(map(str, np.flatnonzero(label))) or "none"
        raise InputError(
            f"{where} has a map of class {wrong[0]} (counted from 0), which is not among the "
            f"image's labels ({shown}); is it read with the right --cam_format, and of this image?"
        )


def _released(cam_file: CamFile) -> dict[int, np.ndarray]:
    return {int(key): map_ / 2 for key, map_ in zip(cam_file.keys, cam_file.cam, strict=True)}


def _irn(cam_file: CamFile) -> dict[str, np.ndarray]:
    height, width = ((side - 1) // IRN_STRIDE + 1 for side in cam_file.size)
    strided = np.empty((len(cam_file.keys), height, width), dtype=np.float32)
    # cv2's INTER_LINEAR is F.interpolate(mode="bilinear", align_corners=False)
    for index, map_ in enumerate(cam_file.cam):
        strided[index] = cv2.resize(map_, (width, height), interpolation=cv2.INTER_LINEAR)
    return {"keys": cam_file.keys, "cam": strided, "high_res": cam_file.cam}


def _write_packed(file: IO[bytes], cam_file: CamFile) -> None:
    recipes, contents = [], []
    for map_ in cam_file.cam:
        recipe, content = pack_map(map_)
        recipes.append(recipe | {"bytes": len(content)})
        contents.append(content)
    header = {
        "version": PACKED_VERSION,
        "id": cam_file.id,
        "keys": cam_file.keys.tolist(),
        "size": [int(side) for side in cam_file.size],
        "maps": recipes,
        "meta": cam_file.meta,
    }
    text = json.dumps(header, allow_nan=False).encode()
    with zipfile.ZipFile(file, "w") as archive:
        for name, value in ((HEADER, text), (MAPS, b"".join(contents))):
            archive.writestr(zipfile.ZipInfo(name), value)  # without a time, as np.savez


def _unpacked(header: dict[str, Any], content: memoryview) -> CamFile:
    """What _write_packed has packed. Raises ValueError, KeyError or TypeError where header and
    content do not fit.
    """
    keys, size, recipes = header["keys"], header["size"], header["maps"]
    if header["version"] != PACKED_VERSION:
        raise ValueError(f"version {header['version']}")
    if not all(type(number) is int and number >= 0 for number in [*keys, *size]):
        raise ValueError("keys and size must be whole numbers")
    height, width = size
    ends = np.cumsum([recipe["bytes"] for recipe in recipes], dtype=np.int64).tolist()
    if sum(recipe["bytes"] for recipe in recipes) != len(content):
        raise ValueError("more or fewer bytes than the recipes say")
    cam = np.empty((len(recipes), height, width), np.float32)
    for recipe, end, map_ in zip(recipes, ends, cam, strict=True):
        unpack_map(recipe, content[end - recipe["bytes"] : end], (height, width), map_)
    return CamFile(
        str(header["id"]), np.array(keys, dtype=np.int64), cam, (height, width), header["meta"]
    )


def _load_npz(path: Path) -> CamFile:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if HEADER in arrays.files:
                header = json.loads(arrays.zip.read(HEADER))
                return _unpacked(header, memoryview(arrays.zip.read(MAPS)))
            meta = json.loads(str(arrays["meta"]))
            size = tuple(int(side) for side in arrays["size"])
            # A member that is no array comes as bytes, which asarray makes one of a type that
            # _check refuses.
            return CamFile(
                str(arrays["id"]), np.asarray(arrays["keys"]), np.asarray(arrays["cam"]), size, meta
            )
    except KeyError as error:
        raise InputError(
            f"{path} is no CAM file: {error.args[0]}; write it again with infer_cam.py"
        ) from error
    # damaged bytes reach zipfile, zlib, numpy and json: whatever they raise means a bad file
    except Exception as error:
        raise InputError(
            f"{path} is damaged ({type(error).__name__}); write it again with infer_cam.py"
        ) from error


def numbered(content: dict[Any, Any], path: Path) -> dict[Any, Any]:
    """content with numbers as keys where all keys are digits, as members of an .npz and keys of a
    JSON are. Raises InputError where two are of one number.
    """
    names = list(content)
    if not names or not all(
        isinstance(name, str) and name.isdecimal() and name.isascii() for name in names
    ):
        return content
    numbers = [int(name) for name in names]
    if len(set(numbers)) < len(numbers):
        twice = next(number for number in numbers if numbers.count(number) > 1)
        same = " and ".join(name for name in names if int(name) == twice)
        raise InputError(f"{path} has two maps of class {twice}, members {same}; leave one of them")
    return dict(zip(numbers, content.values(), strict=True))


def _load_pickled(path: Path) -> CamFile:
    content = load_pickled_npy(path)
    if not isinstance(content, dict):
        raise InputError(
            f"{path} is no CAM file: it holds a {type(content).__name__}, not a dict of maps"
        )
    content = numbered(content, path)
    if "keys" in content and "high_res" in content:
        keys, cam = content["keys"], content["high_res"]
        if not isinstance(keys, np.ndarray) or not isinstance(cam, np.ndarray):
            raise InputError(
                f"{path}: keys and high_res must be arrays, as IRN's make_cam.py saves them"
            )
        return CamFile(path.stem, _as_int64(keys), cam, cam.shape[1:], {"format": "irn"})
    if not all(type(key) is int for key in content):
        raise InputError(
            f"{path} is no CAM file: its keys are neither class numbers nor IRN's keys, cam, "
            "high_res"
        )
    maps = list(content.values())
    if not all(
        isinstance(map_, np.ndarray) and map_.dtype == np.float32 and map_.ndim == 2
        for map_ in maps
    ):
        raise InputError(
            f"{path}: every class must have one (H, W) float32 map, as the released infer_cam.py "
            "saves it"
        )
    if len({map_.shape for map_ in maps}) > 1:
        raise InputError(f"{path}: its maps have different sizes; all must be of the image's size")
    highest = max((map_.max(initial=0) for map_ in maps), default=0)
    if highest > MAX_VALUE / 2:
        raise InputError(
            f"{path}: a map reaches {highest:.3f}, but a released CPN file holds half of the unit "
            "CAM, 0.5 at most; SEAM and AffinityNet save it whole: halve it"
        )
    cam = np.stack(maps) * np.float32(2) if maps else np.zeros((0, 0, 0), dtype=np.float32)
    return CamFile(
        path.stem,
        np.array(list(content), dtype=np.int64),
        cam,
        cam.shape[1:],
        {"format": "released"},
    )


def _as_int64(keys: np.ndarray) -> np.ndarray:
    """keys as int64 when nothing is lost, else unchanged, for _check to refuse."""
    return (
        keys.astype(np.int64)
        if np.can_cast(keys.dtype, np.int64) and keys.dtype.kind in "iu"
        else keys
    )


def check_cam(cam_file: CamFile, where: str) -> None:
    """Raise InputError, starting with where, unless the fields are as the module docstring
    describes them.
    """
    keys, cam, size = cam_file.keys, cam_file.cam, cam_file.size
    if not isinstance(cam_file.meta, dict):
        raise InputError(f"{where}: meta must be a dict, got {type(cam_file.meta).__name__}")
    if keys.dtype != np.int64 or keys.ndim != 1:
        raise InputError(f"{where}: keys must be (n,) int64, got {keys.shape} {keys.dtype}")
    if cam.dtype != np.float32 or cam.shape != (len(keys), *size) or cam.ndim != 3:
        raise InputError(
            f"{where}: cam must be {(len(keys), *size)} float32 for its keys and size, got "
            f"{cam.shape} {cam.dtype}"
        )
    if len(keys) and math.prod(size) == 0:
        raise InputError(f"{where}: its maps are empty, size {tuple(size)}")
    if min(size) < 0 or (len(keys) and keys.min() < 0):
        raise InputError(
            f"{where}: negative class number or size; classes count from 0 without background"
        )
    if len(np.unique(keys)) != len(keys):
        raise InputError(f"{where}: a class occurs twice in keys {keys.tolist()}")
    if not np.isfinite(cam).all():
        raise InputError(f"{where}: its maps hold NaN or infinity")
    if cam.size and cam.max() > MAX_VALUE:
        raise InputError(
            f"{where}: its values go up to {cam.max():.3f}; a unit CAM is normalised to [0, 1]"
        )
