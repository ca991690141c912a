"""A background threshold for CAMs without ground truth: chosen from photographs, the classes of
their labels and the CAMs alone.

A mask that is right separates colours, and its outline runs where the photograph has edges.
Measured for all thresholds at once:

- information: mutual information of (foreground or not) and colour within a photograph, in nats
- contrast: the photograph's gradient on the outline, against its mean over the photograph

Refined CAMs follow edges: where information is highest, contrast is 1.2 and more. Information alone
chooses too low there, since the map itself follows colours; contrast alone too high. The threshold
with the highest information * (contrast - OFFSET) is taken, the product formed in each photograph
and then added up: a contrast of all outlines together is that of a few photographs with long and
strong ones. But where all outlines together have a lower contrast than those of maps that follow
edges, the map floods its photographs, whose colours (a meadow's) then tell as much as the object's
would: no threshold is taken from there.

Plain CAMs, smooth discs, do not: contrast is about 1 there, and says nothing. Information chooses
too low, Otsu's threshold of the scores too high; a third of the way from the one to the other is
taken.

Between the two kinds of maps, which few photographs do not tell apart for certain, lies a mean of
both choices.

docs/log has the other ideas that were tried, and the distance of each to the best threshold.
"""

from dataclasses import dataclass

import cv2
import numpy as np

THRESHOLDS = np.arange(1, 100) / 100
# Agreed maps (tool/consensus.py): how their files say so, and where they are made to part.
CONSENSUS = "consensus"
MIDDLE = 0.5
SIDE = 200  # pixels of the longer side that photographs and maps are reduced to
COLOUR_BINS = 8  # a channel of Lab
OFFSET = 0.3
# contrast up to which a map does not follow edges, and from which on it does
PLAIN, FOLLOWS_EDGES = (
    1.05,
    1.25,
)
TOWARDS_OTSU = 1 / 3
# The shares of the pixels over a threshold, and of those under it, that are sure of their side;
# the others lie between. IRN's released thresholds leave 0.69 and 0.87 of a plain CAM's, those
# found for CPN's maps 0.63 and 0.82 (docs/log/2026-11-26-thresholds.md).
SURE_FOREGROUND, SURE_BACKGROUND = 2 / 3, 5 / 6


@dataclass(frozen=True, eq=False)
class Evidence:
    """Sums over photographs; they add up with `+`. T: THRESHOLDS.

    information: (T,) nats
    agreement:   (T,) nats, information * contrast of each photograph
    gradient:    (T,) of the pixels on the outline, where 1 is the mean of each photograph
    outline:     (T,) pixels
    scores:      (T + 1,) pixels between the thresholds
    images:      photographs
    """

    information: np.ndarray
    agreement: np.ndarray
    gradient: np.ndarray
    outline: np.ndarray
    scores: np.ndarray
    images: int

    def __add__(self, other: "Evidence") -> "Evidence":
        return Evidence(
            self.information + other.information,
            self.agreement + other.agreement,
            self.gradient + other.gradient,
            self.outline + other.outline,
            self.scores + other.scores,
            self.images + other.images,
        )

    def mean_information(self) -> np.ndarray:
        """(T,) nats a photograph."""
        return self.information / self.images

    def contrast(self) -> np.ndarray:
        """(T,) gradient on the outline, 1 the mean; 0 without an outline."""
        return self.gradient / np.maximum(self.outline, 1)

    def threshold(self) -> float:
        """The threshold to take, unit scale, one of THRESHOLDS. Raises ValueError where all scores
        are alike.
        """
        from skimage.filters import threshold_otsu  # slow to import, and for this alone

        if np.count_nonzero(self.scores) < 2:
            raise ValueError("all scores are alike, no threshold parts them")
        peak = highest(self.information)
        # the middle of the last bin below
        otsu = threshold_otsu(hist=(self.scores, np.append(THRESHOLDS, 1) - 0.005))
        of_discs = peak + TOWARDS_OTSU * (int(otsu * 100) - peak)
        # a photograph's weight is what its colours tell
        contrast = self.agreement[peak] / max(self.information[peak], 1e-12)
        follows = np.interp(contrast, (PLAIN, FOLLOWS_EDGES), (0, 1))
        outlined = smoothed(self.contrast()) >= FOLLOWS_EDGES
        start = outlined.argmax() if follows >= 0.5 and outlined.any() else 0
        agreement = smoothed(self.agreement - OFFSET * self.information)
        of_edges = start + agreement[start:].argmax()
        return float(THRESHOLDS[round(float(follows * of_edges + (1 - follows) * of_discs))])

    def sure_thresholds(self, threshold: float) -> tuple[float, float]:
        """(over which score the foreground is sure, under which the background is), unit scale,
        around a threshold that parts them: over the one lie SURE_FOREGROUND of the pixels over the
        threshold, under the other SURE_BACKGROUND of those under it. So both follow how steep the
        maps are, and a plain CAM's lie elsewhere than a refined one's.
        """
        ends = np.concatenate([[0.0], THRESHOLDS, [1.0]])
        below = np.concatenate([[0], self.scores.cumsum()])  # pixels under each end
        under = np.interp(threshold, ends, below)
        over = below[-1] - under
        high = np.interp(below[-1] - SURE_FOREGROUND * over, below, ends)
        low = np.interp(SURE_BACKGROUND * under, below, ends)
        # a side without pixels has no sure ones
        return float(max(high, threshold)), float(min(low, threshold))


