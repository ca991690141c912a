"""Segmentation networks: DeepLabv1, v3 and v3+ on ResNet38 or a timm backbone.

Sizes: B images, K = classes + 1 labels with background first, H x W input, h x w features. The
backbone's batch norm keeps its ImageNet statistics and parameters, whatever the batch, and its stem
stays frozen, as in the other networks; the head's batch norm trains. The codebase with which SEAM
was segmented (YudeWang/semantic-segmentation-codebase) normalises the backbone by the batch, trains
the stem, and leaves scale and shift of the head's batch norm at 1 and 0.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.segmentation.deeplabv3 import ASPP

from network.cpn import HEAD_DROPOUT
from network.resnet38 import ResNet38
from network.timm_backbone import TimmBackbone
from tool.errors import InputError

# pixels between the taps of the first dilated convolution: rate 12 at stride 8, 6 at stride 16, 3
# at stride 32
FIELD_OF_VIEW = 96
LOW_STRIDE, LOW_CHANNELS = 4, 48  # of the early map that DeepLabv3+ reads


def conv_block(
    in_channels: int, out_channels: int, kernel: int, dilation: int = 1
) -> nn.Sequential:
    """Convolution, batch norm, ReLU; the size stays."""
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(
            in_channels, out_channels, kernel, padding=padding, dilation=dilation, bias=False
        ),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


def separable_block(in_channels: int, out_channels: int, dilation: int = 1) -> nn.Sequential:
    """A 3x3 convolution of each channel, then conv_block of 1x1."""
    depthwise = nn.Conv2d(
        in_channels,
        in_channels,
        3,
        padding=dilation,
        dilation=dilation,
        groups=in_channels,
        bias=False,
    )
    return nn.Sequential(depthwise, *conv_block(in_channels, out_channels, 1))


class DeepLabV1Head(nn.Sequential):
    """3x3 dilated, 1x1, dropout, classifier: (B, in_channels, h, w) -> logits (B, num_labels, h,
    w).
    """

    reads_low = False

    def __init__(self, in_channels: int, num_labels: int, stride: int, channels: int = 512) -> None:
        super().__init__(
            conv_block(in_channels, channels, 3, dilation=FIELD_OF_VIEW // stride),
            conv_block(channels, channels, 1),
            nn.Dropout(0.5),
            nn.Conv2d(channels, num_labels, 1),
        )


class DeepLabV3Head(nn.Sequential):
    """Atrous spatial pyramid (torchvision's), 3x3, classifier: (B, in_channels, h, w) -> logits (B,
    num_labels, h, w).
    """

    reads_low = False

    def __init__(self, in_channels: int, num_labels: int, stride: int, channels: int = 256) -> None:
        super().__init__(
            ASPP(in_channels, pyramid_rates(stride), channels),
            conv_block(channels, channels, 3),
            nn.Conv2d(channels, num_labels, 1),
        )


class DeepLabV3PlusHead(nn.Module):
    """Atrous spatial pyramid, joined by an early map at stride 4, every 3x3 convolution separable;
    logits at stride 4.
    """

    reads_low = True

    def __init__(
        self, in_channels: int, low_channels: int, num_labels: int, stride: int, channels: int = 256
    ) -> None:
        super().__init__()
        rates = pyramid_rates(stride)
        self.aspp = ASPP(in_channels, rates, channels)
        for index, rate in enumerate(rates, start=1):
            self.aspp.convs[index] = separable_block(in_channels, channels, rate)
        self.reduce_low = conv_block(low_channels, LOW_CHANNELS, 1)
        self.decoder = nn.Sequential(
            separable_block(channels + LOW_CHANNELS, channels),
            separable_block(channels, channels),
            nn.Conv2d(channels, num_labels, 1),
        )

    def forward(self, x: Tensor, low: Tensor) -> Tensor:
        """x: (B, in_channels, h, w); low: (B, low_channels, H / 4, W / 4), whose size the logits
        have.
        """
        low = self.reduce_low(low)
        x = F.interpolate(self.aspp(x), low.shape[2:], mode="bilinear", align_corners=False)
        return self.decoder(torch.cat([x, low], dim=1))


def pyramid_rates(stride: int) -> list[int]:
    """Dilation of the pyramid's branches: 12, 24, 36 at stride 8, half of that at stride 16
    (DeepLabv3), a quarter at 32.
    """
    return [FIELD_OF_VIEW // stride * factor for factor in (1, 2, 3)]


HEADS = {"deeplabv1": DeepLabV1Head, "deeplabv3": DeepLabV3Head, "deeplabv3plus": DeepLabV3PlusHead}


class TagHead(nn.Module):
    """Which classes an image shows, by its deepest map (B, channels, h, w): logits (B, C), the mean
    over the map of the CAM network's head.

    EncNet's second loss (Zhang et al. 2018, Context Encoding) says the same of the image.
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.fc8 = nn.Conv2d(channels, num_classes, 1, bias=False)

    def forward(self, deepest: Tensor) -> Tensor:
        """The logits."""
        return self.fc8(F.dropout2d(deepest, HEAD_DROPOUT, self.training)).mean((2, 3))


