"""CAM files of other codes, read into unit maps over 0-based foreground classes.

A folder is read in one way as a whole, the `--cam_format` of the scripts:

format        a file holds                                                     whose
npz           our own format (tool/file/cam_file.py)                           this project's
released      {class: half of the unit map}                                    CPN's
unit          {class: unit map}                                                SEAM's, AffinityNet's
scores        {0: background, class + 1: score}, to be compared by argmax      their CRF scores
irn           {keys: classes, high_res: unit maps}                             IRN's, AMN's
hr_cam        {keys: 0 and class + 1, hr_cam: unit maps, no background}        PuzzleCAM's
attn_highres  {keys: classes, attn_highres: unit maps}                         CLIP-ES's
array         unit maps (classes, H, W), without names                         -
array_bg      the same with the background first, to be compared by argmax     -

A dict may be a pickled .npy or the members of an .npz; keys may be a list; maps may be of any
floating type, or uint8 from 0 to 255. An array has maps of classes that the image does not show:
those of its labels are read, or, where no labels are at hand, those with a value over 0.

Logarithms and logits are refused: all of their values may be under 0, and they would read as maps
without any response. The released normalisation goes below 0 as well, but gives all pixels there
one value (tool/file/cam_file.py).

`auto` decides by what the files of the folder hold, and by the image labels where they are at hand.
Where two ways of reading are possible it refuses and names both. Scores with a background become
maps that say at threshold 0.5 what their argmax says.
"""

import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tool.errors import InputError
from tool.file.cam_file import (
    HEADER,
    MAPS,
    ZIP_MAGIC,
    CamFile,
    check_cam,
    find_cam,
    first_bytes,
    has_cam,
    load_cam,
    numbered,
    require_cam_labels,
)
from tool.file.safe_pickle import NPY_MAGIC, load_npy

AUTO_FORMAT = "auto"
# The name of the maps' entry -> the format that it is the sign of.
MAP_ENTRIES = {"high_res": "irn", "hr_cam": "hr_cam", "attn_highres": "attn_highres"}
FOREIGN_FORMATS = ("released", "unit", "scores", *MAP_ENTRIES.values(), "array", "array_bg")
CAM_FORMATS = (AUTO_FORMAT, "npz", *FOREIGN_FORMATS)
LAYOUT_OF = {"released": "dict", "unit": "dict", "scores": "dict"} | {
    name: entry for entry, name in MAP_ENTRIES.items()
}
LAYOUT_OF |= {"array": "array", "array_bg": "array", "npz": "npz"}
SAMPLE = 48  # files that auto looks at, evenly spread over the list
HALF = 0.5
# A folder whose highest value lies from here to HALF holds halved maps: unit ones reach 1, or
# nearly.
SURELY_HALVED = 0.3
ROUNDING = 2e-3  # of half precision
SUM_ROUNDING = 2e-2
MAX_KEY = 2**31
FAINT = 1 / 255  # a map without more shows nothing: the first step of uint8
PROBABILITIES = "log-probabilities or logits? Save probabilities, by exp or softmax"
OUR_MEMBERS = ({HEADER, MAPS}, {"id", "keys", "cam", "size", "meta"})


