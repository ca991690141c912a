"""CAM arithmetic: the released inference arrays, loops in float64, and what normalised maps must
obey.
"""

import numpy as np
import pytest
import torch

from tests.reference import load_arrays, relative_error
from tool.cam import (
    EPS,
    cam_prior,
    keep_max,
    merge_passes,
    normalise_cam,
    require_finite,
    set_background,
)
from tool.errors import InputError


def _raw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


# ============ normalise_cam ============
def test_normalise_cam_matches_loops():
    cam = _raw(2, 3, 4, 5)
    cam[1, 2] = cam[1, 2].abs() + 0.5  # a map without zeros, so that its minimum counts
    ours = normalise_cam(cam)
    for b, c in np.ndindex(2, 3):
        values = [max(v, 0.0) for v in cam[b, c].flatten().tolist()]
        low, high = min(values), max(values)
        expected = [max(v - low - EPS, 0.0) / (high - low + EPS) for v in values]
        torch.testing.assert_close(
            ours[b, c].flatten(), torch.tensor(expected, dtype=torch.float64)
        )


def test_normalise_cam_is_in_the_unit_range_and_ignores_scale():
    cam = _raw(2, 3, 6, 7)
    unit = normalise_cam(cam)
    assert unit.min() == 0
    assert 1 - 2e-5 < unit.max() < 1
    torch.testing.assert_close(normalise_cam(100 * cam), unit, atol=4e-5, rtol=0)


@pytest.mark.parametrize("value", [0.0, -3.0, 2.0])
def test_normalise_cam_of_a_constant_map_is_zero(value):
    assert not normalise_cam(torch.full((1, 2, 3, 3), value)).any()


def test_normalise_cam_gradient_flows_through_minimum_and_maximum():
    cam = (_raw(1, 2, 3, 3) + 2).requires_grad_()  # positive, so the minimum is no zero
    assert torch.autograd.gradcheck(normalise_cam, (cam,))


# ============ background, maximum, prior ============
def test_set_background_is_one_minus_the_largest_foreground():
    cam = _raw(2, 4, 3, 3).sigmoid()
    ours = set_background(cam)
    assert torch.equal(ours[:, 1:], cam[:, 1:])
    for b, y, x in np.ndindex(2, 3, 3):
        assert ours[b, 0, y, x] == 1 - max(cam[b, 1:, y, x])


def test_keep_max_keeps_values_and_ties():
    cam = torch.tensor([0.2, 0.7, 0.7, 0.1]).view(1, 4, 1, 1)
    assert torch.equal(keep_max(cam).flatten(), torch.tensor([0.0, 0.7, 0.7, 0.0]))


def test_keep_max_matches_loops():
    cam = _raw(2, 4, 3, 3)
    ours = keep_max(cam)
    for b, y, x in np.ndindex(2, 3, 3):
        values = cam[b, :, y, x].tolist()
        assert ours[b, :, y, x].tolist() == [v if v == max(values) else 0.0 for v in values]


def test_cam_prior_matches_loops():
    cam = _raw(2, 4, 3, 5)
    ours = cam_prior(cam)
    for b in range(2):
        maps = []
        for c in range(4):
            values = cam[b, c].clamp(min=0)
            maps.append(
                [max(v - EPS, 0.0) / (values.max().item() + EPS) for v in values.flatten().tolist()]
            )
        for pixel in range(15):
            column = [one[pixel] for one in maps[1:]]
            expected = [1 - max(column), *(v if v == max(column) else 0.0 for v in column)]
            torch.testing.assert_close(
                ours[b].flatten(1)[:, pixel], torch.tensor(expected, dtype=torch.float64)
            )


def test_cam_prior_carries_no_gradient_and_ignores_the_background_score():
    cam = _raw(1, 4, 3, 5).requires_grad_()
    prior = cam_prior(cam)
    assert not prior.requires_grad
    other = cam.detach().clone()
    other[:, 0] = 7.0
    assert torch.equal(cam_prior(other), prior)


