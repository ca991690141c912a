"""Flags of infer_seg.py; defaults as the papers test."""

import argparse

from tool.run.crf_flags import add_crf_flags
from tool.run.flags import Unasked
from tool.run.machine_flags import (
    add_device_flags,
    add_overwrite_flag,
    add_scale_flags,
    add_workers_flag,
)
from tool.run.photograph_flags import add_photograph_flags
from voc12.data_flags import LABELS_HELP, add_list_flag, add_root_flag

WEIGHTS = "results/seg/seg.pth"
OUT_MASK = "results/seg/mask"
NO_CRF = "none"


def parse_args(argv: list[str] | None = None, description: str | None = None) -> argparse.Namespace:
    """The flags; defaults as the papers test."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = parser.add_argument_group("data")
    add_root_flag(data)
    add_list_flag(data, "--infer_list", default="val")
    data.add_argument(
        "--within_labels",
        metavar="LABELS",
        help="give each photograph the classes of its image label alone, as pseudo masks that a "
        f"network corrects itself; {LABELS_HELP} (default: any class)",
    )
    data.add_argument(
        "--cam_dir",
        metavar="DIR",
        help="CAM files of make_crf.py that the network learnt from: masks are made of the mean of "
        "their probabilities and the network's (default: none)",
    )
    add_workers_flag(data, "loader processes, and as many for the CRF")

    model = parser.add_argument_group("model")
    model.add_argument(
        "--weights", default=Unasked(WEIGHTS), help="weights of train_seg.py (default %(default)s)"
    )
    model.add_argument(
        "--onnx",
        metavar="FILE",
        help="a network that export_seg.py has written, run by onnxruntime on the CPU, instead of "
        "--weights",
    )
    add_scale_flags(model, (0.5, 0.75, 1.0, 1.25, 1.5, 1.75))
    add_device_flags(model)

    add_crf_flags(
        parser.add_argument_group("dense CRF on the probabilities"),
        default="deeplab",
        extra=(NO_CRF,),
    )

    output = parser.add_argument_group("output")
    output.add_argument(
        "--out_mask",
        help=f"folder for the masks (default {OUT_MASK}; with --image beside the photograph, or in "
        "<folder>_seg)",
    )
    output.add_argument(
        "--submission",
        metavar="DIR",
        help="write DIR/results/VOC2012/... for the VOC server too (default: not)",
    )
    output.add_argument(
        "--save_png",
        help="folder for overlays <id>_seg.png (default none; with --image as --out_mask)",
    )
    add_photograph_flags(data, output)
    add_overwrite_flag(output, "masks")
    return parser.parse_args(argv)