@dataclass(frozen=True)
class CamReading:
    """How the CAM files of a folder are read.

    format:  one of CAM_FORMATS but auto
    classes: how many foreground classes there are
    """

    format: str
    classes: int

    def load(self, path: str | Path, label: np.ndarray | None = None) -> CamFile:
        """The CAM of a file in unit scale.

        label: (C,) multi-hot, the image's, if it is at hand; a file whose classes are not among
               them is an error, but for our own, which say what they were made for
        Raises InputError naming the file when it is of another format or its values are none of
        that format's.
        """
        path = Path(path)
        if self.format == "npz":
            cam_file = load_cam(path)
            if cam_file.meta.get("format") in LAYOUT_OF:  # a pickled one, of another code perhaps
                _require_above(cam_file.cam, -1, path)
            return cam_file
        keys, maps = self._keys_and_maps(_content(path), path)
        if self.format.startswith("array"):
            chosen = _chosen(maps, label)
            keys, maps = keys[chosen], maps[chosen]
        cam_file = CamFile(path.stem, keys, maps, maps.shape[1:], {"format": self.format})
        check_cam(cam_file, str(path))
        if label is not None:
            require_cam_labels(cam_file, label, path)
        elif (highest := keys.max(initial=0)) >= self.classes:
            raise InputError(
                f"{path} has a map of class {highest} (counted from 0), and there are "
                f"{self.classes} classes; is it read with the right --cam_format and class list?"
            )
        return cam_file

    def _keys_and_maps(self, content: Any, path: Path) -> tuple[np.ndarray, np.ndarray]:
        if (found := _layout(content, path)) != LAYOUT_OF[self.format]:
            raise InputError(
                f"{path} holds {_described(found)}, which --cam_format {self.format} does not "
                "read; a folder has files of one format"
            )
        if self.format in ("array", "array_bg"):
            maps = _unit_maps(content, path)
            background = self.format == "array_bg"
            if len(maps) != self.classes + background:
                raise InputError(
                    f"{path} has {len(maps)} maps, --cam_format {self.format} wants "
                    f"{self.classes + background} for {self.classes} classes"
                )
            maps = _against_background(maps[1:], maps[0], path) if background else maps
            return np.arange(self.classes), maps
        if LAYOUT_OF[self.format] == "dict":
            keys, maps = _dict_maps(content, path)
            if self.format == "released":
                if (highest := maps.max(initial=0)) > HALF + ROUNDING:
                    raise InputError(
                        f"{path}: a map reaches {highest:.3f}, but a released CPN file holds half "
                        "of the unit CAM, 0.5 at most; whole maps are --cam_format unit"
                    )
                maps = np.minimum(maps * np.float32(2), np.float32(1))
                _require_above(maps, -1, path)
                return keys, maps
        else:
            keys, maps = _keyed_maps(content, LAYOUT_OF[self.format], path)
        if self.format in ("scores", "hr_cam"):
            return _without_background(keys, maps, path)
        return keys, maps


def choose_reading(
    folder: str | Path,
    ids: Sequence[str],
    cam_format: str,
    classes: int,
    labels: np.ndarray | None = None,
    say: Callable[[str], None] = print,
) -> CamReading:
    """How the CAM files of ids in folder are read.

    cam_format: one of CAM_FORMATS; any but auto is taken as it is
    labels:     (ids, C) multi-hot image labels, if they are at hand
    say:        gets a line about what auto took, where that is not our own format, and one where
                no map of the files looked at shows anything
    Raises InputError where the folder mixes formats, where two are possible, naming both, and where
    uint8 maps may be of 0 and 1.
    """
    if cam_format == "npz":
        return CamReading(cam_format, classes)
    some = [index for index in _spread(len(ids)) if has_cam(folder, ids[index])]
    if not some:
        return CamReading("npz", classes)  # the caller says which files are missing
    paths = [find_cam(folder, ids[index]) for index in some]
    contents = [_content(path) for path in paths]
    if cam_format != AUTO_FORMAT:
        reading = CamReading(cam_format, classes)
        _look_for_response(folder, reading, list(zip(paths, contents, strict=True)), say)
        return reading
    layouts = [_layout(content, path) for content, path in zip(contents, paths, strict=True)]
    if len(kinds := list(dict.fromkeys(layouts))) > 1:
        raise InputError(
            f"{folder} mixes CAM files: {paths[layouts.index(kinds[0])].name} holds "
            f"{_described(kinds[0])}, {paths[layouts.index(kinds[1])].name} "
            f"{_described(kinds[1])}; keep them in folders of their own"
        )
    if kinds == ["npz"]:
        return CamReading("npz", classes)
    known = None if labels is None else [set(np.flatnonzero(labels[index])) for index in some]
    files = list(zip(paths, contents, strict=True))
    if kinds == ["array"]:
        taken, why = _array_format(folder, files, classes, known)
    elif kinds == ["dict"]:
        taken, why = _dict_format(folder, files, known)
    else:
        taken, why = _keyed_format(folder, files, kinds[0], known)
    reading = CamReading(taken, classes)
    say(f"CAM files of {folder}: read as --cam_format {taken}, since {why}")
    _look_for_response(folder, reading, files, say)
    return reading


def holds_our_format(folder: str | Path, ids: Sequence[str]) -> bool:
    """Whether the files that auto looks at are all of our own format, or not there."""
    some = [ids[index] for index in _spread(len(ids)) if has_cam(folder, ids[index])]
    return all(_is_ours(find_cam(folder, name)) for name in some)


