"""The losses against the released arrays, loops in float64, and their fast paths at low resolution
against full-size ones.
"""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.reference import load_arrays, relative_error
from tool.cam import keep_max, normalise_cam, set_background
from tool.losses import (
    cam_losses,
    cpn_losses,
    cpn_losses_low_resolution,
    global_average,
    hardest_mean,
    loss_classification,
    loss_cpcr,
    loss_ecr,
    loss_er,
    loss_rvmin,
    loss_tags,
    loss_tcp,
    seam_losses,
    seam_losses_low_resolution,
    seam_scale,
    segmentation_loss,
    weigh,
)

CPN_MAPS = ("cam", "cam1", "cam2", "cam_rv", "cam_rv1", "cam_rv2")
SEAM_MAPS = ("cam1", "cam2", "cam_rv1", "cam_rv2")


def _random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def _leaves(arrays: dict[str, np.ndarray], names: tuple[str, ...]) -> list[torch.Tensor]:
    return [torch.from_numpy(arrays[name]).requires_grad_() for name in names]


# ============ the released arrays: CPN ============
@pytest.fixture(scope="module")
def cpn():
    """(arrays, maps as leaves, losses), gradients computed."""
    arrays = load_arrays("loss")
    maps = _leaves(arrays, CPN_MAPS)
    losses = cpn_losses(
        maps[:3], maps[3:], torch.from_numpy(arrays["label"]), torch.from_numpy(arrays["ctri"])
    )
    losses["loss"].backward()
    return arrays, maps, losses


@pytest.mark.parametrize(
    ("ours", "released"),
    [
        ("loss", "loss"),
        ("loss_cls", "loss_cls"),
        ("loss_tcp", "loss_tcp_all"),
        ("loss_cpcr", "loss_cpcr"),
    ],
)
def test_cpn_loss_matches_the_released_one(cpn, ours, released):
    arrays, _, losses = cpn
    assert relative_error(losses[ours], arrays[released]) < 1e-4


@pytest.mark.parametrize("name", CPN_MAPS)
def test_cpn_gradient_matches_the_released_one(cpn, name):
    arrays, maps, _ = cpn
    assert relative_error(maps[CPN_MAPS.index(name)].grad, arrays[f"grad_{name}"]) < 1e-4


def test_cpn_gradient_norms_match_the_released_ones(cpn):
    arrays, maps, _ = cpn
    norms = [
        maps[CPN_MAPS.index(name)].grad.norm()
        for name in ("cam", "cam_rv", "cam1", "cam_rv1", "cam2", "cam_rv2")
    ]
    assert relative_error(torch.stack(norms), arrays["grad_norms"]) < 1e-4


def test_parts_of_the_cpn_losses_match_the_released_ones(cpn):
    arrays, maps, _ = cpn
    label = torch.from_numpy(arrays["label"])
    with torch.no_grad():
        visible = torch.from_numpy(arrays["ctri"])
        for branch in range(3):
            classification = loss_classification(global_average(maps[branch]), label)
            assert relative_error(classification, arrays[f"loss_cls_branch{branch}"]) < 1e-4
            assert (
                relative_error(loss_rvmin(maps[3 + branch], label), arrays[f"loss_rvmin{branch}"])
                < 1e-4
            )
        weights = (1.0, visible, torch.from_numpy(arrays["uctri"]))
        a, r = weigh(maps[:3], label, weights), weigh(maps[3:], label, weights)
        zero = [torch.zeros_like(one) for one in a]
        # The released names: loss_tcp is the plain term, loss_tcp_improved that of the refined
        # maps.
        assert relative_error(loss_tcp(a, zero), arrays["loss_tcp"]) < 1e-4
        assert relative_error(loss_tcp(zero, r), arrays["loss_tcp_improved"]) < 1e-4
        a, r = [set_background(one) for one in a], [set_background(one) for one in r]
        first, second = keep_max(a[0] - a[1]) - r[2], keep_max(a[0] - a[2]) - r[1]
        assert relative_error(hardest_mean(first.abs()), arrays["loss_cpcr1_ohem"]) < 1e-4
        assert relative_error(hardest_mean(second.abs()), arrays["loss_cpcr2_ohem"]) < 1e-4


