"""The CPN network against the released arrays, loops in float64, and the symmetries of PCM and
PRCM.
"""

import copy
import json
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from network import bands
from network import cpn as module
from network.build import build_cpn
from network.cpn import REFINEMENTS, pixel_correlation, pixel_region_correlation, spatial_gather
from tests.reference import PARITY, load_arrays, relative_error
from tool.cam import EPS, cam_prior
from tool.errors import InputError


def _random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


# ============ the released network ============
def test_names_and_shapes_are_the_released_ones():
    with torch.device("meta"):
        net = build_cpn()
    released = [
        (name, shape)
        for name, shape, _ in json.loads((PARITY / "state_dict_keys.json").read_text())
    ]
    ours = {name: list(value.shape) for name, value in net.state_dict().items()}
    assert ours == dict(released)
    assert len(released) == 233
    assert sum(p.numel() for p in net.parameters()) == 105_395_648


@torch.no_grad()
def test_forward_matches_the_released_network(released_net):
    arrays = load_arrays("forward")
    x = torch.from_numpy(arrays["x"])
    cam, refined = released_net(x)
    assert relative_error(cam, arrays["cam"]) < 1e-4
    assert relative_error(refined, arrays["cam_rv"]) < 1e-4
    assert torch.equal(released_net.forward_cam(x), cam)


@pytest.mark.parametrize("limit", [1, 2**18])
def test_bands_match_the_released_network(released_net, monkeypatch, limit):
    """The reference image is smaller than a band: here bands are as low as their margins allow, or
    a few rows high.
    """
    arrays = load_arrays("forward")
    x = torch.from_numpy(arrays["x"])
    monkeypatch.setattr(bands, "BAND_ELEMENTS", limit)
    with torch.inference_mode():
        cam, refined = released_net(x)
    assert relative_error(cam, arrays["cam"]) < 1e-4
    assert relative_error(refined, arrays["cam_rv"]) < 1e-4
    with torch.no_grad():
        maps, plain = (
            released_net.forward_in_bands(x, released_net.cam),
            released_net.forward_features(x),
        )
    for name in ("conv4", "conv5"):
        assert relative_error(maps[name], plain[name]) < 1e-5


@pytest.fixture(scope="module")
def prcm():
    return {name: torch.from_numpy(value) for name, value in load_arrays("prcm").items()}


@pytest.fixture(scope="module", params=[False, True], ids=["no_grad", "grad"])
def grad(request):
    """Both ways through PCM: in blocks, and whole."""
    with torch.set_grad_enabled(request.param):
        yield


@pytest.mark.usefixtures("grad")
def test_pcm_prcm_and_gather_match_the_released_ones(prcm):
    prior, f = prcm["cam_d_norm"], prcm["f"]
    embedding = F.conv2d(f, prcm["f9"])
    pcm = pixel_correlation(prior, embedding)
    assert relative_error(pcm, prcm["pcm"].numpy()) < 1e-4
    gathered = spatial_gather(prior, f)
    assert relative_error(gathered, prcm["spatial_gather"].numpy()) < 1e-4
    keys = F.conv2d(gathered, prcm["f10"]).relu()
    # The stored prcm is the softmax alone, before it weighs the prior.
    softmax = pixel_region_correlation(torch.ones_like(prior), keys, embedding.relu())
    assert relative_error(softmax, prcm["prcm"].numpy()) < 1e-4
    refined = pcm + pixel_region_correlation(prior, keys, embedding.relu())
    assert relative_error(refined, prcm["final"].numpy()) < 1e-4
    transposed = pcm + pixel_region_correlation(prior, keys, embedding.relu(), "transposed")
    # so the tolerance tells the two forms apart
    assert relative_error(transposed, prcm["final"].numpy()) > 1e-2


# ============ PCM ============
def test_pcm_matches_loops():
    prior, embedding = _random(2, 3, 3, 4).abs(), _random(2, 5, 3, 4, seed=1)
    ours = pixel_correlation(prior, embedding)
    for b in range(2):
        g = [
            pixel / (math.sqrt(sum(v * v for v in pixel)) + EPS)
            for pixel in embedding[b].flatten(1).T.numpy()
        ]
        p = prior[b].flatten(1).numpy()
        for j in range(12):
            column = [max(float(g[i] @ g[j]), 0.0) for i in range(12)]
            expected = sum(p[:, i] * column[i] for i in range(12)) / (sum(column) + EPS)
            np.testing.assert_allclose(ours[b].flatten(1)[:, j], expected, rtol=1e-5)


