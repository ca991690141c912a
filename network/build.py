"""build_cpn: CPN on the backbone that a name says."""

from torch import nn

from network.cpn import CPNHead, CPNResNet38
from network.resnet38 import ResNet38
from tool.errors import InputError


def build_cpn(
    backbone: str = "resnet38",
    num_classes: int = 20,
    *,
    output_stride: int | None = None,
    refinement: str = "pcm+prcm",
    prcm: str = "released",
    pretrained: bool = False,
) -> CPNHead:
    """A CPN network whose forward(x) gives (cam, cam_refined), raw, (B, num_classes + 1, H, W).

    backbone:      "resnet38", "efficientnet_lite0" or a timm model name
    num_classes:   foreground classes, the length of the class list
    output_stride: None is 8 for ResNet38, which has no other, 16 for timm models that dilate (they
                   have 8, 16 and 32), and for others the one stride that they have
    refinement:    one of REFINEMENTS; SEAM's network is "pcm"
    prcm:          one of PRCM_KEYS
    pretrained:    ImageNet weights for a timm backbone; ResNet38's come from a file
                   (network.weights.load_backbone_weights)
    Raises ValueError for num_classes, refinement and prcm that it does not know, InputError for a
    stride that the backbone has not.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, not {num_classes}")
    if backbone == "resnet38":
        if output_stride not in (None, ResNet38.stride):
            raise InputError(
                f"--backbone resnet38 has output stride {ResNet38.stride}, not {output_stride}"
            )
        return CPNResNet38(num_classes, refinement, prcm)
    from network.cpn_timm import (
        CPNTimm,  # timm brings torchvision: 0.2 GiB that ResNet38 has no use for
    )

    return CPNTimm(num_classes, refinement, prcm, backbone, output_stride, pretrained)


def freeze_blocks(backbone: nn.Module, count: int | None) -> None:
    """TimmBackbone.freeze_blocks of --freeze_blocks, where it is given.

    Raises InputError for ResNet38, whose frozen blocks are the released ones.
    """
    if count is None:
        return
    if isinstance(backbone, ResNet38):
        raise InputError(
            f"--freeze_blocks {count} is for timm backbones; resnet38 has conv1a and b2 frozen, as "
            "released"
        )
    backbone.freeze_blocks(count)
