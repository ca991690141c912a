"""Types for argparse flags that argparse lacks, and flags that several scripts have."""

import argparse
import contextlib
import math
import os
from collections.abc import Callable
from typing import Any

from tool.crf import CRF_INPUTS, CRF_SETTINGS, SeedCrf, named_settings


def bool_flag(text: str) -> bool:
    """True for true, 1, yes, on; False for false, 0, no, off, in any case.

    argparse's own `type=bool`, as in the released scripts, reads every text but the empty one as true: `--curve False` too.
    Use with nargs="?" and const=True to let the bare flag mean true. Raises argparse.ArgumentTypeError for any other text.
    """
    match text.strip().lower():
        case "true" | "1" | "yes" | "on":
            return True
        case "false" | "0" | "no" | "off":
            return False
    raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")


def at_least(low: int) -> Callable[[str], int]:
    """A type for whole numbers from low up; it raises argparse.ArgumentTypeError for any other text."""
    return lambda text: _number(text, int, f"a whole number from {low} up", lambda value: value >= low)


positive_int, non_negative_int = at_least(1), at_least(0)


def seed_number(text: str) -> int:
    """A seed that every generator takes, numpy's too; raises argparse.ArgumentTypeError for any other text."""
    return _number(text, int, f"a whole number in 0..{2**32 - 1}", lambda value: 0 <= value < 2**32)


def positive_number(text: str) -> float:
    """A finite number over 0; raises argparse.ArgumentTypeError for any other text."""
    return _number(text, float, "a number over 0", lambda value: 0 < value < math.inf)


def non_negative_number(text: str) -> float:
    """A finite number from 0 up; raises argparse.ArgumentTypeError for any other text."""
    return _number(text, float, "a number from 0 up", lambda value: 0 <= value < math.inf)


def unit_number(text: str) -> float:
    """A number in 0..1; raises argparse.ArgumentTypeError for any other text."""
    return _number(text, float, "a number in 0..1", lambda value: 0 <= value <= 1)


def share(text: str) -> float:
    """A number between 0 and 1, neither of them; raises argparse.ArgumentTypeError for any other text."""
    return _number(text, float, "a number between 0 and 1", lambda value: 0 < value < 1)


def _number(text: str, kind: Callable[[str], Any], wanted: str, fits: Callable[[Any], bool]) -> Any:
    with contextlib.suppress(ValueError):
        if fits(kind(text)):
            return kind(text)
    raise argparse.ArgumentTypeError(f"expected {wanted}, got {text!r}")


AUTO = "auto"
DEFAULT_WORKERS = min(8, os.cpu_count() or 1)  # the released scripts have 8


def auto_or_number(text: str) -> float | str:
    """AUTO, or a number in 0..1; raises argparse.ArgumentTypeError for any other text."""
    return text if text == AUTO else _number(text, float, f"a score in 0..1 or {AUTO}", lambda value: 0 <= value <= 1)


def auto_or_positive(text: str) -> float | str:
    """AUTO, or a finite number over 0; raises argparse.ArgumentTypeError for any other text."""
    return text if text == AUTO else _number(text, float, f"a number over 0 or {AUTO}", lambda value: 0 < value < math.inf)


def named_number(text: str) -> tuple[str, float]:
    """NAME=NUMBER -> (name, finite number); raises argparse.ArgumentTypeError for any other text."""
    name, _, value = text.partition("=")
    with contextlib.suppress(ValueError):
        if math.isfinite(float(value)):
            return name, float(value)
    raise argparse.ArgumentTypeError(f"{text!r} is not NAME=NUMBER")


class MinMax(argparse.Action):
    """Takes the two numbers of a flag MIN MAX in this order alone."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any) -> None:
        """Store values; raises argparse.ArgumentError, one line on the terminal, when the first is the larger."""
        if values[0] > values[1]:
            raise argparse.ArgumentError(self, f"expected MIN first, got {values[0]} {values[1]}")
        setattr(namespace, self.dest, values)


def session_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The flags by name, as a session's log and checkpoint hold them: tuples as lists, which is what JSON gives back."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(args).items()}


def add_crf_flags(group: argparse._ArgumentGroup, default: str | None, extra: tuple[str, ...] = ()) -> None:
    """--crf and --crf_set, from which tool.crf.named_settings(args.crf, **dict(args.crf_set)) makes settings; extra: more values of
    --crf, for the script to understand.
    """
    names = (*CRF_SETTINGS, *extra)
    group.add_argument("--crf", choices=names, default=default, help="dense CRF settings by name (default %(default)s)")
    group.add_argument(
        "--crf_set",
        type=named_number,
        nargs="+",
        default=(),
        metavar="NAME=NUMBER",
        help="CRF settings by number, over those of the name: iterations, gaussian_sxy (pixels), gaussian_compat, bilateral_sxy "
        "(pixels), bilateral_srgb (grey levels), bilateral_compat, gt_prob (0..1)",
    )


def add_seed_crf_flags(group: argparse._ArgumentGroup, default: str | None, threshold_default: str) -> None:
    """add_crf_flags, and what seeds need beside: --crf_on, --crf_threshold, --crf_alpha. seed_crf reads them."""
    add_crf_flags(group, default)
    group.add_argument(
        "--crf_on", choices=CRF_INPUTS, help="what the CRF starts from (default labels for --crf irn, else probabilities)"
    )
    background = group.add_mutually_exclusive_group()
    background.add_argument(
        "--crf_threshold",
        type=auto_or_number,
        help=f"score of the background in the CRF, unit scale, or auto: chosen without masks (default {threshold_default})",
    )
    background.add_argument(
        "--crf_alpha", type=positive_number, help="score the background (1 - max CAM) ** alpha instead (default: not)"
    )


def seed_crf(args: argparse.Namespace, bg_threshold: float | None = None) -> SeedCrf:
    """The CRF that the flags of add_seed_crf_flags ask for; bg_threshold: the background score where no number is given."""
    return SeedCrf(
        settings=named_settings(args.crf, **dict(args.crf_set)),
        on=args.crf_on or ("labels" if args.crf == "irn" else "probabilities"),
        bg_threshold=None
        if args.crf_alpha is not None
        else bg_threshold
        if args.crf_threshold in (None, AUTO)
        else args.crf_threshold,
        alpha=args.crf_alpha,
    )
