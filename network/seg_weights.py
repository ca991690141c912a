"""Weights of segmentation networks: those of train_seg.py, and of their backbones."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from network.expansion_weights import load_backbone
from network.head_weights import named_classes
from network.resnet38 import ResNet38
from network.seg import HEADS, SegNet, TagHead, build_seg
from network.weights import (
    HEAD_WEIGHT,
    build_described,
    class_names,
    is_config,
    load_backbone_weights,
    load_strict,
)
from tool.errors import InputError
from tool.file.state_dict import find_signed, read_weights, require_no_session, values_fault

METHOD = "seg"


def load_seg_backbone(net: SegNet, path: str | Path, key: str | None = None) -> None:
    """Load ImageNet weights into net's backbone: ResNet38's .params or .pth, or a file of the timm
    model (torchvision's ResNets have the same names). Raises InputError naming what does not fit.
    """
    if isinstance(net.backbone, ResNet38):
        load_backbone_weights(net.backbone, path, key)
    else:
        load_backbone(net.backbone.model, path, key)


def load_tag_head(
    head: TagHead, path: str | Path, classes: Sequence[str], key: str | None = None
) -> bool:
    """Have the head start as that of a CAM network of the same classes, if path is one's file;
    whether it is. key: which state dict of several, as the backbone's.
    """
    value = read_weights(path, "backbone weights", "check --weights, or set --weights imagenet")
    if named_classes(value, path) != tuple(classes):
        return False
    if not isinstance(value.get("state_dict"), dict):
        return False
    weight = find_signed(value, path, HEAD_WEIGHT, key).get(HEAD_WEIGHT)
    own = head.fc8.weight
    if not isinstance(weight, Tensor) or weight[1:].shape != own.shape:
        return False
    if fault := values_fault(weight, own):
        raise InputError(f"weights {path}: {HEAD_WEIGHT} {fault}")
    with torch.no_grad():
        own.copy_(weight[1:])  # its first map is the background's
    return True


def load_seg(path: str | Path) -> tuple[SegNet, dict, tuple[str, ...]]:
    """(network in eval mode, config, foreground class names) from a file of train_seg.py.

    config: the arguments of build_seg, and method. Raises InputError naming the file and what does
    not fit.
    """
    value = read_weights(path, "trained weights", "train with train_seg.py, or set --weights FILE")
    require_no_session(value, path)
    config = value.get("config")
    if (
        not isinstance(value.get("state_dict"), dict)
        or not is_config(config)
        or config["method"] != METHOD
        or config.get("arch") not in HEADS
        or "backbone" not in config
    ):
        raise InputError(
            f"trained weights {path} are of no segmentation network; give weights of train_seg.py"
        )
    classes = class_names(value, path)
    arguments = {name: argument for name, argument in config.items() if name != "method"}
    net = build_described(build_seg, arguments, path)
    load_strict(net, value["state_dict"], path)
    return net.eval(), config, classes
