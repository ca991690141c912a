"""Refinement by another affinity: attention, and the features of another network."""

import copy

import pytest
import timm
import torch

from network.build import build_cpn
from network.cpn import pixel_correlation
from network.refiner import RefinedBy, Refiner, build_refiner, spread_by_attention, trains_embedding
from network.timm_backbone import TimmBackbone
from network.weights import save_network
from tests.conftest import PETS
from tool.cam import cam_prior
from tool.errors import InputError
from tool.file.checkpoint import save_torch

CONFIG = {"backbone": "resnet10t", "num_classes": 3, "method": "cpn"}


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return TimmBackbone("resnet10t", output_stride=8).eval()


def test_spread_is_that_of_loops():
    generator = torch.Generator().manual_seed(0)
    prior = torch.rand(2, 3, 2, 2, generator=generator)
    attention = torch.rand(2, 4, 4, generator=generator).softmax(dim=2)
    expected = torch.zeros(2, 3, 4)
    for image in range(2):
        for label in range(3):
            for pixel in range(4):
                for other in range(4):
                    weight = attention[image, pixel, other]
                    expected[image, label, pixel] += weight * prior[image, label].flatten()[other]
    torch.testing.assert_close(spread_by_attention(prior, attention).flatten(2), expected)


@torch.no_grad()
def test_attention_refines_at_the_grid_of_patches():
    torch.manual_seed(0)
    net = build_cpn("vit_tiny_patch16_224", num_classes=3).eval()
    x = torch.randn(1, 3, 50, 70)
    cam, refined = RefinedBy(net, Refiner(net, "attention", [-1])).forward_low_resolution(x)
    assert cam.shape == refined.shape == (1, 4, 3, 4)
    # a mean over pixels stays within the prior's range, pixel by pixel and class by class
    prior = cam_prior(cam).flatten(2)
    assert (refined.flatten(2) <= prior.max(dim=2, keepdim=True).values + 1e-5).all()
    assert (refined.flatten(2) >= prior.min(dim=2, keepdim=True).values - 1e-5).all()


@torch.no_grad()
def test_another_networks_features_refine_at_its_own_stride(small_net, backbone):
    x = torch.randn(1, 3, 64, 96)
    cam, refined = RefinedBy(small_net, Refiner(backbone)).forward_low_resolution(x)
    assert (cam.shape[2:], refined.shape[2:]) == ((4, 6), (8, 12))
    maps = backbone.forward_features(x)
    prior = torch.nn.functional.interpolate(
        cam_prior(cam), (8, 12), mode="bilinear", align_corners=True
    )
    embedding = torch.cat([maps["conv4"], maps["conv5"]], dim=1)
    early, deep = Refiner(backbone).early_and_deep(x)
    torch.testing.assert_close(early, embedding, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(deep, maps["conv6"])
    torch.testing.assert_close(refined, pixel_correlation(prior, embedding), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_image_reaches_the_refiner_in_its_own_normalisation(small_net, backbone):
    other = copy.deepcopy(backbone)
    rgb = torch.rand(1, 3, 64, 64)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (small_net.mean, small_net.std))
    refiner = Refiner(other)
    refiner.mean, refiner.std = (0.5, 0.4, 0.3), (0.1, 0.2, 0.3)
    seen = []
    other.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    both = RefinedBy(small_net, refiner)
    expected = (rgb - torch.tensor(refiner.mean).view(1, 3, 1, 1)) / torch.tensor(refiner.std).view(
        1, 3, 1, 1
    )
    torch.testing.assert_close(both._for_refiner((rgb - mean) / std), expected)


@torch.no_grad()
def test_trained_embedding_is_pcms(small_net):
    """A network refined by itself along its trained embedding: PCM."""
    net = copy.deepcopy(small_net)
    net.refinement = "pcm"
    x = torch.randn(1, 3, 64, 64)
    _, expected = net.forward_low_resolution(x)
    _, refined = RefinedBy(net, Refiner(net, raw=False)).forward_low_resolution(x)
    torch.testing.assert_close(refined, expected)


@torch.no_grad()
def test_weights_of_a_refiner(small_net, backbone, tmp_path):
    x, prior = torch.randn(1, 3, 64, 64), torch.rand(1, 4, 4, 4)
    save_torch(tmp_path / "timm.pth", backbone.model.state_dict())
    refiner = build_refiner("resnet10t:8", tmp_path / "timm.pth")
    assert refiner.raw
    torch.testing.assert_close(refiner(x, prior), Refiner(backbone)(x, prior))

    save_network(tmp_path / "cpn.pth", small_net, CONFIG, PETS, {})
    refiner = build_refiner("resnet10t", tmp_path / "cpn.pth")
    assert not refiner.raw
    torch.testing.assert_close(refiner(x, prior), Refiner(small_net, raw=False)(x, prior))
    save_network(tmp_path / "cam.pth", small_net, CONFIG | {"method": "cam"}, PETS, {})
    assert build_refiner("resnet10t", tmp_path / "cam.pth").raw


@pytest.mark.parametrize(
    ("config", "trains"),
    [
        ({"method": "cam", "refinement": "pcm+prcm"}, False),
        ({"method": "cpn"}, True),  # the authors' file
        ({"method": "cpn", "refinement": "prcm"}, False),
        ({"method": "seam", "refinement": "pcm"}, True),
    ],
)
def test_which_networks_have_learned_an_embedding(config, trains):
    assert trains_embedding(config) == trains


@pytest.mark.parametrize(
    ("name", "file", "message"),
    [
        ("resnet18", "cpn.pth", "are of resnet10t, not of --refiner resnet18"),
        ("resnet10t:8", "cpn.pth", "were trained at stride 16, not at 8"),
        ("resnet10t:x", None, "expected NAME or NAME:STRIDE"),
        ("resnet38", None, "--refiner resnet38 needs --refiner_weights: "),
    ],
)
def test_refiners_that_do_not_fit_are_named(small_net, tmp_path, name, file, message):
    save_network(tmp_path / "cpn.pth", small_net, CONFIG, PETS, {})
    with pytest.raises(InputError, match=message):
        build_refiner(name, file and tmp_path / file)


def test_weights_of_two_networks_are_refused(tmp_path):
    state = timm.create_model("resnet10t", num_classes=0).state_dict()
    flat = {f"{one}.{name}": state[name] + i for i, one in enumerate("ab") for name in state}
    save_torch(tmp_path / "a.pth", flat)
    with pytest.raises(InputError) as error:
        build_refiner("resnet10t", tmp_path / "a.pth")
    assert str(error.value) == (
        f"--refiner_weights {tmp_path / 'a.pth'} has several networks, such as a and b; give a "
        "file of one"
    )
