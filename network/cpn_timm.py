"""CPN on the backbones of timm; apart from network/cpn.py, so that ResNet38 comes without timm."""

from torch import nn

from network.cpn import CPNHead
from network.timm_backbone import TimmBackbone


class CPNTimm(CPNHead, TimmBackbone):
    """CPN on a timm backbone."""

    def __init__(
        self,
        num_classes: int,
        refinement: str,
        prcm: str,
        name: str,
        output_stride: int | None,
        pretrained: bool,
    ) -> None:
        TimmBackbone.__init__(self, name, output_stride=output_stride, pretrained=pretrained)
        self._init_head(num_classes, refinement, prcm)
        # As large as the released start, but it keeps angles, and so PCM's affinities, as the
        # features have them (docs/log).
        nn.init.orthogonal_(self.f9.weight, gain=4)