# ============ which format ============
def _array_format(
    folder: str | Path,
    files: list[tuple[Path, Any]],
    classes: int,
    known: list[set[int]] | None,
) -> tuple[str, str]:
    path, first = files[0]
    if len(first) not in (classes, classes + 1):
        raise InputError(
            f"{path} is an array of {len(first)} maps; {classes} classes want {classes}, or "
            f"{classes + 1} with the background first"
        )
    labels = [None] * len(files) if known is None else known
    read = [
        (_unit_maps(content, path), its)
        for (path, content), its in zip(files, labels, strict=True)
        if len(content) == len(first) and content.size
    ]
    if len(first) == classes:
        _require_class_order(folder, read)
        return "array", f"they are arrays of as many maps as there are classes, {classes}"
    _require_background_first(folder, read)
    _require_class_order(folder, [(maps[1:], its) for maps, its in read])
    why = f"they are arrays of one map more than there are classes, {classes}"
    return "array_bg", f"{why}, and the first is taken for the background"


def _require_background_first(
    folder: str | Path, read: list[tuple[np.ndarray, set[int] | None]]
) -> None:
    """Raise InputError where more files look as if their last map were the background than as if
    their first were. read: (maps, labels) of files.
    """
    ends = [_background_end(maps, its) for maps, its in read]
    if (last := ends.count(-1)) > ends.count(0):
        raise InputError(
            f"{folder}: the CAM files are arrays with a map more than there are classes, and in "
            f"{last} of {len(ends)} looked at the last map, not the first, looks like the "
            "background; write them with the background first, as np.roll(maps, 1, axis=0) does, "
            "or say that it is by --cam_format array_bg"
        )


def _background_end(maps: np.ndarray, labels: set[int] | None) -> int | None:
    """The map that is the background, 0 or -1: the one with which the rest fits the labels, else
    the larger one where neither can be a labelled class; None where that does not tell.
    """
    peaks, areas = maps.max(axis=(1, 2)), maps.mean(axis=(1, 2), dtype=np.float64)
    first, last = _fits(peaks[1:], peaks[0], labels), _fits(peaks[:-1], peaks[-1], labels)
    if first != last:
        return 0 if first else -1
    classes = len(maps) - 1
    if classes == 1 or (labels and labels & {0, classes - 1}) or areas[0] == areas[-1]:
        return None
    return 0 if areas[0] > areas[-1] else -1


def _fits(foreground: np.ndarray, background: float, labels: set[int] | None) -> bool:
    """Whether maps with these highest values are of a photograph with these labels: background and
    labelled classes respond, and no other class does more.
    """
    if labels is None or background <= FAINT:
        return bool(background > FAINT)
    shown = np.isin(np.arange(len(foreground)), list(labels))
    lowest = foreground[shown].min() if shown.any() else FAINT
    return bool((foreground[shown] > FAINT).all() and foreground[~shown].max(initial=0) <= lowest)


def _require_class_order(
    folder: str | Path, read: list[tuple[np.ndarray, set[int] | None]]
) -> None:
    """Raise InputError where in most files classes respond and none of the labels' does. read:
    (maps of the classes, labels) of files.
    """
    wrong = [
        its for maps, its in read if its and maps.max() > FAINT and maps[sorted(its)].max() <= FAINT
    ]
    if 2 * len(wrong) > len(read):
        raise InputError(
            f"{folder}: in {len(wrong)} of {len(read)} CAM files looked at the maps of the image "
            "labels are empty, and those of other classes are not; are the arrays in the order of "
            "the class list, and of these images?"
        )


