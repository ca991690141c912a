"""A folder of CAM files of a list, ours or another code's, with the image labels that say which
classes they may hold.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tool.errors import InputError
from tool.file.cam_file import (
    CAM_SUFFIXES,
    PHOTOGRAPH,
    CamFile,
    find_cam,
    has_cam,
    load_cam,
    load_cam_header,
)
from tool.file.digests import file_digest
from tool.file.foreign_cam import (
    AUTO_FORMAT,
    CAM_FORMATS,
    CamReading,
    choose_reading,
    holds_our_format,
)
from tool.file.images import (
    APPLY_EXIF,
    EXIF_KEY,
    PHOTOGRAPH_DIGEST,
    PHOTOGRAPH_PATH,
    read_mask_meta,
)
from tool.file.makers import Makers
from tool.run.notes import note
from voc12.labels import label_source, load_labels
from voc12.lists import image_path
from voc12.masks import ground_truth_dir, masks_missing
from voc12.orientation import SizedFile, cam_file, require_orientation, turned_photographs

# What load_cam tells apart by itself: files made from these say nothing of how they were read.
READ_BY_CONTENT = ("npz", "released", "irn")


@dataclass(frozen=True)
class CamFolder:
    """CAM files of one format.

    labels: image id -> multi-hot image label, where labels are at hand; exif: how their photographs
    are read
    """

    reading: CamReading
    labels: dict[str, np.ndarray] = field(default_factory=dict)
    exif: str = APPLY_EXIF

    def load(self, path: str | Path) -> CamFile:
        """The CAM of a file; its name is the image's id."""
        return self.reading.load(path, self.labels.get(Path(path).stem))

    @property
    def meta(self) -> dict[str, Any]:
        """What files made from these say of how these and their photographs were read."""
        read_by_content = self.reading.format in READ_BY_CONTENT
        made = {} if read_by_content else {"cam_format": self.reading.format}
        return made | {EXIF_KEY: self.exif}


def loader_of(cams: CamFolder | None) -> Callable[[Path], CamFile]:
    """What reads the files of a folder; None: each by what it holds (load_cam)."""
    return load_cam if cams is None else cams.load


def read_meta(cams: CamFolder | None) -> dict[str, Any]:
    """CamFolder.meta, nothing for None."""
    return {} if cams is None else cams.meta


def exif_of(cams: CamFolder | None) -> str:
    """How the photographs of these files are read."""
    return APPLY_EXIF if cams is None else cams.exif


def open_cam_folder(
    folder: str | Path,
    cam_format: str,
    voc12_root: str | Path,
    ids: Sequence[str],
    classes: Sequence[str],
    exif: str = APPLY_EXIF,
) -> CamFolder:
    """The CAM files of ids in folder, as --cam_format says; says what auto took, where they are not
    our own.

    Labels are those of the data set in voc12_root, if it has any for these images; a line says why
    where they cannot be read. exif: how the photographs are read. Raises InputError where the files
    can be read in two ways, where they are arrays and the labels that choose their maps cannot be
    read, where two networks made them, and where they fit photographs with an EXIF orientation only
    as exif does not read them.
    """
    require_one_network(folder, ids)
    cams = replace(_read_as(folder, cam_format, voc12_root, ids, classes), exif=exif)

    def file_of(name: str) -> SizedFile | None:
        return cam_file(find_cam(folder, name), cams.load) if has_cam(folder, name) else None

    require_orientation(turned_photographs(voc12_root, ids), file_of, exif, "CAM files")
    return cams


def open_seeds_of_walk(
    folder: str | Path | None,
    voc12_root: str | Path,
    ids: Sequence[str],
    classes: Sequence[str],
    exif: str = APPLY_EXIF,
    cam_format: str = AUTO_FORMAT,
) -> Callable[[Path], CamFile]:
    """What reads a seed of walked maps, as open_cam_folder does; folder None: there are none."""
    if folder is None:
        return load_cam
    return open_cam_folder(folder, cam_format, voc12_root, ids, classes, exif).load


def require_one_network(folder: str | Path, ids: Sequence[str]) -> None:
    """Raise InputError naming the networks where several made the CAM files of ids in folder, or
    the seeds of these, as they say; those of other codes say nothing.
    """
    paths = [find_cam(folder, name) for name in ids if has_cam(folder, name)]
    headers = [
        (path.name, load_cam_header(path)) for path in paths if path.suffix == CAM_SUFFIXES[0]
    ]
    Makers.of((name, header[1]) for name, header in headers if header).require_one(folder)


