"""Confusion matrices of single photographs, kept small: only cells that are not 0.

One reading of a list gives them at every background threshold (tool/metrics.py: ThresholdSweep); a
photograph takes a few kilobytes. What a mean IoU is made of follows from them for every part of the
list: drawn photographs (tool/bootstrap.py), or those whose objects are of one size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

# the objects' share of a photograph
SIZES = ("under 5 %", "5 to 20 %", "over 20 %")


@dataclass(frozen=True, eq=False)
class ImageCounts:
    """Pixel counts [image, true class, predicted class] of N images over K classes.

    image:   (M,) int32, 0..N-1
    cell:    (M,) int32, true * K + predicted
    count:   (M,) int64, pixels > 0; an image has a cell once
    """

    image: np.ndarray
    cell: np.ndarray
    count: np.ndarray
    images: int
    num_classes: int

    def confusion(self) -> np.ndarray:
        """The (K, K) int64 matrix of all images, rows ground truth."""
        counts = np.bincount(self.cell, self.count, self.num_classes**2)
        return counts.astype(np.int64).reshape((self.num_classes,) * 2)

    def hits_and_unions(self) -> tuple[np.ndarray, np.ndarray]:
        """Two (N, K) int64 arrays, pixels of each image: right ones of a class, and those in
        prediction or ground truth. Their sums over images give the IoU of the class.
        """
        true, predicted = np.divmod(self.cell, self.num_classes)
        right = true == predicted
        hits = self._by_image(true, where=right)
        return hits, self._by_image(true) + self._by_image(predicted) - hits

    def object_shares(self) -> np.ndarray:
        """(N,) the objects' part of the pixels that the mask names, 0 to 1; NaN where all are
        255.
        """
        true = self._by_image(self.cell // self.num_classes)
        named = true.sum(axis=1)
        with np.errstate(invalid="ignore"):
            return (named - true[:, 0]) / named

    def _by_image(self, classes: np.ndarray, where: np.ndarray | slice = slice(None)) -> np.ndarray:
        places = self.image[where].astype(np.int64) * self.num_classes + classes[where]
        counts = np.bincount(places, self.count[where], self.images * self.num_classes)
        return counts.astype(np.int64).reshape(self.images, self.num_classes)


@dataclass(frozen=True, eq=False)
class ImageSweep:
    """Pixel counts [image, thresholds that the score exceeds, true class, best class], K classes.

    image: (M,) int32; cell: (M,) int32, (exceeded * K + true) * K + best; count: (M,) uint32
    """

    image: np.ndarray
    cell: np.ndarray
    count: np.ndarray
    images: int
    num_classes: int

    @classmethod
    def of(cls, parts: Sequence[tuple[np.ndarray, np.ndarray]], num_classes: int) -> "ImageSweep":
        """Of (cell, count) of each image in turn."""
        lengths = [len(cell) for cell, _ in parts]
        return cls(
            np.repeat(np.arange(len(parts), dtype=np.int32), lengths),
            np.concatenate([cell for cell, _ in parts]).astype(np.int32),
            np.concatenate([count for _, count in parts]).astype(np.uint32),
            len(parts),
            num_classes,
        )

    def at(self, place: int) -> ImageCounts:
        """The images at the threshold of that place: where no more than `place` are exceeded, the
        prediction is background.
        """
        classes = self.num_classes
        exceeded, rest = np.divmod(self.cell, classes**2)
        cell = np.where(exceeded > place, rest, rest - rest % classes)
        found, inverse = np.unique(
            self.image.astype(np.int64) * classes**2 + cell, return_inverse=True
        )
        count = np.bincount(inverse, self.count, len(found)).astype(np.int64)
        image, cell = np.divmod(found, classes**2)
        return ImageCounts(
            image.astype(np.int32), cell.astype(np.int32), count, self.images, classes
        )

    def only(self, place: int) -> Self:
        """The sweep with the threshold of that place alone."""
        exceeded, rest = np.divmod(self.cell, self.num_classes**2)
        cell = (exceeded > place) * self.num_classes**2 + rest
        return type(self)(
            self.image, cell.astype(np.int32), self.count, self.images, self.num_classes
        )


def size_groups(shares: np.ndarray) -> dict[str, np.ndarray]:
    """Name of a size -> (N,) bool, the images whose objects' share is of it; NaN is of none.

    shares: (N,), 0 to 1; 5 % and 20 % themselves belong to the middle
    """
    small, large = shares < 0.05, shares > 0.20
    middle = ~small & ~large & ~np.isnan(shares)
    return dict(zip(SIZES, (small, middle, large), strict=True))
