"""Flags of infer_irn.py, defaults as released but for the background score of refined CAMs."""

import argparse

from tool.run.flags import at_least, auto_or_number, doublings, pixels, positive_number
from tool.run.machine_flags import add_device_flags, add_overwrite_flag, add_workers_flag
from tool.run.training_flags import add_weights_key_flag
from voc12.data_flags import add_cam_dir_flag, add_list_flag, add_root_flag

WEIGHTS = "results/irn/irn.pth"
CAM_DIR = "results/cpn/cam"
OUT_MASK = "results/irn/mask"
RELEASED_BG_THRESHOLD = 0.25


def parse_args(argv: list[str] | None = None, description: str | None = None) -> argparse.Namespace:
    """The flags."""
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
        help="weights of train_irn.py, or the released res50_irn.pth (default %(default)s)",
    )
    add_weights_key_flag(model)
    model.add_argument(
        "--crop_size",
        type=pixels,
        help="side that images are padded to, pixels (default: the training crop's, by the "
        "weights)",
    )
    add_device_flags(model)

    walk = parser.add_argument_group("walk")
    walk.add_argument(
        "--radius",
        type=at_least(2, 64),
        default=5,
        help="of neighbours, in cells of 4 pixels (default %(default)s)",
    )
    walk.add_argument(
        "--beta",
        type=positive_number,
        default=10,
        help="power of the affinity (default %(default)s)",
    )
    walk.add_argument(
        "--exp_times",
        type=doublings,
        default=8,
        help="the walk takes 2 ** this many steps (default %(default)s)",
    )
    walk.add_argument(
        "--fill",
        type=at_least(0, 64),
        default=0,
        help="dark gaps up to twice this many cells wide take the score around them: cells on a "
        "boundary get none from the walk and are specks and lines in the masks (default "
        "%(default)s, as released)",
    )
    walk.add_argument(
        "--bg_threshold",
        type=auto_or_number,
        help="background score, where 1 is the image's highest after the walk, or auto: chosen "
        f"without masks, as large a share of the pixels as of the seeds' at theirs (default "
        f"{RELEASED_BG_THRESHOLD}, as released, for a plain CAM's peaked maps; auto for refined "
        "CAMs, which need a higher one, and for files of other codes, which do not say what they "
        "are)",
    )

    output = parser.add_argument_group("output")
    output.add_argument(
        "--out_mask", default=OUT_MASK, help="folder for the pseudo masks (default %(default)s)"
    )
    output.add_argument(
        "--out_cam",
        help="folder for the maps after the walk as CAM files, for evaluation_cam.py to try "
        "background scores (default: none; under --bg_threshold auto <out_mask>_walked)",
    )
    output.add_argument(
        "--save_png",
        help="folder for pictures <id>_boundary.png and <id>_displacement.png (default: none)",
    )
    add_overwrite_flag(output, "masks")
    return parser.parse_args(argv)
