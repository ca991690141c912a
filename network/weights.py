"""Checkpoints: what a trained network's file holds, and reading the weights that users have."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from network.build import build_cpn
from network.cpn import CPNHead
from network.mxnet_params import read_mxnet_params, resnet38_state_dict
from network.resnet38 import ResNet38
from tool.choices import RESNET38_WEIGHTS
from tool.errors import InputError
from tool.file.require import require_file
from tool.file.state_dict import (
    find_signed,
    find_state,
    kind_fault,
    read_weights,
    save_weights,
    values_fault,
)
from tool.file.text import shortened
from tool.names import require_names

WEIGHTS_HELP = (
    "get ilsvrc-cls_rna-a1_cls1000_ep-0001.params (or its .pth conversion) as docs/data.md "
    "describes, and set --weights FILE; --weights none starts from random numbers; --backbone "
    "efficientnet_lite0 brings its own weights"
)
TIMM_WEIGHTS_HELP = (
    "give a file of the timm model (.pth or .safetensors), a trained network of the same backbone, "
    "'imagenet' for what timm has, or 'none' for random numbers"
)
# Methods that make no CAM; network/expansion_weights.py and network/seg_weights.py read them.
EXPANSIONS = {"irn": "IRN", "aff": "AffinityNet", "seg": "a segmentation network"}
# What such a file says of its network, by name; the network's class judges the values.
CONFIG_KINDS = {
    "method": str,
    "arch": str,
    "backbone": str,
    "num_classes": int,
    "output_stride": int | None,
    "refinement": str,
    "prcm": str,
    "head_channels": int | None,
    "tag_head": bool,
    "crop_size": int,
    "preset": str | None,
}
HEAD_WEIGHT = "fc8.weight"  # of every CAM network
QUOTED = 300  # characters of a foreign configuration that an error repeats
# a counter that MXNet files lack and frozen batch norm never reads
NOT_IN_FILE = ("num_batches_tracked",)


def require_file_for_key(weights: str | Path, key: str | None) -> None:
    """Raise InputError where --weights_key names an entry and --weights no file that could have
    it.
    """
    if key is not None and str(weights) in ("imagenet", "none"):
        raise InputError(
            f"--weights_key {key} is an entry of a file, and --weights {weights} is none; leave it "
            "out, or give the file"
        )


def starting_weights(backbone: str, weights: str | None, key: str | None = None) -> str:
    """What a training starts from: "imagenet", "none" or a file; weights: --weights, key:
    --weights_key, if given.

    Raises InputError for "imagenet" with ResNet38, whose weights cannot be downloaded, and for a
    key without a file.
    """
    weights = weights or (RESNET38_WEIGHTS if backbone == "resnet38" else "imagenet")
    if backbone == "resnet38" and weights == "imagenet":
        raise InputError(f"--weights imagenet: {WEIGHTS_HELP}")
    require_file_for_key(weights, key)
    return weights


def save_network(
    path: str | Path, net: nn.Module, config: dict, classes: Sequence[str], training: dict
) -> None:
    """Write a trained network so that load_network (load_irn, load_affinity_net, load_seg) needs
    nothing else.

    config: "method", and what builds the network: for a CAM network the keyword arguments of
    build_cpn
    training: settings, seed and commit, for the record
    path: a torch file, or safetensors by its suffix
    """
    state = {name: value.contiguous() for name, value in net.state_dict().items()}
    save_weights(
        path,
        {"state_dict": state, "config": config, "classes": list(classes), "training": training},
    )


def is_config(config: object) -> bool:
    """Whether config describes a network: a dict with a method, what is known of the kinds of
    CONFIG_KINDS.
    """
    return (
        isinstance(config, dict)
        and "method" in config
        and all(
            isinstance(config[name], kind) for name, kind in CONFIG_KINDS.items() if name in config
        )
    )


def class_names(value: Mapping[str, Any], path: str | Path) -> tuple[str, ...]:
    """The classes that a trained network's file names. Raises InputError naming the file for what
    are no names.
    """
    classes = value.get("classes", ())
    if not isinstance(classes, list | tuple):
        raise InputError(f"trained weights {path}: its classes are a {type(classes).__name__}")
    require_names(classes, f"trained weights {path}: class")
    return tuple(classes)


def build_described(
    build: Callable[..., nn.Module], config: Mapping[str, Any], path: str | Path
) -> nn.Module:
    """build(**config), config from the file at path. Raises InputError naming it where there is no
    such network.
    """
    try:
        if unknown := config.keys() - CONFIG_KINDS.keys():  # "pretrained" would download
            raise TypeError(f"{sorted(map(str, unknown))[0]} is unknown")
        return build(**config)
    # numbers that someone else chose reach torch and timm: whatever they raise means no network
    except Exception as error:
        raise InputError(
            f"trained weights {path} have an unknown configuration "
            f"{shortened(dict(config), QUOTED)}: {shortened(error, QUOTED)}"
        ) from error


def load_network(
    path: str | Path, released_classes: Sequence[str] = (), key: str | None = None
) -> tuple[CPNHead, dict, tuple[str, ...]]:
    """(network in eval mode, config, class names) from a file of save_network or from the authors'
    CPN.pth.

    config has the arguments of build_cpn and "method". A plain state dict is taken for ResNet38
    CPN; its class count is that of fc8, and its class names are released_classes, where they fit.
    key: which state dict of several, of either kind of file. Loading is strict. Raises InputError
    naming the file and what does not fit, and where there are several and no key.
    """
    value = read_weights(path, "trained weights", "train with train_cpn.py, or set --weights FILE")
    if "state_dict" in value and "config" in value:
        config, classes = value["config"], class_names(value, path)
        described = isinstance(value["state_dict"], dict) and is_config(config)
        if not described or "backbone" not in config:
            raise InputError(
                f"trained weights {path} do not describe their network; give a file that "
                "train_cpn.py wrote"
            )
        if config["method"] in EXPANSIONS:
            raise InputError(
                f"trained weights {path} are of {EXPANSIONS[config['method']]}, which makes no "
                "CAM; give weights of train_cpn.py"
            )
        if config.get("num_classes") != len(classes):
            raise InputError(
                f"trained weights {path} name {len(classes)} classes for a network of "
                f"{config.get('num_classes')}"
            )
        chosen = find_signed(value, path, HEAD_WEIGHT, key)
        state = value["state_dict"] if key is None else chosen
    else:
        state = find_signed(value, path, HEAD_WEIGHT, key)
        if state.get(HEAD_WEIGHT) is None or state[HEAD_WEIGHT].ndim != 4:
            raise InputError(
                f"trained weights {path} are no CPN network: no tensor {HEAD_WEIGHT}; backbone "
                "weights go to train_cpn.py"
            )
        count = state[HEAD_WEIGHT].shape[0] - 1
        classes = (
            tuple(released_classes)
            if count == len(released_classes)
            else tuple(f"class{index + 1}" for index in range(count))
        )
        config = {"backbone": "resnet38", "num_classes": count, "method": "cpn"}
    arguments = {name: argument for name, argument in config.items() if name != "method"}
    net = build_described(build_cpn, arguments, path)
    load_strict(net, state, path)
    return net.eval(), config, classes


def load_backbone_weights(net: nn.Module, path: str | Path, key: str | None = None) -> list[str]:
    """Load weights to start from into net: ImageNet weights of ResNet38, an MXNet .params file or a
    .pth; of a timm model, a .pth or .safetensors with timm's names or its authors' (timm_names); or
    a trained network of the same backbone, whose new layers are taken over as well. Returns the
    names in the file that the network does not use (such as the ImageNet classifier).

    net: a CPN network, AffinityNet or ResNet38, whose new_modules() need not be in the file; every
    convolution and batch norm of the backbone must. key: which state dict of several. Raises
    InputError naming what is missing.
    """
    what, hint = (
        ("ResNet38 weights", WEIGHTS_HELP)
        if isinstance(net, ResNet38)
        else ("weights", TIMM_WEIGHTS_HELP)
    )
    require_file(path, what, hint)
    if Path(path).suffix == ".params":
        if not isinstance(net, ResNet38):
            raise InputError(
                f"--weights {path}: .params files are for --backbone resnet38; others take "
                "imagenet, none or a .pth"
            )
        if key is not None:
            raise InputError(f"--weights_key {key}: {path} holds one network; leave the flag out")
        state = resnet38_state_dict(read_mxnet_params(path))
    else:
        state = find_backbone(net, read_weights(path, what, hint), path, key)
    own = net.state_dict()
    heads = {name for name, module in net.named_children() if module in net.new_modules()}
    new = {name for name in own if name.split(".")[0] in heads}
    missing = [
        name
        for name in own
        if name not in new and name not in state and not name.endswith(NOT_IN_FILE)
    ]
    if missing:
        raise InputError(
            f"weights {path} lack {len(missing)} tensors, first {missing[0]}; is it another "
            "network?"
        )
    used = {name: tensor for name, tensor in state.items() if name in own}
    load_strict(net, own | used, path)
    return sorted(set(state) - set(used))


def find_backbone(
    net: nn.Module, value: Mapping[str, Any], path: str | Path, key: str | None = None
) -> dict[str, Tensor]:
    """find_state under net's names: those of net where its like was saved, else those of its timm
    model, which net has below `model`.
    """
    own = net.state_dict()
    state = find_state(value, path, own, key)
    model = getattr(net, "model", None)
    if model is None:
        return state
    inner = find_state(value, path, model.state_dict(), key)
    if any(name in own for name in state):
        return state
    return {f"model.{name}": tensor for name, tensor in timm_names(model, inner).items()}


def timm_names(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """state under the names of a timm model, where it does not fit as it is but timm's own
    conversion for the model's family (checkpoint_filter_fn) makes more of it fit.

    It knows the names of DINOv2, DINOv3, CLIP, Swin, PVT and others, and resizes positions of
    another image size.
    """
    own = {name: tensor.shape for name, tensor in model.state_dict().items()}

    def fits(tensors: dict) -> int:
        return sum(getattr(tensors.get(name), "shape", None) == own[name] for name in own)

    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is None or fits(state) == len(own):
        return state
    try:
        converted = convert(dict(state), model)
    except Exception:  # not a file of this family, whatever timm's code stumbled over
        return state
    return converted if fits(converted) > fits(state) else state


def load_strict(net: nn.Module, state: dict[str, Tensor], path: str | Path) -> None:
    """Load state into net, every tensor of each in the other; raises InputError naming the file and
    the first that does not fit.
    """
    own = net.state_dict()
    wrong = [name for name in own if name not in state and not name.endswith(NOT_IN_FILE)]
    if wrong or (extra := [name for name in state if name not in own]):
        kind, names = ("lack", wrong) if wrong else ("have unknown", extra)
        raise InputError(
            f"weights {path} {kind} {len(names)} tensors of this network, first {names[0]}; is it "
            "another backbone?"
        )
    for name, tensor in state.items():
        if isinstance(tensor, Tensor) and (fault := kind_fault(tensor)):
            raise InputError(f"weights {path}: {name} {fault}")
        if not isinstance(tensor, Tensor) or tensor.shape != own[name].shape:
            shape = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise InputError(
                f"weights {path}: {name} is {shape}, the network wants {tuple(own[name].shape)}; "
                "other class list or backbone?"
            )
        if fault := values_fault(tensor, own[name]):
            raise InputError(f"weights {path}: {name} {fault}")
    net.load_state_dict(own | state)