# ============ the released arrays: SEAM ============
@pytest.fixture(scope="module")
def seam():
    arrays = load_arrays("stages/seam_loss")
    maps = _leaves(arrays, SEAM_MAPS)
    losses = seam_losses(maps[:2], maps[2:], torch.from_numpy(arrays["label"]))
    losses["loss"].backward()
    return arrays, maps, losses


@pytest.mark.parametrize("name", ["loss", "loss_cls", "loss_er", "loss_ecr"])
def test_seam_loss_matches_the_released_one(seam, name):
    arrays, _, losses = seam
    assert relative_error(losses[name], arrays[name]) < 1e-4


@pytest.mark.parametrize("name", SEAM_MAPS)
def test_seam_gradient_matches_the_released_one(seam, name):
    arrays, maps, _ = seam
    assert relative_error(maps[SEAM_MAPS.index(name)].grad, arrays[f"grad_{name}"]) < 1e-4


def test_seam_gradient_norms_match_the_released_ones(seam):
    arrays, maps, _ = seam
    norms = [
        maps[SEAM_MAPS.index(name)].grad.norm() for name in ("cam1", "cam_rv1", "cam2", "cam_rv2")
    ]
    assert relative_error(torch.stack(norms), arrays["grad_norms"]) < 1e-4


def test_parts_of_the_seam_losses_match_the_released_ones(seam):
    arrays, maps, _ = seam
    label = torch.from_numpy(arrays["label"])
    with torch.no_grad():
        for branch in range(2):
            classification = loss_classification(global_average(maps[branch]), label)
            assert relative_error(classification, arrays[f"loss_cls{branch + 1}"]) < 1e-4
            assert (
                relative_error(
                    loss_rvmin(maps[2 + branch], label), arrays[f"loss_rvmin{branch + 1}"]
                )
                < 1e-4
            )
        (a, a_small), (r, r_small) = (
            weigh(maps[:2], label, (1.0, 1.0)),
            weigh(maps[2:], label, (1.0, 1.0)),
        )
        a, r = seam_scale(a), seam_scale(r)
        zero = [torch.zeros_like(a), torch.zeros_like(a)]
        for branch, cam in enumerate((a, a_small)):
            # A target minus zero maps: the branch's stored target, hard pixels taken.
            both = loss_ecr((cam, cam), zero)
            assert (
                relative_error(
                    both / 2,
                    hardest_mean(torch.from_numpy(arrays[f"cam{branch + 1}_target"]).abs()),
                )
                < 1e-4
            )
        assert relative_error(loss_ecr((a, a_small), (r, r_small)), arrays["loss_ecr"]) < 1e-4


def test_seam_scale_takes_the_floor_of_the_side():
    assert seam_scale(torch.zeros(1, 3, 46, 37)).shape == (1, 3, 13, 11)
    assert seam_scale(torch.zeros(1, 3, 46, 37), 0.6).shape == (1, 3, 27, 22)


# ============ terms against loops ============
def test_hardest_mean_matches_loops():
    difference = _random(2, 5, 4, 3).abs()
    count = int(0.2 * 5 * 4 * 3)
    expected = np.mean(
        [sum(sorted(image.flatten().tolist())[-count:]) / count for image in difference]
    )
    assert hardest_mean(difference).item() == pytest.approx(expected, rel=1e-12)


def test_hardest_mean_averages_zeros_in_where_too_few_entries_differ():
    difference = torch.zeros(1, 5, 4, 3)
    difference[0, 0, 0, 0] = 6.0
    assert hardest_mean(difference).item() == pytest.approx(6 / 12)


def test_hardest_mean_without_the_zero_channels_is_that_with_them():
    some = _random(2, 3, 6, 5).abs()
    full = F.pad(some, (0, 0, 0, 0, 0, 8))
    assert hardest_mean(some, classes=10).item() == pytest.approx(
        hardest_mean(full).item(), rel=1e-12
    )


