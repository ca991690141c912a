"""Weights of the second expansion's networks: of train_irn.py, train_aff.py and the released code,
and of their backbones.
"""

from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from network.aff import AffinityNet, AffinityNetTimm, build_affinity_net
from network.irn import IRN, ResNet50Levels, load_irn_weights
from network.weights import (
    EXPANSIONS,
    build_described,
    is_config,
    load_strict,
    require_file_for_key,
    timm_names,
)
from tool.errors import InputError
from tool.file.state_dict import find_signed, find_state, read_weights
from tool.run.flags import MOST_PIXELS

RELEASED_IRN_CROP = 512


def build_irn(
    backbone: str = "resnet50", weights: str | Path = "imagenet", key: str | None = None
) -> IRN:
    """IRN in training mode, its backbone with weights: "imagenet" (downloaded or from a package),
    "none" or a file of torchvision's ResNet50 or of the timm model. key: which state dict of
    several. Raises InputError when a download fails, the file does not fit, or a key has none.
    """
    require_file_for_key(weights, key)
    try:
        net = IRN(backbone, pretrained=str(weights) == "imagenet")
    except (
        OSError,
        RuntimeError,
    ) as error:  # torchvision's download: no connection, or a broken file
        url = torchvision.models.ResNet50_Weights.IMAGENET1K_V1.url
        place = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
        raise InputError(
            f"cannot download ImageNet weights of resnet50: {error}; put {url} at {place}, or give "
            "its path by --weights FILE"
        ) from error
    if str(weights) not in ("imagenet", "none"):
        load_backbone(
            net.backbone if isinstance(net.backbone, ResNet50Levels) else net.backbone.model,
            weights,
            key,
        )
    return net


def load_backbone(model: nn.Module, path: str | Path, key: str | None = None) -> None:
    """Load the tensors that model has from a file of ImageNet weights, under timm's names or its
    authors' (network.weights.timm_names); the rest of the file, its classifier, is left. key: which
    state dict of several.
    """
    value = read_weights(path, "backbone weights", "check --weights, or set --weights imagenet")
    own = model.state_dict()
    state = timm_names(model, find_state(value, path, own, key))
    load_strict(model, {name: tensor for name, tensor in state.items() if name in own}, path)


def load_irn(path: str | Path, key: str | None = None) -> tuple[IRN, dict]:
    """(IRN in eval mode, its config) from a file of train_irn.py, or the released code's
    res50_irn.pth.

    config: method, backbone and crop_size, the side of the training crops, to which inference pads.
    """
    state, config = _load(path, "irn", "train_irn.py", sign="fc_edge6.bias", key=key)
    config = {"method": "irn", "backbone": "resnet50", "crop_size": RELEASED_IRN_CROP} | config
    if not 1 <= config["crop_size"] <= MOST_PIXELS:
        raise InputError(f"trained weights {path} name a crop of {config['crop_size']} pixels")
    net = build_described(IRN, {"backbone": config["backbone"]}, path)
    try:
        load_irn_weights(net, state)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return net.eval(), config


def load_affinity_net(
    path: str | Path, key: str | None = None
) -> tuple[AffinityNet | AffinityNetTimm, dict]:
    """(AffinityNet in eval mode, its config) from a file of train_aff.py, or the released code's
    resnet38_aff.pth.

    config: method, backbone and preset, None for a released file, which does not say whose it is.
    """
    state, config = _load(path, "aff", "train_aff.py", sign="f8_5.weight", key=key)
    config = {"method": "aff", "backbone": "resnet38", "preset": None} | config
    net = build_described(build_affinity_net, {"backbone": config["backbone"]}, path)
    load_strict(net, state, path)
    return net.eval(), config


def _load(
    path: str | Path, method: str, script: str, sign: str, key: str | None
) -> tuple[dict[str, Tensor], dict]:
    """(state dict, config) of trained weights of this method; a released file, known by a tensor
    named `sign`, has config {}.
    """
    value = read_weights(path, "trained weights", f"train with {script}, or set --weights FILE")
    config = value.get("config", {}) if "state_dict" in value else {}
    state = find_signed(value, path, sign, key)
    own = config == {} or (is_config(config) and config["method"] == method)
    if not own or sign not in state:
        raise InputError(
            f"trained weights {path} are not of {EXPANSIONS[method]}; give weights of {script}"
        )
    return state, config