def _dict_format(
    folder: str | Path, files: list[tuple[Path, Any]], known: list[set[int]] | None
) -> tuple[str, str]:
    read = [_dict_maps(content, path) for path, content in files]
    highest = max((maps.max() for _, maps in read if maps.size), default=0.0)
    with_background = _background_first([set(keys.tolist()) for keys, _ in read], known)
    sums = [
        np.abs(maps.sum(axis=0, dtype=np.float64) - 1).max() < SUM_ROUNDING
        for _, maps in read
        if len(maps) > 1 and maps.size
    ]
    if with_background is None and sums and all(sums):
        return "scores", "class 0 is in every file, and the scores of each pixel add up to 1"
    if with_background is None:
        raise InputError(
            f"{folder}: every CAM file has class 0, which may be the first class (--cam_format "
            f"{'unit' if highest > HALF + ROUNDING else 'released or unit'}) or the background "
            "(--cam_format scores, class c as c + 1); say which"
        )
    if with_background:
        return "scores", "their classes are those of the image labels plus 1, and 0 is in all"
    _require_no_bits(folder, [content for _, content in files])
    if highest > HALF + ROUNDING:
        return "unit", f"their maps reach {highest:.2f}, and halved ones reach 0.5 at most"
    if highest <= 0 or highest >= SURELY_HALVED:
        return "released", f"their maps reach {max(highest, 0):.2f}, as halved ones do"
    raise InputError(
        f"{folder}: no map of the CAM files reaches more than {highest:.3f}, so they may be halves "
        "of unit maps (--cam_format released) or unit maps that are low (--cam_format unit); say "
        "which"
    )


def _keyed_format(
    folder: str | Path, files: list[tuple[Path, Any]], entry: str, known: list[set[int]] | None
) -> tuple[str, str]:
    sign = f"they have the entries keys and {entry}"
    read = [_keyed_maps(content, entry, path) for path, content in files]
    if all(len(keys) == len(maps) + 1 and keys[0] == 0 for keys, maps in read):
        if entry != "hr_cam":
            raise InputError(
                f"{folder}: the keys of {files[0][0].name} count a background that {entry} has no "
                "map of, as PuzzleCAM's files do with hr_cam; rename the entry or the keys"
            )
        return "hr_cam", f"{sign}, and their keys count the background as 0"
    with_background = _background_first([set(keys.tolist()) for keys, _ in read], known)
    if with_background is None:
        raise InputError(
            f"{folder}: every CAM file has key 0, which may be the first class or the background; "
            "give the image labels, or write the files with keys of classes from 0"
        )
    if with_background != (entry == "hr_cam"):
        other = "count the background as 0" if with_background else "are classes from 0"
        raise InputError(
            f"{folder}: its files have {entry}, but their keys {other}; write them as "
            f"{'PuzzleCAM' if with_background else 'IRN'} does "
            f"({'hr_cam' if with_background else 'high_res'})"
        )
    return MAP_ENTRIES[entry], sign


def _background_first(keys: list[set[int]], known: list[set[int]] | None) -> bool | None:
    """Whether keys count the background as 0; None where both is possible."""
    if not all(0 in file_keys for file_keys in keys if file_keys):
        return False
    if known is not None:
        pairs = [(mine, its) for mine, its in zip(keys, known, strict=True) if mine]
        plain = all(mine <= its for mine, its in pairs)
        shifted = all(mine <= {0} | {label + 1 for label in its} for mine, its in pairs)
        if plain != shifted:
            return shifted
        if not plain:
            return False  # of neither; loading says which file
    return False if all(file_keys <= {0} for file_keys in keys) else None


def _look_for_response(
    folder: str | Path,
    reading: CamReading,
    files: list[tuple[Path, Any]],
    say: Callable[[str], None],
) -> None:
    """Say where no map of files, (path, content), shows anything; raise InputError where they may
    be masks of 0 and 1.
    """
    read = [reading._keys_and_maps(content, path)[1] for path, content in files]
    faint = FAINT * (2 if reading.format == "released" else 1)
    if not any(maps.size for maps in read) or any((maps > faint).any() for maps in read):
        return
    _require_no_bits(folder, [content for _, content in files])
    say(
        f"CAM files of {folder}: no map of the {len(files)} looked at exceeds 1 / 255, so that all "
        "is background; unit maps have a maximum of 1"
    )


def _require_no_bits(folder: str | Path, contents: list[Any]) -> None:
    """Raise InputError where contents are uint8 with 1 as the highest value: it may mean 1 / 255,
    or a mask.
    """
    maps = [value for content in contents for value in _arrays(content)]
    if all(value.dtype == np.uint8 for value in maps) and (
        max((int(value.max(initial=0)) for value in maps), default=0) == 1
    ):
        raise InputError(
            f"{folder}: the CAM files are uint8 and none exceeds 1 of 255, so they may be masks of "
            "0 and 1; multiply them by 255, or save them as float32"
        )