def test_loss_rvmin_matches_loops():
    refined, label = _random(2, 5, 4, 5), torch.tensor([[1.0, 0, 1, 0], [0, 0, 0, 1]])
    total = 0.0
    for image, present in zip(refined, label, strict=True):
        largest = [
            max(present[c].item() * image[c + 1, y, x].item() for c in range(4))
            for y in range(4)
            for x in range(5)
        ]
        total += sum(max(value, 0.0) for value in sorted(largest)[: 20 // 4])
    assert loss_rvmin(refined, label).item() == pytest.approx(total / (5 * 2), rel=1e-12)


def test_loss_tcp_matches_loops():
    cams = [_random(2, 3, 4, 4, seed=seed) for seed in range(6)]
    a, a1, a2, r, r1, r2 = (cam[:, 1:].flatten().tolist() for cam in cams)
    plain = np.mean([abs(p + q - w) for w, p, q in zip(a, a1, a2, strict=True)])
    refined = np.mean([abs(w - p - q) for w, p, q in zip(r, r1, r2, strict=True)])
    assert loss_tcp(cams[:3], cams[3:]).item() == pytest.approx(plain + refined, rel=1e-12)


def test_loss_cpcr_matches_loops():
    cams = [normalise_cam(_random(1, 4, 3, 4, seed=seed)) for seed in range(6)]
    a, a1, a2, _, r1, r2 = (cam[0].flatten(1).numpy().copy() for cam in cams)
    for one in (a, a1, a2, r1, r2):
        one[0] = [1 - max(one[1:, pixel]) for pixel in range(12)]
    total = 0.0
    for part, other in ((a1, r2), (a2, r1)):
        entries = []
        for pixel in range(12):
            target = a[:, pixel] - part[:, pixel]
            entries += [
                abs((t if t == max(target) else 0.0) - o)
                for t, o in zip(target, other[:, pixel], strict=True)
            ]
        count = int(0.2 * 4 * 12)
        total += sum(sorted(entries)[-count:]) / count
    assert loss_cpcr(cams[:3], cams[3:]).item() == pytest.approx(total, rel=1e-12)


def test_loss_er_is_the_mean_over_foreground():
    one, two = _random(2, 3, 4, 4), _random(2, 3, 4, 4, seed=1)
    assert loss_er(one, two).item() == pytest.approx(
        (one - two)[:, 1:].abs().mean().item(), rel=1e-12
    )


def test_losses_of_a_pixel_are_numbers():
    cams = [_random(1, 2, 1, 1, seed=seed) for seed in range(6)]
    label, visible = torch.ones(1, 1, dtype=torch.float64), torch.full((1,), 0.5)
    losses = cpn_losses(cams[:3], cams[3:], label, visible)
    assert all(value.isfinite() for value in losses.values())


def test_classification_loss_matches_loops():
    logits, label = _random(2, 3), torch.tensor([[1.0, 0, 1], [0, 0, 1]], dtype=torch.float64)
    probability = 1 / (1 + np.exp(-logits.numpy()))
    expected = -np.mean(np.log(np.where(label.numpy() == 1, probability, 1 - probability)))
    assert loss_classification(logits, label).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("size", [(40, 56), (5, 7), (3, 20), (1, 1)])
def test_global_average_of_a_resized_map_needs_no_resizing(size):
    cam = _random(2, 4, 5, 7, dtype=torch.float32)
    expected = F.interpolate(cam, size, mode="bilinear", align_corners=True)[:, 1:].mean(dim=(2, 3))
    torch.testing.assert_close(global_average(cam, size), expected, atol=1e-6, rtol=1e-5)


def test_global_average_is_in_float32_under_autocast():
    cam = _random(2, 4, 5, 7).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(global_average(cam, (40, 30)), global_average(cam.float(), (40, 30)))


def test_weigh_is_normalised_map_times_label_times_fraction():
    cam, label, visible = (
        _random(2, 3, 4, 4),
        torch.tensor([[1.0, 0], [0, 1]]),
        torch.tensor([0.25, 0.75]),
    )
    (ours,) = weigh([cam], label, [visible])
    for b in range(2):
        for channel, present in enumerate([1.0, *label[b].tolist()]):
            torch.testing.assert_close(
                ours[b, channel], normalise_cam(cam)[b, channel] * present * visible[b]
            )


# ============ where gradients stop ============
def test_plain_maps_of_the_parts_learn_from_classification_alone():
    # min pooling needs positive maps
    cams = [(_random(2, 4, 8, 8, seed=seed) + 3).requires_grad_() for seed in range(6)]
    label, visible = torch.tensor([[1.0, 0, 1], [0, 1, 0]]), torch.tensor([0.4, 0.6])
    losses = cpn_losses(cams[:3], cams[3:], label, visible)

    def reached(name: str) -> list[bool]:
        gradients = torch.autograd.grad(losses[name], cams, retain_graph=True, allow_unused=True)
        return [gradient is not None and bool(gradient.any()) for gradient in gradients]

    assert reached("loss_tcp") == [True, False, False, True, True, True]
    assert reached("loss_cpcr") == [False, False, False, False, True, True]
    assert reached("loss_cls") == [True] * 6


def test_seam_targets_carry_no_gradient():
    cams = [normalise_cam(_random(1, 4, 6, 6, seed=seed)).requires_grad_() for seed in range(4)]
    loss = loss_ecr(cams[:2], cams[2:])
    gradients = torch.autograd.grad(loss, cams, allow_unused=True)
    assert [gradient is not None for gradient in gradients] == [False, False, True, True]


# ============ low resolution against full size ============
LABELS = {
    "none": [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0]],
    "one": [[0, 1, 0, 0, 0], [0, 0, 0, 0, 1]],
    "different counts": [[1, 0, 1, 1, 0], [0, 0, 0, 1, 0]],
    "none beside all": [[0, 0, 0, 0, 0], [1, 1, 1, 1, 1]],
    "all": [[1, 1, 1, 1, 1], [1, 1, 1, 1, 1]],
}


def _assert_same(
    full: dict, low: dict, full_maps: list[torch.Tensor], low_maps: list[torch.Tensor]
) -> None:
    assert set(full) == set(low)
    for name, value in full.items():
        torch.testing.assert_close(
            low[name], value, atol=1e-6, rtol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )
    full["loss"].backward()
    low["loss"].backward()
    for ours, expected in zip(low_maps, full_maps, strict=True):
        assert expected.grad.any()
        assert relative_error(ours.grad, expected.grad.numpy()) < 1e-4


def _leaf_maps(count: int, seed: int, shape=(2, 6, 5, 7)) -> list[torch.Tensor]:
    return [
        _random(*shape, seed=seed + i, dtype=torch.float32).requires_grad_() for i in range(count)
    ]


@pytest.mark.parametrize("label", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("positive", [False, True], ids=["any sign", "refined maps >= 0"])
@pytest.mark.parametrize(
    "size", [(33, 47), (3, 47)], ids=["square", "flatter than its maps are many"]
)
def test_cpn_losses_at_low_resolution_equal_full_size_ones(label, positive, size):
    label, visible = torch.tensor(label, dtype=torch.float32), torch.tensor([0.6, 0.35])

    def losses(low: bool) -> tuple[dict, list[torch.Tensor]]:
        maps = _leaf_maps(6, seed=0)
        cams, refined = maps[:3], [cam.relu() for cam in maps[3:]] if positive else maps[3:]
        if low:
            return cpn_losses_low_resolution(cams, refined, label, visible, size), maps
        cams, refined = (
            [F.interpolate(cam, size, mode="bilinear", align_corners=True) for cam in group]
            for group in (cams, refined)
        )
        return cpn_losses(cams, refined, label, visible), maps

    (full, full_maps), (low, low_maps) = losses(low=False), losses(low=True)
    if not label.any():  # only the classification of the plain maps has something to say
        assert not full["loss_tcp"].any()
        full_maps, low_maps = full_maps[:3], low_maps[:3]
    _assert_same(full, low, full_maps, low_maps)


@pytest.mark.parametrize("label", LABELS.values(), ids=LABELS)
def test_seam_losses_at_low_resolution_equal_full_size_ones(label):
    label = torch.tensor(label, dtype=torch.float32)
    sizes = [(40, 47), (12, 14)]

    def losses(low: bool) -> tuple[dict, list[torch.Tensor]]:
        maps = [*_leaf_maps(2, seed=0), *_leaf_maps(2, seed=9)]
        if low:
            return seam_losses_low_resolution(maps[:2], maps[2:], label, sizes), maps
        resized = [
            F.interpolate(cam, size, mode="bilinear", align_corners=True)
            for cam, size in zip(maps, sizes * 2, strict=True)
        ]
        return seam_losses(resized[:2], resized[2:], label), maps

    (full, full_maps), (low, low_maps) = losses(low=False), losses(low=True)
    if not label.any():
        full_maps, low_maps = full_maps[:2], low_maps[:2]
    _assert_same(full, low, full_maps, low_maps)


def test_losses_stay_in_float32_under_autocast():
    """bf16 maps give what the same numbers give in float32: no product, label or weight is rounded
    again.
    """
    label, visible = torch.tensor([[1.0, 0, 1], [0, 1, 0]]), torch.tensor([0.6, 0.35])
    half = [_random(2, 4, 5, 6, seed=seed, dtype=torch.float32).bfloat16() for seed in range(6)]
    full = [cam.float() for cam in half]

    def losses(maps: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        return [
            cpn_losses_low_resolution(maps[:3], maps[3:], label, visible, (33, 47)),
            cpn_losses(maps[:3], maps[3:], label, visible),
            seam_losses_low_resolution(maps[:2], maps[2:4], label, [(40, 47), (12, 14)]),
            cam_losses(maps[0], label, (33, 47)),
        ]

    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = losses(half)
    for one, two in zip(found, losses(full), strict=True):
        for name, value in one.items():
            assert value.dtype == torch.float32
            torch.testing.assert_close(value, two[name], rtol=0, atol=0)


def test_cam_losses_are_the_classification_of_the_resized_map():
    cam, label = _random(2, 4, 5, 6, dtype=torch.float32), torch.tensor([[1.0, 0, 0], [0, 1, 1]])
    resized = F.interpolate(cam, (30, 41), mode="bilinear", align_corners=True)
    expected = F.multilabel_soft_margin_loss(resized[:, 1:].mean(dim=(2, 3)), label)
    losses = cam_losses(cam, label, (30, 41))
    torch.testing.assert_close(losses["loss"], expected)
    assert set(losses) == {"loss", "loss_cls"}
    torch.testing.assert_close(cam_losses(resized, label)["loss_cls"], expected)


# ============ symmetries and limits ============
def test_permuting_classes_permutes_the_gradients_and_keeps_the_losses():
    order = [3, 0, 4, 1, 2]
    label, visible = (
        torch.tensor(LABELS["different counts"], dtype=torch.float64),
        torch.tensor([0.6, 0.35]),
    )
    maps = [_random(2, 6, 9, 8, seed=seed).requires_grad_() for seed in range(6)]
    permuted = [cam.detach()[:, [0, *(i + 1 for i in order)]].requires_grad_() for cam in maps]
    losses = cpn_losses(maps[:3], maps[3:], label, visible)
    other = cpn_losses(permuted[:3], permuted[3:], label[:, order], visible)
    for name, value in losses.items():
        torch.testing.assert_close(other[name], value)
    losses["loss"].backward()
    other["loss"].backward()
    for one, two in zip(maps, permuted, strict=True):
        torch.testing.assert_close(two.grad[:, 1:], one.grad[:, 1:][:, order])


@pytest.mark.parametrize("visible", [0.0, 1.0])
def test_a_pair_that_hides_nothing_has_finite_losses_and_gradients(visible):
    maps = [_random(1, 4, 8, 8, seed=seed).requires_grad_() for seed in range(6)]
    losses = cpn_losses(maps[:3], maps[3:], torch.tensor([[1.0, 0, 1]]), torch.tensor([visible]))
    losses["loss"].backward()
    assert losses["loss"].isfinite()
    assert all(cam.grad.isfinite().all() for cam in maps)


def test_zero_maps_cost_the_chance_level_of_classification():
    maps = [torch.zeros(2, 4, 8, 8)] * 3
    losses = cpn_losses(
        maps, maps, torch.tensor([[1.0, 0, 1], [0, 1, 0]]), torch.tensor([0.5, 0.5])
    )
    assert losses["loss_cls"].item() == pytest.approx(np.log(2), rel=1e-6)
    assert losses["loss_tcp"] == 0
    # The target is 0 and the refined background 1 in both parts, so every hard entry is 1.
    assert losses["loss_cpcr"].item() == pytest.approx(2)


def test_losses_change_no_input():
    maps = [_random(2, 4, 8, 8, seed=seed) for seed in range(6)]
    before = [cam.clone() for cam in maps]
    cpn_losses(maps[:3], maps[3:], torch.tensor([[1.0, 0, 1], [0, 1, 0]]), torch.tensor([0.4, 0.6]))
    assert all(torch.equal(cam, old) for cam, old in zip(maps, before, strict=True))


@pytest.mark.parametrize(
    ("maps", "classes"), [((2, 4, 8, 8), 4), ((3, 5, 8, 8), 4), ((2, 5, 8), 4)]
)
def test_maps_that_do_not_fit_the_label_are_refused(maps, classes):
    cams, label = [torch.zeros(*maps)] * 3, torch.zeros(2, classes)
    message = (
        rf"CAM of shape \({', '.join(map(str, maps))}\) does not fit labels \(2, {classes}\): "
        r"expected \(B, C \+ 1, H, W\)"
    )
    with pytest.raises(ValueError, match=message):
        cpn_losses(cams, cams, label, torch.tensor([0.5, 0.5]))
    with pytest.raises(ValueError, match=message):
        cam_losses(cams[0], label)


def test_segmentation_loss_is_the_mean_over_pixels_with_a_class():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 3, 5, dtype=torch.float64, generator=generator)
    label = torch.randint(0, 4, (2, 3, 5), generator=generator).to(torch.uint8)
    label[0, 1] = 255
    expected = [
        -logits[b, :, y, x].log_softmax(dim=0)[int(label[b, y, x])]
        for b in range(2)
        for y in range(3)
        for x in range(5)
        if label[b, y, x] != 255
    ]
    torch.testing.assert_close(
        segmentation_loss(logits, label).double(),
        torch.stack(expected).mean(),
        rtol=1e-5,
        atol=1e-6,
    )
    assert segmentation_loss(logits, torch.full_like(label, 255)) == 0
    alone = torch.full_like(label, 255)
    alone[1, 2, 3] = 1
    torch.testing.assert_close(
        segmentation_loss(logits, alone).double(),
        -logits[1, :, 2, 3].log_softmax(dim=0)[1],
        rtol=1e-5,
        atol=1e-6,
    )
    # Two cells over four pixels: centres at 0.5 and 2.5, so the pixels lie at cells -0.25 (cut to
    # 0), 0.25, 0.75 and 1.25 (cut to 1).
    steps = torch.tensor([[[[0.0, 1.0]], [[0.0, 0.0]]]])
    expected = torch.nn.functional.softplus(torch.tensor([0.0, 0.25, 0.75, 1.0])).mean()
    torch.testing.assert_close(
        segmentation_loss(steps, torch.ones(1, 1, 4, dtype=torch.uint8)), expected
    )
    # Two ranks with their parts of the batch: the mean of their losses is the loss of the whole.
    counts = [(part != 255).sum().float() for part in label]
    parts = [
        segmentation_loss(logits[b : b + 1], label[b : b + 1], lambda _: sum(counts) / 2)
        for b in range(2)
    ]
    torch.testing.assert_close(sum(parts) / 2, segmentation_loss(logits, label))


def test_loss_tags_asks_for_the_classes_that_the_label_shows():
    label = torch.zeros(2, 25, 40, dtype=torch.uint8)
    label[0, :, :20] = 3
    label[0, 0, 30:32] = 1  # two of a thousand pixels are shown
    label[1, 0, 0] = 2  # one is not
    label[1, 5:] = 255
    tags = _random(2, 3)
    shown = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(tags, shown.double())
    torch.testing.assert_close(loss_tags(tags, label).double(), expected, rtol=1e-5, atol=1e-6)


# ============ images without any class ============
def _loop_cpn(cams, refined, label, visible) -> dict[str, float]:
    """CPN's terms image by image in numpy, from their definitions; none but the classification of
    an image without classes.
    """
    images, classes = label.shape
    total = {"loss_cls": 0.0, "loss_tcp": 0.0, "loss_cpcr": 0.0}
    for b in range(images):
        y = label[b].numpy()
        for cam in cams:
            means = cam[b, 1:].detach().numpy().mean(axis=(1, 2))
            signed = np.where(y == 1, -means, means)
            total["loss_cls"] += np.log1p(np.exp(signed)).mean() / 3 / images
        if not y.any():
            continue
        parts = (1.0, float(visible[b]), 1 - float(visible[b]))
        unit = [
            [_unit(m[b].detach().numpy(), y, w) for m, w in zip(g, parts, strict=True)]
            for g in (cams, refined)
        ]
        (a, a1, a2), (r, r1, r2) = unit
        pixels = a[0].size
        for map_ in refined:
            pooled = (map_[b, 1:].detach().numpy() * y[:, None, None]).max(axis=0).ravel()
            lowest = np.sort(pooled)[: pixels // 4]
            total["loss_cls"] += np.maximum(lowest, 0).mean() / 3 / images
        total["loss_tcp"] += np.abs(a1 + a2 - a)[1:].mean() / images
        total["loss_tcp"] += np.abs(r - r1 - r2)[1:].mean() / images
        for maps in (a, a1, a2, r, r1, r2):
            maps[0] = 1 - maps[1:].max(axis=0)
        for one, other in ((a1, r2), (a2, r1)):
            target = a - one
            target = np.where(target == target.max(axis=0), target, 0)
            hardest = np.sort(np.abs(target - other).ravel())[::-1]
            count = int(0.2 * (classes + 1) * pixels)
            total["loss_cpcr"] += hardest[:count].mean() / images
    return total


def _unit(maps: np.ndarray, y: np.ndarray, weight: float) -> np.ndarray:
    """Normalised maps (K, H, W) times label and weight."""
    maps = np.maximum(maps, 0)
    low, high = maps.min(axis=(1, 2), keepdims=True), maps.max(axis=(1, 2), keepdims=True)
    shown = np.concatenate([[1], y])[:, None, None]
    return np.maximum(maps - low - 1e-5, 0) / (high - low + 1e-5) * shown * weight


MIXED = torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0], [0, 0, 0]], dtype=torch.float64)


