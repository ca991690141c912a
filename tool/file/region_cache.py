"""Superpixels made once a photograph and kept on disk: every crop reads its regions out of the
photograph's.

SLIC on every crop costs more than all else that a loader does. Its regions are no fixed property of
an image: moved by a dozen pixels, a crop gets others, with an adjusted Rand index of 0.48 between
the two. The cached regions agree with those of a crop as well as that (benchmarks/RESULTS.md). What
differs from the released code: the regions of a photograph are the same at every epoch, come from
the photograph before its colour jitter, and grow and shrink with its random resizing.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from tool.errors import InputError
from tool.file.atomic import atomic_write
from tool.patches import superpixels
from tool.transforms import View, normalise

# A crop cuts regions at its border, so it holds more of them than its share of the area; asking for
# this share of the segments gives as many as SLIC on the crop itself (benchmarks/patches.py).
BORDER_SHARE = 0.9
# of region numbers; once uint16 alone, in which those of many regions wrapped, to 0 among others
DTYPES = (np.uint16, np.uint32)


@dataclass(frozen=True)
class RegionCache:
    """The superpixels of photographs, in <folder>/<settings>/<digest of the pixels>.npz: regions
    (H, W) from 1, uint16, or uint32 where they are more than 65535.

    Files are written whole or not at all, so that any number of loaders may share a folder; one
    that cannot be read is made again.

    segments:    as if asked of SLIC per crop of crop_size
    resize_long: range of the long side in pixels from which crops are cut
    others:      as PatchMask's and TrainTransform's
    """

    folder: Path
    mean: Sequence[float]
    std: Sequence[float]
    segments: int = 300
    crop_size: int = 448
    resize_long: tuple[int, int] = (448, 768)
    slic_input: str = "rescaled"
    compactness: float = 10.0

    @cached_property
    def _settings_folder(self) -> Path:
        settings = {name: value for name, value in asdict(self).items() if name != "folder"}
        digest = hashlib.sha256(json.dumps(settings, default=list).encode()).hexdigest()[:8]
        return (
            Path(self.folder)
            / f"slic{self.segments}_crop{self.crop_size}_{self.slic_input}_{digest}"
        )

    def photograph(self, image: np.ndarray) -> np.ndarray:
        """The regions (H, W), labels from 1, of a photograph (H, W, 3) uint8; read, or made
        and kept.

        Raises InputError when the folder cannot be written.
        """
        path = (
            self._settings_folder
            / f"{hashlib.sha256(np.ascontiguousarray(image)).hexdigest()[:24]}.npz"
        )
        try:
            with np.load(path, allow_pickle=False) as stored:
                regions = np.asarray(stored["regions"])  # a member that is no array comes as bytes
            if regions.shape == image.shape[:2] and regions.dtype in DTYPES and regions.all():
                return regions
        # not there yet, or damaged: bytes that reach zipfile, zlib and numpy raise whatever they
        # will
        except Exception:
            pass
        regions = self.compute(image)
        try:
            with atomic_write(path) as file:
                np.savez_compressed(file, regions=regions)
        except OSError as error:
            raise InputError(
                f"cannot write superpixels to {path.parent}: {error}; set --superpixel_cache DIR "
                "or --superpixel_mode exact"
            ) from error
        return regions

    def compute(self, image: np.ndarray) -> np.ndarray:
        """The regions of a photograph, not stored."""
        height, width = image.shape[:2]
        scale = sum(self.resize_long) / 2 / max(height, width)
        segments = BORDER_SHARE * self.segments * height * width * scale**2 / self.crop_size**2
        regions = superpixels(
            normalise(image, self.mean, self.std),
            max(2, round(segments)),
            self.compactness,
            self.slic_input,
        )
        return regions.astype(DTYPES[int(regions.max()) > np.iinfo(DTYPES[0]).max])

    def crop(self, image: np.ndarray, view: View) -> np.ndarray:
        """The regions (size, size) of a crop of a photograph, labels 1..S without gaps; squares
        outside the photograph.
        """
        regions = self.photograph(image)
        crop = view.labels(regions, outside=0)
        outside = crop == 0
        if outside.any():
            cells = np.arange(view.size, dtype=np.intp) * round(self.segments**0.5) // view.size
            squares = int(regions.max()) + 1 + cells[:, None] * (cells[-1] + 1) + cells
            crop = np.where(outside, squares, crop)
        shown = np.zeros(int(crop.max()) + 1, dtype=bool)
        shown[crop] = True
        return shown.cumsum()[crop]
