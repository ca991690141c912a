"""All benchmarks in one command: their sections, and the allocator's lines, as printed by each
script, one after the other.

    python -m benchmarks.run_all --voc12_root DIR > sections.md
    python -m benchmarks.run_all --voc12_root DIR --device cuda > sections.md

To be run on a quiet machine. On a GPU those that do not use it are left out.
"""

import argparse
import subprocess
import sys
import time

from benchmarks.common import add_photographs_flag


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_photographs_flag(parser)
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default %(default)s)")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    """Run every script; leave with 1 if one fails."""
    data = ["--list", args.list] + (["--voc12_root", args.voc12_root] if args.voc12_root else [])
    device = ["--device", args.device]
    if args.device == "cpu":
        loop: list[str] = []
        alone = [["patches", *data], ["evaluation"], ["allocator"]]
    else:
        loop = [
            "--backbone",
            "resnet38",
            "--batch_size",
            "16",
            "--crop_size",
            "448",
            "--precision",
            "bf16",
            "--num_workers",
            "8",
        ]
        loop += ["--images", "400"]
        alone = []
    failed = []
    for name, *words in [
        *alone,
        ["data_pipeline", *data, *device, *loop],
        ["train_step", *device],
        ["inference", *device],
    ]:
        start = time.monotonic()
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *words]).returncode:
            failed.append(name)
        print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main(parse_args())