def test_pcm_of_an_embedding_as_small_as_its_margin_is_finite():
    """A pixel's norm is taken plus 1e-5, so one of norm 1e-5 has half of the unit length, and the
    affinities to it are halved.
    """
    direction = torch.tensor([[0.6, 0.8], [0.6, 0.8]]).T.reshape(1, 2, 1, 2)
    affinity = pixel_correlation(
        torch.eye(2).view(1, 2, 1, 2), direction * torch.tensor([1e-5, 1.0])
    )[0].flatten(1)
    torch.testing.assert_close(
        affinity, torch.tensor([[1 / 3, 1 / 3], [2 / 3, 2 / 3]]), atol=1e-4, rtol=0
    )


def test_pcm_columns_sum_to_one_so_a_constant_prior_stays():
    embedding = _random(1, 6, 5, 5, seed=1)
    # The identity as prior gives the affinity itself.
    affinity = pixel_correlation(torch.eye(25).view(1, 25, 5, 5), embedding)[0].flatten(1)
    torch.testing.assert_close(affinity.sum(dim=0), torch.ones(25), atol=2e-5, rtol=0)
    assert affinity.min() >= 0
    refined = pixel_correlation(torch.full((1, 2, 5, 5), 0.7), embedding)
    torch.testing.assert_close(refined, torch.full((1, 2, 5, 5), 0.7), atol=2e-5, rtol=0)


def test_pcm_stays_within_the_range_of_the_prior():
    prior = _random(1, 3, 6, 6).sigmoid()
    refined = pixel_correlation(prior, _random(1, 8, 6, 6, seed=1))
    assert (refined.amax(dim=(2, 3)) <= prior.amax(dim=(2, 3)) + 1e-6).all()
    assert (refined.amin(dim=(2, 3)) >= prior.amin(dim=(2, 3)) - 2e-5).all()


@pytest.mark.parametrize("block", [1, 7, 30, 1000])
def test_pcm_in_blocks_equals_the_whole(monkeypatch, block):
    prior, embedding = (
        _random(2, 3, 5, 6, dtype=torch.float32).abs(),
        _random(2, 8, 5, 6, seed=1, dtype=torch.float32),
    )
    whole = pixel_correlation(prior, embedding)
    monkeypatch.setattr(module, "PCM_BLOCK", block)
    with torch.no_grad():
        torch.testing.assert_close(pixel_correlation(prior, embedding), whole)


def test_pcm_without_gradient_never_holds_the_whole_affinity(monkeypatch):
    widths = []
    relu = F.relu
    monkeypatch.setattr(
        module.F, "relu", lambda x, **flags: widths.append(tuple(x.shape[1:])) or relu(x, **flags)
    )
    for constant in ({"PCM_BLOCK": 4}, {"PCM_BLOCK": 9, "PCM_ELEMENTS": 4 * 18 + 17}):
        widths.clear()
        for name, value in constant.items():
            monkeypatch.setattr(module, name, value)
        with torch.no_grad():
            pixel_correlation(_random(1, 3, 3, 6), _random(1, 4, 3, 6))
        assert widths == [(18, 4)] * 4 + [(18, 2)]


def test_pcm_trains_the_embedding_but_not_the_prior():
    embedding = _random(1, 6, 4, 4, seed=1, dtype=torch.float32).requires_grad_()
    pixel_correlation(_random(1, 3, 4, 4).abs(), embedding).square().sum().backward()
    assert embedding.grad.abs().sum() > 0


# ============ gather and PRCM ============
def test_spatial_gather_matches_loops():
    prior, feature = _random(2, 3, 3, 4), _random(2, 5, 3, 4, seed=1)
    ours = spatial_gather(prior, feature)
    assert ours.shape == (2, 5, 3, 1)
    for b, k in np.ndindex(2, 3):
        weights = np.exp(prior[b, k].flatten().numpy())
        expected = feature[b].flatten(1).numpy() @ (weights / weights.sum())
        np.testing.assert_allclose(ours[b, :, k, 0], expected)


