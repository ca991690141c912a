"""Flags of inferences on photographs given by hand, --image, and the size they are computed at."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tool.errors import InputError
from tool.file.images import photograph_header
from tool.run.flags import pixels
from tool.run.machine_flags import add_switch

AUTO, FULL = "auto", "full"
DEFAULT_LONG_SIDE = 500  # VOC's


def add_photograph_flags(data: argparse._ArgumentGroup, output: argparse._ArgumentGroup) -> None:
    """--image, --long_side and --confidence."""
    data.add_argument(
        "--image",
        nargs="+",
        metavar="PATH",
        help="photographs to do instead of a list, or folders of them, with all below",
    )
    data.add_argument(
        "--long_side",
        type=replace(pixels, words=(AUTO, FULL)),
        default=AUTO,
        metavar="N",
        help="with --image: --scales refer to photographs reduced to this long side, pixels, if "
        f"they are larger; auto: as in training, by the weights, else {DEFAULT_LONG_SIDE}; full: "
        "not reduced (default %(default)s)",
    )
    add_switch(
        output,
        "--confidence",
        "with --image: write <name>_confidence.png too, grey, how sure each pixel's class is, 255 "
        "for 1",
    )


def require_photograph_flags(args: argparse.Namespace) -> None:
    """Raise InputError where a flag for --image is given without it."""
    for flag, default in (("long_side", AUTO), ("confidence", False)):
        if not args.image and getattr(args, flag) != default:
            raise InputError(f"--{flag} is for photographs given by --image; a list's stay as is")


def trained_long_side(training: dict[str, Any]) -> int | None:
    """The long side of photographs in a training, by what its weights say of it: the median of the
    training photographs, or the middle of --resize_long; None where they do not say.
    """
    settings = training.get("settings")
    resize_long = settings.get("resize_long") if isinstance(settings, dict) else None
    for sides in ([training.get("long_side")], resize_long):
        if isinstance(sides, list | tuple) and sides and all(type(side) is int for side in sides):
            return max(1, round(float(np.mean(sides))))
    return None


def chosen_long_side(
    args: argparse.Namespace, training: dict[str, Any], paths: Sequence[Path]
) -> int | None:
    """The long side that --long_side means, None for full size; says how many of the photographs
    it reduces.
    """
    if args.long_side == FULL:
        return None
    known = trained_long_side(training)
    limit = (known or DEFAULT_LONG_SIDE) if args.long_side == AUTO else args.long_side
    source = "--long_side"
    if args.long_side == AUTO:
        source = "as in training" if known else "the weights do not say how large they trained"
    larger = sum(max(photograph_header(path).stored) > limit for path in paths)
    if larger:
        print(
            f"{larger} of {len(paths)} photographs are reduced to a long side of {limit} pixels "
            f"({source}), to which --scales refer; what is written is of their own size; "
            "--long_side full computes at full size"
        )
    return limit
