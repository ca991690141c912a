"""Flags that name data in VOC layout: folder, list of images, their labels, their CAM files."""

import argparse

from tool.file.images import APPLY_EXIF, EXIF_CHOICES
from tool.file.mask_reader import AUTO, MASK_VALUES
from tool.run.flags import Unasked
from voc12.cam_folder import add_cam_format_flag
from voc12.constants import VOC12_ROOT
from voc12.lists import LIST_HELP

DEFAULT_VAL_LIST = Unasked("val")
LABELS_HELP = (
    "image labels: auto, npy, xml, mask; a file .npy, .json, .csv, .tsv or .txt, where FILE:0 or "
    "FILE:1 says from where class numbers count; or a folder with a subfolder a class"
)


def add_root_flag(group: argparse._ArgumentGroup) -> None:
    """--voc12_root, as released, or --data_root."""
    group.add_argument(
        "--voc12_root",
        "--data_root",
        default=VOC12_ROOT,
        help="data set folder in VOC layout (default %(default)s)",
    )
    add_exif_flag(group)


def add_exif_flag(group: argparse._ArgumentGroup) -> None:
    """--exif: how photographs that stand on their side are read."""
    group.add_argument(
        "--exif",
        choices=EXIF_CHOICES,
        default=APPLY_EXIF,
        help="photographs with an EXIF orientation: apply turns them as viewers do, ignore leaves "
        "them as stored, for masks and CAM files that follow the stored pixels (default "
        "%(default)s)",
    )


def add_list_flag(group: argparse._ArgumentGroup, flag: str, default: str) -> None:
    """--train_list, --infer_list or --list: which images."""
    group.add_argument(flag, default=default, help=f"{LIST_HELP} (default %(default)s)")


def add_labels_flag(group: argparse._ArgumentGroup) -> None:
    """--labels: where image labels come from; voc12.labels.load_labels reads it."""
    group.add_argument(
        "--labels",
        default="auto",
        help=f"{LABELS_HELP} (default %(default)s)",
    )


def add_mask_values_flag(group: argparse._ArgumentGroup) -> None:
    """--mask_values: what 0 and 255, and the indices of strange palettes, mean in masks."""
    group.add_argument(
        "--mask_values",
        choices=MASK_VALUES,
        default=AUTO,
        help="binary: 0 and 255 of one class; ignore: the stored numbers, 255 ignored, whatever "
        "the palette; auto: what the masks of the list say for certain (default %(default)s)",
    )


def add_cam_dir_flag(group: argparse._ArgumentGroup, default: str, what: str) -> None:
    """--cam_dir and --cam_format; what: "of any stage" and so on."""
    group.add_argument(
        "--cam_dir", default=default, help=f"folder of CAM files, {what} (default %(default)s)"
    )
    add_cam_format_flag(group)
