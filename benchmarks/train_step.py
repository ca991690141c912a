"""CPN's training step: the naive way against ours, seconds and peak memory; on a GPU also the share
of its bf16 peak.

    python -m benchmarks.train_step
    python -m benchmarks.train_step --device cuda --batch_size 16

The naive step, in our own words: a forward pass for each of the three branches, losses on maps of
all classes at full size, batch norm as a layer of its own, plain SGD, and on the CPU the C
library's default allocator. Each step runs in processes of its own, in turn with the
others: the allocator and the peak memory belong to the process.
"""

import argparse
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common import measure_apart, print_json, seconds_in_turn, section
from network import build_cpn
from network.cam_steps import compile_training, train_cpn_step
from tool.errors import run_script
from tool.losses import cpn_losses
from tool.patches import cp_pair
from tool.run.device import GIVE_BACK, KEEP, autocast, set_allocator
from tool.run.flags import positive_int
from tool.run.trainer import to_device
from tool.schedule import build_optimizer, parameter_groups


@dataclass(frozen=True)
class Setting:
    """A network, a batch and a crop."""

    backbone: str
    batch_size: int
    crop_size: int


CPU_SETTINGS = (Setting("resnet38", 1, 224), Setting("efficientnet_lite0", 8, 224))
# Way of the step: (naive, precision, compiled, checkpointed).
WAYS = {
    "naive": (True, "fp32", False, False),
    "ours": (False, "fp32", False, False),
    "ours, bf16": (False, "bf16", False, False),
    "ours, bf16, compiled": (False, "bf16", True, False),
    "ours, bf16, checkpointed": (False, "bf16", False, True),
}
CPU_WAYS = ("naive", "ours", "ours, bf16")
# Dense bf16 peaks in FLOP/s by their makers' data sheets, by a part of the device's name.
BF16_PEAKS = {
    "H200": 989e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "4090": 165e12,
    "L4": 121e12,
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default %(default)s)")
    parser.add_argument(
        "--batch_size",
        type=positive_int,
        default=16,
        help="images a step on a GPU, ResNet38 (default %(default)s)",
    )
    parser.add_argument(
        "--crop_size", type=positive_int, default=448, help="pixels on a GPU (default %(default)s)"
    )
    parser.add_argument(
        "--steps",
        type=positive_int,
        default=2,
        help="counted steps of a process (default %(default)s)",
    )
    parser.add_argument(
        "--rounds", type=positive_int, default=2, help="processes of each way (default %(default)s)"
    )
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)  # way, backbone, batch, crop
    return parser.parse_args(argv)


