"""Complementary patches: what adds up, what stays whole, what is drawn, and SLIC as scikit-image
0.17 computed it.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import rgb2lab
from skimage.segmentation import slic_superpixels

from tool.patches import DRAWS, STRATEGIES, PatchMask, cp_pair, grid_mask, region_mask, superpixels


def _crop(height: int = 64, width: int = 72, seed: int = 0, dtype: type = np.float32) -> np.ndarray:
    """A normalised crop: smooth colours, an edge, and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = np.stack([np.sin(x / 9), np.cos(y / 7), np.where(x > y, 1.5, -1.5)], axis=2)
    return (image + 0.05 * rng.normal(size=image.shape)).astype(dtype)


def _tiles(rows: int, columns: int, side: int = 3) -> np.ndarray:
    """Labels 1..rows * columns of square regions of equal size."""
    return (
        (1 + np.arange(rows * columns).reshape(rows, columns))
        .repeat(side, axis=0)
        .repeat(side, axis=1)
    )


# ============ the pair ============
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_patch_and_complement_add_up_to_the_image_exactly(strategy):
    draw = PatchMask(strategy, segments=30, grid_sizes=(16, 24))
    crops = [_crop(seed=seed) for seed in range(2)]
    masks = torch.stack(
        [torch.from_numpy(draw(crop, np.random.default_rng(7))[0]) for crop in crops]
    )
    image = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
    before = image.clone()
    patch, complement = cp_pair(image, masks)
    assert torch.equal(patch + complement, image)
    assert torch.equal(image, before)
    assert masks.any()
    assert not masks.all()
    hidden = ~masks.unsqueeze(1).expand_as(image)
    assert not patch[hidden].any()
    assert not complement[~hidden].any()


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_seed_replays_a_pair(strategy, draw):
    patch_mask = PatchMask(strategy, segments=30, grid_sizes=(8, 16), draw=draw)
    (one, c), (two, d) = (patch_mask(_crop(), np.random.default_rng([3, 1])) for _ in range(2))
    assert one.dtype == bool
    assert one.shape == (64, 72)
    np.testing.assert_array_equal(one, two)
    assert c == d
    assert any(
        (patch_mask(_crop(), np.random.default_rng(seed))[0] != one).any() for seed in range(5)
    )


# ============ superpixels ============
def _slic_0_17(image: np.ndarray, segments: int, compactness: float) -> np.ndarray:
    """SLIC as scikit-image 0.17.2 ran it, on Lab values that nothing scales, by the internals of
    the installed version.
    """
    lab = rgb2lab(image)[np.newaxis]
    centroids, steps = slic_superpixels._get_grid_centroids(lab, segments)
    clusters = np.ascontiguousarray(
        np.concatenate([centroids, np.zeros((len(centroids), 3))], axis=-1), dtype=lab.dtype
    )
    scaled = np.ascontiguousarray(lab / compactness)
    spacing = np.ones(3, dtype=lab.dtype)
    labels = slic_superpixels._slic_cython(
        scaled, None, clusters, max(steps), 10, spacing, False, ignore_color=False, start_label=1
    )
    size = math.prod(lab.shape[:3]) / len(centroids)
    return slic_superpixels._enforce_label_connectivity_cython(
        labels, int(0.5 * size), int(3 * size), start_label=1
    )[0]


@pytest.mark.parametrize("seed", range(3))
def test_raw_slic_is_that_of_scikit_image_0_17(seed):
    crop = _crop(seed=seed, dtype=np.float64)
    ours = superpixels(crop, segments=60, slic_input="raw")
    np.testing.assert_array_equal(ours, _slic_0_17(crop, segments=60, compactness=10.0))
    assert (superpixels(crop, segments=60) != ours).any()


def test_rescaled_slic_ignores_scale_and_offset_of_the_crop():
    crop = _crop(dtype=np.float64)
    np.testing.assert_array_equal(
        superpixels(crop, segments=60), superpixels(4 * crop + 1, segments=60)
    )


@pytest.mark.parametrize("slic_input", ["rescaled", "raw"])
@pytest.mark.parametrize(
    "crop",
    [_crop(), np.zeros((40, 40, 3), np.float32), _crop(8, 5)],
    ids=["crop", "constant", "tiny"],
)
def test_labels_run_from_one_without_gaps(crop, slic_input):
    regions = superpixels(crop, segments=50, slic_input=slic_input)
    assert regions.shape == crop.shape[:2]
    np.testing.assert_array_equal(np.unique(regions), np.arange(1, regions.max() + 1))


# ============ which regions are hidden ============
@pytest.mark.parametrize("draw", DRAWS)
def test_a_region_is_never_split(draw):
    regions = superpixels(_crop(), segments=60)
    for seed in range(20):
        mask = region_mask(regions, 0.5, np.random.default_rng(seed), draw)
        for label in range(1, regions.max() + 1):
            assert len(np.unique(mask[regions == label])) == 1


