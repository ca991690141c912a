"""The dense CRF's flags, for label maps and for seeds."""

import argparse

from tool.expand.crf import CRF_INPUTS, CRF_SETTINGS, SeedCrf, named_settings
from tool.run.flags import AUTO, auto_or_number, named_number, positive_number


def add_crf_flags(
    group: argparse._ArgumentGroup, default: str | None, extra: tuple[str, ...] = ()
) -> None:
    """--crf and --crf_set, from which tool.expand.crf.named_settings(args.crf,
    **dict(args.crf_set)) makes settings; extra: more values of --crf, for the script to understand.
    """
    names = (*CRF_SETTINGS, *extra)
    group.add_argument(
        "--crf",
        choices=names,
        default=default,
        help="dense CRF settings by name (default %(default)s)",
    )
    group.add_argument(
        "--crf_set",
        type=named_number,
        nargs="+",
        default=(),
        metavar="NAME=NUMBER",
        help="CRF settings by number, over those of the name: iterations, gaussian_sxy (pixels), "
        "gaussian_compat, bilateral_sxy (pixels), bilateral_srgb (grey levels), bilateral_compat, "
        "gt_prob (0..1)",
    )


def add_seed_crf_flags(
    group: argparse._ArgumentGroup, default: str | None, threshold_default: str
) -> None:
    """add_crf_flags, and what seeds need beside: --crf_on, --crf_threshold, --crf_alpha. seed_crf
    reads them.
    """
    add_crf_flags(group, default)
    group.add_argument(
        "--crf_on",
        choices=CRF_INPUTS,
        help="what the CRF starts from (default labels for --crf irn, else probabilities)",
    )
    background = group.add_mutually_exclusive_group()
    background.add_argument(
        "--crf_threshold",
        type=auto_or_number,
        help="score of the background in the CRF, unit scale, or auto: chosen without masks "
        f"(default {threshold_default})",
    )
    background.add_argument(
        "--crf_alpha",
        type=positive_number,
        help="score the background (1 - max CAM) ** alpha instead (default: not)",
    )


def seed_crf(args: argparse.Namespace, bg_threshold: float | None = None) -> SeedCrf:
    """The CRF that the flags of add_seed_crf_flags ask for; bg_threshold: the background score
    where no number is given.
    """
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
