"""Flags of infer_aff.py, defaults as released."""

import argparse

from tool.choices import WALK_PRESETS
from tool.run.flags import auto_or_positive, doublings, positive_number
from tool.run.machine_flags import add_device_flags, add_overwrite_flag, add_workers_flag
from tool.run.training_flags import add_weights_key_flag
from voc12.data_flags import add_cam_dir_flag, add_list_flag, add_root_flag

WEIGHTS = "results/aff/aff.pth"
CAM_DIR = "results/cpn/cam"
OUT_MASK = "results/aff/mask"


def parse_args(argv: list[str] | None = None, description: str | None = None) -> argparse.Namespace:
    """The flags, defaults as released."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = parser.add_argument_group("data")
    add_root_flag(data)
    add_list_flag(data, "--infer_list", default="train")
    add_cam_dir_flag(data, CAM_DIR, "any format")
    add_workers_flag(data, "loader processes")

    model = parser.add_argument_group("model")
    model.add_argument(
        "--weights",
        default=WEIGHTS,
        help="weights of train_aff.py, or a released resnet38_aff.pth (default %(default)s)",
    )
    add_weights_key_flag(model)
    add_device_flags(model)

    walk = parser.add_argument_group("walk")
    walk.add_argument(
        "--preset",
        choices=WALK_PRESETS,
        help="whose settings are the defaults (default: the training's; seam for released weights)",
    )
    walk.add_argument(
        "--alpha",
        type=auto_or_positive,
        help="background score (1 - max CAM) ** alpha, or auto: from a threshold chosen without "
        "masks (default 6 seam, 16 psa)",
    )
    walk.add_argument("--beta", type=positive_number, help="power of the affinity (default 8)")
    walk.add_argument(
        "--logt",
        type=doublings,
        help="the walk takes 2 ** this many steps (default 6 seam, 8 psa)",
    )

    output = parser.add_argument_group("output")
    output.add_argument(
        "--out_mask", default=OUT_MASK, help="folder for the pseudo masks (default %(default)s)"
    )
    add_overwrite_flag(output, "masks")
    return parser.parse_args(argv)
