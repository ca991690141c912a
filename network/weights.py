"""Checkpoints: what a trained network's file holds, and reading the weights that users have."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from network.cpn import CPNHead, build_cpn
from network.mxnet_params import read_mxnet_params, resnet38_state_dict
from network.resnet38 import ResNet38
from tool.checkpoint import load_torch, save_torch
from tool.errors import InputError
from tool.files import require_file
from voc12.constants import CLASSES

WEIGHTS_HELP = (
    "get ilsvrc-cls_rna-a1_cls1000_ep-0001.params (or its .pth conversion) as README.md describes, and set --weights FILE; "
    "--weights none starts from random numbers; --backbone efficientnet_lite0 brings its own weights"
)
TIMM_WEIGHTS_HELP = "give a trained network of the same backbone, 'imagenet' for what timm has, or 'none' for random numbers"
# Methods that make no CAM; network/expansion_weights.py and network/seg_weights.py read them.
EXPANSIONS = {"irn": "IRN", "aff": "AffinityNet", "seg": "a segmentation network"}
NOT_IN_FILE = ("num_batches_tracked",)  # a counter that MXNet files lack and frozen batch norm never reads


def save_network(path: str | Path, net: nn.Module, config: dict, classes: Sequence[str], training: dict) -> None:
    """Write a trained network so that load_network (load_irn, load_affinity_net, load_seg) needs nothing else.

    config: "method", and what builds the network: for a CAM network the keyword arguments of build_cpn
    training: settings, seed and commit, for the record
    """
    state = {name: value.contiguous() for name, value in net.state_dict().items()}
    save_torch(path, {"state_dict": state, "config": config, "classes": list(classes), "training": training})


def load_network(path: str | Path) -> tuple[CPNHead, dict, tuple[str, ...]]:
    """(network in eval mode, config, class names) from a file of save_network or from the authors' CPN.pth.

    config has the arguments of build_cpn and "method". A plain state dict is taken for ResNet38 CPN; its class count is that of
    fc8, and its class names are VOC's, where they fit. Loading is strict. Raises InputError naming the file and what does not fit.
    """
    value = load_torch(path, "trained weights", "train with train_cpn.py, or set --weights FILE")
    if "state_dict" in value and "config" in value:
        state, config, classes = value["state_dict"], value["config"], tuple(value.get("classes", ()))
        if not isinstance(state, dict) or not isinstance(config, dict) or "method" not in config:
            raise InputError(f"trained weights {path} do not describe their network; give a file that train_cpn.py wrote")
        if config["method"] in EXPANSIONS:
            raise InputError(
                f"trained weights {path} are of {EXPANSIONS[config['method']]}, which makes no CAM; give weights of train_cpn.py"
            )
        if config.get("num_classes") != len(classes):
            raise InputError(f"trained weights {path} name {len(classes)} classes for a network of {config.get('num_classes')}")
    else:
        state = {str(name).removeprefix("module."): tensor for name, tensor in value.items()}
        if not isinstance(state.get("fc8.weight"), Tensor):
            raise InputError(
                f"trained weights {path} are no CPN network: no tensor fc8.weight; backbone weights go to train_cpn.py"
            )
        count = state["fc8.weight"].shape[0] - 1
        classes = CLASSES if count == len(CLASSES) else tuple(f"class{index + 1}" for index in range(count))
        config = {"backbone": "resnet38", "num_classes": count, "method": "cpn"}
    try:
        net = build_cpn(**{name: argument for name, argument in config.items() if name != "method"})
    except (TypeError, ValueError) as error:
        raise InputError(f"trained weights {path} have an unknown configuration {config}: {error}") from error
    load_strict(net, state, path)
    return net.eval(), config, classes


def load_backbone_weights(net: nn.Module, path: str | Path) -> list[str]:
    """Load weights to start from into net: ImageNet weights of ResNet38, an MXNet .params file or a .pth, or a trained network of the
    same backbone, whose new layers are taken over as well. Returns the names in the file that the network does not use (such as the
    ImageNet classifier).

    net: a CPN network, AffinityNet or ResNet38, whose new_modules() need not be in the file; every convolution and batch norm of the
    backbone must. Raises InputError naming what is missing.
    """
    what, hint = ("ResNet38 weights", WEIGHTS_HELP) if isinstance(net, ResNet38) else ("weights", TIMM_WEIGHTS_HELP)
    require_file(path, what, hint)
    if Path(path).suffix == ".params":
        if not isinstance(net, ResNet38):
            raise InputError(f"--weights {path}: .params files are for --backbone resnet38; others take imagenet, none or a .pth")
        state = resnet38_state_dict(read_mxnet_params(path))
    else:
        state = load_torch(path, what, hint)
        state = state.get("state_dict", state)
    own = net.state_dict()
    heads = {name for name, module in net.named_children() if module in net.new_modules()}
    new = {name for name in own if name.split(".")[0] in heads}
    missing = [name for name in own if name not in new and name not in state and not name.endswith(NOT_IN_FILE)]
    if missing:
        raise InputError(f"weights {path} lack {len(missing)} tensors, first {missing[0]}; is it another network?")
    used = {name: tensor for name, tensor in state.items() if name in own}
    load_strict(net, own | used, path)
    return sorted(set(state) - set(used))


def load_strict(net: nn.Module, state: dict[str, Tensor], path: str | Path) -> None:
    """Load state into net, every tensor of each in the other; raises InputError naming the file and the first that does not fit."""
    own = net.state_dict()
    wrong = [name for name in own if name not in state and not name.endswith(NOT_IN_FILE)]
    if wrong or (extra := [name for name in state if name not in own]):
        kind, names = ("lack", wrong) if wrong else ("have unknown", extra)
        raise InputError(f"weights {path} {kind} {len(names)} tensors of this network, first {names[0]}; is it another backbone?")
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor) or tensor.shape != own[name].shape:
            shape = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise InputError(
                f"weights {path}: {name} is {shape}, the network wants {tuple(own[name].shape)}; other class list or backbone?"
            )
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise InputError(
                f"weights {path}: {name} has values that are not finite; the file is damaged or its training diverged"
            )
    net.load_state_dict(own | state)
