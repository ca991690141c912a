"""Parameter groups, the optimiser and the poly learning rate."""

from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR

NEW_LAYER_FACTOR = 10
BIAS_FACTOR = 2

# The released optimiser hands its weight decay to SGD's momentum slot, so 5e-4 is the momentum that made the published numbers.
RELEASED_MOMENTUM = 5e-4


def parameter_groups(net: nn.Module, lr: float, weight_decay: float, new_factor: float = NEW_LAYER_FACTOR) -> list[dict]:
    """Four groups of the trainable convolutions and linear layers: pretrained weights (1x lr), pretrained biases (2x), new weights
    (new_factor x), new biases (2 new_factor x); weight decay on weights only.

    net: gives `pretrained_modules()` and `new_modules()`. Batch norm and other normalisation parameters are in no group.
    Source: released code; group sizes in tests/data/parity/schedule.npz.
    """

    def collect(modules, attribute: str) -> list[nn.Parameter]:
        layers = (module for module in modules if isinstance(module, (nn.Conv2d, nn.Linear)))
        parameters = (getattr(layer, attribute) for layer in layers)
        return [parameter for parameter in parameters if parameter is not None and parameter.requires_grad]

    groups = []
    for name, modules, factor in (("pretrained", net.pretrained_modules, 1), ("new", net.new_modules, new_factor)):
        groups.append({"name": f"{name} weights", "params": collect(modules(), "weight"), "lr": lr * factor})
        groups.append({"name": f"{name} biases", "params": collect(modules(), "bias"), "lr": lr * factor * BIAS_FACTOR})
    for group, decay in zip(groups, (weight_decay, 0.0) * 2, strict=True):
        group["weight_decay"] = decay
    return groups


def poly_factor(step: int, max_step: int, power: float = 0.9) -> float:
    """(1 - step / max_step) ** power; past the last step it stays at the last step's value, as released."""
    return (1 - min(step, max_step - 1) / max_step) ** power


def poly_sgd(groups: list[dict], momentum: float, max_step: int, power: float = 0.9) -> tuple[Optimizer, LambdaLR]:
    """SGD over groups, each with lr and weight_decay of its own, and its poly schedule, to be stepped once an iteration."""
    optimizer = SGD(groups, momentum=momentum)
    return optimizer, LambdaLR(optimizer, lambda step: poly_factor(step, max_step, power))


def build_optimizer(
    net: nn.Module,
    lr: float,
    weight_decay: float,
    momentum: float,
    max_step: int,
    power: float = 0.9,
    new_factor: float = NEW_LAYER_FACTOR,
) -> tuple[Optimizer, LambdaLR]:
    """poly_sgd over parameter_groups(net)."""
    return poly_sgd(parameter_groups(net, lr, weight_decay, new_factor), momentum, max_step, power)