@pytest.mark.parametrize("order", ["released", "transposed"])
def test_prcm_matches_loops(order):
    prior, keys, queries = (
        _random(2, 3, 3, 4).abs(),
        _random(2, 5, 3, 1, seed=1),
        _random(2, 5, 3, 4, seed=2),
    )
    ours = pixel_region_correlation(prior, keys, queries, order)
    for b in range(2):
        memory = keys[b].flatten().tolist()  # (D, K) in C order
        for k in range(3):
            key = [
                memory[5 * k + d] if order == "released" else memory[3 * d + k] for d in range(5)
            ]
            score = np.array(key) @ queries[b].flatten(1).numpy() / math.sqrt(3)
            softmax = np.exp(score) / np.exp(score).sum()
            np.testing.assert_allclose(
                ours[b, k].flatten(), softmax * prior[b, k].flatten().numpy(), rtol=1e-5
            )


@pytest.mark.parametrize("order", ["released", "transposed"])
def test_prcm_with_equal_keys_is_the_prior_over_the_number_of_pixels(order):
    prior = _random(1, 3, 4, 5).abs()
    ours = pixel_region_correlation(prior, torch.zeros(1, 5, 3, 1), _random(1, 5, 4, 5), order)
    torch.testing.assert_close(ours, (prior / 20).float())


# ============ symmetries ============
@pytest.mark.parametrize("order", ["released", "transposed"])
def test_permuting_pixels_permutes_the_refined_cam(order):
    prior, feature = _random(1, 3, 4, 5).sigmoid(), _random(1, 6, 4, 5, seed=1)
    weight = _random(7, 6, 1, 1, seed=2)
    permutation = torch.randperm(20, generator=torch.Generator().manual_seed(0))

    def refine(prior: torch.Tensor, feature: torch.Tensor) -> torch.Tensor:
        embedding = F.conv2d(feature, weight)
        keys = F.conv2d(spatial_gather(prior, feature), weight).relu()
        refined = pixel_correlation(prior, embedding) + pixel_region_correlation(
            prior, keys, embedding.relu(), order
        )
        return refined.flatten(2)

    def shuffle(x: torch.Tensor) -> torch.Tensor:
        return x.flatten(2)[:, :, permutation].view(x.shape)

    expected = refine(prior, feature)[:, :, permutation]
    torch.testing.assert_close(refine(shuffle(prior), shuffle(feature)), expected)


def test_permuting_maps_permutes_pcm_gather_and_transposed_prcm_but_not_the_released_one():
    prior, embedding, feature = (
        _random(1, 4, 4, 5).sigmoid(),
        _random(1, 7, 4, 5, seed=1),
        _random(1, 7, 4, 5, seed=2),
    )
    order = [0, 3, 1, 2]
    gathered = spatial_gather(prior, feature)
    torch.testing.assert_close(spatial_gather(prior[:, order], feature), gathered[:, :, order])
    torch.testing.assert_close(
        pixel_correlation(prior[:, order], embedding), pixel_correlation(prior, embedding)[:, order]
    )

    def change(key_order: str) -> float:
        refined = pixel_region_correlation(prior, gathered, embedding, key_order)[:, order]
        return relative_error(
            pixel_region_correlation(prior[:, order], gathered[:, :, order], embedding, key_order),
            refined.numpy(),
        )

    assert change("transposed") < 1e-6
    assert change("released") > 0.1  # its keys mix channels and classes


def test_correlations_change_no_input():
    tensors = [_random(1, 3, 4, 4).abs(), _random(1, 5, 3, 1, seed=1), _random(1, 5, 4, 4, seed=2)]
    before = [tensor.clone() for tensor in tensors]
    prior, keys, queries = tensors
    pixel_correlation(prior, queries)
    spatial_gather(prior, queries)
    pixel_region_correlation(prior, keys, queries)
    assert all(torch.equal(tensor, old) for tensor, old in zip(tensors, before, strict=True))


def test_correlations_stay_in_float32_under_autocast():
    prior, embedding = (
        _random(1, 3, 4, 4, dtype=torch.float32).abs(),
        _random(1, 5, 4, 4, dtype=torch.float32),
    )
    keys = _random(1, 5, 3, 1, dtype=torch.float32)

    def correlations():
        return (
            pixel_correlation(prior, embedding),
            pixel_region_correlation(prior, keys, embedding),
            spatial_gather(prior, embedding),
        )

    expected = correlations()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = correlations()
    assert all(torch.equal(one, two) for one, two in zip(ours, expected, strict=True))


# ============ the network as a whole ============
X = _random(2, 3, 48, 64, dtype=torch.float32)


