"""What the benchmarks share: timing in turn, the machine in words, peak memory, and the Markdown
section each of them prints.
"""

import argparse
import datetime
import gc
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import torch

from tool.run.flags import positive_int
from tool.run.run_log import provenance
from voc12.lists import evenly, load_ids
from voc12.sample.make import make_sample


def seconds_in_turn(
    functions: dict[str, Callable[[], Any]],
    rounds: int,
    device: torch.device | None = None,
    warm_up: bool = True,
) -> dict[str, float]:
    """The median seconds of each function; all run once to warm up, unless told not to, then in
    turn, `rounds` times.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds + warm_up):
        for name, function in functions.items():
            gc.collect()
            _synchronise(device)
            start = time.perf_counter()
            function()
            _synchronise(device)
            if number >= warm_up:
                times[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in times.items()}


def _synchronise(device: torch.device | None) -> None:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)


def measure_apart(module: str, *words: object) -> dict[str, Any]:
    """What `python -m module words` prints as JSON: a process of its own, for its peak memory or
    its allocator.
    """
    command = [sys.executable, "-m", module, *map(str, words)]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{run.stderr}")
    return json.loads(run.stdout.splitlines()[-1])


def print_json(values: dict[str, Any]) -> None:
    """What measure_apart reads, with the peak memory of this process in GiB."""
    print(json.dumps(values | {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}))


@cache
def machine() -> str:
    """Date, processor or GPU, threads and versions, as the results name them."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.split(":", 1)[1].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        processor = names[0] if names else processor
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    known = provenance()
    versions = ", ".join(f"{name} {version}" for name, version in known["versions"].items())
    return (
        f"{datetime.date.today().isoformat()}; {os.cpu_count()} cores of {processor}, {gpu}, torch "
        f"on {torch.get_num_threads()} threads; {versions}; commit {known['commit'][:12]}; medians"
    )


def section(
    title: str, command: str, header: Sequence[str], rows: Sequence[Sequence[object]], words: str
) -> str:
    """A section of RESULTS.md: heading, machine and command, a table, and what it means."""
    lines = [f"## {title}", "", f"{machine()}. `{command}`", ""]
    lines += [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    lines += [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    return "\n".join([*lines, "", words, ""])


def add_road_flags(parser: argparse.ArgumentParser) -> None:
    """--voc12_root, --list, --images and --iterations, of commands run as users run them."""
    add_photographs_flag(parser)
    parser.add_argument(
        "--images",
        type=positive_int,
        default=40,
        help="photographs of the list (default %(default)s)",
    )
    parser.add_argument(
        "--iterations",
        type=positive_int,
        default=20,
        help="steps of a training (default %(default)s)",
    )


def add_photographs_flag(parser: argparse.ArgumentParser) -> None:
    """--voc12_root and --list."""
    parser.add_argument(
        "--voc12_root",
        help="photographs in VOC layout (default: the sample data set, drawn into a temporary "
        "folder)",
    )
    parser.add_argument(
        "--list", default="train", help="list of --voc12_root (default %(default)s)"
    )


def photographs(args: argparse.Namespace, count: int) -> tuple[Path, list[str], str]:
    """(data set folder, `count` ids evenly spaced over the list, what they are in words)."""
    if args.voc12_root:
        root, what = Path(args.voc12_root), "photographs"
    else:
        root, what = (
            Path(tempfile.gettempdir()) / f"cpn_benchmark_sample_{count}",
            "images of the sample data set",
        )
        make_sample(root, images=count, val_images=1, classes="voc")
    ids = load_ids(root, args.list)
    ids = evenly(ids, count)
    return root, ids, f"{len(ids)} {what}"
