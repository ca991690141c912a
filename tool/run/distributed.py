"""What the processes of one training tell each other, by NCCL between CUDA devices and gloo between
CPUs; one alone tells nothing.

torchrun starts them (docs/several_gpus.md) and ends the others when one dies.
"""

import contextlib
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import partialmethod
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from tool.run.shards import is_main, world_size

# Ranks wait while another finishes its share of labels or validation.
PATIENCE = timedelta(hours=12)


def join(device: torch.device) -> None:
    """Join the other processes of this training, if there are any. All but rank 0 fall silent, but
    for errors.
    """
    if world_size() == 1 or dist.is_initialized():
        return
    if not is_main():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - for the rest of the process
        tqdm.__init__ = partialmethod(tqdm.__init__, disable=True)
    # gather() sends what is on the host, so it takes gloo beside NCCL.
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE
    )


def leave() -> None:
    """End what join began, once there is nothing left to tell."""
    if dist.is_initialized():
        dist.destroy_process_group()


def gather(value: Any) -> list[Any]:
    """The value of every rank, in their order; anything that pickles."""
    if not dist.is_initialized():
        return [value]
    values = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def barrier() -> None:
    """Wait for all ranks."""
    gather(None)


def mean_over_ranks(value: Tensor) -> Tensor:
    """The mean over all ranks of a tensor of numbers, without gradient; alone, value itself."""
    if not dist.is_initialized():
        return value
    total = value.detach().double()
    dist.all_reduce(total)
    return total / world_size()


class _BatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the parts of all ranks together, so that ranks train as one process does;
    alone, and in eval mode, nn.BatchNorm2d.

    torch's SyncBatchNorm does the same between CUDA devices only.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, H, W), of one shape on all ranks."""
        if not self.training or not dist.is_initialized():
            return super().forward(x)
        values = x.float()
        mean = all_reduce(values.mean(dim=(0, 2, 3))) / world_size()
        centred = values - mean[:, None, None]
        variance = all_reduce(centred.square().mean(dim=(0, 2, 3))) / world_size()
        with torch.no_grad():
            count = x.numel() // x.shape[1] * world_size()
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
            self.num_batches_tracked.add_(1)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


class _Step(nn.Module):
    """The losses of a batch as the forward of a module with the network's parameters."""

    def __init__(self, net: nn.Module, losses_of: Callable[[dict], dict[str, Tensor]]) -> None:
        super().__init__()
        self.net, self.losses_of = net, losses_of

    def forward(self, batch: dict) -> dict[str, Tensor]:
        return self.losses_of(batch)

    def no_sync(self) -> contextlib.AbstractContextManager:
        """As DistributedDataParallel's, for a backward that others of the same step follow."""
        return contextlib.nullcontext()


def data_parallel(net: nn.Module, losses_of: Callable[[dict], dict[str, Tensor]]) -> nn.Module:
    """A module that gives the losses of this rank's part of a batch, and whose backward leaves in
    net the mean gradient over ranks.

    With parts of one size that is the gradient of the whole batch, if each loss is a mean over its
    images. A method may leave parameters without a gradient (the plain baseline all of the
    refinement's). Batch norm that trains, in the heads of the segmentation networks, takes its
    statistics over all ranks.
    """
    step = _Step(net, losses_of)
    if not dist.is_initialized():
        return step
    for module in net.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = _BatchNorm2d  # in place: the optimiser holds its parameters
    return DistributedDataParallel(step, find_unused_parameters=True)
