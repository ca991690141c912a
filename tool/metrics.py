"""Segmentation metrics from one confusion matrix: rows ground truth, columns prediction, background
0, 255 ignored.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tool.errors import InputError
from tool.mask_values import IGNORE_LABEL


def confusion_matrix(prediction: np.ndarray, target: np.ndarray, num_classes: int) -> np.ndarray:
    """The (K, K) int64 matrix of pixel counts [ground truth, prediction], K = num_classes with
    background.

    prediction: (H, W) integers in 0..K-1
    target:     (H, W) integers in 0..K-1, or 255: pixel not counted
    Raises InputError naming both sizes when they differ, and the first value out of range in
    either.
    """
    _require_same_size(prediction.shape, target)
    counted = _counted(target, num_classes)
    _require_classes(prediction, num_classes, "prediction")
    cells = target[counted].astype(np.int64) * num_classes + prediction[counted]
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


class ThresholdSweep:
    """Confusion matrices of CAMs against masks for many background thresholds, from one pass over
    each image.

    A pixel gets its best foreground class (the lowest index wins a tie) if that class's score is
    greater than float32(threshold), else background: the released argmax over [threshold, CAMs] in
    float32. So all that a pixel says is its true class, its best class and how many thresholds its
    score exceeds; a count of these is the whole state, whatever the number of images. Sweeps over
    parts of a list add up with `+`.
    """

    def __init__(self, thresholds: Sequence[float], num_classes: int):
        """thresholds: (T,) ascending, >= 0, on the scale of the maps; num_classes: K with
        background.
        """
        limits = np.asarray(thresholds, dtype=np.float64)
        if limits.size == 0 or not (limits >= 0).all() or (np.diff(limits) <= 0).any():
            raise InputError(
                f"background thresholds must be ascending numbers from 0 up, got {limits.tolist()}"
            )
        self.thresholds = tuple(limits.tolist())
        self.num_classes = num_classes
        self._steps = _StepCounter(limits.astype(np.float32))
        # [exceeded, true class, best class]
        self._counts = np.zeros((len(limits) + 1, num_classes, num_classes), dtype=np.int64)

    def update(
        self, cam: np.ndarray, keys: np.ndarray, target: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Count one image, and return what was counted: (cells, pixels of each), only cells with
        pixels, a cell being (exceeded * K + true class) * K + best class (tool/image_counts.py).

        cam:    (n, H, W) float32 maps of the classes keys, n may be 0 (then H and W may be 0 too:
                all background)
        keys:   (n,) 0-based foreground classes in any order; class c has mask value c + 1
        target: (H, W) mask values, 255 ignored
        Raises InputError when sizes differ or a class number is out of range.
        """
        present = _values(target, self.num_classes)
        if len(keys) == 0:
            self._counts[0, :, 0] += present[: self.num_classes]
            classes = np.flatnonzero(present[: self.num_classes])
            return classes * self.num_classes, present[classes]
        _require_same_size(cam.shape[1:], target)
        _require_classes(np.asarray(keys) + 1, self.num_classes, "CAM")
        if not np.isfinite(cam).all():
            raise InputError("its CAM has values that are not finite; make it again")
        order = np.argsort(keys)  # the first of equals wins: the lowest class
        score, best = cam[order[0]].ravel(), np.zeros(target.size, dtype=np.intp)
        # a few maps; argmax over the first axis takes ten times as long
        for place, key in enumerate(order[1:], start=1):
            map_ = cam[key].ravel()
            np.copyto(best, place, where=map_ > score)
            score = np.maximum(score, map_)
        # The classes and 255 that the mask has, numbered without gaps, so that the count below is
        # small.
        values = np.flatnonzero(present)
        number = np.zeros(len(present), dtype=np.intp)
        number[values] = np.arange(len(values))
        shape = (len(self.thresholds) + 1, len(values), len(order))
        cells = (self._steps(score) * shape[1] + np.take(number, target.ravel())) * shape[2] + best
        counts = np.bincount(cells, minlength=np.prod(shape)).reshape(shape)
        classes = values[values < self.num_classes]  # 255 comes last
        counts, best_classes = counts[:, : len(classes)], np.asarray(keys)[order] + 1
        self._counts[:, classes[:, None], best_classes] += counts
        exceeded, row, column = found = np.nonzero(counts)
        cells = (exceeded * self.num_classes + classes[row]) * self.num_classes
        return cells + best_classes[column], counts[found]

    def __add__(self, other: "ThresholdSweep") -> "ThresholdSweep":
        """The sweep over the images of both."""
        if (self.thresholds, self.num_classes) != (other.thresholds, other.num_classes):
            raise ValueError("sweeps with different thresholds or classes do not add up")
        total = ThresholdSweep(self.thresholds, self.num_classes)
        total._counts = self._counts + other._counts
        return total

    def confusion(self) -> np.ndarray:
        """The (T, K, K) int64 confusion matrices, one per threshold."""
        # pixels whose score does not exceed threshold t
        at_most = np.cumsum(self._counts, axis=0)[:-1]
        confusion = self._counts.sum(axis=0) - at_most
        confusion[:, :, 0] += at_most.sum(axis=2)
        return confusion