@pytest.mark.parametrize("label", [MIXED, MIXED[[0, 2]].repeat(2, 1), MIXED * 0])
def test_cpn_losses_with_images_without_a_class_match_loops(label):
    maps = [_random(4, 4, 6, 8, seed=seed) for seed in range(6)]
    visible = torch.tensor([0.3, 0.5, 0.6, 0.7], dtype=torch.float64)
    losses = cpn_losses(maps[:3], maps[3:], label, visible)
    for name, expected in _loop_cpn(maps[:3], maps[3:], label, visible).items():
        torch.testing.assert_close(losses[name], torch.tensor(expected), check_dtype=False)


@pytest.mark.parametrize("method", ["cpn", "seam"])
def test_an_image_without_a_class_has_the_classification_loss_alone(method):
    shapes = [(4, 4, 20, 30)] * 6 if method == "cpn" else [(4, 4, 20, 30), (4, 4, 6, 9)] * 2
    maps = [_random(*shape, seed=seed).requires_grad_() for seed, shape in enumerate(shapes)]
    half = len(maps) // 2
    visible = [torch.full((4,), 0.4, dtype=torch.float64)] if method == "cpn" else []
    function = cpn_losses if method == "cpn" else seam_losses

    def of(images: list[int]) -> dict[str, torch.Tensor]:
        cut = [map_[images] for map_ in maps]
        return function(cut[:half], cut[half:], MIXED[images], *[v[images] for v in visible])

    whole, single = of([0, 1, 2, 3]), [of([index]) for index in range(4)]
    for name, value in whole.items():
        torch.testing.assert_close(value, sum(loss[name] for loss in single) / 4)
    for index in (1, 3):
        classification = torch.stack(
            [
                loss_classification(cam[[index], 1:].mean(dim=(2, 3)), MIXED[[index]])
                for cam in maps[:half]
            ]
        ).mean()
        torch.testing.assert_close(single[index]["loss"], classification)
    gradients = torch.autograd.grad(whole["loss"], maps)
    for gradient in gradients[half:]:
        assert not gradient[[1, 3]].any()
        assert gradient[[0, 2]].any()


@pytest.mark.parametrize("label", [MIXED, MIXED * 0])
def test_low_resolution_losses_of_images_without_a_class_equal_full_size_ones(label):
    maps = [_random(4, 4, 5, 7, seed=seed) for seed in range(6)]
    size, visible = (20, 28), torch.full((4,), 0.4, dtype=torch.float64)
    large = [F.interpolate(m, size, mode="bilinear", align_corners=True) for m in maps]
    fast = cpn_losses_low_resolution(maps[:3], maps[3:], label, visible, size)
    slow = cpn_losses(large[:3], large[3:], label, visible)
    sizes = [size, (6, 8)]
    large = [
        F.interpolate(m, s, mode="bilinear", align_corners=True)
        for m, s in zip(maps[:4], sizes * 2, strict=True)
    ]
    fast |= {
        f"seam {k}": v
        for k, v in seam_losses_low_resolution(maps[:2], maps[2:4], label, sizes).items()
    }
    slow |= {f"seam {k}": v for k, v in seam_losses(large[:2], large[2:], label).items()}
    for name, value in slow.items():
        torch.testing.assert_close(fast[name], value, rtol=1e-5, atol=1e-6)