def _arrays(content: Any) -> list[np.ndarray]:
    """The maps of a file, as they are stored."""
    if isinstance(content, np.ndarray):
        return [content]
    entry = next((entry for entry in MAP_ENTRIES if entry in content), None)
    values = content.values() if entry is None else [content[entry]]
    return [value for value in values if isinstance(value, np.ndarray)]


def _spread(count: int) -> list[int]:
    return np.unique(np.linspace(0, count - 1, min(count, SAMPLE)).round().astype(int)).tolist()


# ============ what is in a file ============
def _content(path: Path) -> Any:
    """A dict, an array, or None for a file of our own format."""
    magic = first_bytes(path)
    if magic.startswith(ZIP_MAGIC):
        return _npz_content(path)
    if magic != NPY_MAGIC:
        raise InputError(f"{path} is no CAM file: neither .npz nor .npy by its first bytes")
    content = load_npy(path)
    return numbered(content, path) if isinstance(content, dict) else content


def _are_ours(names: Iterable[str]) -> bool:
    """Whether a file with members of these names is of one of our own formats."""
    there = set(names)
    return any(there >= members for members in OUR_MEMBERS)


def _is_ours(path: Path) -> bool:
    if path.suffix != ".npz":
        return False
    try:
        with zipfile.ZipFile(path) as members:
            return _are_ours(name.removesuffix(".npy") for name in members.namelist())
    except (OSError, zipfile.BadZipFile):
        return True  # load_cam says what is wrong with it


def _npz_content(path: Path) -> Any:
    try:
        with np.load(path, allow_pickle=False) as members:
            if _are_ours(members.files):
                return None
            twice = next((n for n in members.files if members.files.count(n) > 1), None)
            if twice is not None:
                raise InputError(f"{path} has two members {twice}; leave one of them")
            content = {name: members[name] for name in members.files}
    except InputError:
        raise
    # damaged bytes reach zipfile, zlib and numpy: whatever they raise means a bad file
    except Exception as error:
        raise InputError(f"{path} is damaged ({type(error).__name__}); write it again") from error
    if (classes := numbered(content, path)) is not content:
        return classes
    if "keys" not in content and len(content) == 1:
        return next(iter(content.values()))
    return content


def _layout(content: Any, path: Path) -> str:
    if content is None:
        return "npz"
    if isinstance(content, np.ndarray):
        if content.ndim != 3:
            raise InputError(
                f"{path} is no CAM file: an array of shape {content.shape}, where maps are "
                "(classes, H, W)"
            )
        return "array"
    if not isinstance(content, dict):
        raise InputError(f"{path} is no CAM file: it holds a {type(content).__name__}")
    if "keys" in content:
        if entry := next((entry for entry in MAP_ENTRIES if entry in content), None):
            return entry
    elif all(map(_is_whole, content)):
        return "dict"
    raise InputError(
        f"{path} is no CAM file: its entries are {_names(content)}, where class numbers are "
        f"known, or keys with {', '.join(MAP_ENTRIES)}"
    )


def _is_whole(key: Any) -> bool:
    whole = isinstance(key, int | np.integer) and not isinstance(key, bool)
    return whole and abs(int(key)) <= MAX_KEY


def _described(layout: str) -> str:
    known = {
        "npz": "our own format",
        "array": "an array of maps",
        "dict": "a dict of maps by class",
    }
    return known.get(layout, f"keys and {layout}")


def _names(content: dict) -> str:
    names = [str(key)[:20] for key in list(content)[:5]]
    return ", ".join(names) + (", ..." if len(content) > 5 else "") if names else "none"


def _dict_maps(content: dict, path: Path) -> tuple[np.ndarray, np.ndarray]:
    maps = [_unit_map(value, path) for value in content.values()]
    if len({map_.shape for map_ in maps}) > 1:
        raise InputError(f"{path}: its maps have different sizes; all must be of the image's size")
    stacked = np.stack(maps) if maps else np.zeros((0, 0, 0), dtype=np.float32)
    return np.array([int(key) for key in content], dtype=np.int64), stacked


