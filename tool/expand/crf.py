"""Dense CRF (Krähenbühl and Koltun, NIPS 2011) on scores or labels of one image, and the seeds made
with it.

Images are (H, W, 3) uint8 RGB, maps (n, H, W), label maps (H, W).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from types import ModuleType
from typing import Any

import numpy as np

from tool.errors import InputError
from tool.mask_values import IGNORE_LABEL


@dataclass(frozen=True)
class CrfSettings:
    """Strength of the CRF; sxy in pixels, srgb in grey levels."""

    iterations: int = 10
    gaussian_sxy: float = 3
    gaussian_compat: float = 3
    bilateral_sxy: float = 80
    bilateral_srgb: float = 13
    bilateral_compat: float = 10
    gt_prob: float = 0.7  # certainty of a given label; only crf_labels reads it


@dataclass(frozen=True)
class SeedCrf:
    """How seeds go through the CRF.

    on:           "probabilities", the scores themselves, or "labels", where the largest score is,
                  trusted with settings.gt_prob
    bg_threshold: score of the background, constant, unit scale
    alpha:        if not None, the background scores (1 - max CAM) ** alpha instead
    """

    settings: CrfSettings
    on: str = "probabilities"
    bg_threshold: float | None = None
    alpha: float | None = None


CRF_SETTINGS = {
    "irn": CrfSettings(bilateral_sxy=50, bilateral_srgb=5),
    "psa": CrfSettings(),
    "seam": CrfSettings(),
    "deeplab": CrfSettings(iterations=1, bilateral_sxy=32),
}

MOST_ITERATIONS = 1000  # it settles within tens

# Pixels that go through the CRF at once, and what a band of a larger image sees around it, in
# standard deviations of its wider Gaussian.
BAND_PIXELS = 4_000_000
HALO = 6

CRF_INPUTS = ("probabilities", "labels")

# Scores below this count as this much before their logarithm (pydensecrf's unary_from_softmax).
MIN_PROBABILITY = 1e-5


def named_settings(name: str, **numbers: float) -> CrfSettings:
    """CRF_SETTINGS[name] with single numbers changed. Raises InputError for a number that does not
    exist or makes no sense.
    """
    known = [field.name for field in fields(CrfSettings)]
    if unknown := sorted(set(numbers) - set(known)):
        raise InputError(f"the dense CRF has no setting {unknown[0]}; it has {', '.join(known)}")
    for number, value in numbers.items():
        width = number.endswith(("_sxy", "_srgb"))  # of a Gaussian, by which distances are divided
        if not (0 < value < 1 if number == "gt_prob" else value > 0 if width else value >= 0):
            raise InputError(
                f"the dense CRF cannot have {number} {value:g}; look at --crf_set in --help"
            )
        if number == "iterations" and value != int(value):
            raise InputError(f"the dense CRF cannot have {number} {value:g}, only whole ones")
    if numbers.get("iterations", 0) > MOST_ITERATIONS:
        raise InputError(
            f"the dense CRF cannot have iterations {numbers['iterations']:g}, {MOST_ITERATIONS} at "
            "most"
        )
    if "iterations" in numbers:
        numbers["iterations"] = int(numbers["iterations"])
    return replace(CRF_SETTINGS[name], **numbers)


def _densecrf() -> ModuleType:
    try:
        from pydensecrf import densecrf
    except ImportError as error:
        raise InputError("the dense CRF needs pydensecrf; run `pip install pydensecrf2`") from error
    return densecrf


def _infer(image: np.ndarray, energy: np.ndarray, settings: CrfSettings) -> np.ndarray:
    """Marginals (n, H, W), float32, after mean-field inference from unary energies (n, H, W)."""
    _require_image(image, energy.shape)
    if len(energy) == 1:  # nothing to decide
        return np.ones(energy.shape, dtype=np.float32)
    return _by_bands(_infer_band, image, energy, settings)


def _infer_together(image: np.ndarray, energies: np.ndarray, settings: CrfSettings) -> np.ndarray:
    """Marginals (m, n, H, W), float32, of m CRFs over the same image, from their unary energies (m,
    n, H, W): what _infer gives for each, to the rounding of float32, in 0.6 of the time of two.

    Which pixels see each other, most of the work, depends on the image alone. So the labels of all
    go through one CRF, where they do not meet but in the softmax of each step, which is taken for
    each CRF apart here.
    """
    count, labels = energies.shape[:2]
    if labels == 1 or count == 1:
        return np.stack([_infer(image, energy, settings) for energy in energies])
    _require_image(image, energies.shape)
    return _by_bands(_infer_band_together, image, energies, settings)


def _by_bands(
    infer: Callable[[np.ndarray, np.ndarray, CrfSettings, tuple[int, int]], np.ndarray],
    image: np.ndarray,
    energy: np.ndarray,
    settings: CrfSettings,
) -> np.ndarray:
    """infer(image, energy, settings, (0, 0)); of an image of more than BAND_PIXELS in bands across
    its longer side, since pydensecrf takes 200 bytes a pixel.

    energy: (..., H, W), as the result. A band has HALO standard deviations of the wider Gaussian
    around it, and its pixels keep their places in the image, on which pydensecrf's approximation
    depends: labels of three pixels in a million differ from the whole's (benchmarks/RESULTS.md).
    """
    height, width = energy.shape[-2:]
    if height * width <= BAND_PIXELS:
        return infer(image, energy, settings, (0, 0))
    across = width >= height
    long_side, short_side = max(height, width), min(height, width)
    halo = math.ceil(HALO * max(settings.gaussian_sxy, settings.bilateral_sxy))
    core = max(halo, BAND_PIXELS // short_side - 2 * halo)
    marginals = np.empty(energy.shape, dtype=np.float32)
    for start in range(0, long_side, core):
        first, last = max(0, start - halo), min(long_side, start + core + halo)
        rows, columns = (slice(None), slice(first, last))[:: 1 if across else -1]
        origin = (0, first) if across else (first, 0)
        band = infer(image[rows, columns], energy[..., rows, columns], settings, origin)
        kept, place = slice(start - first, start - first + core), slice(start, start + core)
        if across:
            marginals[..., place] = band[..., kept]
        else:
            marginals[..., place, :] = band[..., kept, :]
    return marginals


def _infer_band(
    image: np.ndarray, energy: np.ndarray, settings: CrfSettings, origin: tuple[int, int]
) -> np.ndarray:
    """As _infer, of what lies at origin (row, column) of an image."""
    crf = _connected(image, energy, settings, origin)
    return np.array(crf.inference(settings.iterations), dtype=np.float32).reshape(energy.shape)


def _infer_band_together(
    image: np.ndarray, energies: np.ndarray, settings: CrfSettings, origin: tuple[int, int]
) -> np.ndarray:
    """As _infer_together, of what lies at origin (row, column) of an image."""
    count, labels, height, width = energies.shape
    every = energies.reshape(count * labels, height, width)
    crf = _connected(image, every, settings, origin)
    from pydensecrf.eigen import matrixXf  # there, since _connected found pydensecrf

    # pydensecrf's memory, (labels, pixels), where the labels of a pixel lie side by side; what
    # startInference gives as scores and scratch has none that can be read
    empty = np.zeros((count * labels, height * width), np.float32)
    state, scores, scratch = (matrixXf(empty) for _ in range(3))
    marginals, unnormalised = np.asarray(state), np.asarray(scores)
    apart = (count, labels, height * width)
    shares = _softmax(-energies.reshape(apart))
    for _ in range(settings.iterations):
        marginals[:] = shares.reshape(empty.shape)
        crf.stepInference(state, scores, scratch)
        shares = _softmax(np.ascontiguousarray(unnormalised).reshape(apart))
    return shares.reshape(energies.shape)


def _softmax(scores: np.ndarray) -> np.ndarray:
    """Softmax over the second of three axes."""
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return shares


def _require_image(image: np.ndarray, shape: tuple[int, ...]) -> None:
    height, width = shape[-2:]
    if image.shape != (height, width, 3) or image.dtype != np.uint8:
        raise ValueError(
            f"image must be uint8 ({height}, {width}, 3) like the maps, not {image.dtype} "
            f"{image.shape}"
        )


def _connected(
    image: np.ndarray, energy: np.ndarray, settings: CrfSettings, origin: tuple[int, int]
) -> Any:
    """A DenseCRF2D of an image (H, W, 3), whose first pixel has the coordinates origin (row,
    column), with unary energies (n, H, W).

    The features are those of pydensecrf's addPairwiseGaussian and addPairwiseBilateral, which know
    no other origin than (0, 0); with that one, all is equal bit for bit.
    """
    labels, height, width = energy.shape
    crf = _densecrf().DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(np.ascontiguousarray(energy.reshape(labels, -1), dtype=np.float32))
    features = np.empty((5, height, width), dtype=np.float32)

    def place(sxy: float) -> None:
        """Fill in column and row, in units of sxy."""
        columns, rows = (np.arange(side, dtype=np.float32) for side in (width, height))
        features[0] = (columns + np.float32(origin[1])) / np.float32(sxy)
        features[1] = ((rows + np.float32(origin[0])) / np.float32(sxy))[:, None]

    place(settings.gaussian_sxy)
    crf.addPairwiseEnergy(features[:2].reshape(2, -1), compat=settings.gaussian_compat)
    place(settings.bilateral_sxy)
    for channel in range(3):
        features[2 + channel] = image[..., channel].astype(np.float32)
    features[2:] /= np.float32(settings.bilateral_srgb)
    crf.addPairwiseEnergy(features.reshape(5, -1), compat=settings.bilateral_compat)
    return crf


def crf_probabilities(
    image: np.ndarray, probabilities: np.ndarray, settings: CrfSettings
) -> np.ndarray:
    """Marginals (n, H, W) of the CRF whose unary is -log of the scores cut to 1e-5..1.

    probabilities: (n, H, W); they need not sum to 1 over n.
    """
    return _infer(image, _score_energy(probabilities), settings)


def _score_energy(scores: np.ndarray) -> np.ndarray:
    return -np.log(np.clip(scores, MIN_PROBABILITY, 1.0))


def crf_labels(
    image: np.ndarray, labels: np.ndarray, num_labels: int, settings: CrfSettings
) -> np.ndarray:
    """Marginals (num_labels, H, W) of the CRF that trusts each pixel's label with settings.gt_prob,
    the others share the rest.

    labels: (H, W), 0..num_labels - 1: positions in the image's own list of labels, not all classes,
    since the number matters.
    """
    return _infer(image, _label_energy(labels, num_labels, settings), settings)


def _label_energy(labels: np.ndarray, num_labels: int, settings: CrfSettings) -> np.ndarray:
    others = (1 - settings.gt_prob) / max(num_labels - 1, 1)
    given = np.arange(num_labels)[:, None, None] == labels
    return -np.log(np.where(given, settings.gt_prob, others))


def prepend_threshold(cam: np.ndarray, threshold: float) -> np.ndarray:
    """[threshold, cam], (1 + n, H, W): maps (n, H, W) behind a constant background."""
    return np.concatenate([np.full((1, *cam.shape[1:]), threshold, dtype=cam.dtype), cam])


def threshold_label(cam: np.ndarray, threshold: float) -> np.ndarray:
    """Which of [threshold, cam] is largest, (H, W): 0 for the threshold, which wins ties, k for map
    k - 1; cam: (n, H, W).
    """
    return prepend_threshold(cam, threshold).argmax(axis=0)


def mask_values(keys: np.ndarray) -> np.ndarray:
    """(1 + n,) uint8, what labels 0..n of an image with classes keys (n,) are in a mask: 0
    background, key + 1 a class.
    """
    return np.concatenate([[0], np.asarray(keys) + 1]).astype(np.uint8)


def threshold_mask(cam: np.ndarray, keys: np.ndarray, threshold: float) -> np.ndarray:
    """The mask (H, W), uint8, of unit maps (n, H, W) of classes keys (n,) against a constant
    background score.
    """
    return mask_values(keys)[threshold_label(cam, threshold)]


def confident_label(
    image: np.ndarray,
    cam: np.ndarray,
    keys: np.ndarray,
    fg_threshold: float = 0.30,
    bg_threshold: float = 0.05,
    settings: CrfSettings = CRF_SETTINGS["irn"],
) -> np.ndarray:
    """IRN's training label (H, W), uint8: a class or background where the CAM is sure, 255
    elsewhere.

    cam:  (n, H, W), unit CAMs (0..1) of the classes in the image; keys: (n,), their numbers from 0
    A class where thresholding at fg_threshold and then the label CRF say so; background where
    neither that nor the same at bg_threshold finds a class. Source: released IRN,
    step/cam_to_ir_label.py.
    """
    values = mask_values(keys)
    energies = [
        _label_energy(threshold_label(cam, threshold), len(values), settings)
        for threshold in (fg_threshold, bg_threshold)
    ]
    marginals = _infer_together(image, np.stack(energies).astype(np.float32), settings)
    foreground, candidates = values[marginals.argmax(axis=1)]
    return np.where(foreground > 0, foreground, np.where(candidates == 0, 0, IGNORE_LABEL)).astype(
        np.uint8
    )


def prepend_background(cam: np.ndarray, alpha: float) -> np.ndarray:
    """[(1 - max cam) ** alpha, cam], (1 + n, H, W), of unit CAMs (n, H, W); a larger alpha means
    less background.

    The maximum is 0 at least, as the released code takes it over the zero maps of absent classes
    too: background is 1 without maps.
    """
    return np.concatenate([(1 - cam.max(axis=0, keepdims=True, initial=0)) ** alpha, cam])


def threshold_alpha(threshold: float) -> float:
    """The alpha whose background (1 - m) ** alpha equals a map's score m just at this threshold, 0
    < threshold < 1.

    0.22 is SEAM's 6, 0.53 is 0.84: alphas for one kind of maps say nothing about another, the
    thresholds they stand for do.
    """
    return math.log(threshold) / math.log(1 - threshold)


def alpha_scores(
    image: np.ndarray, cam: np.ndarray, alpha: float, settings: CrfSettings = CRF_SETTINGS["seam"]
) -> np.ndarray:
    """CRF scores (1 + n, H, W), background first, of unit CAMs (n, H, W) against the background (1
    - max) ** alpha.

    AffinityNet's labels take two of them: alpha 4, and 24 (SEAM) or 32 (PSA). Source: released SEAM
    and PSA, infer_*.py.
    """
    return crf_probabilities(image, prepend_background(cam, alpha), settings)


def scores_of_alphas(
    image: np.ndarray, cam: np.ndarray, alphas: Sequence[float], settings: CrfSettings
) -> np.ndarray:
    """(m, 1 + n, H, W): alpha_scores of each of m alphas, to the rounding of float32, made
    together.
    """
    energies = [_score_energy(prepend_background(cam, alpha)) for alpha in alphas]
    return _infer_together(image, np.stack(energies).astype(np.float32), settings)


def seed_marginals(image: np.ndarray, cam: np.ndarray, how: SeedCrf) -> np.ndarray:
    """CRF marginals (1 + n, H, W), background first, of unit CAMs (n, H, W)."""
    scores = (
        prepend_threshold(cam, how.bg_threshold)
        if how.alpha is None
        else prepend_background(cam, how.alpha)
    )
    if how.on == "labels":
        return crf_labels(image, scores.argmax(axis=0), len(scores), how.settings)
    return crf_probabilities(image, scores, how.settings)


def marginals_to_cam(marginals: np.ndarray) -> np.ndarray:
    """Maps (n, H, W) in 0..1 that say at threshold 0.5 what the marginals (1 + n, H, W), background
    first, say by their argmax.

    Each pixel's foreground is divided by its largest foreground value plus its background, which
    keeps the order of the classes. A threshold t other than 0.5 weighs the background by t / (1 -
    t).
    """
    foreground = marginals[1:]
    return foreground / (foreground.max(axis=0, initial=0) + marginals[0])


def cam_to_marginals(cam: np.ndarray) -> np.ndarray:
    """The marginals (1 + n, H, W), background first, of which marginals_to_cam made maps (n, H,
    W).
    """
    background = 1 - cam.max(axis=0, initial=0)
    scores = np.concatenate([background[None], cam])
    return scores / scores.sum(axis=0)
