"""AffinityNet (Ahn, Kwak, CVPR 2018) as SEAM trains it: how alike two nearby cells are, on ResNet38
or a timm backbone.

Attribute names are those of the released checkpoints. Pairs and their order:
tool/expand/affinity.py.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from network.resnet38 import ResNet38
from network.timm_backbone import TimmBackbone
from tool.expand.affinity import fitting_radius, pair_offsets, shifted


def feature_affinity(features: Tensor, radius: int) -> Tensor:
    """exp(-mean |f_source - f_destination|) of every pair, (B, P, S) in the order of pair_offsets;
    features: (B, D, h, w).
    """
    sources = shifted(features, (0, 0), radius)
    pairs = [
        (sources - shifted(features, offset, radius)).abs().mean(dim=1).flatten(1)
        for offset in pair_offsets(radius)
    ]
    return (
        torch.exp(-torch.stack(pairs, dim=1))
        if pairs
        else sources.new_zeros(len(features), 0, sources[0, 0].numel())
    )


class AffinityHead:
    """Mix-in that gives a backbone class AffinityNet's feature layers: normalised RGB (B, 3, H, W)
    -> affinities (B, P, S).
    """

    def _init_head(self) -> None:
        channels4, channels5 = self.early_channels
        self.f8_3 = nn.Conv2d(channels4, 64, 1, bias=False)
        self.f8_4 = nn.Conv2d(channels5, 128, 1, bias=False)
        self.f8_5 = nn.Conv2d(self.out_channels, 256, 1, bias=False)
        self.f9 = nn.Conv2d(64 + 128 + 256, 448, 1, bias=False)
        for layer in (self.f8_3, self.f8_4, self.f8_5):
            nn.init.kaiming_normal_(layer.weight)
        nn.init.xavier_uniform_(self.f9.weight, gain=4)

    def new_modules(self) -> list[nn.Module]:
        """The layers without pretrained weights, which train at ten times the rate."""
        return [self.f8_3, self.f8_4, self.f8_5, self.f9]

    def forward(self, x: Tensor, radius: int = 5) -> Tensor:
        """Affinity of every pair, in 0..1; the radius shrinks on small maps
        (tool.expand.affinity.fitting_radius).

        For inference, pad x at the right and bottom with 0 to a multiple of the stride, as
        released.
        """
        features = self.pair_features(
            x
        ).float()  # half precision would round the small differences away
        return feature_affinity(features, fitting_radius(features.shape[2:], radius))

    def pair_features(self, x: Tensor) -> Tensor:
        """The features (B, 448, h, w) whose differences make the affinity; gradients reach the
        backbone.

        A backbone whose earlier maps have another size than its deepest has them resized to it
        (ResNet38's all agree).
        """
        maps = self.forward_features(x)
        size = maps["conv6"].shape[2:]
        early = [F.elu(self.f8_3(maps["conv4"])), F.elu(self.f8_4(maps["conv5"]))]
        early = [
            e
            if e.shape[2:] == size
            else F.interpolate(e, size, mode="bilinear", align_corners=True)
            for e in early
        ]
        return F.elu(self.f9(torch.cat([*early, F.elu(self.f8_5(maps["conv6"]))], dim=1)))


class AffinityNet(AffinityHead, ResNet38):
    """AffinityNet on ResNet38, parameter for parameter the released network."""

    def __init__(self) -> None:
        ResNet38.__init__(self)
        self._init_head()


class AffinityNetTimm(AffinityHead, TimmBackbone):
    """AffinityNet on a timm backbone."""

    def __init__(self, name: str, output_stride: int = 8, pretrained: bool = False) -> None:
        TimmBackbone.__init__(self, name, output_stride=output_stride, pretrained=pretrained)
        self._init_head()


def build_affinity_net(
    backbone: str = "resnet38", *, output_stride: int = 8, pretrained: bool = False
) -> AffinityNet | AffinityNetTimm:
    """AffinityNet on "resnet38" (stride 8, weights from a file) or on a timm model at the given
    output stride.
    """
    if backbone == "resnet38":
        return AffinityNet()
    return AffinityNetTimm(backbone, output_stride, pretrained)