def _keyed_maps(content: dict, entry: str, path: Path) -> tuple[np.ndarray, np.ndarray]:
    keys = content["keys"]
    if isinstance(keys, list | tuple):
        whole = all(isinstance(key, int | np.integer) and not isinstance(key, bool) for key in keys)
        keys = np.asarray(keys) if whole else None
    if (
        not isinstance(keys, np.ndarray)
        or keys.ndim != 1
        or (keys.size and keys.dtype.kind not in "iu")
    ):
        raise InputError(f"{path}: keys must be a list of whole class numbers")
    maps = _unit_maps(content[entry], path)
    if len(maps) not in (len(keys), len(keys) - 1):
        raise InputError(f"{path} has {len(keys)} keys and {len(maps)} maps in {entry}")
    return keys.astype(np.int64), maps


def _unit_map(value: Any, path: Path) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.ndim != 2:
        raise InputError(f"{path}: every class must have one (H, W) map")
    return _unit_values(value, path)


def _unit_maps(value: Any, path: Path) -> np.ndarray:
    if isinstance(value, np.ndarray) and value.size == 0:
        return np.zeros((0, 0, 0), dtype=np.float32)
    if not isinstance(value, np.ndarray) or value.ndim != 3:
        raise InputError(f"{path}: its maps must be one array (classes, H, W)")
    return _unit_values(value, path)


def _unit_values(value: np.ndarray, path: Path) -> np.ndarray:
    """value as float32 in unit scale; values below 0 occur and are kept (tool/file/cam_file.py).

    Raises InputError for what is no number, over 1, or below -1 as logarithms are.
    """
    if value.dtype == np.uint8:
        return value.astype(np.float32) / np.float32(255)
    if value.dtype.kind != "f":
        raise InputError(f"{path}: maps are floating or uint8, not {value.dtype}")
    with np.errstate(over="ignore", invalid="ignore"):
        maps = value.astype(np.float32)
    if not np.isfinite(maps).all():
        raise InputError(f"{path}: its maps have values that are not finite")
    if (highest := maps.max(initial=0)) > 1 + ROUNDING:
        raise InputError(
            f"{path}: a map reaches {highest:.3g}, where unit maps reach 1; divide each map by its "
            "maximum"
        )
    _require_above(maps, -1, path)
    return np.minimum(maps, np.float32(1))


def _require_above(maps: np.ndarray, bound: int, path: Path) -> None:
    """Raise InputError for values under bound, but for those of the released normalisation: one in
    all pixels of a map that are there, beside a response or in the whole map. maps (..., H, W).
    """
    if not maps.size or maps.min() >= bound - ROUNDING:
        return
    for map_ in maps.reshape(-1, *maps.shape[-2:]):
        low = map_[map_ < bound - ROUNDING]
        alike = low.size == 0 or low.max() - low.min() <= ROUNDING * abs(float(low.min()))
        if alike and (low.size in (0, map_.size) or map_.max() > FAINT):
            continue
        kind = "scores are not negative" if bound == 0 else f"unit maps do not go below {bound}"
        raise InputError(
            f"{path}: a map goes down to {low.min():.3g}, where {kind}; {PROBABILITIES}"
        )


def _without_background(
    keys: np.ndarray, maps: np.ndarray, path: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Classes from 0 and their maps, of keys that count the background as 0."""
    if len(keys) and 0 not in keys:
        raise InputError(f"{path} has no background: key 0 is not among its keys {keys.tolist()}")
    foreground = keys != 0
    if np.count_nonzero(~foreground) > 1:
        raise InputError(f"{path} has two backgrounds: key 0 occurs twice in {keys.tolist()}")
    if len(maps) == len(keys) - 1:  # the background has no map
        return keys[foreground] - 1, maps
    if not len(keys):
        return keys, maps
    background = maps[np.flatnonzero(~foreground)[0]]
    return keys[foreground] - 1, _against_background(maps[foreground], background, path)


def _against_background(foreground: np.ndarray, background: np.ndarray, path: Path) -> np.ndarray:
    """Maps (n, H, W) in 0..1 that say at threshold 0.5 what the argmax of scores says. Raises
    InputError naming the file at path for scores under 0.
    """
    _require_above(foreground, 0, path)
    _require_above(background, 0, path)
    foreground, background = foreground.clip(0), background.clip(0)
    total = foreground.max(axis=0, initial=0) + background
    return np.divide(foreground, total, out=np.zeros_like(foreground), where=total > 0)


def _chosen(maps: np.ndarray, label: np.ndarray | None) -> np.ndarray:
    if label is None:
        return np.flatnonzero((maps > 0).any(axis=(1, 2)))
    return np.flatnonzero(label)
