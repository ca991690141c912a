"""ResNet38 (Wu, Shen, van den Hengel, "Wider or Deeper", model A1) at stride 8, as AffinityNet,
SEAM and CPN use it.

Attribute names are those of the released checkpoints. Batch norm never trains: it keeps the stored
statistics and its affine parameters take no gradient.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from network.bands import in_bands
from tool.run.device import give_back_free_memory

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def freeze_batch_norm(module: nn.Module) -> None:
    """Put every batch norm below module into eval mode and take its parameters out of training."""
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            child.eval()
            child.requires_grad_(False)


class ResBlock(nn.Module):
    """Pre-activation block of two 3x3 convolutions: (B, in, H, W) -> (B, out, H/stride, W/stride).

    halo, widest: as network.bands.in_bands wants them
    """

    def __init__(
        self,
        in_channels: int,
        mid_channels: int,
        out_channels: int,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        same_shape = in_channels == out_channels and stride == 1
        # A block that changes the shape at stride 1 (b5) dilates only its second convolution.
        first = dilation if same_shape else 1
        self.stride, self.halo, self.widest = (
            stride,
            first + stride * dilation,
            max(mid_channels, out_channels, stride**2 * in_channels),
        )
        self.bn_branch2a = nn.BatchNorm2d(in_channels)
        self.conv_branch2a = nn.Conv2d(
            in_channels, mid_channels, 3, stride, padding=first, dilation=first, bias=False
        )
        self.bn_branch2b1 = nn.BatchNorm2d(mid_channels)
        self.conv_branch2b1 = nn.Conv2d(
            mid_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=False
        )
        if not same_shape:
            self.conv_branch1 = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor, return_activation: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """The block's output; with return_activation also the relu(bn) at its entrance."""
        activation = F.relu(self.bn_branch2a(x), inplace=True)
        shortcut = self.conv_branch1(activation) if hasattr(self, "conv_branch1") else x
        y = self.conv_branch2a(activation)
        y = self.conv_branch2b1(F.relu(self.bn_branch2b1(y), inplace=True))
        y += shortcut  # in place: no convolution needs its output again
        return (y, activation) if return_activation else y


