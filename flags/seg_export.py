"""Flags of export_seg.py."""

import argparse

from tool.run.flags import positive_int

WEIGHTS = "results/seg/seg.pth"
SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
INT8_SUFFIX = "_int8.onnx"
CALIBRATED = 20  # photographs that set the scales of --int8
SIZE_STEP = 32  # of sides, where no graph holds all: every map has sides that its stride divides


def parse_args(argv: list[str] | None = None, description: str | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--weights", default=WEIGHTS, help="weights of train_seg.py (default %(default)s)"
    )
    parser.add_argument(
        "--export",
        nargs="+",
        choices=SUFFIXES,
        default=list(SUFFIXES),
        help="formats (default onnx torch)",
    )
    parser.add_argument(
        "--size",
        type=positive_int,
        nargs=2,
        metavar=("H", "W"),
        help="height and width, pixels, of all images, instead of any (default any, or where the "
        f"backbone does not allow that any multiples of {SIZE_STEP})",
    )
    parser.add_argument(
        "--int8",
        nargs="+",
        metavar="PHOTOGRAPH",
        help="write a second ONNX file, <out>_int8.onnx, that computes in int8; photographs like "
        f"those that it will see, files or folders, set its scales ({CALIBRATED} of them at most, "
        "evenly spread)",
    )
    parser.add_argument(
        "--out",
        help="path of the files without .onnx and .pt2 (default that of the weights without .pth)",
    )
    return parser.parse_args(argv)