class _StepCounter:
    """How many of some ascending limits a score exceeds, exactly as float32 compares, from one
    table lookup and one comparison.

    Scores are multiplied and truncated to bins so small that none holds two limits. Both keep the
    order, so that limits in lower bins are exceeded and those in higher ones are not; the score is
    compared with the limit in its own bin. Limits that lie too close together for that are
    searched.
    """

    BINS = 1 << 14

    def __init__(self, limits: np.ndarray) -> None:
        """limits: (T,) float32, ascending, >= 0."""
        self.limits = limits
        self._highest = np.nextafter(limits[-1], np.float32(np.inf))
        self._factor = np.float32(self.BINS) / max(self._highest, np.float32(1))
        bins = self._bins(limits)
        self._one_a_bin = bool((np.diff(bins) > 0).all())
        size = int(self._bins(self._highest[None])[0]) + 1
        self._below = np.searchsorted(bins, np.arange(size), side="left")  # limits in lower bins
        self._own = np.full(size, np.inf, dtype=np.float32)
        self._own[bins] = limits

    def _bins(self, scores: np.ndarray) -> np.ndarray:
        return (scores * self._factor).astype(np.intp)

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """How many limits are smaller than each score; (N,) float32 -> (N,) integers."""
        if not self._one_a_bin:
            return np.searchsorted(self.limits, scores, side="left")
        scores = np.clip(scores, np.float32(0), self._highest)  # neither end changes a comparison
        bins = self._bins(scores)
        return self._below[bins] + (scores > self._own[bins])


@dataclass(frozen=True, eq=False)
class Scores:
    """Per-class scores and their means in percent; leading axes as those of the confusion matrix.

    iou, precision, recall: (..., K), NaN where undefined: IoU of a class in neither prediction nor
               ground truth, precision of one never predicted, recall of one not in the ground
               truth. A class that is predicted but never occurs in the ground truth has IoU 0 and
               counts in both means.
    miou_zero: (...,) mean over all K classes, one that occurs in neither counting as 0: the
               released scripts
    miou_skip: (...,) mean over the classes that occur in prediction or ground truth, as IRN's; NaN
               when none does
    """

    iou: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    miou_zero: np.ndarray
    miou_skip: np.ndarray

    def miou(self, absent: str) -> np.ndarray:
        """miou_zero or miou_skip, absent being "zero" or "skip": what a class does that occurs
        nowhere.
        """
        return {"zero": self.miou_zero, "skip": self.miou_skip}[absent]


def iou_table(confusion: np.ndarray) -> Scores:
    """The scores of confusion matrices (..., K, K), rows ground truth."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    truth = confusion.sum(axis=-1)
    predicted = confusion.sum(axis=-2)
    iou = _percent(hits, truth + predicted - hits)
    occurs = ~np.isnan(iou)
    total = np.where(occurs, iou, 0).sum(axis=-1)
    with np.errstate(invalid="ignore"):
        miou_skip = total / occurs.sum(axis=-1)
    return Scores(
        iou, _percent(hits, predicted), _percent(hits, truth), total / iou.shape[-1], miou_skip
    )


def _percent(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return 100 * part / whole  # 0 / 0 is NaN


def _values(target: np.ndarray, num_classes: int) -> np.ndarray:
    """(256,) pixels of each value of a mask; raises InputError for a value that is neither a class
    nor 255.
    """
    present = np.bincount(target.ravel(), minlength=IGNORE_LABEL + 1)
    values = np.flatnonzero(present)
    _require_classes(values[values != IGNORE_LABEL], num_classes, "ground truth")
    return present


def _counted(target: np.ndarray, num_classes: int) -> np.ndarray:
    """Where target is not 255; raises InputError for a value that is no class."""
    counted = target != IGNORE_LABEL
    _require_classes(target[counted], num_classes, "ground truth")
    return counted


def _require_classes(values: np.ndarray, num_classes: int, what: str) -> None:
    wrong = values[(values < 0) | (values >= num_classes)]
    if wrong.size:
        raise InputError(
            f"the {what} has class value {wrong.flat[0]}; {num_classes - 1} classes use values "
            f"1..{num_classes - 1}"
        )


def _require_same_size(size: tuple[int, ...], target: np.ndarray) -> None:
    if tuple(size) != target.shape:
        raise InputError(
            f"the prediction's size {tuple(size)} differs from the ground truth's {target.shape} "
            "(height, width)"
        )
