"""Training step on the CPU, with freed memory kept by the process (tool.run.device.set_allocator)
against glibc's default: seconds a step.

    python -m benchmarks.allocator

CPN on EfficientNet-Lite0, random images. A heap that has grown serves both settings, so each is
timed in processes of its own, in turn.
Results: benchmarks/RESULTS.md.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from statistics import median

import torch

from network import build_cpn
from network.cam_steps import train_cpn_step
from tool.run.device import GIVE_BACK, KEEP, set_allocator
from tool.run.flags import positive_int
from tool.run.trainer import to_device

SETTINGS = {"default": GIVE_BACK, "kept": KEEP}


def parse_args() -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--batch_size", type=positive_int, default=8, help="images a step (default %(default)s)"
    )
    parser.add_argument(
        "--crop_size", type=positive_int, default=224, help="pixels (default %(default)s)"
    )
    parser.add_argument(
        "--steps",
        type=positive_int,
        default=6,
        help="counted steps of a process (default %(default)s)",
    )
    parser.add_argument(
        "--rounds",
        type=positive_int,
        default=3,
        help="processes of each setting (default %(default)s)",
    )
    parser.add_argument("--setting", choices=SETTINGS, help=argparse.SUPPRESS)
    return parser.parse_args()


def time_steps(args: argparse.Namespace) -> dict:
    """{seconds: median of a step, system: share of CPU time in the kernel, peak: GiB} of this
    process under args.setting.
    """
    if not set_allocator(SETTINGS[args.setting]):
        raise SystemExit("this C library has no mallopt; nothing to compare")
    torch.manual_seed(0)
    net = (
        build_cpn("efficientnet_lite0", pretrained=True)
        .to(memory_format=torch.channels_last)
        .train()
    )
    size = (args.batch_size, args.crop_size, args.crop_size)
    batch = {
        "image": torch.randn(args.batch_size, 3, args.crop_size, args.crop_size),
        "mask": torch.rand(size) < 0.5,
        "label": torch.eye(20)[torch.arange(args.batch_size) % 20],
        "visible": torch.full((args.batch_size,), 0.5),
    }
    batch = to_device(batch, torch.device("cpu"))
    seconds = []
    for _ in range(args.steps + 1):
        start = time.perf_counter()
        net.zero_grad(set_to_none=True)
        train_cpn_step(net, batch)["loss"].backward()
        seconds.append(time.perf_counter() - start)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    system = usage.ru_stime / (usage.ru_stime + usage.ru_utime)
    # the first step warms up
    return {
        "seconds": median(seconds[1:]),
        "system": system,
        "peak": usage.ru_maxrss / 2**20,
    }


def main(args: argparse.Namespace) -> None:
    """Run processes of both settings in turn; print medians and their ratio."""
    if args.setting:
        print(json.dumps(time_steps(args)))
        return
    command = [
        sys.executable,
        "-m",
        "benchmarks.allocator",
        "--batch_size",
        str(args.batch_size),
        "--crop_size",
        str(args.crop_size),
    ]
    runs: dict[str, list[dict]] = {name: [] for name in SETTINGS}
    for _ in range(args.rounds):
        for name in SETTINGS:
            words = [*command, "--steps", str(args.steps), "--setting", name]
            runs[name].append(
                json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
            )
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, batch {args.batch_size}, "
        f"crop {args.crop_size}"
    )
    middle = {
        name: {key: median(run[key] for run in runs[name]) for key in runs[name][0]}
        for name in runs
    }
    for name, values in middle.items():
        print(
            f"{name}: {values['seconds']:.2f} s a step, {values['system']:.0%} of CPU time in the "
            f"kernel, peak {values['peak']:.1f} GiB"
        )
    print(
        f"ratio {middle['default']['seconds'] / middle['kept']['seconds']:.2f} (medians of "
        f"{args.rounds} processes each)"
    )


if __name__ == "__main__":
    main(parse_args())
