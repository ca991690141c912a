"""Flags of voc12.prepare."""

import argparse
from pathlib import Path

from tool.run.flags import non_negative_int

VOC12_ROOT = Path("data") / "VOCdevkit" / "VOC2012"
TRAIN_AUG_COUNT = 10582
VOC_TAR = "VOCtrainval_11-May-2012.tar"
SBD_TAR = "benchmark.tgz"


def parse_args(argv: list[str] | None = None, description: str | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--voc12_root",
        type=Path,
        default=VOC12_ROOT,
        help="the VOC2012 folder to make or complete (default: %(default)s)",
    )
    data.add_argument(
        "--voc_tar", type=Path, help=f"use this copy of {VOC_TAR} (default: download it)"
    )
    data.add_argument(
        "--sbd_tar",
        type=Path,
        help=f"use this copy of {SBD_TAR}, or the folder it was extracted to (default: "
        "download it)",
    )
    data.add_argument(
        "--keep_archives",
        action="store_true",
        help="do not delete the archives that this run downloads beside --voc12_root",
    )
    data.add_argument(
        "--expect",
        type=non_negative_int,
        default=TRAIN_AUG_COUNT,
        help="images that train_aug must have, 0 for any (default: %(default)s)",
    )
    return parser.parse_args(argv)