class ResBlockBottleneck(nn.Module):
    """Pre-activation bottleneck 1x1, 3x3 dilated, 1x1, with dropout2d before the last two: in ->
    out/4 -> out/2 -> out.
    """

    def __init__(self, in_channels: int, out_channels: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.stride, self.halo, self.widest = 1, dilation, out_channels
        self.bn_branch2a = nn.BatchNorm2d(in_channels)
        self.conv_branch2a = nn.Conv2d(in_channels, out_channels // 4, 1, bias=False)
        self.bn_branch2b1 = nn.BatchNorm2d(out_channels // 4)
        self.dropout_2b1 = nn.Dropout2d(dropout)
        self.conv_branch2b1 = nn.Conv2d(
            out_channels // 4, out_channels // 2, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.bn_branch2b2 = nn.BatchNorm2d(out_channels // 2)
        self.dropout_2b2 = nn.Dropout2d(dropout)
        self.conv_branch2b2 = nn.Conv2d(out_channels // 2, out_channels, 1, bias=False)
        self.conv_branch1 = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor, return_activation: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """The block's output; with return_activation also the relu(bn) at its entrance."""
        activation = F.relu(self.bn_branch2a(x), inplace=True)
        y = self.conv_branch2a(activation)
        y = self.conv_branch2b1(self.dropout_2b1(F.relu(self.bn_branch2b1(y), inplace=True)))
        y = self.conv_branch2b2(self.dropout_2b2(F.relu(self.bn_branch2b2(y), inplace=True)))
        y += self.conv_branch1(activation)
        return (y, activation) if return_activation else y


class ResNet38(nn.Module):
    """The backbone: normalised RGB (B, 3, H, W) -> features at stride 8.

    With checkpointing, only the input of each block is kept for the backward pass, which computes
    the block again: a third more work.
    """

    stride = 8
    mean, std = IMAGENET_MEAN, IMAGENET_STD
    early_channels = (512, 1024)  # conv4, conv5
    out_channels = 4096  # conv6
    key_gain = 4  # of f10's initial weights
    checkpointing = False

    def __init__(self) -> None:
        super().__init__()
        self.conv1a = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.b2 = ResBlock(64, 128, 128, stride=2)
        self.b2_1 = ResBlock(128, 128, 128)
        self.b2_2 = ResBlock(128, 128, 128)
        self.b3 = ResBlock(128, 256, 256, stride=2)
        self.b3_1 = ResBlock(256, 256, 256)
        self.b3_2 = ResBlock(256, 256, 256)
        self.b4 = ResBlock(256, 512, 512, stride=2)
        self.b4_1 = ResBlock(512, 512, 512)
        self.b4_2 = ResBlock(512, 512, 512)
        self.b4_3 = ResBlock(512, 512, 512)
        self.b4_4 = ResBlock(512, 512, 512)
        self.b4_5 = ResBlock(512, 512, 512)
        self.b5 = ResBlock(512, 512, 1024, dilation=2)
        self.b5_1 = ResBlock(1024, 512, 1024, dilation=2)
        self.b5_2 = ResBlock(1024, 512, 1024, dilation=2)
        self.b6 = ResBlockBottleneck(1024, 2048, dilation=4, dropout=0.3)
        self.b7 = ResBlockBottleneck(2048, 4096, dilation=4, dropout=0.5)
        self.bn7 = nn.BatchNorm2d(4096)
        for layer in (self.conv1a, self.b2, self.b2_1, self.b2_2):
            layer.requires_grad_(False)
        freeze_batch_norm(self)

    def train(self, mode: bool = True) -> "ResNet38":
        """As nn.Module.train, with batch norm left in eval mode."""
        super().train(mode)
        freeze_batch_norm(self)
        return self

    def forward_features(self, x: Tensor) -> dict[str, Tensor]:
        """conv4 (B, 512, h, w), conv5 (B, 1024, h, w) and conv6 (B, 4096, h, w), all after batch
        norm and ReLU, h = ceil(H / 8).
        """
        with torch.no_grad():  # the frozen stem needs no graph
            x = self.b2_2(self.b2_1(self.b2(self.conv1a(x))))
        for block in self._blocks_3_and_4():
            x = self._run(block, x)
        x, conv4 = self._run(self.b5, x, True)
        x = self._run(self.b5_2, self._run(self.b5_1, x))
        x, conv5 = self._run(self.b6, x, True)
        conv6 = F.relu(self.bn7(self._run(self.b7, x)), inplace=True)
        return {"conv4": conv4, "conv5": conv5, "conv6": conv6}

    @torch.no_grad()
    def forward_in_bands(self, x: Tensor, head: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """forward_features for inference in little memory: conv4 and conv5, and in conv6's place
        head(conv6), which is never held whole.

        head: a function of single pixels, (B, 4096, h, w) -> (B, K, h, w)
        """

        give_back_free_memory()  # what a pass at another scale left, whose blocks fit nothing here

        def stem(x: Tensor) -> Tensor:
            return self.b2(self.conv1a(x))

        def top(x: Tensor) -> Tensor:
            return head(F.relu(self.bn7(self.b7(x)), inplace=True))

        x = in_bands(stem, x, halo=1 + self.b2.halo, widest=self.b2.widest, stride=self.b2.stride)
        for block in (self.b2_1, self.b2_2, *self._blocks_3_and_4()):
            x = in_bands(block, x, block.halo, block.widest, block.stride)
        x, conv4 = in_bands(lambda x: self.b5(x, True), x, self.b5.halo, self.b5.widest)
        for block in (self.b5_1, self.b5_2):
            x = in_bands(block, x, block.halo, block.widest)
        x, conv5 = in_bands(lambda x: self.b6(x, True), x, self.b6.halo, self.b6.widest)
        return {
            "conv4": conv4,
            "conv5": conv5,
            "conv6": in_bands(top, x, self.b7.halo, self.b7.widest),
        }

    def _blocks_3_and_4(self) -> tuple[nn.Module, ...]:
        return (
            self.b3,
            self.b3_1,
            self.b3_2,
            self.b4,
            self.b4_1,
            self.b4_2,
            self.b4_3,
            self.b4_4,
            self.b4_5,
        )

    def _run(
        self, block: nn.Module, x: Tensor, return_activation: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(block, x, return_activation, use_reentrant=False)
        return block(x, return_activation)

    def pretrained_modules(self) -> Iterator[nn.Module]:
        """Every module of the backbone; what a subclass adds is new."""
        names = ("conv1a", "bn7")
        for name, child in self.named_children():
            if name in names or name.startswith("b"):
                yield from child.modules()

    def new_modules(self) -> list[nn.Module]:
        """The layers without pretrained weights: none here, a subclass names its own."""
        return []
