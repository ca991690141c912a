"""Weights of segmentation networks: those of train_seg.py, and of their backbones."""

from pathlib import Path

from network.expansion_weights import load_backbone
from network.resnet38 import ResNet38
from network.seg import HEADS, SegNet, build_seg
from network.weights import load_backbone_weights, load_strict
from tool.checkpoint import load_torch
from tool.errors import InputError

METHOD = "seg"


def load_seg_backbone(net: SegNet, path: str | Path) -> None:
    """Load ImageNet weights into net's backbone: ResNet38's .params or .pth, or a file of the timm model (torchvision's ResNets have
    the same names). Raises InputError naming what does not fit.
    """
    if isinstance(net.backbone, ResNet38):
        load_backbone_weights(net.backbone, path)
    else:
        load_backbone(net.backbone.model, path)


def load_seg(path: str | Path) -> tuple[SegNet, dict, tuple[str, ...]]:
    """(network in eval mode, config, foreground class names) from a file of train_seg.py.

    config: the arguments of build_seg, and method. Raises InputError naming the file and what does not fit.
    """
    value = load_torch(path, "trained weights", "train with train_seg.py, or set --weights FILE")
    config = value.get("config")
    if not isinstance(config, dict) or config.get("method") != METHOD or config.get("arch") not in HEADS:
        raise InputError(f"trained weights {path} are of no segmentation network; give weights of train_seg.py")
    net = build_seg(**{name: argument for name, argument in config.items() if name != "method"})
    load_strict(net, value["state_dict"], path)
    return net.eval(), config, tuple(value["classes"])
