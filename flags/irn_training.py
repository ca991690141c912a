"""Flags of train_irn.py, defaults as released but for the labels' thresholds of refined CAMs."""

import argparse

from tool.run.crf_flags import add_crf_flags
from tool.run.flags import (
    at_least,
    auto_or_number,
)
from tool.run.machine_flags import add_workers_flag
from tool.run.training_flags import (
    add_batch_flags,
    add_crop_flag,
    add_label_dir_flag,
    add_machine_flags,
    add_scale_range_flag,
    add_session_flags,
    add_sgd_flags,
    add_weights_key_flag,
)
from voc12.data_flags import add_cam_dir_flag, add_list_flag, add_root_flag

CAM_DIR = "results/cpn/cam_train_aug"

# The released optimiser hands its weight decay to SGD's momentum slot, as CPN's does
# (tool.choices.RELEASED_MOMENTUM).
RELEASED_MOMENTUM = 1e-4
RELEASED_THRESHOLDS = {"fg_threshold": 0.30, "bg_threshold": 0.05}  # for a plain CAM's peaked maps


def parse_args(argv: list[str] | None = None, description: str | None = None) -> argparse.Namespace:
    """The flags, defaults as released."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = parser.add_argument_group("data")
    add_root_flag(data)
    add_list_flag(data, "--train_list", default="train_aug")
    add_cam_dir_flag(data, CAM_DIR, "any format")
    add_workers_flag(data, "loader and label processes")
    add_crop_flag(data, 512, multiple=16)
    add_scale_range_flag(data)

    labels = parser.add_argument_group("confident labels")
    add_label_dir_flag(labels)
    labels.add_argument(
        "--fg_threshold",
        type=auto_or_number,
        help="unit CAM score over which a class is sure; auto: around the threshold that "
        "evaluation_cam.py --t auto chooses for these seeds (default "
        f"{RELEASED_THRESHOLDS['fg_threshold']:.2f}, as released, for a plain CAM's peaked maps; "
        "auto for refined CAMs, and for files of other codes, which do not say what they are)",
    )
    labels.add_argument(
        "--bg_threshold",
        type=auto_or_number,
        help="unit CAM score under which background is sure, or auto (default likewise, "
        f"{RELEASED_THRESHOLDS['bg_threshold']:.2f} as released)",
    )
    add_crf_flags(labels, default="irn")

    model = parser.add_argument_group("model")
    model.add_argument(
        "--backbone",
        default="resnet50",
        help="resnet50, efficientnet_lite0 or a timm model with features at strides 2 to 32 "
        "(default %(default)s)",
    )
    model.add_argument(
        "--weights",
        default="imagenet",
        help="of the backbone: imagenet, none, or a file as torchvision's (default %(default)s)",
    )
    add_weights_key_flag(model)

    optimisation = parser.add_argument_group("optimisation")
    add_batch_flags(optimisation, batch_size=32, max_epoches=3)
    add_sgd_flags(
        optimisation,
        lr=0.1,
        lr_of="the boundary branch; displacement takes 10x (default %(default)s)",
        weight_decay=1e-4,
        momentum=RELEASED_MOMENTUM,
    )
    optimisation.add_argument(
        "--radius",
        type=at_least(2, 64),
        default=10,
        help="of pairs, in cells of 4 pixels (default %(default)s)",
    )
    add_machine_flags(optimisation)

    add_session_flags(parser.add_argument_group("output"), "irn")
    return parser.parse_args(argv)
