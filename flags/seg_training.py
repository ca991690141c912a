"""Flags of train_seg.py; defaults as in the codebase that network/seg.py names, with
ResNet38 and DeepLabv1."""

import argparse

from tool.choices import ARCHITECTURES, NEW_LAYER_FACTOR, RESNET38_WEIGHTS
from tool.run.flags import (
    at_least,
    positive_int,
    scale_number,
)
from tool.run.machine_flags import add_switch, add_workers_flag
from tool.run.training_flags import (
    add_batch_flags,
    add_crop_flag,
    add_machine_flags,
    add_scale_range_flag,
    add_session_flags,
    add_sgd_flags,
    add_stride_flags,
    add_weights_key_flag,
)
from voc12.data_flags import (
    DEFAULT_VAL_LIST,
    add_list_flag,
    add_mask_values_flag,
    add_root_flag,
)

MASK_DIR = "results/irn/mask_train_aug"


def parse_args(argv: list[str] | None = None, description: str | None = None) -> argparse.Namespace:
    """The flags; defaults as in the codebase that network/seg.py names, with ResNet38 and
    DeepLabv1.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = parser.add_argument_group("data")
    add_root_flag(data)
    add_list_flag(data, "--train_list", default="train_aug")
    data.add_argument(
        "--mask_dir",
        default=MASK_DIR,
        help="folder of training masks <id>.png; 255 is ignored (default %(default)s)",
    )
    data.add_argument(
        "--agree_dir",
        help="folder of second masks of the same images, e.g. those before the CRF; pixels where "
        "the two differ are ignored (default: none)",
    )
    data.add_argument(
        "--val_list",
        default=DEFAULT_VAL_LIST,
        help="list with real masks, validated while training; none: not (default %(default)s, "
        "where it has masks)",
    )
    add_mask_values_flag(data)
    data.add_argument(
        "--val_scale",
        type=scale_number,
        default=1.0,
        help="image scale of the validation (default %(default)s)",
    )
    add_workers_flag(data, "loader processes")
    add_crop_flag(data, 448)
    add_scale_range_flag(data)

    model = parser.add_argument_group("model")
    model.add_argument(
        "--arch", choices=ARCHITECTURES, default="deeplabv1", help="default %(default)s"
    )
    model.add_argument(
        "--backbone",
        default="resnet38",
        help="resnet38, efficientnet_lite0, resnet50 or another timm model (default %(default)s)",
    )
    add_stride_flags(model)
    model.add_argument(
        "--head_channels",
        type=at_least(1, 8192),
        help="width of the head (default 512 deeplabv1, 256 others)",
    )
    add_switch(
        model,
        "--tag_head",
        "a second head learns which classes a photograph shows, and its scores weigh the pixels' "
        "classes; with --weights of train_cpn.py for the same classes it starts as their head",
    )
    model.add_argument(
        "--weights",
        help="where the backbone starts: a file of ImageNet weights (ResNet38's, or the timm "
        "model's, .safetensors or .pth; torchvision's fit its ResNets; docs/backbones.md says "
        "whose else) or of train_cpn.py with the same backbone, 'imagenet' for a timm backbone, or "
        f"'none' (default {RESNET38_WEIGHTS}; imagenet for timm)",
    )
    add_weights_key_flag(model)

    optimisation = parser.add_argument_group("optimisation")
    add_batch_flags(optimisation, batch_size=10, max_epoches=None)
    optimisation.add_argument(
        "--max_iterations", type=positive_int, default=20000, help="steps (default %(default)s)"
    )
    optimisation.add_argument(
        "--val_every",
        type=positive_int,
        default=1000,
        help="steps from one validation to the next (default %(default)s)",
    )
    add_sgd_flags(
        optimisation,
        lr=1e-3,
        lr_of=f"the backbone; the head takes {NEW_LAYER_FACTOR}x (default %(default)s)",
        weight_decay=5e-4,
        momentum=0.9,
        momentum_is_a_slip=False,
    )
    add_machine_flags(optimisation)

    add_session_flags(parser.add_argument_group("output"), "seg")
    return parser.parse_args(argv)
