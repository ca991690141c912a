"""Segmentation metrics from one confusion matrix: rows ground truth, columns prediction, background 0, 255 ignored."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tool.errors import InputError
from voc12.constants import IGNORE_LABEL


def confusion_matrix(prediction: np.ndarray, target: np.ndarray, num_classes: int) -> np.ndarray:
    """The (K, K) int64 matrix of pixel counts [ground truth, prediction], K = num_classes with background.

    prediction: (H, W) integers in 0..K-1
    target:     (H, W) integers in 0..K-1, or 255: pixel not counted
    Raises InputError naming both sizes when they differ, and the first value out of range in either.
    """
    _require_same_size(prediction.shape, target)
    counted = _counted(target, num_classes)
    _require_classes(prediction, num_classes, "prediction")
    cells = target[counted].astype(np.int64) * num_classes + prediction[counted]
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


class ThresholdSweep:
    """Confusion matrices of CAMs against masks for many background thresholds, from one pass over each image.

    A pixel gets its best foreground class (the lowest index wins a tie) if that class's score is greater than
    float32(threshold), else background: the released argmax over [threshold, CAMs] in float32. So all that a pixel says is its
    true class, its best class and how many thresholds its score exceeds; a count of these is the whole state, whatever the
    number of images. Sweeps over parts of a list add up with `+`.
    """

    def __init__(self, thresholds: Sequence[float], num_classes: int):
        """thresholds: (T,) ascending, >= 0, on the scale of the maps; num_classes: K with background."""
        limits = np.asarray(thresholds, dtype=np.float64)
        if limits.size == 0 or not (limits >= 0).all() or (np.diff(limits) <= 0).any():
            raise InputError(f"background thresholds must be ascending numbers from 0 up, got {limits.tolist()}")
        self.thresholds = tuple(limits.tolist())
        self.num_classes = num_classes
        self._limits = limits.astype(np.float32)
        self._counts = np.zeros((len(limits) + 1, num_classes, num_classes), dtype=np.int64)  # [exceeded, true class, best class]

    def update(self, cam: np.ndarray, keys: np.ndarray, target: np.ndarray) -> None:
        """Count one image.

        cam:    (n, H, W) float32 maps of the classes keys, n may be 0 (then H and W may be 0 too: all background)
        keys:   (n,) 0-based foreground classes in any order; class c has mask value c + 1
        target: (H, W) mask values, 255 ignored
        Raises InputError when sizes differ or a class number is out of range.
        """
        counted = _counted(target, self.num_classes)
        truth = target[counted].astype(np.int64)
        if len(keys) == 0:
            self._counts[0, :, 0] += np.bincount(truth, minlength=self.num_classes)
            return
        _require_same_size(cam.shape[1:], target)
        _require_classes(np.asarray(keys) + 1, self.num_classes, "CAM")
        order = np.argsort(keys)  # argmax takes the first of equals: the lowest class
        scores = cam[order][:, counted]
        best = scores.argmax(axis=0)
        exceeded = np.searchsorted(self._limits, scores.max(axis=0), side="left")  # how many thresholds are < score
        cells = (exceeded * self.num_classes + truth) * self.num_classes + np.asarray(keys)[order][best] + 1
        self._counts += np.bincount(cells, minlength=self._counts.size).reshape(self._counts.shape)

    def __add__(self, other: "ThresholdSweep") -> "ThresholdSweep":
        """The sweep over the images of both."""
        if (self.thresholds, self.num_classes) != (other.thresholds, other.num_classes):
            raise ValueError("sweeps with different thresholds or classes do not add up")
        total = ThresholdSweep(self.thresholds, self.num_classes)
        total._counts = self._counts + other._counts
        return total

    def confusion(self) -> np.ndarray:
        """The (T, K, K) int64 confusion matrices, one per threshold."""
        at_most = np.cumsum(self._counts, axis=0)[:-1]  # pixels whose score does not exceed threshold t
        confusion = self._counts.sum(axis=0) - at_most
        confusion[:, :, 0] += at_most.sum(axis=2)
        return confusion


@dataclass(frozen=True, eq=False)
class Scores:
    """Per-class scores and their means in percent; leading axes as those of the confusion matrix.

    iou, precision, recall: (..., K), NaN where undefined: IoU of a class in neither prediction nor ground truth, precision of
      one never predicted, recall of one not in the ground truth. A class that is predicted but never occurs in the ground truth
      has IoU 0 and counts in both means.
    miou_zero: (...,) mean over all K classes, one that occurs in neither counting as 0: the released scripts
    miou_skip: (...,) mean over the classes that occur in prediction or ground truth, as IRN's; NaN when none does
    """

    iou: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    miou_zero: np.ndarray
    miou_skip: np.ndarray

    def miou(self, absent: str) -> np.ndarray:
        """miou_zero or miou_skip, absent being "zero" or "skip": what a class does that occurs nowhere."""
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
    return Scores(iou, _percent(hits, predicted), _percent(hits, truth), total / iou.shape[-1], miou_skip)


def _percent(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return 100 * part / whole  # 0 / 0 is NaN


def _counted(target: np.ndarray, num_classes: int) -> np.ndarray:
    """Where target is not 255; raises InputError for a value that is no class."""
    counted = target != IGNORE_LABEL
    _require_classes(target[counted], num_classes, "ground truth")
    return counted


def _require_classes(values: np.ndarray, num_classes: int, what: str) -> None:
    wrong = values[(values < 0) | (values >= num_classes)]
    if wrong.size:
        raise InputError(f"the {what} has class value {wrong.flat[0]}; {num_classes - 1} classes use values 1..{num_classes - 1}")


def _require_same_size(size: tuple[int, ...], target: np.ndarray) -> None:
    if tuple(size) != target.shape:
        raise InputError(f"the prediction's size {tuple(size)} differs from the ground truth's {target.shape} (height, width)")
