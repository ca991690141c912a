"""Backbones: stride, parameters, and images a second and peak memory of CPN's training step.

    python -m benchmarks.backbones
    python -m benchmarks.backbones --backbones resnet50:8 vit_small_patch16_dinov3 --device cuda

Weights are random. Each backbone runs in processes of its own, for its peak memory.
"""

import argparse
import sys
from statistics import median

import torch

from benchmarks.common import measure_apart, print_json, seconds_in_turn, section
from network import build_cpn
from network.cam_steps import train_cpn_step
from tool.errors import run_script
from tool.run.device import KEEP, autocast, set_allocator
from tool.run.flags import positive_int
from tool.run.trainer import to_device
from tool.schedule import build_optimizer

# A model of each family of docs/backbones.md.
BACKBONES = (
    "resnet38",
    "resnet50",
    "regnety_016",
    "convnext_tiny",
    "efficientnet_lite0",
    "efficientnet_lite0:8",
    "efficientnet_lite2",
    "mobilevit_xs",
    "vit_tiny_patch16_224",
    "deit_small_patch16_224",
    "vit_small_patch14_dinov2",
    "vit_small_patch16_dinov3",
    "vit_base_patch16_clip_224",
    "swin_tiny_patch4_window7_224",
    "pvt_v2_b1",
    "maxvit_tiny_tf_224",
    "mobilenetv4_conv_small",
    "hgnetv2_b0",
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--backbones",
        nargs="+",
        default=BACKBONES,
        metavar="NAME[:STRIDE]",
        help="default a model of each family",
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default %(default)s)")
    parser.add_argument(
        "--batch_size", type=positive_int, default=2, help="images a step (default %(default)s)"
    )
    parser.add_argument(
        "--crop_size", type=positive_int, default=224, help="pixels (default %(default)s)"
    )
    parser.add_argument(
        "--steps", type=positive_int, default=2, help="counted steps (default %(default)s)"
    )
    parser.add_argument("--rounds", type=positive_int, default=1, help="processes of each")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def measure(args: argparse.Namespace) -> None:
    """Print {stride, parameters, trainable, seconds, device_peak} of args.one."""
    device = torch.device(args.device)
    set_allocator(KEEP)
    name, _, stride = args.one.partition(":")
    net = build_cpn(name, output_stride=int(stride) if stride else None).to(device).train()
    net.to(memory_format=torch.channels_last)
    optimizer, _ = build_optimizer(net, 0.01, 5e-4, 5e-4, max_step=1000)
    shape = (args.batch_size, args.crop_size, args.crop_size)
    batch = to_device(
        {
            "image": torch.randn(shape[0], 3, *shape[1:]),
            "mask": torch.rand(shape) < 0.6,
            "label": torch.eye(20)[torch.arange(shape[0]) % 20],
            "visible": torch.full((shape[0],), 0.6),
        },
        device,
    )

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, "fp32"):
            train_cpn_step(net, batch)["loss"].backward()
        optimizer.step()

    backbone = [p for m in net.pretrained_modules() for p in m.parameters(recurse=False)]
    values = {
        "stride": net.stride,
        "parameters": sum(p.numel() for p in backbone) / 1e6,
        "seconds": seconds_in_turn({"step": step}, args.steps, device)["step"],
    }
    if device.type == "cuda":
        values["device_peak"] = torch.cuda.max_memory_allocated(device) / 2**30
    print_json(values)


def main(args: argparse.Namespace) -> None:
    """Print the table."""
    if args.one:
        return measure(args)
    flags = [
        *("--device", args.device, "--batch_size", args.batch_size),
        *("--crop_size", args.crop_size, "--steps", args.steps),
    ]
    memory = "device_peak" if args.device == "cuda" else "peak"
    rows = []
    for name in args.backbones:
        runs = [
            measure_apart("benchmarks.backbones", *flags, "--one", name) for _ in range(args.rounds)
        ]
        value = {key: median(run[key] for run in runs) for key in runs[0]}
        rows.append(
            [
                name.partition(":")[0],
                int(value["stride"]),
                f"{value['parameters']:.1f}",
                f"{args.batch_size / value['seconds']:.2g}",
                f"{value[memory]:.2f}",
            ]
        )
        print(*rows[-1], file=sys.stderr, flush=True)
    header = ("backbone", "stride", "parameters, M", "images / s", "peak GiB")
    command = f"python -m benchmarks.backbones --device {args.device}"
    words = (
        f"A training step of CPN, batch {args.batch_size}, crop {args.crop_size}, fp32, random "
        "weights; three branches an image. Parameters are the backbone's."
    )
    print(section("Backbones", command, header, rows, words))


if __name__ == "__main__":
    run_script(main, parse_args)
