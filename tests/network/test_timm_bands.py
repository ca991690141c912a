"""Mobile blocks in bands give what they give whole, and blocks that cannot are left alone."""

import copy

import pytest
import timm
import torch

from network import bands
from network.packaged import PACKAGED
from network.timm_bands import band_plan, compute_in_bands


def model(name: str) -> torch.nn.Module:
    """A timm model of random weights and uneven batch norms."""
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=0).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    return net.double()


@pytest.mark.parametrize("height", [96, 97, 130])
@pytest.mark.parametrize(
    "name", [PACKAGED["efficientnet_lite0"].timm_name, "mobilenetv2_050", "tf_efficientnet_es"]
)
def test_bands_give_the_whole_map(monkeypatch, name, height):
    """TensorFlow's padding, symmetric padding and fused blocks, at even and odd heights."""
    net = model(name)
    x = torch.randn(1, 3, height, 40, dtype=torch.float64)
    with torch.inference_mode():
        whole = net.forward_features(x)
        assert compute_in_bands(net) > 5
        seen = []
        monkeypatch.setattr(
            "network.timm_bands.in_bands",
            lambda function, x, *plan: seen.append(x) or bands.in_bands(function, x, *plan),
        )
        monkeypatch.setattr(bands, "BAND_ELEMENTS", 1)
        for banded in (net, copy.deepcopy(net)):
            torch.testing.assert_close(banded.forward_features(x), whole, rtol=0, atol=1e-10)
    assert len(seen) > 10


def test_bands_of_a_single_row_too_few_would_show(monkeypatch):
    """The comparison above can fail: with no halo the bands' borders are wrong."""
    net = model("mobilenetv2_050")
    x = torch.randn(1, 3, 96, 40, dtype=torch.float64)
    with torch.inference_mode():
        whole = net.forward_features(x)
        compute_in_bands(net)
        monkeypatch.setattr(
            "network.timm_bands.in_bands",
            lambda function, x, _halo, *plan: bands.in_bands(function, x, 0, *plan),
        )
        monkeypatch.setattr(bands, "BAND_ELEMENTS", 1)
        assert not torch.allclose(net.forward_features(x), whole, rtol=0, atol=1e-6)


def test_squeeze_and_excitation_stays_whole():
    net = timm.create_model("efficientnet_b0", num_classes=0)
    assert all(band_plan(block) is None for stage in net.blocks for block in stage)
    assert compute_in_bands(net) == 1  # the stem


def test_training_is_not_touched(monkeypatch):
    net = model("mobilenetv2_050")
    compute_in_bands(net)
    monkeypatch.setattr("network.timm_bands.in_bands", lambda *_: pytest.fail("bands in training"))
    net.forward_features(torch.randn(1, 3, 64, 64, dtype=torch.float64)).sum().backward()
