"""Segmentations as COCO's JSON has them, into masks and out of them: polygons and run-lengths.

A polygon is [x0, y0, x1, y1, ...] in pixels, (0, 0) the outer corner of the first pixel; several
are one object, their union. A run-length mask is {"size": [H, W], "counts": ...}: lengths of runs
down the columns, background first, as a list or packed into a text. pycocotools draws; before it,
every number is checked, since its C code believes what it is told.
"""

from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from tool.errors import InputError

MAX_OUTLINE = 2_000_000  # pixels along a polygon, which pycocotools takes 80 bytes each for
MAX_COORDINATE = 1_000_000
MARGIN = 0.01  # of a side, and a pixel, by which drawing tools overshoot the frame
FIRST_CHAR, LAST_CHAR = ord("0"), ord("0") + 63  # of packed run-lengths: 6 bits a character
MAX_CHARS = 7  # of one packed number: 35 bits


def segmentation_rle(
    segmentation: Any, size: tuple[int, int], clip: bool = False
) -> dict[str, Any] | None:
    """pycocotools' run-length mask of a segmentation, None when it has no area.

    size: (H, W) of the image; clip: cut polygons that leave the frame by more than MARGIN.
    Raises InputError for anything else than polygons or run-lengths of this size.
    """
    if isinstance(segmentation, dict):
        counts = run_lengths(segmentation, size)
        return coco_mask.frPyObjects({"size": list(size), "counts": counts.tolist()}, *size)
    if not isinstance(segmentation, list):
        raise InputError(
            f"its segmentation is a {type(segmentation).__name__}; give polygons or run-lengths"
        )
    if segmentation and all(type(value) in (int, float) for value in segmentation):
        segmentation = [segmentation]  # one polygon without its list
    polygons = [_polygon(polygon, size, clip) for polygon in segmentation]
    polygons = [polygon for polygon in polygons if polygon is not None]
    if not polygons:
        return None
    return coco_mask.merge(coco_mask.frPyObjects(polygons, *size))


def box_rle(box: Any, size: tuple[int, int]) -> dict[str, Any]:
    """The run-length mask of a box [x, y, width, height], cut at the frame.

    Raises InputError when it is none.
    """
    if (
        not isinstance(box, list)
        or len(box) != 4
        or not {*map(type, box)} <= {int, float}
        or max(map(abs, box)) > MAX_COORDINATE
        or min(box[2:]) < 0
    ):
        raise InputError("it has neither a segmentation nor a box [x, y, width, height]")
    x, y, width, height = map(float, box)
    low = np.clip([x, y], 0, size[::-1])
    high = np.clip([x + width, y + height], 0, size[::-1])
    drawn = np.zeros(size, dtype=np.uint8, order="F")
    (left, top), (right, bottom) = np.floor(low).astype(int), np.ceil(high).astype(int)
    drawn[top:bottom, left:right] = 1
    return coco_mask.encode(drawn)


def _polygon(polygon: Any, size: tuple[int, int], clip: bool) -> list[float] | None:
    """A polygon fit for pycocotools, None for one of fewer than three points."""
    if not isinstance(polygon, list) or not {*map(type, polygon)} <= {int, float}:
        raise InputError("a polygon is no list of numbers [x0, y0, x1, y1, ...]")
    if len(polygon) % 2:
        raise InputError(f"a polygon has {len(polygon)} numbers, an odd one; it is x, y by turns")
    if len(polygon) < 6:
        return None
    if max(map(abs, polygon)) > MAX_COORDINATE:
        raise InputError("a polygon has a number beyond all images")
    points = np.array(polygon, dtype=np.float64).reshape(-1, 2)
    frame = np.array(size[::-1], dtype=np.float64)
    margin = MARGIN * frame + 1
    outside = (points < -margin) | (points > frame + margin)
    if outside.any():
        point = points[outside.any(axis=1)][0]
        if not clip:
            raise InputError(
                f"a polygon has the point ({point[0]:g}, {point[1]:g}), outside its image of "
                f"{size[1]} x {size[0]} pixels; was it drawn on another size? --clip cuts it there"
            )
        points = _clipped(points, frame)
        if len(points) < 3:
            return None
    steps = np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum()
    if steps > MAX_OUTLINE:
        raise InputError(
            f"a polygon's outline is {steps:.0f} pixels long, over {MAX_OUTLINE}; is it one object?"
        )
    return points.ravel().tolist()


