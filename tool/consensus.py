"""What the photographs of a list agree on about their pixels, learnt from their own seeds.

A CAM is scaled to the maximum of its own photograph, so one background threshold floods the sea
around a small boat and cuts a large cow in two. What is alike in all photographs is not scaled:
grass is background in most of them, fur is not. So a linear classifier of a trained CAM network's
early maps learns background and classes from the pixels of which the seeds of many photographs are
sure, and says of each pixel what the others make of it. Where an image shows several classes, a
second one, which sees the main directions of the deepest map too, says which of them; of the
background it knows less. Within the classes of the image's label, their probability and the seed's
score, their geometric mean, are the new map.

The idea of a second network on balanced pixels of all photographs within the image's label is that
of "Threshold Matters in WSSS" (Lee et al., CVPR 2022); here it is a linear layer and takes seconds.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from scipy.linalg import eigh
from torch import Tensor
from torch.nn import functional as F

from tool.auto_threshold import MIDDLE
from tool.expand.crf import marginals_to_cam

UNSURE = -1
# Pixels that a photograph gives of the background, and of each class, so that small objects count
# as large ones do. Fewer of the classes: their seeds flood more than the background's.
BACKGROUND_PIXELS, CLASS_PIXELS = 64, 32
# By so much a class must lead all others of the image to be sure: where two show together, as horse
# and rider, each class's map covers both.
LEAD = 0.65
# A class that leads in fewer photographs than this learns from others too, of which so many are
# kept: of 40 photographs with 11 persons, all with an animal, persons led in none.
FEW, SPARE = 5, 20
DIRECTIONS = 32  # of the deepest map; more of them know single photographs by heart
ENOUGH = 100  # photographs whose pixels say which directions are the main ones
# few steps: with more the classifier learns the seeds' faults by heart
STEPS, BATCH, RATE, DECAY = 60, 4096, 0.01, 1e-4


@dataclass(frozen=True, eq=False)
class PixelClassifier:
    """Labels of pixels from features: softmax of weight (x - mean) / scale + bias.

    mean, scale: (D,); weight: (K, D), background first; bias: (K,)
    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    def probabilities(self, features: Tensor, values: np.ndarray) -> np.ndarray:
        """(n, h, w) float32 of features (D, h, w): of the labels values (n,), as if there were no
        others.
        """
        depth, height, width = features.shape
        rows = (features.float().reshape(depth, -1).T - self.mean) / self.scale
        chosen = torch.from_numpy(np.asarray(values, dtype=np.int64))
        logits = rows @ self.weight[chosen].T + self.bias[chosen]
        return logits.softmax(dim=1).T.reshape(-1, height, width).numpy()


def sure_labels(
    cam: np.ndarray, keys: np.ndarray, fg: float, bg: float, lead: float = LEAD
) -> np.ndarray:
    """(h, w) int64 of unit maps cam (n, h, w) of classes keys (n,): the best class + 1 where its
    score is over fg and that of every other class less by lead, 0 where all are under bg, UNSURE
    elsewhere. An image of no class, n = 0, is background throughout: its label says so.
    """
    if not len(keys):
        return np.zeros(cam.shape[1:], dtype=np.int64)
    *_, second, score = np.sort(np.concatenate([np.full_like(cam[:1], -np.inf), cam]), axis=0)
    sure = (score > fg) & (score - second >= lead)
    best = np.asarray(keys)[cam.argmax(axis=0)] + 1
    return np.where(sure, best, np.where(score < bg, 0, UNSURE))


