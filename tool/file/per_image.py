"""Confusion matrices of single photographs on disk, <evaluation>.npz, read without pickle:

ids              (N,) text, the photographs of the list in its order
classes          (K,) text, background first
thresholds       (R,) float64, unit scale; NaN: none (label maps, what a CRF decided)
results          (R,) text: best (the best threshold by the masks), auto (chosen without masks)
<result>_image   (M,) int32, 0..N-1
<result>_cell    (M,) int32, true class * K + predicted class
<result>_count   (M,) int64, pixels; cells that are not there have none
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tool.errors import InputError
from tool.file.atomic import atomic_write
from tool.image_counts import ImageCounts

BEST, AUTO = "best", "auto"


@dataclass(frozen=True, eq=False)
class PerImage:
    """What an evaluation counted in each photograph.

    counts: result ("best", "auto") -> its counts; thresholds: result -> unit scale, None: none
    """

    ids: tuple[str, ...]
    classes: tuple[str, ...]
    counts: Mapping[str, ImageCounts]
    thresholds: Mapping[str, float | None]


def save_per_image(path: str | Path, per_image: PerImage) -> None:
    """Write the file, whole or not at all."""
    arrays = {
        "ids": np.array(per_image.ids),
        "classes": np.array(per_image.classes),
        "results": np.array(list(per_image.counts)),
        "thresholds": np.array([per_image.thresholds[name] for name in per_image.counts], float),
    }
    for name, counts in per_image.counts.items():
        arrays |= {
            f"{name}_image": counts.image,
            f"{name}_cell": counts.cell,
            f"{name}_count": counts.count,
        }
    with atomic_write(path) as file:
        np.savez_compressed(file, **arrays)


def load_per_image(path: str | Path) -> PerImage:
    """Read the file. Raises InputError naming it where it is another or damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            ids, classes = (tuple(stored[name].tolist()) for name in ("ids", "classes"))
            results = stored["results"].tolist()
            thresholds = stored["thresholds"].tolist()
            counts = {
                name: ImageCounts(
                    *(stored[f"{name}_{part}"] for part in ("image", "cell", "count")),
                    images=len(ids),
                    num_classes=len(classes),
                )
                for name in results
            }
            for found in counts.values():
                _require_cells(found)
                found.hits_and_unions()
            known = {
                name: None if np.isnan(threshold) else float(threshold)
                for name, threshold in zip(results, thresholds, strict=True)
            }
    # bytes that reach zipfile, zlib and numpy raise whatever they will
    except Exception as error:
        raise InputError(
            f"{path} holds no counts of single photographs ({error}); write it again with "
            "evaluation_cam.py --per_image"
        ) from error
    return PerImage(ids, classes, counts, known)


def _require_cells(counts: ImageCounts) -> None:
    """Raise ValueError for places beyond the images and classes, whose sums would be as long as
    they are high.
    """
    for name, places, end in (
        ("image", counts.image, counts.images),
        ("cell", counts.cell, counts.num_classes**2),
    ):
        if places.ndim != 1 or places.dtype.kind not in "iu" or len(places) != len(counts.count):
            raise ValueError(f"{name} is {places.dtype} of shape {places.shape}")
        if places.size and not (places.min() >= 0 and places.max() < end):
            raise ValueError(f"{name} goes up to {places.max()}, {end} are there")
