"""CAM of one photograph at four scales with flips: the naive way against ours, seconds and peak
memory.

    python -m benchmarks.inference
    python -m benchmarks.inference --device cuda

The naive way, in our own words: a pass for every scale and flip, maps of all classes resized, PCM's
N x N matrix held whole, batch norm as a layer of its own, gradients merely not asked for, and on
the CPU the C library's default allocator.
"""

import argparse
from statistics import median

import numpy as np
import torch
from torch.nn import functional as F

import network.cpn
from benchmarks.common import measure_apart, print_json, seconds_in_turn, section
from network import build_cpn
from network.cam_inference import image_cam
from network.cpn import CPNHead
from tool.cam import merge_passes
from tool.errors import run_script
from tool.run.device import GIVE_BACK, KEEP_SMALL, give_back_free_memory, set_allocator
from tool.run.flags import positive_int

SCALES = (0.5, 1.0, 1.5, 2.0)
SIZE = (375, 500)
KEYS = (2, 14)
WAYS = {"naive": "fp32", "ours": "fp32", "ours, bf16": "bf16"}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default %(default)s)")
    parser.add_argument(
        "--backbones",
        nargs="+",
        default=("resnet38", "efficientnet_lite0"),
        help="networks (default both)",
    )
    parser.add_argument(
        "--rounds", type=positive_int, default=1, help="processes of each way (default %(default)s)"
    )
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # way, backbone
    return parser.parse_args(argv)


@torch.no_grad()
def naive_cam(net: CPNHead, scaled: list[torch.Tensor], keys: torch.Tensor) -> np.ndarray:
    """The merged CAM (n, H, W) by a pass for every scale and flip."""
    passes = []
    for image in scaled:
        for flip in (False, True):
            x = image[None].to(keys.device)
            refined = net(x.flip(-1) if flip else x)[1]
            cam = F.interpolate(refined, SIZE, mode="bilinear", align_corners=False)[0, keys + 1]
            passes.append((cam, flip))
    return merge_passes(passes).cpu().numpy()


def measure(args: argparse.Namespace) -> None:
    """Print {seconds, device_peak} of args.one; the network has random weights, the photograph is
    noise.
    """
    way, backbone = args.one
    device = torch.device(args.device)
    set_allocator(GIVE_BACK if way == "naive" else KEEP_SMALL)
    torch.manual_seed(0)
    net = build_cpn(backbone).to(device).eval()
    scaled = [torch.randn(3, *(round(side * scale) for side in SIZE)) for scale in SCALES]
    keys = torch.tensor(KEYS, device=device)
    if way == "naive":
        network.cpn.PCM_BLOCK = network.cpn.PCM_ELEMENTS = 10**12
        for module in net.modules():
            vars(module).pop("forward", None)  # batch norm unfolded (network/fold.py)
        run = {way: lambda: naive_cam(net, scaled, keys)}
    else:
        net.to(memory_format=torch.channels_last)
        give_back_free_memory()
        run = {
            way: lambda: image_cam(
                net, scaled, SIZE, keys, refined=True, flip=True, precision=WAYS[way]
            )
        }
    values = (
        seconds_in_turn(run, rounds=5, device=device)
        if device.type == "cuda"
        else seconds_in_turn(run, 1, warm_up=False)
    )
    values = {"seconds": values[way]}
    if device.type == "cuda":
        values["device_peak"] = torch.cuda.max_memory_allocated(device) / 2**30
    print_json(values)


def main(args: argparse.Namespace) -> None:
    """Print the section of RESULTS.md."""
    if args.one:
        return measure(args)
    memory, rows = "peak" if args.device == "cpu" else "device_peak", []
    for backbone in args.backbones:
        runs: dict[str, list[dict]] = {way: [] for way in WAYS}
        for _ in range(args.rounds):
            for way in WAYS:
                runs[way].append(
                    measure_apart(
                        "benchmarks.inference", "--device", args.device, "--one", way, backbone
                    )
                )
        middle = {
            way: {key: median(run[key] for run in runs[way]) for key in runs[way][0]}
            for way in WAYS
        }
        for way, value in middle.items():
            ratio = middle["naive"]["seconds"] / value["seconds"]
            rows.append(
                [backbone, way, f"{value['seconds']:.3g}", f"{ratio:.2f}", f"{value[memory]:.2f}"]
            )
    print(
        section(
            "CAM inference",
            f"python -m benchmarks.inference --device {args.device}",
            ["network", "way", "s an image", "ratio", "peak GiB"],
            rows,
            f"One photograph of {SIZE[1]} x {SIZE[0]} at scales {', '.join(map(str, SCALES))} with "
            f"flips, {len(KEYS)} classes, reading and writing left out (they overlap with "
            "computing). Nearly all of it is the backbone's convolutions; scale 2 alone is half of "
            "the work, since work grows with the area.",
        )
    )


if __name__ == "__main__":
    run_script(main, parse_args)
