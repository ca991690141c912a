"""ResNet38 against the released features, and what must not move while it trains."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from network.resnet38 import ResBlock, ResBlockBottleneck, ResNet38, freeze_batch_norm
from tests.reference import load_arrays, relative_error

FROZEN = ("conv1a.", "b2.", "b2_1.", "b2_2.")
FLOP_AT_448 = 798_114_709_504


@pytest.fixture(scope="module")
def features(released_net):
    """(arrays, the three feature maps of the reference image)."""
    arrays = load_arrays("forward")
    with torch.no_grad():
        return arrays, released_net.forward_features(torch.from_numpy(arrays["x"]))


# ============ the released arrays ============
@pytest.mark.parametrize("name", ["conv4", "conv5"])
def test_early_features_match_the_released_ones(features, name):
    arrays, maps = features
    assert relative_error(maps[name][:, :32], arrays[name]) < 1e-4
    assert relative_error(maps[name].mean(dim=(0, 2, 3)), arrays[f"{name}_channel_mean"]) < 1e-4


def test_conv6_matches_the_released_one(features):
    arrays, maps = features
    conv6 = maps["conv6"]
    assert list(conv6.shape) == arrays["conv6_shape"].tolist()
    assert relative_error(conv6[:, :16, :4, :4], arrays["conv6_corner"]) < 1e-4
    assert relative_error(conv6.mean(dim=(0, 2, 3)), arrays["conv6_channel_mean"]) < 1e-4
    assert relative_error(conv6.mean(), arrays["conv6_mean"]) < 1e-4
    assert relative_error(conv6.std(), arrays["conv6_std"]) < 1e-4


# ============ sizes ============
@pytest.mark.parametrize(
    ("side", "cells"), [((8, 16), (1, 2)), ((33, 47), (5, 6)), ((1, 9), (1, 2))]
)
def test_features_have_stride_8_and_round_up(side, cells):
    with torch.device("meta"):
        net = ResNet38()
        maps = net.forward_features(torch.empty(2, 3, *side))
    assert {name: tuple(value.shape) for name, value in maps.items()} == {
        "conv4": (2, 512, *cells),
        "conv5": (2, 1024, *cells),
        "conv6": (2, 4096, *cells),
    }
    assert net.early_channels == (512, 1024)
    assert net.out_channels == 4096


# ============ blocks ============
def _norm(x: torch.Tensor, norm: nn.BatchNorm2d) -> torch.Tensor:
    shape = (1, -1, 1, 1)
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return ((x - norm.running_mean.view(shape)) * scale.view(shape) + norm.bias.view(shape)).clamp(
        min=0
    )


def _randomise(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            value.normal_(generator=generator)
            if "var" in name:
                value.abs_().add_(0.5)
    return module.double().eval()


@pytest.mark.parametrize(
    ("block", "strides"),
    [
        (ResBlock(4, 6, 6, stride=2), (2, 1, 1)),
        (ResBlock(6, 6, 6), (1, 1, 1)),
        (ResBlock(6, 4, 6, dilation=2), (1, 2, 2)),
        (ResBlock(4, 5, 6, dilation=2), (1, 1, 2)),
    ],
    ids=["stride", "same", "dilated", "dilated entrance: first convolution not dilated"],
)
@torch.no_grad()
def test_block_is_two_preactivated_convolutions_and_a_shortcut(block, strides):
    block = _randomise(block)
    stride, first, second = strides
    x = torch.randn(
        2,
        block.bn_branch2a.num_features,
        8,
        10,
        dtype=torch.float64,
        generator=torch.Generator().manual_seed(1),
    )
    y, activation = block(x, return_activation=True)
    torch.testing.assert_close(activation, _norm(x, block.bn_branch2a))
    main = F.conv2d(
        activation, block.conv_branch2a.weight, stride=stride, padding=first, dilation=first
    )
    main = F.conv2d(
        _norm(main, block.bn_branch2b1),
        block.conv_branch2b1.weight,
        padding=second,
        dilation=second,
    )
    same = block.bn_branch2a.num_features == block.conv_branch2b1.out_channels and stride == 1
    shortcut = x if same else F.conv2d(activation, block.conv_branch1.weight, stride=stride)
    torch.testing.assert_close(y, shortcut + main)
    assert torch.equal(block(x), y)


@torch.no_grad()
def test_bottleneck_is_three_preactivated_convolutions_and_a_projection():
    block = _randomise(ResBlockBottleneck(8, 16, dilation=4, dropout=0.5))
    x = torch.randn(2, 8, 9, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y, activation = block(x, return_activation=True)
    main = F.conv2d(activation, block.conv_branch2a.weight)
    main = F.conv2d(
        _norm(main, block.bn_branch2b1), block.conv_branch2b1.weight, padding=4, dilation=4
    )
    main = F.conv2d(_norm(main, block.bn_branch2b2), block.conv_branch2b2.weight)
    torch.testing.assert_close(y, F.conv2d(activation, block.conv_branch1.weight) + main)


# ============ work ============
def test_work_of_a_forward_pass_at_448(meta_net):
    """The operations that the benchmarks count against a GPU's peak: two for each multiply-add of
    the convolutions.
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        meta_net.eval().forward_features(torch.zeros(1, 3, 448, 448, device="meta"))
    assert counter.get_total_flops() == FLOP_AT_448