@pytest.mark.parametrize("hide_ratio", [0.25, 0.5, 0.8])
def test_released_draw_hides_what_drawing_with_replacement_hides(hide_ratio):
    regions = _tiles(15, 16)
    draws = int(hide_ratio * 241)
    expected = 1 - (1 - 1 / 241) ** draws
    hidden = [
        1 - region_mask(regions, hide_ratio, np.random.default_rng(seed)).mean()
        for seed in range(400)
    ]
    assert np.mean(hidden) == pytest.approx(expected, abs=4 * np.std(hidden) / 20)
    if hide_ratio == 0.5:
        assert np.mean(hidden) == pytest.approx(0.393, abs=0.004)


def test_released_draw_reaches_every_region_and_draws_the_unused_label_0():
    regions = _tiles(2, 2, side=1)
    # floor(0.5 * 5) = 2 draws from {0..4}: 0, 1 or 2 of the four regions hidden.
    hidden = [(~region_mask(regions, 0.5, np.random.default_rng(seed))) for seed in range(300)]
    assert {int(mask.sum()) for mask in hidden} == {0, 1, 2}
    assert np.any(hidden, axis=0).all()


@given(
    rows=st.integers(1, 8),
    columns=st.integers(2, 8),
    hide_ratio=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None)
def test_exact_draw_hides_exactly_the_share(rows, columns, hide_ratio, seed):
    regions = _tiles(rows, columns, side=1)
    mask = region_mask(regions, hide_ratio, np.random.default_rng(seed), draw="exact")
    assert (~mask).sum() == round(hide_ratio * rows * columns)


def test_visible_fraction_of_superpixels_is_that_of_pixels():
    mask, visible = PatchMask(segments=30)(_crop(), np.random.default_rng(0))
    assert visible == mask.mean()
    assert 0.3 < visible < 0.9


# ============ grid and pixel ============
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    cell=st.integers(1, 50),
    ratio=st.floats(0.1, 0.9),
    seed=st.integers(0, 99),
)
@settings(max_examples=100, deadline=None)
def test_grid_cells_are_whole_and_cut_ones_count_as_one(height, width, cell, ratio, seed):
    mask, visible = grid_mask(height, width, cell, ratio, np.random.default_rng(seed))
    assert mask.shape == (height, width)
    kept = []
    for top in range(0, height, cell):
        for left in range(0, width, cell):
            values = np.unique(mask[top : top + cell, left : left + cell])
            assert len(values) == 1
            kept.append(bool(values[0]))
    assert visible == pytest.approx(np.mean(kept))


def test_grid_hides_each_cell_with_the_ratio():
    visible = [grid_mask(100, 100, 10, 0.3, np.random.default_rng(seed))[1] for seed in range(100)]
    assert np.mean(visible) == pytest.approx(0.7, abs=0.02)


def test_each_image_draws_one_of_the_grid_sizes():
    patch_mask = PatchMask("grid", grid_sizes=(9, 18))
    sides = set()
    for seed in range(40):
        mask, _ = patch_mask(np.zeros((36, 36, 3), np.float32), np.random.default_rng(seed))
        edges = np.flatnonzero((mask[:, 1:] != mask[:, :-1]).any(axis=0)) + 1
        sides |= {9} if (edges % 18).any() else {18} if edges.size else set()
    assert sides == {9, 18}


def test_pixels_hide_independently_and_the_fraction_is_the_expected_one():
    mask, visible = PatchMask("pixel", hide_ratio=0.3)(
        np.zeros((200, 200, 3), np.float32), np.random.default_rng(0)
    )
    assert visible == 0.7
    assert mask.mean() == pytest.approx(0.7, abs=0.01)
    assert np.corrcoef(mask[:, 1:].ravel(), mask[:, :-1].ravel())[0, 1] == pytest.approx(
        0, abs=0.02
    )


# ============ settings ============
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strategy": "hex"}, "'hex' is not one of superpixel, grid, pixel"),
        ({"draw": "none"}, "'none' is not one of released, exact"),
        ({"slic_input": "lab"}, "'lab' is not one of rescaled, raw"),
        ({"hide_ratio": 0.0}, r"hide_ratio must lie in \(0, 1\)"),
        ({"hide_ratio": 1.0}, r"hide_ratio must lie in \(0, 1\)"),
        ({"segments": 1}, "segments be at least 2"),
        ({"grid_sizes": ()}, "grid sizes at least 1 pixel"),
        ({"grid_sizes": (16, 0)}, "grid sizes at least 1 pixel"),
    ],
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        PatchMask(**arguments)
