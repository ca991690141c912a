"""timm's mobile blocks in bands of rows at inference, so that their widest map, six times as wide
as what goes in and comes out, is never held whole.
"""

from dataclasses import dataclass
from types import MethodType

import torch
from timm.layers import BatchNormAct2d, Conv2dSame
from timm.models._efficientnet_blocks import (
    ConvBnAct,
    DepthwiseSeparableConv,
    EdgeResidual,
    InvertedResidual,
)
from torch import Tensor, nn

from network.bands import in_bands

# Blocks whose convolutions run one after the other, in the order of their modules.
CHAINS = (ConvBnAct, DepthwiseSeparableConv, EdgeResidual, InvertedResidual)
CONVOLUTIONS = (nn.Conv2d, Conv2dSame)
# What works on each pixel alone; squeeze-and-excitation, which does not, keeps its block whole.
POINTWISE = (nn.BatchNorm2d, BatchNormAct2d, nn.Identity, nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish)


@dataclass(frozen=True)
class BandPlan:
    """What in_bands has to know of a block; whole_strides: only a map whose rows the stride divides
    can be cut, since TensorFlow's padding lies elsewhere on another.
    """

    halo: int
    widest: int
    stride: int
    whole_strides: bool


def band_plan(block: nn.Module) -> BandPlan | None:
    """The plan of a block of CHAINS or of a convolution, from its kernels, dilations and strides;
    None where something in it looks at the whole map.
    """
    leaves = [module for module in block.modules() if not any(module.children())]
    convolutions = [leaf for leaf in leaves if type(leaf) in CONVOLUTIONS]
    if not all(type(leaf) in (*CONVOLUTIONS, *POINTWISE) for leaf in leaves):
        return None
    halo, stride, whole_strides = 0, 1, False
    maps = [(convolutions[0].in_channels, 1)]  # (channels, stride so far)
    for conv in convolutions:
        reach = conv.dilation[0] * (conv.kernel_size[0] - 1)
        same = type(conv) is Conv2dSame
        halo += stride * (reach if same else -(-reach // 2))
        whole_strides |= same and conv.stride[0] > 1
        stride *= conv.stride[0]
        maps.append((conv.out_channels, stride))
    widest = max(channels * (stride // at) ** 2 for channels, at in maps)
    return BandPlan(halo, widest, stride, whole_strides)


def compute_in_bands(model: nn.Module) -> int:
    """Have the stem of timm's mobile models and every block of CHAINS that can compute in bands
    where no gradient is wanted, on a CPU; how many there are. Small maps go through whole.
    """
    blocks = [block for block in model.modules() if isinstance(block, CHAINS)]
    if blocks and type(stem := getattr(model, "conv_stem", None)) in CONVOLUTIONS:
        blocks.append(stem)
    plans = [(block, plan) for block in blocks if (plan := band_plan(block))]
    for block, plan in plans:
        # bound, so that a deep copy is bound to the copy
        block.whole_forward, block.band_plan = block.forward, plan
        block.forward = MethodType(_banded, block)
    return len(plans)


def _banded(block: nn.Module, x: Tensor) -> Tensor:
    whole, plan = block.whole_forward, block.band_plan
    if (
        torch.is_grad_enabled()
        or x.device.type != "cpu"
        or torch.compiler.is_compiling()
        or (plan.whole_strides and x.shape[2] % plan.stride)
    ):
        return whole(x)
    return in_bands(whole, x, plan.halo, plan.widest, plan.stride)