def smoothed(curve: np.ndarray) -> np.ndarray:
    """Sums of five neighbours over 5, curves of few photographs being noisy. What lies beyond the
    ends counts as 0, so that a maximum at the rim, where no map of objects has its threshold, needs
    to be the higher for it.
    """
    return np.convolve(curve, np.ones(5) / 5, mode="same")


def highest(curve: np.ndarray) -> int:
    """The index of its maximum, smoothed."""
    return int(smoothed(curve).argmax())


def image_evidence(image: np.ndarray, cam: np.ndarray) -> Evidence:
    """The evidence of one photograph.

    image: (H, W, 3) uint8 RGB; cam: (n, H, W), unit maps of the classes in it, n > 0
    """
    scale = SIDE / max(image.shape[:2])
    size = [max(2, round(side * scale)) for side in image.shape[1::-1]]
    lab = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2LAB)
    score = cv2.resize(cam.max(axis=0), size, interpolation=cv2.INTER_AREA)
    information = _information(score, _colours(lab))
    gradient, outline = _outline(score, _gradient(lab))
    scores = np.bincount(_exceeded(score), minlength=len(THRESHOLDS) + 1)
    return Evidence(
        information, information * gradient / np.maximum(outline, 1), gradient, outline, scores, 1
    )


def _exceeded(score: np.ndarray) -> np.ndarray:
    """How many of THRESHOLDS are below each score, 0..T."""
    return np.searchsorted(THRESHOLDS, score.ravel(), side="left")


def _colours(lab: np.ndarray) -> np.ndarray:
    """The number of each pixel's colour bin; a and b, which rarely leave the middle half of their
    range, are split twice as finely.
    """
    lightness = lab[..., 0] // (256 // COLOUR_BINS)
    a, b = (
        np.clip((lab[..., i].astype(np.int64) - 64) // (128 // COLOUR_BINS), 0, COLOUR_BINS - 1)
        for i in (1, 2)
    )
    return ((lightness.astype(np.int64) * COLOUR_BINS + a) * COLOUR_BINS + b).ravel()


def _gradient(lab: np.ndarray) -> np.ndarray:
    """Length of the colour gradient, (H, W), its mean 1 (all 0 for a photograph of one colour)."""
    smooth = cv2.GaussianBlur(lab, (0, 0), 1).astype(np.float32)
    squares = sum(
        (cv2.Sobel(smooth, cv2.CV_32F, *order) ** 2).sum(axis=2) for order in ((1, 0), (0, 1))
    )
    length = np.sqrt(squares)
    return length / max(float(length.mean()), 1e-6)


def _information(score: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """(T,) mutual information of (score > threshold) and colour, nats."""
    bins = COLOUR_BINS**3
    cells = _exceeded(score) * bins + colours
    counts = (
        np.bincount(cells, minlength=(len(THRESHOLDS) + 1) * bins).reshape(-1, bins) / colours.size
    )
    below = counts.cumsum(axis=0)[:-1]
    every = counts.sum(axis=0)

    def entropy(p: np.ndarray) -> np.ndarray:
        return -(p * np.log(np.where(p > 0, p, 1))).sum(axis=-1)

    joint = entropy(np.concatenate([below, every - below], axis=1).clip(0))
    share = below.sum(axis=1)
    return entropy(np.stack([share, 1 - share], axis=1).clip(0)) + entropy(every) - joint


def _outline(score: np.ndarray, gradient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(T,) sum of the gradient over the pixels of each threshold's outline, and their number.

    A pixel is on the outline where its 3 x 3 neighbourhood has scores on both sides of the
    threshold.
    """
    kernel = np.ones((3, 3), np.uint8)
    first, last = _exceeded(cv2.erode(score, kernel)), _exceeded(cv2.dilate(score, kernel))
    sums = []
    for weights in (gradient.ravel(), np.ones(gradient.size)):
        enter = np.bincount(first, weights=weights, minlength=len(THRESHOLDS) + 1)
        leave = np.bincount(last, weights=weights, minlength=len(THRESHOLDS) + 1)
        sums.append((enter - leave).cumsum()[:-1])
    return sums[0], sums[1]