@pytest.mark.parametrize("refinement", REFINEMENTS)
@torch.no_grad()
def test_refinement_is_the_sum_of_the_modules_it_names(small_net, refinement):
    net = copy.copy(small_net)
    net.refinement = refinement
    features = net.forward_features(X)
    cam, feature = net.cam(features["conv6"]), net.feature(X, features)
    prior, embedding = cam_prior(cam), net.f9(feature)
    keys = net.f10(spatial_gather(prior, feature)).relu()
    pcm, prcm = (
        pixel_correlation(prior, embedding),
        pixel_region_correlation(prior, keys, embedding.relu()),
    )
    expected = {"pcm+prcm": pcm + prcm, "pcm": pcm, "prcm": prcm, "none": cam}[refinement]
    ours_cam, ours = net.forward_low_resolution(X)
    torch.testing.assert_close(ours_cam, cam)
    torch.testing.assert_close(ours, expected)


@torch.no_grad()
def test_forward_is_the_low_resolution_pair_resized(small_net):
    low = small_net.forward_low_resolution(X)
    full = small_net(X)
    for one, two in zip(low, full, strict=True):
        assert one.shape == (2, 4, 3, 4)
        torch.testing.assert_close(
            two, F.interpolate(one, (48, 64), mode="bilinear", align_corners=True)
        )


@torch.no_grad()
def test_feature_is_the_small_image_and_two_activated_projections(small_net):
    features = small_net.forward_features(X)
    feature = small_net.feature(X, features)
    assert feature.shape == (2, 3 + 64 + 128, 3, 4)
    torch.testing.assert_close(
        feature[:, :3], F.interpolate(X, (3, 4), mode="bilinear", align_corners=True)
    )
    assert feature[:, 3:].min() == 0


def _reached(net, loss: torch.Tensor) -> set[str]:
    """The first part of the name of every parameter that loss trains."""
    named = [(name, p) for name, p in net.named_parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True)
    return {
        name.split(".")[0]
        for (name, _), g in zip(named, gradients, strict=True)
        if g is not None and g.any()
    }


def test_refined_cam_trains_the_refinement_alone_and_the_plain_cam_the_rest(small_net):
    cam, refined = small_net.forward_low_resolution(X)
    weight = torch.arange(cam[0].numel()).view(cam.shape[1:]) / cam[0].numel()
    assert _reached(small_net, (refined * weight).sum()) == {"f8_3", "f8_4", "f9", "f10"}
    assert _reached(small_net, (cam * weight).sum()) == {"model", "fc8"}


def test_refinement_without_prcm_leaves_its_keys_alone(small_net):
    net = copy.copy(small_net)
    net.refinement = "pcm"
    refined = net.forward_low_resolution(X)[1]
    weight = torch.arange(refined[0].numel()).view(refined.shape[1:]) / refined[0].numel()
    assert _reached(net, (refined * weight).sum()) == {"f8_3", "f8_4", "f9"}


def test_eval_is_deterministic_and_train_drops_channels(small_net):
    net = copy.deepcopy(small_net)
    with torch.no_grad():
        assert torch.equal(net.forward_cam(X), net.forward_cam(X))
        net.train()
        assert not torch.equal(net.forward_cam(X), net.forward_cam(X))


@pytest.mark.parametrize("num_classes", [1, 3, 60])
def test_class_count_is_an_argument(num_classes):
    net = build_cpn("resnet10t", num_classes=num_classes)
    cam, refined = net(X[:1, :, :16, :24])
    assert cam.shape == refined.shape == (1, num_classes + 1, 16, 24)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "num_classes must be at least 1, not 0"),
        ({"refinement": "pam"}, "refinement 'pam' is not in"),
        ({"prcm": "mixed"}, "or prcm 'mixed' not in"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        build_cpn(**arguments)


def test_resnet38_has_one_stride():
    with (
        torch.device("meta"),
        pytest.raises(InputError, match="--backbone resnet38 has output stride 8, not 16"),
    ):
        build_cpn(output_stride=16)


def test_a_timm_networks_embedding_starts_as_an_isometry_of_the_released_size():
    net = build_cpn("efficientnet_lite0", 3)
    weight = net.f9.weight.flatten(1)
    torch.testing.assert_close(weight @ weight.T, 16 * torch.eye(len(weight)), atol=1e-3, rtol=0)