def naive_step(net: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """The loss by three forward passes and maps of all classes at full size."""
    image = batch["image"]
    cams, refined = zip(
        *(net(branch) for branch in (image, *cp_pair(image, batch["mask"]))), strict=True
    )
    return cpn_losses(cams, refined, batch["label"], batch["visible"])["loss"]


def make(
    setting: Setting, way: str, device: torch.device
) -> tuple[nn.Module, Optimizer, dict[str, Tensor]]:
    """Network, optimiser and a batch of noise with one label an image."""
    naive, _, compiled, checkpointed = WAYS[way]
    torch.manual_seed(0)
    net = build_cpn(setting.backbone).to(device).train()
    if naive:
        for module in net.modules():
            vars(module).pop("forward", None)  # batch norm unfolded (network/fold.py)
        optimizer = SGD(parameter_groups(net, 0.01, 5e-4), momentum=5e-4, foreach=False)
    else:
        net.to(memory_format=torch.channels_last)
        optimizer, _ = build_optimizer(net, 0.01, 5e-4, 5e-4, max_step=1000)
        if checkpointed:
            net.checkpointing = True
        if compiled:
            compile_training(net)
    size = (setting.batch_size, setting.crop_size, setting.crop_size)
    batch = {
        "image": torch.randn(size[0], 3, *size[1:]),
        "mask": torch.rand(size) < 0.6,
        "label": torch.eye(20)[torch.arange(size[0]) % 20],
        "visible": torch.full((size[0],), 0.6),
    }
    return (
        net,
        optimizer,
        {name: value.to(device) for name, value in batch.items()}
        if naive
        else to_device(batch, device),
    )


def measure(args: argparse.Namespace) -> None:
    """Print {seconds, forward, flop, device_peak} of args.one: a whole step, its forward passes and
    losses, its operations, GPU memory.
    """
    way, setting, device = (
        args.one[0],
        Setting(args.one[1], int(args.one[2]), int(args.one[3])),
        torch.device(args.device),
    )
    naive, precision, *_ = WAYS[way]
    set_allocator(GIVE_BACK if naive else KEEP)
    net, optimizer, batch = make(setting, way, device)

    def forward() -> Tensor:
        with autocast(device, precision):
            return naive_step(net, batch) if naive else train_cpn_step(net, batch)["loss"]

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        forward().backward()
        optimizer.step()

    values = {
        name: seconds_in_turn({name: f}, args.steps, device)[name]
        for name, f in (("seconds", step), ("forward", forward))
    }
    if device.type == "cuda":
        values["device_peak"] = torch.cuda.max_memory_allocated(device) / 2**30
    if way == "ours, bf16" and device.type == "cuda":
        with FlopCounterMode(display=False) as counter:
            step()
        values["flop"] = counter.get_total_flops()
    print_json(values)


def medians(args: argparse.Namespace, setting: Setting, ways: tuple[str, ...]) -> dict[str, dict]:
    """way -> figure -> its median over --rounds processes, the ways in turn."""
    runs: dict[str, list[dict]] = {way: [] for way in ways}
    for _ in range(args.rounds):
        for way in ways:
            one = (way, setting.backbone, setting.batch_size, setting.crop_size)
            flags = ("--device", args.device, "--steps", args.steps, "--one", *one)
            runs[way].append(measure_apart("benchmarks.train_step", *flags))
    return {
        way: {key: median(run[key] for run in runs[way]) for key in runs[way][0]} for way in ways
    }


def table_row(setting: Setting, way: str, value: dict, naive: dict, cuda: bool) -> list[str]:
    """The row of a way, but for its share of the device's peak."""
    memory = "device_peak" if cuda else "peak"
    return [
        f"{setting.backbone}, batch {setting.batch_size}, crop {setting.crop_size}",
        way,
        f"{value['seconds']:.3g}",
        f"{setting.batch_size / value['seconds']:.3g}",
        f"{naive['seconds'] / value['seconds']:.2f}",
        f"{value[memory]:.2f} ({value[memory] / naive[memory]:.0%})",
    ]


def share_of_peak(flop: float | None, seconds: float, way: str) -> str:
    """Of the device's bf16 arithmetic, for bf16 on a device whose peak is known."""
    name = torch.cuda.get_device_name()
    peak = next((peak for known, peak in BF16_PEAKS.items() if known in name), None)
    return f"{flop / seconds / peak:.0%}" if peak and flop and "bf16" in way else ""


def main(args: argparse.Namespace) -> None:
    """Print the section of RESULTS.md."""
    if args.one:
        return measure(args)
    cuda = args.device != "cpu"
    settings = (Setting("resnet38", args.batch_size, args.crop_size),) if cuda else CPU_SETTINGS
    ways = tuple(WAYS) if cuda else CPU_WAYS
    rows, words, flop = [], [], None
    for setting in settings:
        middle = medians(args, setting, ways)
        naive, ours = middle["naive"], middle["ours"]
        flop = middle.get("ours, bf16", {}).get("flop")
        for way, value in middle.items():
            row = table_row(setting, way, value, naive, cuda)
            rows.append(row + ([share_of_peak(flop, value["seconds"], way)] if cuda else []))
        words.append(
            f"{setting.backbone}: forward passes and losses take "
            f"{naive['forward'] / naive['seconds']:.0%} of the naive step and "
            f"{ours['forward'] / ours['seconds']:.0%} of ours, backward pass and optimiser the "
            "rest."
        )
    if flop:
        words.append(
            f"The step's own operations: {flop / 1e12:.1f} TFLOP (torch.utils.flop_counter, "
            "recomputation not counted)."
        )
    header = ["setting", "step", "s a step", "images/s", "ratio", "peak GiB (share of naive)"]
    command = f"python -m benchmarks.train_step --device {args.device}" + (
        f" --batch_size {args.batch_size}" if cuda else ""
    )
    print(
        section(
            "Training step",
            command,
            header + (["of bf16 peak"] if cuda else []),
            rows,
            " ".join(words),
        )
    )


if __name__ == "__main__":
    run_script(main, parse_args)
