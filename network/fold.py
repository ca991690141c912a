"""Frozen batch norm folded into the convolution before it: conv(x, w * scale) + shift, one pass
over the maps instead of two.

Exact up to rounding, since frozen batch norm is a fixed scale and shift per channel. Modules and
state dict keep their names; scale and shift are computed from the batch norm's tensors at every
call, so weights that are loaded or trained later count.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from types import MethodType
from typing import Any

import torch
from timm.layers import BatchNormAct2d, Conv2dSame, pad_same
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves


def conv_norm(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """norm(conv(x)) for a batch norm in eval mode, its activation (timm's BatchNormAct2d) not
    applied.
    """
    scale = torch.rsqrt(norm.running_var + norm.eps)
    if norm.weight is not None:
        scale = norm.weight * scale
    shift = -norm.running_mean if conv.bias is None else conv.bias - norm.running_mean
    shift = shift * scale if norm.bias is None else torch.addcmul(norm.bias, shift, scale)
    weight = conv.weight * scale.view(-1, 1, 1, 1)
    if isinstance(conv, Conv2dSame):
        x = pad_same(x, conv.weight.shape[-2:], conv.stride, conv.dilation)
    return conv._conv_forward(x, weight, shift)


def fold_frozen_norms(module: nn.Module, run: Callable[[], Iterable[Tensor]]) -> int:
    """Fold every frozen batch norm below module that is all that reads its convolution's output;
    how many there are.

    run: runs module once, in eval mode, and gives the maps it returns. Convolutions and batch norms
    of other classes than nn.Conv2d, timm's Conv2dSame, nn.BatchNorm2d and timm's BatchNormAct2d,
    and those that run more than once, stay as they are.
    """
    pairs = _conv_norm_pairs(module, run)
    for conv, norm in pairs:
        conv.folded_norm = (norm,)  # in a tuple, so that it is no submodule
        # bound, so that a deep copy is bound to the copy
        conv.forward = MethodType(_folded_conv, conv)
        norm.forward = MethodType(_folded_norm, norm)
    return len(pairs)


def _folded_conv(conv: nn.Conv2d, x: Tensor) -> Tensor:
    return conv_norm(x, conv, conv.folded_norm[0])


def _folded_norm(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    return norm.act(norm.drop(x)) if isinstance(norm, BatchNormAct2d) else x


class _Readers(TorchFunctionMode):
    """Counts how often each tensor, by id, goes into a torch function that makes a tensor; keeps
    all alive, so that no id comes twice.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[int] = Counter()
        self._alive: list[Tensor] = []

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(isinstance(leaf, Tensor) for leaf in tree_leaves(result)):
            read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            self._alive += read
            self.count.update(map(id, read))
        return result


def _conv_norm_pairs(
    module: nn.Module, run: Callable[[], Iterable[Tensor]]
) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """The (convolution, batch norm) of which the second alone reads the output of the first."""
    runs: Counter[nn.Module] = Counter()
    made: dict[int, tuple[nn.Module, Tensor]] = {}
    read: list[tuple[nn.Module, Tensor]] = []

    def after_conv(conv: nn.Module, _inputs: tuple, output: Tensor) -> None:
        runs[conv] += 1
        made[id(output)] = (conv, output)

    def before_norm(norm: nn.Module, inputs: tuple) -> None:
        runs[norm] += 1
        read.append((norm, inputs[0]))

    hooks = [
        child.register_forward_hook(after_conv)
        for child in module.modules()
        if type(child) in (nn.Conv2d, Conv2dSame)
    ]
    hooks += [
        child.register_forward_pre_hook(before_norm)
        for child in module.modules()
        if type(child) in (nn.BatchNorm2d, BatchNormAct2d)
        and not child.training
        and child.running_mean is not None
    ]
    try:
        with torch.no_grad(), _Readers() as readers:
            returned = {id(tensor) for tensor in run()}
    finally:
        for hook in hooks:
            hook.remove()
    return [
        (made[id(x)][0], norm)
        for norm, x in read
        if id(x) in made
        and readers.count[id(x)] == 1
        and id(x) not in returned
        and runs[norm] == runs[made[id(x)][0]] == 1
    ]
