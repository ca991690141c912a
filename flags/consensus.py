"""Flags of consensus_cam.py."""

import argparse

from tool.run.flags import scale_number, seed_number
from tool.run.machine_flags import add_device_flags, add_overwrite_flag, add_workers_flag
from tool.run.training_flags import add_weights_key_flag
from voc12.data_flags import add_cam_dir_flag, add_list_flag, add_root_flag

CAM_DIR = "results/cpn/cam_train_aug"
OUT_CAM = "results/cpn/agreed_train_aug"
WEIGHTS = "results/cpn/cpn.pth"
MAX_IMAGES = 2000  # that teach, evenly spread over the list; their pixels are held in memory


def parse_args(argv: list[str] | None = None, description: str | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = parser.add_argument_group("data")
    add_root_flag(data)
    add_list_flag(data, "--train_list", default="train_aug")
    add_cam_dir_flag(data, CAM_DIR, "seeds of --train_list, which teach")
    add_list_flag(data, "--infer_list", default="train_aug")
    data.add_argument(
        "--infer_cam_dir", help="folder of the seeds of --infer_list (default: --cam_dir)"
    )
    add_workers_flag(data, "loader processes")

    model = parser.add_argument_group("model")
    model.add_argument(
        "--weights", default=WEIGHTS, help="weights of train_cpn.py (default %(default)s)"
    )
    add_weights_key_flag(model)
    model.add_argument(
        "--scale",
        type=scale_number,
        default=1.0,
        help="of the photographs whose early maps are taken (default %(default)s)",
    )
    model.add_argument(
        "--seed", type=seed_number, default=0, help="of the drawn pixels (default %(default)s)"
    )
    add_device_flags(model)

    output = parser.add_argument_group("output")
    output.add_argument(
        "--out_cam", default=OUT_CAM, help="folder for the CAM files (default %(default)s)"
    )
    add_overwrite_flag(output, "files")
    return parser.parse_args(argv)
