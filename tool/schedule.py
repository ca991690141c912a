"""Parameter groups, the optimiser and the poly learning rate."""

from collections.abc import Iterable

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from tool.choices import NEW_LAYER_FACTOR

BIAS_FACTOR = 2


def parameter_groups(
    net: nn.Module,
    lr: float,
    weight_decay: float,
    new_factor: float = NEW_LAYER_FACTOR,
    refinement_factor: float | None = None,
) -> list[dict]:
    """Four groups of the trainable convolutions and linear layers: pretrained weights (1x lr),
    pretrained biases (2x), new weights (new_factor x), new biases (2 new_factor x); weight decay on
    weights only. A backbone that trains more than these, as transformers and ConvNeXt do (layer
    norm, class tokens, positions, scales), has it in a fifth: 1x, no weight decay.

    net:               gives `pretrained_modules()` and `new_modules()`. Frozen batch norm is in no
                       group, nor are norms of new modules.
    refinement_factor: puts those of the new modules that are in `net.refinement_modules()` into two
                       more groups with this factor; None leaves them with the others, as released
    Source: released code; group sizes in tests/data/parity/schedule.npz.
    """

    def collect(modules: Iterable[nn.Module], attribute: str) -> list[nn.Parameter]:
        layers = (module for module in modules if isinstance(module, (nn.Conv2d, nn.Linear)))
        parameters = (getattr(layer, attribute) for layer in layers)
        return [
            parameter
            for parameter in parameters
            if parameter is not None and parameter.requires_grad
        ]

    refinement = [] if refinement_factor is None else net.refinement_modules()
    new = [module for module in net.new_modules() if module not in refinement]
    kinds = [("pretrained", list(net.pretrained_modules()), 1), ("new", new, new_factor)]
    if refinement_factor is not None:
        kinds.append(("refinement", refinement, refinement_factor))
    groups = []
    for name, modules, factor in kinds:
        groups.append(
            {"name": f"{name} weights", "params": collect(modules, "weight"), "lr": lr * factor}
        )
        groups.append(
            {
                "name": f"{name} biases",
                "params": collect(modules, "bias"),
                "lr": lr * factor * BIAS_FACTOR,
            }
        )
    for index, group in enumerate(groups):
        group["weight_decay"] = 0.0 if index % 2 else weight_decay
    grouped = {id(parameter) for group in groups for parameter in group["params"]}
    others = {
        id(parameter): parameter  # once, if modules share it
        for module in net.pretrained_modules()
        if not isinstance(module, nn.modules.batchnorm._BatchNorm)
        for parameter in module.parameters(recurse=False)
        if parameter.requires_grad and id(parameter) not in grouped
    }
    if others:
        params = list(others.values())
        groups.append(
            {"name": "pretrained others", "params": params, "lr": lr, "weight_decay": 0.0}
        )
    return groups


def poly_factor(step: int, max_step: int, power: float = 0.9) -> float:
    """(1 - step / max_step) ** power; past the last step it stays at the last step's value, as
    released.
    """
    return (1 - min(step, max_step - 1) / max_step) ** power


def warm_poly_factor(step: int, max_step: int, power: float = 0.9, warmup: int = 0) -> float:
    """poly_factor, and over the first `warmup` steps a share of it that rises evenly to 1."""
    return min(1.0, (step + 1) / (warmup + 1)) * poly_factor(step, max_step, power)


def poly_optimizer(
    groups: list[dict],
    momentum: float,
    max_step: int,
    power: float = 0.9,
    optimizer: str = "sgd",
    warmup: int = 0,
) -> tuple[Optimizer, LambdaLR]:
    """The optimizer over groups, each with lr and weight_decay of its own, and its poly schedule,
    to be stepped once an iteration.

    optimizer: "sgd", or "adamw", which has no use for momentum; warmup: see warm_poly_factor
    """
    devices = {parameter.device.type for group in groups for parameter in group["params"]}
    fused = devices <= {"cpu", "cuda"}  # one pass over the weights
    if optimizer == "adamw":
        made = AdamW(groups, fused=fused)
    else:
        made = SGD(groups, momentum=momentum, fused=fused)
    return made, LambdaLR(made, lambda step: warm_poly_factor(step, max_step, power, warmup))


def build_optimizer(
    net: nn.Module,
    lr: float,
    weight_decay: float,
    momentum: float,
    max_step: int,
    power: float = 0.9,
    new_factor: float = NEW_LAYER_FACTOR,
    refinement_factor: float | None = None,
    optimizer: str = "sgd",
    warmup: int = 0,
) -> tuple[Optimizer, LambdaLR]:
    """poly_optimizer over parameter_groups(net)."""
    return poly_optimizer(
        parameter_groups(net, lr, weight_decay, new_factor, refinement_factor),
        momentum,
        max_step,
        power,
        optimizer,
        warmup,
    )
