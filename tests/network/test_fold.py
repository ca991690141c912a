"""Folding frozen batch norm: the same outputs and gradients, the same names, and what must not be
folded is not.
"""

import copy

import pytest
import timm
import torch
from timm.layers import BatchNormAct2d, Conv2dSame
from torch import nn

from network.fold import conv_norm, fold_frozen_norms
from network.resnet38 import freeze_batch_norm
from network.timm_backbone import TimmBackbone


def _randomise(module: nn.Module) -> None:
    """Statistics and affine parameters that are not those of a fresh batch norm."""
    generator = torch.Generator().manual_seed(1)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.3, generator=generator)
            norm.running_var.uniform_(0.5, 2, generator=generator)
            if norm.affine:
                norm.weight.data.uniform_(0.5, 1.5, generator=generator)
                norm.bias.data.normal_(0, 0.3, generator=generator)


def _fold_by(module: nn.Module, x: torch.Tensor) -> int:
    return fold_frozen_norms(module, lambda: [module(x)])


def _frozen(module: nn.Module) -> nn.Module:
    freeze_batch_norm(module)
    _randomise(module)
    return module


@pytest.mark.parametrize("same", [False, True], ids=["padded", "same"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_one_convolution_is_both_layers(same, bias, affine):
    torch.manual_seed(0)
    conv = (Conv2dSame if same else nn.Conv2d)(
        4, 6, 3, stride=2, padding=1, dilation=2, groups=2, bias=bias
    ).double()
    norm = _frozen(nn.BatchNorm2d(6, affine=affine).double())
    x = torch.randn(2, 4, 11, 13, dtype=torch.float64)
    torch.testing.assert_close(conv_norm(x, conv, norm), norm(conv(x)))


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet10t"])
def test_folded_network_has_the_outputs_gradients_and_names_of_the_plain_one(name):
    torch.manual_seed(0)
    net = TimmBackbone(name)
    plain = timm.create_model(
        {"efficientnet_lite0": "tf_efficientnet_lite0"}.get(name, name),
        num_classes=0,
        output_stride=16,
    )
    _randomise(net)
    net, plain = net.double(), _frozen(plain.eval()).double()
    assert list(net.model.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(net.model.state_dict())
    x = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    ours, theirs = net.model.forward_intermediates(x), plain.forward_intermediates(x)
    torch.testing.assert_close(ours, theirs)
    for last, _ in (ours, theirs):
        last.square().mean().backward()
    gradients = {key: p.grad for key, p in net.model.named_parameters() if p.requires_grad}
    assert gradients
    torch.testing.assert_close(
        gradients, {key: p.grad for key, p in plain.named_parameters() if key in gradients}
    )


def test_every_norm_of_efficientnet_and_resnet_is_folded():
    for name in ("efficientnet_lite0", "resnet10t"):
        norms = [m for m in TimmBackbone(name).modules() if isinstance(m, nn.BatchNorm2d)]
        assert all("forward" in vars(norm) for norm in norms)


def test_a_copy_is_folded_with_its_own_statistics():
    net = _frozen(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    x = torch.randn(1, 3, 8, 8)
    assert _fold_by(net, x) == 1
    before, twin = net(x), copy.deepcopy(net)
    twin[1].running_mean += 1
    torch.testing.assert_close(net(x), before)
    assert (twin(x) != before).all()


class _Shared(nn.Module):
    """A convolution whose output goes to a batch norm and somewhere else as well, by `way`."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.conv, self.norm, self.other = (
            way,
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.BatchNorm2d(4),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        y = self.conv(x)
        if self.way == "shortcut":
            return y + self.norm(y)
        if self.way == "in place":
            y += 1
            return self.norm(y)
        if self.way == "two norms":
            return self.norm(y) + self.other(y)
        if self.way == "conv twice":
            return self.norm(y) + self.conv(x)
        return self.norm(self.norm(y))  # norm twice


@pytest.mark.parametrize("way", ["shortcut", "in place", "two norms", "conv twice", "norm twice"])
def test_a_convolution_that_others_read_is_left_alone(way):
    net, x = _frozen(_Shared(way)), torch.randn(1, 3, 8, 8)
    before = net(x)
    assert _fold_by(net, x) == 0
    assert torch.equal(net(x), before)


def test_a_returned_convolution_is_left_alone():
    net = _frozen(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))

    def run() -> list[torch.Tensor]:
        y = net[0](torch.zeros(1, 3, 8, 8))
        return [y, net[1](y)]

    assert fold_frozen_norms(net, run) == 0


def test_a_norm_that_trains_or_is_another_class_is_left_alone():
    class Other(nn.BatchNorm2d):
        pass

    for norm in (nn.BatchNorm2d(4), Other(4).eval()):
        assert _fold_by(nn.Sequential(nn.Conv2d(3, 4, 3), norm), torch.randn(2, 3, 8, 8)) == 0


def test_the_activation_after_the_norm_stays():
    net, x = _frozen(nn.Sequential(nn.Conv2d(3, 4, 3), BatchNormAct2d(4))), torch.randn(1, 3, 8, 8)
    before = net(x)
    assert _fold_by(net, x) == 1
    torch.testing.assert_close(net(x), before)
    assert before.min() == 0
