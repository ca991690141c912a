"""A CAM refined at inference by an affinity that is not its own PCM's: attention instead of cosine,
or another network's.

Sizes: B images, K = classes + 1 maps with background first, H x W input, h x w CAM.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from network.attention import attention_modules, patch_attention
from network.cpn import CPNHead, pixel_correlation
from network.expansion_weights import load_backbone
from network.resnet38 import ResNet38
from network.timm_backbone import TimmBackbone, unit_scale
from network.weights import WEIGHTS_HELP, load_backbone_weights, load_network
from tool.cam import cam_prior
from tool.choices import AFFINITIES
from tool.errors import InputError
from tool.file.state_dict import SeveralError, read_weights


def spread_by_attention(prior: Tensor, attention: Tensor) -> Tensor:
    """The prior (B, K, h, w) averaged over what each patch attends to; attention: (B, N, N), rows
    sum to 1. Computed in float32.
    """
    with torch.autocast(prior.device.type, enabled=False):
        spread = prior.float().flatten(2) @ attention.float().transpose(1, 2)
    return spread.view(prior.shape)


class Refiner(nn.Module):
    """Averages a CAM over the pixels that a network takes for alike.

    net:      a backbone, or a network of train_cpn.py
    affinity: "cosine" of features, as PCM; "attention", the mean self-attention of a plain
              transformer (network.attention)
    blocks:   of which blocks, None all
    raw:      compare the backbone's two early maps, and not the embedding f9 that a network of
              train_cpn.py has trained
    Raises InputError for "attention" of a network without.
    """

    def __init__(
        self,
        net: TimmBackbone | ResNet38 | CPNHead,
        affinity: str = "cosine",
        blocks: Sequence[int] | None = None,
        raw: bool = True,
    ) -> None:
        super().__init__()
        if affinity not in AFFINITIES:
            raise ValueError(f"affinity {affinity!r} is not in {AFFINITIES}")
        if affinity == "attention":
            attention_modules(net, blocks)  # raises at the start, not at the first image
        self.net, self.affinity, self.blocks = net.eval(), affinity, blocks
        self.raw = raw
        self.mean, self.std = net.mean, net.std

    def forward(self, x: Tensor, prior: Tensor) -> Tensor:
        """The prior (B, K, h, w) refined, at the size of this network's own map.

        x: (B, 3, H, W), normalised as this network wants it
        """
        if self.affinity == "attention":
            attention, size = patch_attention(self.net, x, self.blocks)
            return spread_by_attention(_resized(prior, size), attention)
        embedding = self.embedding(x)
        return pixel_correlation(_resized(prior, embedding.shape[2:]), embedding)

    def embedding(self, x: Tensor) -> Tensor:
        """What is compared, (B, D, h, w): PCM's f9, or conv4 and conv5 at equal scale."""
        if not self.raw:
            _, features = self.net.cam_and_features(x)
            return self.net.f9(self.net.feature(x, features))
        return self.early_and_deep(x)[0]

    def early_and_deep(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """conv4 and conv5 at equal scale, (B, D, h, w), and conv6, (B, E, h, w)."""
        features = self.net.forward_features(x)
        deep = features["conv6"]
        early = [unit_scale(features[name]) for name in ("conv4", "conv5")]
        return torch.cat([_resized(level, deep.shape[2:]) for level in early], dim=1), deep


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    if maps.shape[2:] == size:
        return maps
    return F.interpolate(maps.float(), size, mode="bilinear", align_corners=True)


class RefinedBy(nn.Module):
    """A CAM network whose refined CAM comes from a Refiner; for network.cam_inference.

    The refiner's average takes the place of PCM and PRCM.
    """

    def __init__(self, net: CPNHead, refiner: Refiner) -> None:
        super().__init__()
        self.net, self.refiner = net, refiner
        self.mean, self.std = net.mean, net.std

    def cam_and_features(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The network's own."""
        return self.net.cam_and_features(x)

    def forward_low_resolution(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The network's CAM (B, K, h, w), and that refined, at the size of the refiner's map."""
        cam = self.net.cam_and_features(x)[0]
        return cam, self.refiner(self._for_refiner(x), cam_prior(cam))

    def _for_refiner(self, x: Tensor) -> Tensor:
        """x in the refiner's normalisation."""
        if (self.mean, self.std) == (self.refiner.mean, self.refiner.std):
            return x
        mean, std, other_mean, other_std = (
            x.new_tensor(value).view(1, 3, 1, 1)
            for value in (self.mean, self.std, self.refiner.mean, self.refiner.std)
        )
        return (x * std + mean - other_mean) / other_std


def build_refiner(
    name: str,
    weights: str | Path | None = None,
    affinity: str = "cosine",
    blocks: Sequence[int] | None = None,
) -> Refiner:
    """A Refiner of its own network.

    name:    a backbone, "resnet38" or a timm model; NAME:STRIDE for another output stride
    weights: a file of ImageNet weights of the backbone, a network that train_cpn.py trained on it,
             or "imagenet"; None is "imagenet"
    Raises InputError for weights that do not fit, and as Refiner does.
    """
    try:
        net, raw = _load_net(name, weights)
    except SeveralError as error:
        raise InputError(
            f"--refiner_weights {weights} has several networks, such as "
            f"{' and '.join(error.keys)}; give a file of one"
        ) from error
    return Refiner(net, affinity, blocks, raw)


def _load_net(
    name: str, weights: str | Path | None
) -> tuple[TimmBackbone | ResNet38 | CPNHead, bool]:
    """(network, whether it has no embedding that PCM trained), as build_refiner."""
    backbone, _, stride = name.partition(":")
    if stride and not stride.isdigit():
        raise InputError(f"--refiner {name}: expected NAME or NAME:STRIDE, such as resnet50:8")
    weights, raw = weights or "imagenet", True
    if str(weights) != "imagenet" and "config" in read_weights(weights, "weights"):
        net, config, _ = load_network(weights)
        raw = not trains_embedding(config)
        if config["backbone"] != backbone:
            raise InputError(
                f"--refiner_weights {weights} are of {config['backbone']}, not of --refiner "
                f"{backbone}"
            )
        if stride and net.stride != int(stride):
            raise InputError(
                f"--refiner_weights {weights} were trained at stride {net.stride}, not at {stride}"
            )
    elif backbone == "resnet38":
        if str(weights) == "imagenet":
            raise InputError(f"--refiner resnet38 needs --refiner_weights: {WEIGHTS_HELP}")
        net = ResNet38()
        load_backbone_weights(net, weights)
    else:
        pretrained = str(weights) == "imagenet"
        net = TimmBackbone(backbone, int(stride) if stride else None, pretrained)
        if not pretrained:
            load_backbone(net.model, weights)
    return net, raw


def trains_embedding(config: dict) -> bool:
    """Whether a network of load_network has learned PCM's embedding."""
    return config["method"] != "cam" and "pcm" in config.get("refinement", "pcm").split("+")