def weigh_classes(logits: Tensor, tags: Tensor) -> Tensor:
    """logits (B, C + 1, h, w) whose class probabilities are multiplied by the class's score in the
    image over that of the best class, sigmoids of tags (B, C); the background's stay.

    So a class that the image does not show as a whole yields to one that it does, and two that are
    seen equally well are left as they are. Not in the papers.
    """
    scores = F.logsigmoid(tags.float())
    relative = scores - scores.amax(dim=1, keepdim=True)
    return torch.cat([logits[:, :1], logits[:, 1:] + relative[:, :, None, None]], dim=1)


class TwoLevels(TimmBackbone):
    """A timm model cut after its last stage: "conv6", that stage's output, and "low", the map at
    stride 4, where the model has one.

    A plain transformer is not cut and has no early map of another stride: conv6 is TimmBackbone's,
    after the final norm.

    deepest: leave what comes after the last stage, such as EfficientNet's 1280 channels, and give
    it as "deepest", the CAM networks' conv6
    """

    def __init__(
        self, name: str, output_stride: int | None, pretrained: bool, deepest: bool = False
    ) -> None:
        super().__init__(name, output_stride, pretrained)
        self.deepest, self.deepest_channels = deepest, self.out_channels
        info = [(level["num_chs"], level["reduction"]) for level in self.model.feature_info]
        low = [index for index, (_, reduction) in enumerate(info) if reduction == LOW_STRIDE]
        self.low_channels = info[low[-1]][0] if low else None
        if not self.plain:
            self.taps = [*low[-1:], len(info) - 1]
            self.out_channels = info[-1][0]
            if not deepest:
                self.model.prune_intermediate_layers(self.taps, prune_norm=True, prune_head=True)

    def forward_features(self, x: Tensor) -> dict[str, Tensor]:
        """low, conv6 and deepest, (B, channels, h, w) each at its own stride."""
        if self.plain:
            conv6 = self.forward_maps(x)[-1]
            return {"conv6": conv6, "deepest": conv6}
        if not self.deepest:
            maps = self.levels(x, self.taps)
            return {"low": maps[0], "conv6": maps[-1]}
        last, maps = self.last_and_levels(x, self.taps)
        return {"low": maps[0], "conv6": maps[-1], "deepest": last}


