"""Labelme's JSON, one a photograph, as Labelme 5.2 and later read it.

A shape is a polygon, points on its outline, or a mask, exact: points are the first and the last
pixel of its box, mask the box's pixels as a PNG in base64.
"""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

VERSION = "5.5.0"


def mask_shape(
    label: str, mask: np.ndarray, box: Sequence[int], group: int | None
) -> dict[str, Any]:
    """A shape of mask (H, W) bool, box [x, y, width, height] around it. Shapes of one group are one
    object.
    """
    x, y, width, height = box
    buffer = io.BytesIO()
    Image.fromarray(mask[y : y + height, x : x + width]).save(buffer, format="PNG")
    shape = _shape(label, [[x, y], [x + width - 1, y + height - 1]], "mask", group)
    return shape | {"mask": base64.b64encode(buffer.getvalue()).decode("ascii")}


def polygon_shape(label: str, points: np.ndarray, group: int | None) -> dict[str, Any]:
    """A shape of an outline (n, 2) of x, y. Labelme's own reader paints the line too, a pixel
    more.
    """
    return _shape(label, points.tolist(), "polygon", group)


def _shape(label: str, points: list, kind: str, group: int | None) -> dict[str, Any]:
    return {
        "label": label,
        "points": [[float(x), float(y)] for x, y in points],
        "group_id": group,
        "description": "",
        "shape_type": kind,
        "flags": {},
    }


def label_file(shapes: list[dict], photograph: str, size: tuple[int, int]) -> dict[str, Any]:
    """The content of a file; photograph: its path seen from the file; size: (H, W)."""
    return {
        "version": VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": photograph,
        "imageData": None,
        "imageHeight": size[0],
        "imageWidth": size[1],
    }