def require_same_photographs(
    folder: str | Path, voc12_root: str | Path, ids: Sequence[str]
) -> None:
    """Raise InputError counting and naming the photographs of ids that are no longer the files that
    the CAM files in folder were made of, as these say; those of other codes, and our own before
    2026-11-26, say nothing. To be called before photographs and maps are read together.
    """
    made_of = {name: _made_of(find_cam(folder, name)) for name in ids if has_cam(folder, name)}
    _require_unchanged(
        made_of,
        voc12_root,
        len(ids),
        f"the CAM files in {folder} were made",
        "run infer_cam.py again, it makes theirs anew",
    )


def require_masks_of_same_photographs(
    masks: Sequence[str | Path], voc12_root: str | Path, ids: Sequence[str]
) -> None:
    """The same of the masks of ids, in their order: those of infer_seg.py and those made from CAM
    files say of which photographs they are, all others say nothing.
    """
    made_of = {name: _mask_made_of(path) for name, path in zip(ids, masks, strict=True)}
    folder = Path(masks[0]).parent if masks else ""
    _require_unchanged(
        made_of,
        voc12_root,
        len(ids),
        f"the masks in {folder} were made",
        "run the stages that made them again, they make theirs anew",
    )


def _require_unchanged(
    made_of: dict[str, str | None], voc12_root: str | Path, count: int, since: str, hint: str
) -> None:
    """made_of: id -> digest of the photograph that something was made of, None where unknown."""
    changed = [
        path
        for path, made in (
            (image_path(voc12_root, name), made) for name, made in made_of.items() if made
        )
        if made != file_digest(path)
    ]
    if changed:
        raise InputError(
            f"{len(changed)} of {count} photographs have been replaced since {since}, first "
            f"{changed[0]}; {hint}"
        )


def _made_of(path: Path) -> str | None:
    """The digest of the photograph that a CAM file was made of, at whatever stage."""
    header = load_cam_header(path)
    return None if header is None else _photograph(header[1])


def _mask_made_of(path: str | Path) -> str | None:
    """The digest of the photograph that a mask was made of; None for one that was put back into the
    place of the photograph by voc12.own_masks, whose bytes are others than the data set's.
    """
    meta = read_mask_meta(path)
    if PHOTOGRAPH_DIGEST in meta or PHOTOGRAPH_PATH in meta:
        return meta.get(PHOTOGRAPH_DIGEST)
    return _photograph(meta)


def _photograph(meta: dict[str, Any]) -> str | None:
    """The digest of the photograph in what a CAM file says of itself, or of its seeds."""
    while PHOTOGRAPH not in meta and isinstance(meta.get("cam"), dict):
        meta = meta["cam"]
    return meta.get(PHOTOGRAPH)


def _read_as(
    folder: str | Path,
    cam_format: str,
    voc12_root: str | Path,
    ids: Sequence[str],
    classes: Sequence[str],
) -> CamFolder:
    if cam_format in (AUTO_FORMAT, "npz") and holds_our_format(folder, ids):
        return CamFolder(CamReading("npz", len(classes)))
    labels, fault = _labels_at_hand(voc12_root, ids, classes)
    try:
        reading = choose_reading(folder, ids, cam_format, len(classes), labels, say=note)
    except InputError as error:
        if not fault:
            raise
        raise InputError(f"{error} (the image labels cannot be read: {fault})") from None
    if fault and reading.format.startswith("array"):
        raise InputError(
            f"CAM files of {folder} are arrays, of which the maps of the image labels are read, "
            f"but these cannot be: {fault}"
        )
    if fault:
        note(f"CAM files of {folder}: read without the image labels, which cannot be read: {fault}")
    return CamFolder(reading, {} if labels is None else dict(zip(ids, labels, strict=True)))


def add_cam_format_flag(group: argparse._ArgumentGroup) -> None:
    """--cam_format: how CAM files are read."""
    group.add_argument(
        "--cam_format",
        choices=CAM_FORMATS,
        default=AUTO_FORMAT,
        help="how CAM files are read (docs/files.md): by what they hold, or as this format "
        "(default %(default)s)",
    )


def _labels_at_hand(
    voc12_root: str | Path, ids: Sequence[str], classes: Sequence[str]
) -> tuple[np.ndarray | None, str]:
    """((ids, C) image labels, why they cannot be read): None where they cannot, and, without a
    reason, where the data set has none.
    """
    try:
        source = label_source(voc12_root)
    except InputError:
        return None, ""
    if source == "mask" and len(masks_missing(ground_truth_dir(voc12_root), ids)) == len(ids):
        return None, ""  # masks of other lists
    try:
        return load_labels(voc12_root, ids, classes), ""
    except InputError as error:
        return None, str(error)