class SegNet(nn.Module):
    """Normalised RGB (B, 3, H, W) -> logits (B, K, H, W), classes weighed by what the image shows
    as a whole where there is a tag head.
    """

    def __init__(
        self, backbone: ResNet38 | TwoLevels, head: nn.Module, tag_head: TagHead | None = None
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.tag_head = tag_head
        self.mean, self.std = backbone.mean, backbone.std

    def forward(self, x: Tensor) -> Tensor:
        """The logits at the input's size."""
        return F.interpolate(
            self.forward_low_resolution(x), x.shape[2:], mode="bilinear", align_corners=False
        )

    def forward_low_resolution(self, x: Tensor) -> Tensor:
        """The logits (B, K, h, w) at feature size."""
        logits, tags = self.forward_heads(x)
        return logits if tags is None else weigh_classes(logits, tags)

    def forward_heads(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the heads say by themselves: (logits (B, K, h, w) at feature size, those of the
        image's classes (B, K - 1), None without a tag head).
        """
        maps = self.backbone.forward_features(x)
        low = (maps["low"],) if self.head.reads_low else ()
        tags = None
        if self.tag_head is not None:
            tags = self.tag_head(maps.get("deepest", maps["conv6"]))
        return self.head(maps["conv6"], *low), tags

    def pretrained_modules(self) -> Iterator[nn.Module]:
        """Every module of the backbone."""
        return self.backbone.pretrained_modules()

    def new_modules(self) -> list[nn.Module]:
        """Every module of the heads, which train at ten times the rate."""
        heads = [self.head] if self.tag_head is None else [self.head, self.tag_head]
        return [module for head in heads for module in head.modules()]


def build_seg(
    arch: str = "deeplabv1",
    backbone: str = "resnet38",
    num_classes: int = 20,
    *,
    output_stride: int | None = None,
    head_channels: int | None = None,
    tag_head: bool = False,
    pretrained: bool = False,
) -> SegNet:
    """A segmentation network in training mode.

    arch:          one of HEADS; deeplabv3plus needs a timm backbone
    backbone:      "resnet38", "efficientnet_lite0" or a timm model name ("resnet50", "resnet101",
                   ...)
    num_classes:   foreground classes, the length of the class list; K is one more
    output_stride: as network.build.build_cpn has it
    head_channels: width of the head; None is 512 for deeplabv1, 256 for the others
    tag_head:      a second head, which says what the image shows
    pretrained:    ImageNet weights for a timm backbone; ResNet38's come from a file
                   (network.seg_weights)
    Raises InputError for a combination that does not exist.
    """
    if backbone == "resnet38":
        if output_stride not in (None, ResNet38.stride):
            raise InputError(
                f"--backbone resnet38 has output stride {ResNet38.stride}, not {output_stride}"
            )
        body = ResNet38()
    else:
        body = TwoLevels(backbone, output_stride, pretrained, tag_head)
    arguments = {
        "in_channels": body.out_channels,
        "num_labels": num_classes + 1,
        "stride": body.stride,
    }
    if HEADS[arch].reads_low:
        if getattr(body, "low_channels", None) is None:
            raise InputError(
                f"--arch {arch} reads an early map at stride {LOW_STRIDE} that {backbone} has not; "
                "choose deeplabv1 or deeplabv3"
            )
        arguments["low_channels"] = body.low_channels
    if head_channels is not None:
        arguments["channels"] = head_channels
    tags = None
    if tag_head:
        channels = getattr(body, "deepest_channels", body.out_channels)
        tags = TagHead(channels, num_classes)
    return SegNet(body, HEADS[arch](**arguments), tags)


def merged_logits(
    net: SegNet, scaled: list[Tensor], size: tuple[int, int], flip: bool = True
) -> Tensor:
    """The mean logits (K, H, W), float32, of one image over its scales, each with its mirror image
    if flip is set.

    scaled: normalised images (3, h, w), one a scale
    size:   the (H, W) to which all logits are resized
    The mean is of logits, not of probabilities, as in the codebase named above; they are resized
    once instead of twice.
    """
    total = torch.zeros(())
    for image in scaled:
        batch = (torch.stack([image, image.flip(-1)]) if flip else image[None]).contiguous(
            memory_format=torch.channels_last
        )
        logits = F.interpolate(
            net.forward_low_resolution(batch).float(), size, mode="bilinear", align_corners=False
        )
        total = total.to(logits.device) + logits[0] + (logits[1].flip(-1) if flip else 0)
    return total / (len(scaled) * (2 if flip else 1))