def _clipped(points: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """The polygon (n, 2) cut at the frame (W, H), side by side (Sutherland and Hodgman)."""
    for axis in (0, 1):
        for sign, bound in ((1, 0.0), (-1, -frame[axis])):
            if not len(points):
                return points
            inside = sign * points[:, axis] - bound  # >= 0 on the kept side
            kept = []
            for place in range(len(points)):
                before, here = inside[place - 1], inside[place]
                if (before >= 0) != (here >= 0):
                    part = before / (before - here)
                    crossing = points[place - 1] + part * (points[place] - points[place - 1])
                    crossing[axis] = sign * bound
                    kept.append(crossing)
                if here >= 0:
                    kept.append(points[place])
            points = np.array(kept).reshape(-1, 2)
    return points


# ============ run-lengths ============
def run_lengths(segmentation: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    """The counts (n,) int64 of a run-length mask, which fill an image of size (H, W) exactly.

    Raises InputError for any others.
    """
    if segmentation.get("size") != list(size):
        raise InputError(
            f"its run-lengths are of size {segmentation.get('size')!s:.40}, its image {list(size)} "
            "(height, width)"
        )
    counts = segmentation.get("counts")
    if isinstance(counts, str):
        values = _unpacked(counts)
    elif isinstance(counts, list) and {*map(type, counts)} <= {int, float}:
        if len(counts) > 2 * size[0] * size[1] + 1:
            raise InputError(f"it has {len(counts)} run-lengths, more than its image has pixels")
        exact = np.array(counts, dtype=object)
        if not all(0 <= count <= size[0] * size[1] and count == int(count) for count in exact):
            raise InputError("its run-lengths are no whole numbers of pixels in the image")
        values = exact.astype(np.int64)
    else:
        raise InputError("its run-lengths are neither a list of numbers nor a text")
    pixels = size[0] * size[1]
    if ((values < 0) | (values > pixels)).any() or values.sum() != pixels:
        raise InputError(
            f"its run-lengths do not fill the {pixels} pixels of its image; is it whole, and of "
            "this image?"
        )
    return values


def _unpacked(text: str) -> np.ndarray:
    """The run-lengths (n,) int64 in COCO's packed text.

    A number is groups of 5 bits from the lowest, a character each; bit 6 says that more follow, bit
    5 of the last is the sign. From the fourth number on they are differences to the one before the
    last.
    """
    try:
        codes = np.frombuffer(text.encode("ascii"), dtype=np.uint8).astype(np.int64)
    except UnicodeEncodeError:
        codes = np.array([-1])
    if ((codes < FIRST_CHAR) | (codes > LAST_CHAR)).any():
        raise InputError("its packed run-lengths have characters that belong to none")
    codes -= FIRST_CHAR
    last = codes & 32 == 0
    if not len(codes) or not last[-1]:
        raise InputError("its packed run-lengths end within a number")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > MAX_CHARS:
        raise InputError("its packed run-lengths have a number beyond all images")
    shift = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    values = np.add.reduceat((codes & 31) << shift, starts)
    values -= np.where(codes[ends] & 16 > 0, np.int64(1) << (5 * lengths), 0)
    values[2::2] = values[2::2].cumsum()
    values[1::2] = values[1::2].cumsum()
    return values


def decode(rle: dict[str, Any]) -> np.ndarray:
    """The mask (H, W) bool of pycocotools' run-lengths."""
    return coco_mask.decode(rle).view(bool)


def area(rle: dict[str, Any]) -> int:
    """How many pixels it has."""
    return int(coco_mask.area(rle))


# ============ writing ============
def encode(mask: np.ndarray) -> dict[str, Any]:
    """A mask (H, W) bool as COCO's JSON has it: {"size": [H, W], "counts": packed text}."""
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": rle["counts"].decode("ascii")}


def parts(mask: np.ndarray) -> list[np.ndarray]:
    """The parts of a mask (H, W) bool that hang together over pixels' sides, each (H, W) bool."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    return [labels == part for part in range(1, count)]


def without_specks(mask: np.ndarray, least: float) -> tuple[np.ndarray, int]:
    """(the mask (H, W) bool without its parts, as of parts, of fewer than least pixels, how many
    these are).
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    kept = stats[:, cv2.CC_STAT_AREA] >= least
    small = int((~kept[1:]).sum())
    kept[0] = False  # what is not of the mask
    return kept[labels], small


def box(mask: np.ndarray) -> list[int]:
    """The box [x, y, width, height] around the pixels of mask (H, W) bool."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    x, y = int(columns[0]), int(rows[0])
    return [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y]
