"""IRN (Ahn, Cho, Kwak, CVPR 2019): a boundary map and a displacement field on a frozen backbone.

Attribute names are those of the released checkpoint, which stores each tensor under up to four
names; here each has one, and the ResNet50's are below `backbone`. `load_irn_weights` reads both.
Outputs are at stride 4 (h = ceil(H / 4)).
"""

from collections.abc import Iterable

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from network.resnet38 import IMAGENET_MEAN, IMAGENET_STD
from network.timm_backbone import TimmBackbone
from tool.errors import InputError
from tool.file.state_dict import values_fault

STRIDES = (4, 4, 8, 16, 16)  # of the five feature levels
STRIDE = 4  # of the outputs


class ResNet50Levels(nn.Module):
    """torchvision's ResNet50 with stride 1 and no dilation in its last stage: (B, 3, H, W) -> five
    maps at STRIDES.
    """

    mean, std = IMAGENET_MEAN, IMAGENET_STD
    channels = (64, 256, 512, 1024, 2048)

    def __init__(self, pretrained: bool = False) -> None:
        super().__init__()
        weights = torchvision.models.ResNet50_Weights.IMAGENET1K_V1 if pretrained else None
        net = torchvision.models.resnet50(weights=weights)
        net.layer4[0].conv2.stride = net.layer4[0].downsample[0].stride = (1, 1)
        for name, child in net.named_children():
            if name not in ("avgpool", "fc"):
                self.add_module(name, child)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The stem after its pooling and the four stages."""
        levels = [self.maxpool(self.relu(self.bn1(self.conv1(x))))]
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            levels.append(stage(levels[-1]))
        return levels


class TimmLevels(TimmBackbone):
    """A timm model with features at strides 2, 4, 8, 16 and 32: (B, 3, H, W) -> five maps at
    STRIDES.

    The first level is max-pooled as in ResNet's stem. Unlike in ResNet50Levels, the last stage is
    dilated instead of merely not strided; where it cannot dilate, its map is resized from stride 32
    to 16. Raises InputError for a model with other levels.
    """

    def __init__(self, name: str, pretrained: bool = False) -> None:
        super().__init__(name, pretrained=pretrained)
        info = [(level["num_chs"], level["reduction"]) for level in self.model.feature_info]
        self.channels, strides = zip(*info, strict=True)
        wanted = (2, *STRIDES[1:])
        if strides not in (wanted, (*wanted[:-1], 32)):
            raise InputError(
                f"--backbone {name} has features at strides {strides}, IRN needs {wanted}; choose "
                "resnet50"
            )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Five maps at STRIDES."""
        first, *others, last = self.levels(x, list(range(len(STRIDES))))
        if last.shape[2:] != others[-1].shape[2:]:
            last = F.interpolate(last, others[-1].shape[2:], mode="bilinear", align_corners=False)
        return [F.max_pool2d(first, 3, stride=2, padding=1), *others, last]


class MeanShift(nn.Module):
    """Subtracts the training set's mean displacement, in eval mode only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, h, w) minus the stored mean; x itself in training mode."""
        return x if self.training else x - self.running_mean.view(1, -1, 1, 1)


def _layer(in_channels: int, out_channels: int, groups: int, scale: int = 1) -> nn.Sequential:
    """1x1 convolution, group norm, upsampling, ReLU; the indices of the first two are those of the
    checkpoint.
    """
    upsample = (
        [nn.Upsample(scale_factor=scale, mode="bilinear", align_corners=False)] if scale > 1 else []
    )
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        nn.GroupNorm(groups, out_channels),
        *upsample,
        nn.ReLU(inplace=True),
    )


def _crop_like(x: Tensor, like: Tensor) -> Tensor:
    """x cut at the right and bottom to the size of `like`: upsampling a map of odd size
    overshoots.
    """
    return x[..., : like.shape[-2], : like.shape[-1]]


