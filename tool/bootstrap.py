"""How sure a mean IoU is of a list of photographs: percentile bootstrap over the photographs.

A draw takes as many photographs of the list as it has, with replacement, and adds up their counts;
the interval holds the middle 95 % of the mIoUs of all draws. Lists of the same length and seed get
the same draws, so that two results on the same photographs are compared photograph by photograph:
the difference of a draw is that of both mIoUs on it. Source: Efron and Tibshirani, An Introduction
to the Bootstrap, 1993, chapter 13.

What an interval leaves out: that another training would have given another network, and that the
threshold was chosen on the same photographs.
"""

import numpy as np

DRAWS = 2000
SEED = 0
LEVEL = 95  # percent
_ENTRIES = 1 << 20  # of the weights in memory at once


def resampled_miou(
    hits: np.ndarray, unions: np.ndarray, draws: int = DRAWS, seed: int = SEED
) -> np.ndarray:
    """(draws,) float64, the mIoU in percent of each draw, over the classes that occur in the list;
    NaN where none does.

    hits, unions: (N, K) pixels of each photograph, integers: right ones of a class, and those in
    its prediction or ground truth. Sums are exact, so that equal counts give equal values. Memory
    is that of hits and unions and some megabytes.
    A class that a draw lacks counts with its IoU on the whole list: the mean of the others would be
    the higher for every hard class that is missing.
    """
    images = len(hits)
    occurs = unions.any(axis=0)
    whole = _iou(hits.sum(axis=0)[occurs], unions.sum(axis=0)[occurs])
    # float64 holds integers up to 2^53
    counts = np.concatenate([hits[:, occurs], unions[:, occurs]], axis=1).astype(np.float64)
    generator = np.random.default_rng(seed)
    mious = np.empty(draws)
    step = max(1, _ENTRIES // images)
    for start in range(0, draws, step):
        drawn = generator.integers(images, size=(min(step, draws - start), images))
        weights = np.stack([np.bincount(row, minlength=images) for row in drawn])
        sums = weights.astype(np.float64) @ counts
        iou = _iou(*np.split(sums, 2, axis=1))
        iou = np.where(np.isnan(iou), whole, iou)
        mious[start : start + step] = 100 * iou.mean(axis=1) if occurs.any() else np.nan
    return mious


def mean_iou(hits: np.ndarray, unions: np.ndarray) -> np.ndarray:
    """(...,) percent over the classes with a union; hits, unions: (..., K). NaN where there is
    none.
    """
    iou = _iou(hits, unions)
    found = ~np.isnan(iou)
    with np.errstate(invalid="ignore"):
        return 100 * np.nansum(iou, axis=-1) / found.sum(axis=-1)


def _iou(hits: np.ndarray, unions: np.ndarray) -> np.ndarray:
    """hits / unions, NaN for a class without a union."""
    return np.divide(hits, unions, out=np.full(hits.shape, np.nan), where=unions > 0)


def interval(values: np.ndarray) -> tuple[float, float]:
    """(low, high), between which the middle LEVEL percent of the values lie."""
    rest = (100 - LEVEL) / 2
    low, high = np.percentile(values, (rest, 100 - rest))
    return float(low), float(high)


def is_shown(difference: tuple[float, float]) -> bool:
    """Whether an interval of a difference says which of two is better: 0 lies outside."""
    low, high = difference
    return low > 0 or high < 0