def test_checkpointing_changes_neither_outputs_nor_gradients():
    class Small(ResNet38):
        def __init__(self) -> None:  # blocks of the same kinds, a hundredth of the width
            nn.Module.__init__(self)
            self.conv1a = nn.Conv2d(3, 4, 3, padding=1)
            self.b2, self.b2_1, self.b2_2 = (
                ResBlock(4, 4, 4, stride=2),
                ResBlock(4, 4, 4),
                ResBlock(4, 4, 4),
            )
            self.b3, self.b3_1, self.b3_2 = (
                ResBlock(4, 4, 4, stride=2),
                ResBlock(4, 4, 4),
                ResBlock(4, 4, 4),
            )
            self.b4 = ResBlock(4, 8, 8, stride=2)
            for name in ("b4_1", "b4_2", "b4_3", "b4_4", "b4_5"):
                self.add_module(name, ResBlock(8, 8, 8))
            self.b5, self.b5_1, self.b5_2 = (ResBlock(c, 8, 16, dilation=2) for c in (8, 16, 16))
            self.b6 = ResBlockBottleneck(16, 32, dilation=4, dropout=0.3)
            self.b7 = ResBlockBottleneck(32, 64, dilation=4, dropout=0.5)
            self.bn7 = nn.BatchNorm2d(64)

    net, x, results = Small().train(), torch.randn(2, 3, 48, 40), []
    for net.checkpointing in (False, True):
        net.zero_grad()
        torch.manual_seed(0)
        features = net.forward_features(x)
        sum(f.square().mean() for f in features.values()).backward()
        results.append(
            (features, {name: p.grad for name, p in net.named_parameters() if p.grad is not None})
        )
    assert "b7.conv_branch1.weight" in results[0][1]
    torch.testing.assert_close(results[1], results[0])


# ============ frozen layers ============
@pytest.fixture(scope="module")
def meta_net():
    with torch.device("meta"):
        return ResNet38()


def test_train_leaves_batch_norm_in_eval_mode_and_returns_the_net(meta_net):
    assert meta_net.train() is meta_net
    norms = [m for m in meta_net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)
    assert all(m.training for m in meta_net.modules() if isinstance(m, (nn.Dropout2d, nn.Conv2d)))
    assert not any(m.training for m in meta_net.eval().modules())


def test_stem_and_batch_norm_are_frozen_and_nothing_else(meta_net):
    frozen = {name for name, p in meta_net.named_parameters() if not p.requires_grad}
    assert frozen == {
        name for name, _ in meta_net.named_parameters() if name.startswith(FROZEN) or "bn" in name
    }


def test_pretrained_modules_are_all_of_the_backbone_and_none_of_a_subclass():
    class WithHead(ResNet38):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Conv2d(4096, 2, 1)

    with torch.device("meta"):
        net = WithHead()
    own = {id(m) for m in net.pretrained_modules()}
    assert own == {id(m) for m in net.modules()} - {id(net), id(net.head)}


def test_freeze_batch_norm_reaches_every_kind_and_depth():
    net = nn.Sequential(
        nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm3d(2)), nn.GroupNorm(1, 2), nn.Linear(2, 2)
    )
    freeze_batch_norm(net)
    assert [p.requires_grad for p in net[0].parameters()] == [False] * 4
    assert not net[0][0].training
    assert all(p.requires_grad for p in net[1:].parameters())