class IRN(nn.Module):
    """Normalised RGB (B, 3, H, W) -> boundary logits (B, 1, h, w) and displacement (B, 2, h, w), dy
    first, in cells.

    backbone:   "resnet50" (as released), "efficientnet_lite0", or a timm model with features at
                strides 2, 4, 8, 16, 32
    pretrained: ImageNet weights for the backbone
    The backbone is frozen: eval mode always, no gradient.
    """

    def __init__(self, backbone: str = "resnet50", pretrained: bool = False) -> None:
        super().__init__()
        self.backbone = (
            ResNet50Levels(pretrained)
            if backbone == "resnet50"
            else TimmLevels(backbone, pretrained)
        )
        self.backbone.requires_grad_(False)
        self.mean, self.std = self.backbone.mean, self.backbone.std
        c1, c2, c3, c4, c5 = self.backbone.channels

        self.fc_edge1 = _layer(c1, 32, groups=4)
        self.fc_edge2 = _layer(c2, 32, groups=4)
        self.fc_edge3 = _layer(c3, 32, groups=4, scale=2)
        self.fc_edge4 = _layer(c4, 32, groups=4, scale=4)
        self.fc_edge5 = _layer(c5, 32, groups=4, scale=4)
        self.fc_edge6 = nn.Conv2d(5 * 32, 1, 1)

        self.fc_dp1 = _layer(c1, 64, groups=8)
        self.fc_dp2 = _layer(c2, 128, groups=16)
        self.fc_dp3 = _layer(c3, 256, groups=16)
        self.fc_dp4 = _layer(c4, 256, groups=16, scale=2)
        self.fc_dp5 = _layer(c5, 256, groups=16, scale=2)
        self.fc_dp6 = _layer(3 * 256, 256, groups=16, scale=2)
        self.fc_dp7 = nn.Sequential(
            *_layer(64 + 128 + 256, 256, groups=16), nn.Conv2d(256, 2, 1, bias=False)
        )
        self.mean_shift = MeanShift(2)
        self.train()

    def train(self, mode: bool = True) -> "IRN":
        """As nn.Module.train, with the backbone left in eval mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def edge_layers(self) -> list[nn.Module]:
        """The boundary branch, which trains at the base rate."""
        return [
            self.fc_edge1,
            self.fc_edge2,
            self.fc_edge3,
            self.fc_edge4,
            self.fc_edge5,
            self.fc_edge6,
        ]

    def displacement_layers(self) -> list[nn.Module]:
        """The displacement branch, which trains at ten times the base rate."""
        return [
            self.fc_dp1,
            self.fc_dp2,
            self.fc_dp3,
            self.fc_dp4,
            self.fc_dp5,
            self.fc_dp6,
            self.fc_dp7,
        ]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Boundary logits and displacement, which is raw in training mode and has the mean shift
        subtracted in eval mode.
        """
        with torch.no_grad():
            levels = self.backbone(x)
        return self._boundary(levels), self._displacement(levels)

    def _boundary(self, levels: list[Tensor]) -> Tensor:
        maps = [layer(level) for layer, level in zip(self.edge_layers(), levels, strict=False)]
        return self.fc_edge6(torch.cat([_crop_like(m, maps[1]) for m in maps], dim=1))

    def _displacement(self, levels: list[Tensor]) -> Tensor:
        dp1, dp2, dp3, dp4, dp5 = (
            layer(level) for layer, level in zip(self.displacement_layers(), levels, strict=False)
        )
        deep = self.fc_dp6(torch.cat([dp3, _crop_like(dp4, dp3), _crop_like(dp5, dp3)], dim=1))
        return self.mean_shift(self.fc_dp7(torch.cat([dp1, dp2, _crop_like(deep, dp2)], dim=1)))


@torch.no_grad()
def infer_edge(net: IRN, image: Tensor, crop_size: int = 512) -> tuple[Tensor, Tensor]:
    """Boundary probability (1, h, w), its logits averaged with the mirrored image's, and
    displacement (2, h, w) of the image.

    net: in eval mode, image: (3, H, W), normalised. Image and mirror image are padded with 0 at the
    right and bottom to crop_size, as the group norms saw them in training. A side longer than
    crop_size is padded to a multiple of 16 instead (the released code cuts it there without a
    word); no image of VOC 2012 has one.
    """
    height, width = image.shape[1:]
    right, bottom = (_padded_side(side, crop_size) - side for side in (width, height))
    edge, displacement = (
        maps.float()
        for maps in net(F.pad(torch.stack([image, image.flip(-1)]), (0, right, 0, bottom)))
    )
    h, w = -(-height // STRIDE), -(-width // STRIDE)
    edge = edge[..., :h, :w]
    return torch.sigmoid((edge[0] + edge[1].flip(-1)) / 2), displacement[0, :, :h, :w]


def _padded_side(side: int, crop_size: int) -> int:
    return crop_size if side <= crop_size else -(-side // STRIDES[-1]) * STRIDES[-1]


@torch.no_grad()
def mean_displacement(net: IRN, batches: Iterable[Tensor]) -> Tensor:
    """The value of mean_shift.running_mean, (2,): the mean over batches (B, 3, H, W) of each
    batch's mean raw displacement.

    net keeps its mode. Source: released step/train_irn.py, which feeds top-left crops and leaves
    out the last, smaller batch.
    """
    means = []
    for batch in batches:
        displacement = net(batch)[1].float() + (
            0 if net.training else net.mean_shift.running_mean.view(1, -1, 1, 1)
        )
        means.append(displacement.mean(dim=(0, 2, 3)))
    return torch.stack(means).mean(dim=0)


# The other names of tensors in a released checkpoint, and buffers that only its training network
# holds.
RELEASED_ALIASES = (
    "stage1.",
    "stage2.",
    "stage3.",
    "stage4.",
    "stage5.",
    "backbone.",
    "edge_layers.",
    "dp_layers.",
    "fc_dp7.4.",
)
RELEASED_BUFFERS = ("path_indices", "disp_target")


def load_irn_weights(net: IRN, state: dict[str, Tensor]) -> None:
    """Load a checkpoint of this network or of the released one, strictly.

    state: as read by torch.load(weights_only=True). Raises InputError that names the first missing,
    unknown or misshapen tensor, or the first whose values the network cannot take over.
    """
    if any(name.startswith("resnet50.") for name in state):
        dropped = RELEASED_ALIASES + RELEASED_BUFFERS
        state = {
            name.replace("resnet50.", "backbone.", 1): value
            for name, value in state.items()
            if not name.startswith(dropped)
        }
    tensors = net.state_dict()
    own = {name: value.shape for name, value in tensors.items()}
    given = {name: value.shape for name, value in state.items()}
    for name in dict.fromkeys([*own, *given]):
        if own.get(name) != given.get(name):
            shapes = f"has {_shape(given, name)}, the network {_shape(own, name)}"
            raise InputError(
                f"IRN weights do not fit: {name} {shapes}; give a checkpoint of this backbone"
            )
        if fault := values_fault(state[name], tensors[name]):
            raise InputError(f"{name} {fault}")
    net.load_state_dict(state)


def _shape(shapes: dict[str, torch.Size], name: str) -> str:
    return f"shape {tuple(shapes[name])}" if name in shapes else "no such tensor"
