"""The CRF and the seeds made with it against the released code's arrays."""

import sys

import numpy as np
import pytest

from tests.reference import load_arrays, relative_error
from tool.errors import InputError
from tool.expand import crf
from tool.expand.crf import (
    CRF_SETTINGS,
    CrfSettings,
    alpha_scores,
    cam_to_marginals,
    confident_label,
    crf_labels,
    crf_probabilities,
    marginals_to_cam,
    named_settings,
    prepend_background,
    scores_of_alphas,
    threshold_alpha,
    threshold_label,
    threshold_mask,
)
from tool.run.flags import named_number

IMAGE = np.random.default_rng(0).integers(0, 256, size=(12, 15, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def arrays():
    return load_arrays("stages/ir_label")


@pytest.mark.parametrize(("name", "threshold"), [("fg", 0.30), ("bg", 0.05)])
def test_label_crf_matches_the_released_one(arrays, name, threshold):
    local = threshold_label(arrays["cam"], threshold)
    np.testing.assert_array_equal(local, arrays[f"{name}_input"])
    marginals = crf_labels(arrays["image"], local, 3, CRF_SETTINGS["irn"])
    assert relative_error(marginals, arrays[f"{name}_marginals"]) < 1e-4
    values = np.array([0, *(arrays["keys"] + 1)])
    np.testing.assert_array_equal(values[marginals.argmax(axis=0)], arrays[f"{name}_conf"])


def test_confident_label_matches_the_released_one(arrays):
    kept = arrays["cam"].copy(), arrays["image"].copy()
    label = confident_label(arrays["image"], arrays["cam"], arrays["keys"])
    np.testing.assert_array_equal(label, arrays["conf"])
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(arrays["cam"], kept[0])
    np.testing.assert_array_equal(arrays["image"], kept[1])


@pytest.mark.parametrize("alpha", [4, 24])
def test_alpha_scores_match_the_released_ones(arrays, alpha):
    assert (
        relative_error(
            alpha_scores(arrays["image"], arrays["cam"], alpha), arrays[f"crf_alpha{alpha}"]
        )
        < 1e-4
    )


def test_background_falls_with_alpha(arrays):
    low, high = (prepend_background(arrays["cam"], alpha) for alpha in (4, 24))
    assert (high[0] <= low[0]).all()
    np.testing.assert_array_equal(low[1:], arrays["cam"])
    np.testing.assert_allclose(low[0], (1 - arrays["cam"].max(axis=0)) ** 4, rtol=1e-6)


def test_no_iteration_gives_back_the_unary():
    """Without a step the marginals are the softmax of the unary: the normalised scores, or the
    label's certainty and its rest.
    """
    settings = CrfSettings(iterations=0)
    scores = np.random.default_rng(1).uniform(size=(4, 12, 15))
    np.testing.assert_allclose(
        crf_probabilities(IMAGE, scores, settings), scores / scores.sum(axis=0), rtol=1e-4
    )
    labels = np.random.default_rng(2).integers(0, 4, size=(12, 15))
    expected = np.where(np.arange(4)[:, None, None] == labels, 0.7, 0.1)
    np.testing.assert_allclose(crf_labels(IMAGE, labels, 4, settings), expected, rtol=1e-4)


def test_maps_of_marginals_give_them_back():
    marginals = np.random.default_rng(0).dirichlet((1, 1, 1, 1), (5, 7)).transpose(2, 0, 1)
    np.testing.assert_allclose(cam_to_marginals(marginals_to_cam(marginals)), marginals, atol=1e-12)
    nothing = cam_to_marginals(np.zeros((0, 5, 7)))
    np.testing.assert_array_equal(nothing, np.ones((1, 5, 7)))


def test_marginals_sum_to_one_and_follow_a_permutation_of_labels():
    scores = np.random.default_rng(3).uniform(size=(4, 12, 15))
    marginals = crf_probabilities(IMAGE, scores, CRF_SETTINGS["seam"])
    np.testing.assert_allclose(marginals.sum(axis=0), 1, rtol=1e-5)
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(
        crf_probabilities(IMAGE, scores[order], CRF_SETTINGS["seam"]), marginals[order], atol=1e-5
    )


def test_read_only_image_and_image_that_is_no_block_of_memory():
    scores = np.random.default_rng(4).uniform(size=(3, 12, 15))
    expected = crf_probabilities(IMAGE, scores, CRF_SETTINGS["deeplab"])
    read_only = np.asfortranarray(IMAGE)
    read_only.setflags(write=False)
    np.testing.assert_array_equal(
        crf_probabilities(read_only, scores, CRF_SETTINGS["deeplab"]), expected
    )


def test_image_without_classes_is_background():
    label = confident_label(IMAGE, np.zeros((0, 12, 15), np.float32), np.zeros(0, np.int64))
    assert not label.any()
    assert label.shape == (12, 15)


def test_threshold_wins_ties():
    cam = np.array([[[0.3, 0.31, 0.2]], [[0.1, 0.31, 0.9]]], dtype=np.float32)
    assert threshold_label(cam, 0.30).tolist() == [[0, 1, 2]]
    mask = threshold_mask(cam, np.array([7, 3]), 0.30)
    assert (mask.tolist(), mask.dtype) == ([[0, 8, 4]], np.uint8)


def test_image_of_another_size_is_named():
    with pytest.raises(
        ValueError,
        match=r"image must be uint8 \(10, 15, 3\) like the maps, not uint8 \(12, 15, 3\)",
    ):
        crf_probabilities(IMAGE, np.ones((2, 10, 15)), CRF_SETTINGS["seam"])


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    with pytest.raises(
        InputError, match="the dense CRF needs pydensecrf; run `pip install pydensecrf2`"
    ):
        crf_probabilities(IMAGE, np.ones((2, 12, 15)), CRF_SETTINGS["seam"])


@pytest.mark.parametrize("threshold", [0.05, 0.25, 0.53, 0.9])
def test_the_alpha_of_a_threshold_makes_background_equal_a_map_there(threshold):
    background, score = prepend_background(
        np.full((1, 1, 1), threshold), threshold_alpha(threshold)
    ).ravel()
    assert background == pytest.approx(score)


@pytest.mark.parametrize(
    "number",
    [
        "gt_prob=1",
        "gt_prob=2",
        "gaussian_sxy=0",
        "bilateral_srgb=0",
        "bilateral_compat=-1",
        "iterations=-1",
    ],
)
def test_numbers_that_make_no_sense_are_named(number):
    name, value = named_number(number)
    with pytest.raises(
        InputError, match=rf"the dense CRF cannot have {name} {value:g}; look at --crf_set"
    ):
        named_settings("irn", **{name: value})


def test_a_crf_that_would_not_end_is_refused():
    with pytest.raises(InputError, match="cannot have iterations 1001, 1000 at most"):
        named_settings("irn", iterations=1001.0)
    assert named_settings("irn", iterations=1000.0).iterations == 1000


# ============ several CRFs over one image ============
@pytest.mark.parametrize("maps", [0, 1, 2])
def test_scores_made_together_are_those_made_apart(arrays, maps):
    image, cam = arrays["image"], arrays["cam"][:maps]
    together = scores_of_alphas(image, cam, (4, 24), CRF_SETTINGS["seam"])
    for scores, alpha in zip(together, (4, 24), strict=True):
        apart = alpha_scores(image, cam, alpha)
        np.testing.assert_allclose(scores, apart, rtol=0, atol=1e-4)
        np.testing.assert_array_equal(scores.argmax(axis=0), apart.argmax(axis=0))


def test_scores_made_together_without_a_step_are_the_unary():
    cam = np.random.default_rng(4).uniform(size=(2, 12, 15)).astype(np.float32)
    scores = scores_of_alphas(IMAGE, cam, (1, 3), CrfSettings(iterations=0))
    for found, alpha in zip(scores, (1, 3), strict=True):
        given = prepend_background(cam, alpha).clip(1e-5, 1)
        np.testing.assert_allclose(found, given / given.sum(axis=0), rtol=1e-4)


# ============ large images in bands ============
NARROW = CrfSettings(gaussian_sxy=1, bilateral_sxy=3, bilateral_srgb=20)


def _scene(height: int, width: int, maps: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Soft blobs of colour, and scores that follow them loosely."""
    random = np.random.default_rng(1)
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([np.sin(rows / 9), np.cos(columns / 7), np.sin((rows + columns) / 11)], axis=2)
    scores = np.stack([image[..., one] for one in range(maps)]) + random.normal(
        size=(maps, height, width)
    )
    return (127 * (image + 1)).astype(np.uint8), (np.exp(scores) / 9).astype(np.float32)


def test_features_are_those_of_pydensecrf():
    """Bit for bit what addPairwiseGaussian and addPairwiseBilateral give."""
    from pydensecrf import densecrf

    image, scores = _scene(40, 50)
    settings = CRF_SETTINGS["irn"]
    theirs = densecrf.DenseCRF2D(50, 40, 3)
    unary = -np.log(np.clip(scores, 1e-5, 1)).reshape(3, -1)
    theirs.setUnaryEnergy(np.ascontiguousarray(unary))
    theirs.addPairwiseGaussian(sxy=settings.gaussian_sxy, compat=settings.gaussian_compat)
    theirs.addPairwiseBilateral(
        sxy=settings.bilateral_sxy,
        srgb=settings.bilateral_srgb,
        rgbim=image,
        compat=settings.bilateral_compat,
    )
    expected = np.array(theirs.inference(settings.iterations)).reshape(scores.shape)
    np.testing.assert_array_equal(crf_probabilities(image, scores, settings), expected)


@pytest.mark.parametrize("size", [(30, 260), (260, 30)])
def test_bands_give_what_the_whole_image_gives(monkeypatch, size):
    image, scores = _scene(*size)
    labels = scores.argmax(axis=0)
    whole = crf_probabilities(image, scores, NARROW), crf_labels(image, labels, 3, NARROW)
    calls = []
    infer = crf._infer_band
    monkeypatch.setattr(crf, "_infer_band", lambda *args: calls.append(args[-1]) or infer(*args))
    monkeypatch.setattr(crf, "BAND_PIXELS", 30 * 100)
    bands = crf_probabilities(image, scores, NARROW), crf_labels(image, labels, 3, NARROW)
    assert len(calls) == 2 * 5  # of 64 pixels: 100 without the 18 on either side
    for one, other in zip(bands, whole, strict=True):
        assert np.abs(one - other).max() < 1e-3
    monkeypatch.setattr(crf, "HALO", 1)  # the comparison can fail
    assert np.abs(crf_probabilities(image, scores, NARROW) - whole[0]).max() > 1e-2


def test_bands_of_several_crfs_give_what_the_whole_image_gives(monkeypatch):
    image, scores = _scene(30, 260)
    energies = np.stack([-np.log(scores), -2 * np.log(scores)])
    whole = crf._infer_together(image, energies, NARROW)
    monkeypatch.setattr(crf, "BAND_PIXELS", 30 * 100)
    assert np.abs(crf._infer_together(image, energies, NARROW) - whole).max() < 1e-3
