"""AffinityNet against the released code's arrays, its checkpoint names, and loops."""

import json
import math

import numpy as np
import pytest
import torch

from network.aff import AffinityNetTimm, build_affinity_net, feature_affinity
from tests.pairs import pair_indices
from tests.reference import PARITY, formula_tensor, load_arrays, relative_error
from tool.expand.affinity import pair_labels, pair_offsets
from tool.expand.expansion_losses import affinity_net_loss
from tool.expand.walk import pool_scores

KEYS = json.loads((PARITY / "stages" / "aff_state_dict_keys.json").read_text())


@pytest.fixture(scope="module")
def net():
    state = {name: formula_tensor(name, shape) for name, shape, _ in KEYS}
    # its rule is that of the other new layers, n * sqrt(1 / fan_in)
    state["f8_5.weight"] *= math.sqrt(0.5)
    net = build_affinity_net()
    net.load_state_dict(state)
    return net.eval()


@pytest.fixture(scope="module")
def arrays():
    return load_arrays("stages/aff_net")


def test_names_are_the_released_ones(net):
    assert {name: list(value.shape) for name, value in net.state_dict().items()} == {
        name: shape for name, shape, _ in KEYS
    }
    assert sum(p.numel() for p in net.parameters()) == 106_484_032


@torch.no_grad()
def test_features_and_affinity_match_the_released_ones(net, arrays):
    image = torch.nn.functional.pad(torch.from_numpy(arrays["image"]), (0, 3, 0, 6))
    np.testing.assert_array_equal(image.shape, arrays["image_padded_shape"])
    features = net.pair_features(image)
    np.testing.assert_array_equal(features.shape, arrays["feature_shape"])
    assert relative_error(features.mean(dim=(0, 2, 3)), arrays["feature_mean"]) < 1e-4
    assert relative_error(feature_affinity(features, 5)[0], arrays["affinity"]) < 1e-4
    assert pool_scores(image[0]).shape[1:] == features.shape[2:]


@torch.no_grad()
def test_affinity_at_a_smaller_radius_matches_the_released_one(net, arrays):
    assert (
        relative_error(net(torch.from_numpy(arrays["small_image"]))[0], arrays["small_affinity"])
        < 1e-4
    )


def test_feature_affinity_matches_loops():
    features = torch.randn(
        2, 6, 7, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    ours = feature_affinity(features, 3)
    source, destination = pair_indices(pair_offsets(3), 3, (7, 9))
    flat = features.flatten(2)
    for image in range(2):
        for p, s in np.ndindex(*destination.shape):
            difference = flat[image, :, source[s]] - flat[image, :, destination[p, s]]
            assert ours[image, p, s].item() == pytest.approx(
                math.exp(-difference.abs().sum().item() / 6), rel=1e-12
            )


def test_feature_affinity_gradient():
    features = torch.randn(
        1,
        3,
        4,
        6,
        dtype=torch.float64,
        generator=torch.Generator().manual_seed(0),
        requires_grad=True,
    )
    assert torch.autograd.gradcheck(lambda f: feature_affinity(f, 2), (features,))


def test_map_of_two_cells_has_no_pairs():
    assert feature_affinity(torch.randn(1, 4, 2, 2), radius=1).shape == (1, 0, 4)


def test_timm_net_trains_all_that_is_not_frozen():
    torch.manual_seed(0)
    net = AffinityNetTimm("resnet10t", output_stride=8).train()
    x = torch.randn(2, 3, 88, 96)
    affinity = net(x)
    assert affinity.shape == (2, 34, 7 * 4)
    assert 0 < affinity.min() <= affinity.max() <= 1
    label = torch.from_numpy(
        np.random.default_rng(0).integers(0, 3, size=(2, 11, 12)).astype(np.uint8)
    )
    affinity_net_loss(affinity, pair_labels(label, pair_offsets(5), 5))["loss"].backward()
    for name, parameter in net.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    assert all(layer.weight.grad.abs().sum() > 0 for layer in net.new_modules())