def test_cam_prior_of_half_precision_is_that_of_its_numbers_in_float32():
    cam = _raw(1, 4, 6, 5).bfloat16()
    prior = cam_prior(cam)
    assert prior.dtype == torch.float32
    assert torch.equal(prior, cam_prior(cam.float()))


@pytest.mark.parametrize("function", [normalise_cam, set_background, keep_max, cam_prior])
def test_permuting_classes_permutes_the_maps_and_changes_no_input(function):
    cam = _raw(2, 5, 4, 4)
    before = cam.clone()
    order = [0, 3, 1, 4, 2]  # the background stays
    torch.testing.assert_close(function(cam[:, order]), function(cam)[:, order], rtol=0, atol=0)
    assert torch.equal(cam, before)


# ============ merge_passes ============
ODD = torch.arange(8) % 2 == 1


def merged(cams: torch.Tensor, flipped: torch.Tensor) -> torch.Tensor:
    """merge_passes of (P, n, H, W) and (P,) bool."""
    return merge_passes(zip(cams, flipped.tolist(), strict=True))


@pytest.mark.parametrize("name", ["infer", "infer_positive"])
def test_merge_passes_matches_the_released_inference(name):
    arrays = load_arrays(name)
    score = merged(torch.from_numpy(arrays["per_scale"]), ODD)
    assert relative_error(score / 2, arrays["norm_cam"]) < 1e-4  # the released file holds halves


def test_merge_passes_subtracts_the_minimum_after_small_values_were_cleared():
    cams = torch.tensor([[[[2.0, 3.0, 6.0]]]])
    score = merged(cams, torch.tensor([False]))
    assert score.flatten().tolist() == pytest.approx([-0.5, 0.25, 1.0], abs=1e-5)


def test_value_at_the_very_limit_is_kept():
    """min + 1e-5 itself is not under min + 1e-5: it stays, and becomes 0."""
    limit = torch.tensor(0.0) + 1e-5
    score = merged(
        torch.stack([torch.tensor(0.0), limit, torch.tensor(1.0)]).view(1, 1, 1, 3),
        torch.tensor([False]),
    )
    assert score[0, 0, 1] == 0


def test_margin_of_the_normalisation_is_the_released_one():
    cam = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64).view(1, 1, 1, 3)
    expected = [0.0, (0.5 - 1e-5) / (1 + 1e-5), (1 - 1e-5) / (1 + 1e-5)]
    assert normalise_cam(cam).flatten().tolist() == pytest.approx(expected, rel=1e-9)


def test_class_without_activation_is_minus_one_everywhere():
    assert torch.equal(
        merged(torch.full((2, 1, 3, 3), -1.0), torch.tensor([False, True])),
        torch.full((1, 3, 3), -1.0),
    )


def test_passes_of_the_mirrored_image_give_the_mirrored_score():
    cams = _raw(4, 2, 5, 6)
    flipped = torch.tensor([False, True, False, True])
    mirrored = merged(cams.flip(-1), flipped)
    torch.testing.assert_close(mirrored, merged(cams, flipped).flip(-1))


def test_merge_passes_does_not_depend_on_the_order_of_passes():
    cams = _raw(4, 2, 5, 6)
    flipped = torch.tensor([False, True, False, True])
    order = [3, 1, 0, 2]
    torch.testing.assert_close(merged(cams[order], flipped[order]), merged(cams, flipped))


def test_merge_passes_changes_no_input():
    cams = _raw(4, 2, 5, 6)
    before = cams.clone()
    merged(cams, ODD[:4])
    assert torch.equal(cams, before)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused_with_what_they_are_of(bad):
    require_finite(torch.zeros(2, 3), "the map")
    require_finite(torch.zeros(0), "the map")
    with pytest.raises(InputError, match=r"^the map has values that are not finite; "):
        require_finite(torch.tensor([0.0, bad]), "the map")
