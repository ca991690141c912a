"""Flags of train_aff.py, defaults as released or those of --preset."""

import argparse
from dataclasses import dataclass

from tool.choices import RELEASED_MOMENTUM, RESNET38_WEIGHTS
from tool.run.crf_flags import add_crf_flags
from tool.run.flags import (
    positive_number,
)
from tool.run.machine_flags import add_workers_flag
from tool.run.training_flags import (
    add_batch_flags,
    add_crop_flag,
    add_label_dir_flag,
    add_machine_flags,
    add_session_flags,
    add_sgd_flags,
    add_weights_key_flag,
)
from voc12.data_flags import add_cam_dir_flag, add_list_flag, add_root_flag

CAM_DIR = "results/cpn/cam_train_aug"


@dataclass(frozen=True)
class Preset:
    """What PSA and SEAM set differently."""

    lr: float
    high_alpha: float


PRESETS = {"psa": Preset(lr=0.1, high_alpha=32), "seam": Preset(lr=0.01, high_alpha=24)}


def parse_args(argv: list[str] | None = None, description: str | None = None) -> argparse.Namespace:
    """The flags, defaults as released."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        default="seam",
        help="whose settings are the defaults (default %(default)s)",
    )
    data = parser.add_argument_group("data")
    add_root_flag(data)
    add_list_flag(data, "--train_list", default="train_aug")
    add_cam_dir_flag(data, CAM_DIR, "any format")
    add_workers_flag(data, "loader and CRF processes")
    add_crop_flag(data, 448, multiple=8)

    labels = parser.add_argument_group("CRF scores, of which labels are made")
    add_label_dir_flag(labels)
    labels.add_argument(
        "--low_alpha",
        type=positive_number,
        default=4,
        help="background (1 - max CAM) ** alpha where classes are sure (default %(default)s)",
    )
    labels.add_argument(
        "--high_alpha",
        type=positive_number,
        help="the same where background is sure (default 24 seam, 32 psa)",
    )
    add_crf_flags(labels, default="seam")

    model = parser.add_argument_group("model")
    model.add_argument(
        "--backbone",
        default="resnet38",
        help="resnet38, efficientnet_lite0 or a timm model, at stride 8 (default %(default)s)",
    )
    model.add_argument(
        "--weights",
        help="ImageNet weights: a ResNet38 file, 'imagenet' for a timm backbone, or 'none' "
        f"(default {RESNET38_WEIGHTS}; imagenet for timm)",
    )
    add_weights_key_flag(model)

    optimisation = parser.add_argument_group("optimisation")
    add_batch_flags(optimisation, batch_size=8, max_epoches=8)
    add_sgd_flags(
        optimisation,
        lr=None,
        lr_of="pretrained weights; new layers take 10x (default 0.01 seam, 0.1 psa)",
        weight_decay=5e-4,
        momentum=RELEASED_MOMENTUM,
    )
    add_machine_flags(optimisation)

    add_session_flags(parser.add_argument_group("output"), "aff")
    args = parser.parse_args(argv)
    for name, value in vars(PRESETS[args.preset]).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args
