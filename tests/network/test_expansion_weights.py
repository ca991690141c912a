"""Weight files of IRN and AffinityNet: own ones, released ones, and those of another network."""

import pytest
import torch

from network.aff import build_affinity_net
from network.expansion_weights import build_irn, load_affinity_net, load_irn
from network.irn import IRN
from network.weights import load_network, save_network
from tool.errors import InputError
from tool.file.checkpoint import save_torch


@pytest.fixture(scope="module")
def irn():
    torch.manual_seed(0)
    return IRN("resnet10t").eval()


def _same(net, other):
    own, theirs = net.state_dict(), other.state_dict()
    assert own.keys() == theirs.keys()
    assert all(torch.equal(own[name], theirs[name]) for name in own)


def test_own_irn_file(irn, tmp_path):
    config = {"method": "irn", "backbone": "resnet10t", "crop_size": 80}
    save_network(tmp_path / "irn.pth", irn, config, ("cat",), {})
    net, found = load_irn(tmp_path / "irn.pth")
    assert found == config
    assert not net.training
    _same(net, irn)


def test_released_irn_file(tmp_path):
    """The plain state dict of a ResNet50, with one of its aliases and one of its buffers."""
    torch.manual_seed(0)
    expected = IRN()
    state = {
        name.replace("backbone.", "resnet50.", 1): value
        for name, value in expected.state_dict().items()
    }
    state |= {
        "stage5.0.0.conv1.weight": torch.zeros(1),
        "path_indices_0": torch.zeros(3, dtype=torch.int64),
    }
    save_torch(
        tmp_path / "res50_irn.pth", {f"module.{name}": value for name, value in state.items()}
    )
    net, config = load_irn(tmp_path / "res50_irn.pth")
    assert config == {"method": "irn", "backbone": "resnet50", "crop_size": 512}
    _same(net, expected)


def test_own_and_plain_affinity_net_file(tmp_path):
    torch.manual_seed(0)
    expected = build_affinity_net("resnet10t")
    save_network(
        tmp_path / "own.pth",
        expected,
        {"method": "aff", "backbone": "resnet10t", "preset": "psa"},
        ("cat",),
        {},
    )
    net, config = load_affinity_net(tmp_path / "own.pth")
    assert config["preset"] == "psa"
    assert not net.training
    _same(net, expected)
    save_torch(tmp_path / "plain.pth", expected.state_dict())
    with pytest.raises(
        InputError,
        match=r"weights .*plain\.pth lack \d+ tensors of this network, first conv1a\.weight",
    ):
        load_affinity_net(tmp_path / "plain.pth")  # taken for the released ResNet38


def test_missing_tensor_is_named_with_the_file(irn, tmp_path):
    state = {name: value for name, value in irn.state_dict().items() if name != "fc_dp6.0.weight"}
    save_torch(
        tmp_path / "a.pth",
        {"state_dict": state, "config": {"method": "irn", "backbone": "resnet10t"}, "classes": []},
    )
    with pytest.raises(
        InputError, match=r"a\.pth: IRN weights do not fit: fc_dp6\.0\.weight has no such tensor"
    ):
        load_irn(tmp_path / "a.pth")


def test_weights_of_the_expansion_make_no_cam(irn, tmp_path):
    save_network(
        tmp_path / "irn.pth", irn, {"method": "irn", "backbone": "resnet10t"}, ("cat",), {}
    )
    with pytest.raises(
        InputError, match=r"irn\.pth are of IRN, which makes no CAM; give weights of train_cpn\.py"
    ):
        load_network(tmp_path / "irn.pth")
    with pytest.raises(
        InputError, match=r"irn\.pth are not of AffinityNet; give weights of train_aff\.py"
    ):
        load_affinity_net(tmp_path / "irn.pth")


@pytest.mark.parametrize("backbone", ["resnet50", "resnet10t"])
def test_backbone_from_a_file(backbone, tmp_path):
    """A file as torchvision or timm saves it, with the classifier that IRN does not have."""
    torch.manual_seed(0)
    donor = IRN(backbone).backbone
    state = (donor if backbone == "resnet50" else donor.model).state_dict() | {
        "fc.weight": torch.zeros(1000, 8)
    }
    save_torch(tmp_path / "backbone.pth", state)
    torch.manual_seed(1)
    _same(build_irn(backbone, tmp_path / "backbone.pth").backbone, donor)
    save_torch(tmp_path / "other.pth", {"fc.weight": torch.zeros(1000, 8)})
    with pytest.raises(
        InputError, match=r"weights .*other\.pth lack \d+ tensors of this network, first .*conv1"
    ):
        build_irn(backbone, tmp_path / "other.pth")
