"""Photographs that stand on their side by their EXIF tag, and whether masks and CAM files of them
follow the stored pixels or the turned ones.

Cameras store the pixels as the sensor has them and say in a tag how to turn them. Viewers turn;
many annotation tools and codes of this field do not, so their masks and maps lie as the stored
pixels do. Sizes are read from headers, before any slow work.
"""

import contextlib
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tool.errors import InputError
from tool.file.cam_file import CamFile, load_cam_header
from tool.file.images import (
    APPLY_EXIF,
    EXIF_KEY,
    IGNORE_EXIF,
    UPRIGHT,
    PhotographHeader,
    mask_size,
    photograph_header,
    read_mask_meta,
)
from tool.run.notes import note
from tool.run.progress import progress
from voc12.lists import image_path

TURNED = {APPLY_EXIF: "turned as its EXIF orientation {} says", IGNORE_EXIF: "as stored"}


def other_exif(exif: str) -> str:
    """The other way to read photographs."""
    return IGNORE_EXIF if exif == APPLY_EXIF else APPLY_EXIF


class TurnedPhotograph(NamedTuple):
    """A photograph whose EXIF orientation is not upright."""

    path: Path
    header: PhotographHeader

    def size(self, exif: str) -> tuple[int, int]:
        """(H, W) as read under exif."""
        return self.header.size(exif)


class SizedFile(NamedTuple):
    """A mask or CAM file: its (H, W), None where it has none, and what it says of itself."""

    path: Path
    size: tuple[int, int] | None
    meta: dict[str, Any]


def photograph_headers(voc12_root: str | Path, ids: Sequence[str]) -> dict[str, PhotographHeader]:
    """The header of each id's photograph; those that are missing or unreadable are left to who
    needs more of them than this.
    """
    headers = {}
    for name in progress(ids, desc="photographs", unit="img", leave=False):
        with contextlib.suppress(InputError):
            headers[name] = photograph_header(image_path(voc12_root, name))
    return headers


def median_side(headers: dict[str, PhotographHeader]) -> int:
    """The median of the photographs' long sides, pixels."""
    return round(statistics.median(max(header.stored) for header in headers.values()))


def turned_photographs(
    voc12_root: str | Path,
    ids: Sequence[str],
    headers: dict[str, PhotographHeader] | None = None,
) -> dict[str, TurnedPhotograph]:
    """id -> photograph, of those whose EXIF orientation is not upright; headers: where they are
    read already.
    """
    headers = photograph_headers(voc12_root, ids) if headers is None else headers
    return {
        name: TurnedPhotograph(image_path(voc12_root, name), headers[name])
        for name in ids
        if name in headers and headers[name].orientation != UPRIGHT
    }


def require_mask_orientation(
    voc12_root: str | Path,
    ids: Sequence[str],
    folder: str | Path,
    exif: str,
    what: str = "masks",
    headers: dict[str, PhotographHeader] | None = None,
) -> None:
    """require_orientation of the masks <folder>/<id>.png; those that are not there are left to who
    reads them. headers: of the photographs, where they are read already.
    """

    def file_of(name: str) -> SizedFile | None:
        path = Path(folder) / f"{name}.png"
        return mask_file(path) if path.is_file() else None

    require_orientation(turned_photographs(voc12_root, ids, headers), file_of, exif, what)


def mask_file(path: Path) -> SizedFile:
    """A mask by its header."""
    return SizedFile(path, mask_size(path), read_mask_meta(path))


def cam_file(path: Path, load: Callable[[Path], CamFile]) -> SizedFile:
    """A CAM file by its header, where it has one; load: reads it otherwise."""
    size, meta = load_cam_header(path) or (None, None)
    if meta is None:
        loaded = load(path)
        size, meta = loaded.size, loaded.meta
    return SizedFile(path, None if 0 in size else size, meta)


def require_same_exif(meta: dict[str, Any], exif: str, where: str | Path) -> None:
    """Raise InputError, starting with where, when meta says that the photograph was read otherwise.

    Files of ours that do not say were made when all photographs were turned; other codes' files
    have no stage and may be either.
    """
    if "stage" in meta and (made := meta.get(EXIF_KEY, APPLY_EXIF)) != exif:
        raise InputError(
            f"{where} was made with --exif {made}, this is --exif {exif}, and its photograph has "
            f"an EXIF orientation; give --exif {made}, or make it again"
        )


def require_orientation(
    turned: dict[str, TurnedPhotograph],
    file_of: Callable[[str], SizedFile | None],
    exif: str,
    what: str,
) -> None:
    """Raise InputError where masks or CAM files fit their photographs only as --exif does not read
    them; print a note that counts those that fit either way and do not say how they were made.

    turned: as turned_photographs; file_of: id -> its file, None where there is none to compare;
    what: "masks" or "CAM files"
    """
    other = other_exif(exif)
    fitting, clashing, unsure = 0, [], []
    for name, photograph in turned.items():
        if (file := file_of(name)) is None:
            continue
        require_same_exif(file.meta, exif, file.path)
        if file.size is None:
            continue
        sizes = photograph.size(exif), photograph.size(other)
        if sizes[0] == sizes[1]:
            if "stage" not in file.meta:
                unsure.append(photograph)
        elif file.size == sizes[0]:
            fitting += 1
        elif file.size == sizes[1]:
            clashing.append((photograph, file))
    if clashing:
        photograph, file = clashing[0]
        read, fits = (
            TURNED[choice].format(photograph.header.orientation) for choice in (exif, other)
        )
        raise InputError(
            f"{file.path} is of size {file.size}, its photograph {photograph.path} "
            f"{photograph.size(exif)} (height, width) {read}; it fits {fits}, so give --exif "
            f"{other} ({len(clashing)} of {len(clashing) + fitting} {what} of such photographs)"
            + (f"; the other {fitting} fit as they are: mend one or the other" if fitting else "")
        )
    if unsure:
        first = unsure[0]
        note(
            f"note: {len(unsure)} photographs have an EXIF orientation and {what} of the same size "
            f"either way (first {first.path}, orientation {first.header.orientation}), so that "
            f"nothing tells whether these follow it; --exif {exif} reads the photographs "
            f"{'turned' if exif == APPLY_EXIF else 'as stored'}, --exif {other} "
            f"{'as stored' if exif == APPLY_EXIF else 'turned'}"
        )