def draw_pixels(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Numbers of BACKGROUND_PIXELS pixels of label 0 in labels (N,) and of CLASS_PIXELS of each
    other but UNSURE, drawn with replacement where there are fewer.
    """
    drawn = []
    for label in np.unique(labels[labels != UNSURE]):
        places = np.flatnonzero(labels == label)
        count = CLASS_PIXELS if label else BACKGROUND_PIXELS
        drawn.append(rng.choice(places, count, replace=len(places) < count))
    return np.concatenate(drawn) if drawn else np.zeros(0, dtype=np.int64)


def mean_and_scale(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(mean, deviation, over 0) of features (M, D), (D,) each."""
    return rows.mean(dim=0), rows.std(dim=0) + 1e-3


def fit_pixels(features: Tensor, labels: Tensor, num_labels: int, seed: int) -> PixelClassifier:
    """The classifier of features (M, D) with labels (M,), 0..num_labels - 1: cross entropy, Adam
    with decoupled weight decay over STEPS batches, rate falling to 0.
    """
    features = features.float()
    mean, scale = mean_and_scale(features)
    weight = torch.zeros(num_labels, features.shape[1], requires_grad=True)
    bias = torch.zeros(num_labels, requires_grad=True)
    optimizer = torch.optim.AdamW([weight, bias], lr=RATE, weight_decay=DECAY)
    generator = torch.Generator().manual_seed(seed)
    for step in range(STEPS):
        rows = torch.randint(len(features), (BATCH,), generator=generator)
        logits = (features[rows] - mean) / scale @ weight.T + bias
        loss = F.cross_entropy(logits, labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        optimizer.step()
    return PixelClassifier(mean, scale, weight.detach(), bias.detach())


@dataclass(frozen=True, eq=False)
class Directions:
    """Features as their main directions: (x - mean) / scale @ basis.

    mean, scale: (D,); basis: (D, q), the most varied direction first
    """

    mean: Tensor
    scale: Tensor
    basis: Tensor

    def reduce(self, rows: Tensor) -> Tensor:
        """(M, q) of features (M, D)."""
        return (rows.float() - self.mean) / self.scale @ self.basis


def main_directions(rows: Tensor) -> Directions:
    """The DIRECTIONS directions, or fewer where there are no more, in which features (M, D), each
    of variance 1, vary most.
    """
    rows = rows.float()
    mean, scale = mean_and_scale(rows)
    rows = (rows - mean) / scale
    depth = rows.shape[1]
    largest = max(0, depth - DIRECTIONS), depth - 1  # of ascending eigenvalues
    # in float64 and not torch's: many are equal, of features that are never lit
    _, vectors = eigh((rows.T @ rows).double().numpy(), subset_by_index=largest)
    return Directions(mean, scale, torch.from_numpy(vectors[:, ::-1].copy()).float())


class DeepRows:
    """Features of the deepest map, which would not fit into memory, as they come, photograph by
    photograph; kept in the main directions of the first ENOUGH photographs' own.
    """

    def __init__(self) -> None:
        self.directions: Directions | None = None
        self._waiting: list[Tensor] = []
        self._reduced: list[Tensor] = []

    def add(self, rows: Tensor) -> None:
        """Take the features (m, D) of a photograph's pixels, of which there may be none."""
        if len(rows):
            self._waiting.append(rows)
        if len(self._waiting) == ENOUGH:
            self._reduce()

    def _reduce(self) -> None:
        rows = torch.cat(self._waiting)
        self._waiting.clear()
        self.directions = self.directions or main_directions(rows)
        self._reduced.append(self.directions.reduce(rows))

    def finish(self) -> tuple[Directions, Tensor]:
        """(the directions, all rows (M, q) in them)."""
        if self._waiting:
            self._reduce()
        return self.directions, torch.cat(self._reduced)


@dataclass(frozen=True, eq=False)
class Agreement:
    """What photographs agree on: a classifier of early maps, and one of early maps and directions
    of the deepest.
    """

    background: PixelClassifier
    classes: PixelClassifier
    directions: Directions

    def probabilities(self, early: Tensor, deep: Tensor, values: np.ndarray) -> np.ndarray:
        """(n, h, w) float32 of maps early (D, h, w) and deep (E, h, w): of the labels values (n,),
        0 first, as if there were no others.
        """
        found = self.background.probabilities(early, values)
        if len(values) < 3:
            return found
        main = self.directions.reduce(deep.flatten(1).T).T.reshape(-1, *deep.shape[1:])
        split = self.classes.probabilities(torch.cat([early.float(), main]), values[1:])
        return np.concatenate([found[:1], (1 - found[:1]) * split])


class Lessons:
    """The pixels that teach, gathered photograph by photograph.

    sure: scores over which a class is sure, and under which the background is
    """

    def __init__(self, sure: tuple[float, float], rng: np.random.Generator) -> None:
        self.sure, self.rng = sure, rng
        self.deep, self.early, self.labels = DeepRows(), [], []
        self._led: Counter[int] = Counter()
        self._spare: dict[int, list[tuple[Tensor, Tensor]]] = defaultdict(list)

    def add(self, cam: np.ndarray, keys: np.ndarray, early: Tensor, deep: Tensor) -> None:
        """Take a photograph: unit maps cam (n, h, w) of classes keys (n,), network maps (D, h, w)
        and (E, h, w).
        """
        rows = early.flatten(1).T, deep.flatten(1).T
        label = sure_labels(cam, keys, *self.sure).ravel()
        drawn = draw_pixels(label, self.rng)
        self._take(*(its[drawn] for its in rows), torch.from_numpy(label[drawn]))
        loose = sure_labels(cam, keys, *self.sure, lead=0).ravel()
        for value in np.unique(loose[loose > 0]).tolist():
            if (label == value).any():
                self._led[value] += 1
            elif len(self._spare[value]) < SPARE:
                drawn = draw_pixels(np.where(loose == value, value, UNSURE), self.rng)
                self._spare[value].append((rows[0][drawn], rows[1][drawn]))

    def _take(self, early: Tensor, deep: Tensor, labels: Tensor) -> None:
        self.early.append(early.half())
        self.deep.add(deep)
        self.labels.append(labels)

    def finish(self) -> tuple[Tensor, DeepRows, Tensor]:
        """(early features (M, D), deep ones, labels (M,)) of all pixels that teach."""
        for value, photographs in self._spare.items():
            for early, deep in photographs if self._led[value] < FEW else ():
                self._take(early, deep, torch.full((len(early),), value))
        return torch.cat(self.early), self.deep, torch.cat(self.labels)


def fit_agreement(
    early: Tensor, deep: DeepRows, labels: Tensor, num_labels: int, seed: int
) -> Agreement:
    """What pixels with early features (M, D), deep ones and labels (M,) teach; see fit_pixels."""
    directions, main = deep.finish()
    background = fit_pixels(early, labels, num_labels, seed)
    classes = fit_pixels(torch.cat([early.float(), main], dim=1), labels, num_labels, seed)
    return Agreement(background, classes, directions)


def around_the_middle(score: np.ndarray, threshold: float) -> np.ndarray:
    """Unit scores, straightened so that threshold, in (0, 1), becomes MIDDLE; 0 and 1 stay."""
    return np.interp(score, (0, threshold, 1), (0, MIDDLE, 1)).astype(np.float32)


def agreed_cam(cam: np.ndarray, threshold: float, probabilities: np.ndarray) -> np.ndarray:
    """The new maps (n, H, W), float32, 0 to 1, MIDDLE their threshold: geometric mean of the seeds
    cam (n, H, W), whose threshold is given, and of the probabilities (1 + n, h, w), background
    first, enlarged.
    """
    size = cam.shape[:0:-1]
    large = np.stack([cv2.resize(map_, size) for map_ in probabilities])
    return np.sqrt(marginals_to_cam(large) * around_the_middle(cam, threshold)).clip(0, 1)
