"""Flags about the machine and about finished files that scripts of several stages have."""

import argparse
import warnings
from collections.abc import Sequence

from tool.run.flags import (
    DEFAULT_WORKERS,
    bool_flag,
    scale_number,
    worker_count,
)

PRECISIONS = ("fp32", "tf32", "bf16")  # tool.run.device.autocast


def add_workers_flag(
    group: argparse._ArgumentGroup, what: str = "processes", default: int = DEFAULT_WORKERS
) -> None:
    """--num_workers; what: what the processes are for."""
    # torch's warning of more than there are cores: once, not for every loader
    warnings.filterwarnings("once", message="This DataLoader will create")
    group.add_argument(
        "--num_workers",
        type=worker_count,
        default=default,
        help=f"{what} (default %(default)s)",
    )


def add_device_flags(group: argparse._ArgumentGroup, of: str = "of convolutions") -> None:
    """--precision and --device."""
    add_precision_flag(group, of)
    add_device_flag(group)


def add_precision_flag(group: argparse._ArgumentGroup, of: str) -> None:
    """--precision."""
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="fp32",
        help=f"{of}; tf32: fp32 that newer NVIDIA GPUs round to be faster (default %(default)s)",
    )


def add_device_flag(group: argparse._ActionsContainer) -> None:
    """--device."""
    group.add_argument(
        "--device", default="auto", help="auto, cuda, cuda:N, mps or cpu (default %(default)s)"
    )


def add_scale_flags(group: argparse._ArgumentGroup, scales: Sequence[float]) -> None:
    """--scales and --flip of an inference."""
    group.add_argument(
        "--scales",
        type=scale_number,
        nargs="+",
        default=scales,
        help=f"image scales (default {' '.join(map(str, scales))})",
    )
    group.add_argument(
        "--flip",
        type=bool_flag,
        default=True,
        help="add the mirrored image at each scale (default true)",
    )


def add_switch(group: argparse._ArgumentGroup, flag: str, what: str) -> None:
    """A flag that is false by default, and true bare or with a word that says so."""
    group.add_argument(
        flag, type=bool_flag, nargs="?", const=True, default=False, help=f"{what} (default false)"
    )


def add_overwrite_flag(group: argparse._ArgumentGroup, what: str = "masks") -> None:
    """--overwrite; what: the files that are kept otherwise."""
    add_switch(group, "--overwrite", f"make finished {what} again")
