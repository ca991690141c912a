"""Weights of the second expansion's networks: of train_irn.py, train_aff.py and the released code, and of their backbones."""

from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from network.aff import AffinityNet, AffinityNetTimm, build_affinity_net
from network.irn import IRN, ResNet50Levels, load_irn_weights
from network.weights import EXPANSIONS, load_strict
from tool.checkpoint import load_torch
from tool.errors import InputError

RELEASED_IRN_CROP = 512


def build_irn(backbone: str = "resnet50", weights: str | Path = "imagenet") -> IRN:
    """IRN in training mode, its backbone with weights: "imagenet" (downloaded or from a package), "none" or a file of torchvision's
    ResNet50 or of the timm model. Raises InputError when a download fails or the file does not fit.
    """
    try:
        net = IRN(backbone, pretrained=str(weights) == "imagenet")
    except (OSError, RuntimeError) as error:  # torchvision's download: no connection, or a broken file
        url = torchvision.models.ResNet50_Weights.IMAGENET1K_V1.url
        place = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
        raise InputError(
            f"cannot download ImageNet weights of resnet50: {error}; put {url} at {place}, or give its path by --weights FILE"
        ) from error
    if str(weights) not in ("imagenet", "none"):
        load_backbone(net.backbone if isinstance(net.backbone, ResNet50Levels) else net.backbone.model, weights)
    return net


def load_backbone(model: nn.Module, path: str | Path) -> None:
    """Load the tensors that model has from a file of ImageNet weights; the rest of the file, its classifier, is left."""
    state = load_torch(path, "backbone weights", "check --weights, or set --weights imagenet")
    state = state.get("state_dict", state)
    load_strict(model, {name: value for name, value in state.items() if name in model.state_dict()}, path)


def load_irn(path: str | Path) -> tuple[IRN, dict]:
    """(IRN in eval mode, its config) from a file of train_irn.py, or the released code's res50_irn.pth.

    config: method, backbone and crop_size, the side of the training crops, to which inference pads.
    """
    state, config = _load(path, "irn", "train_irn.py", sign="fc_edge6.bias")
    config = {"method": "irn", "backbone": "resnet50", "crop_size": RELEASED_IRN_CROP} | config
    net = IRN(config["backbone"])
    try:
        load_irn_weights(net, state)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return net.eval(), config


def load_affinity_net(path: str | Path) -> tuple[AffinityNet | AffinityNetTimm, dict]:
    """(AffinityNet in eval mode, its config) from a file of train_aff.py, or the released code's resnet38_aff.pth.

    config: method, backbone and preset, None for a released file, which does not say whose it is.
    """
    state, config = _load(path, "aff", "train_aff.py", sign="f8_5.weight")
    config = {"method": "aff", "backbone": "resnet38", "preset": None} | config
    net = build_affinity_net(config["backbone"])
    load_strict(net, state, path)
    return net.eval(), config


def _load(path: str | Path, method: str, script: str, sign: str) -> tuple[dict[str, Tensor], dict]:
    """(state dict, config) of trained weights of this method; a released file, known by a tensor named `sign`, has config {}."""
    value = load_torch(path, "trained weights", f"train with {script}, or set --weights FILE")
    config = value.get("config", {}) if "state_dict" in value else {}
    state = value["state_dict"] if config else value
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    if config.get("method", method) != method or sign not in state:
        raise InputError(f"trained weights {path} are not of {EXPANSIONS[method]}; give weights of {script}")
    return state, config
