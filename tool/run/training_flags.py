"""Flags that all trainers have."""

import argparse

from tool.run.flags import (
    MinMax,
    file_name,
    non_negative_int,
    non_negative_number,
    pixels,
    positive_int,
    positive_number,
    scale_number,
    seed_number,
    unit_number,
)
from tool.run.machine_flags import add_precision_flag, add_switch

RESULTS = "results"
WEIGHT_FORMATS = ("pth", "safetensors")
RESUME_CHOICES = ("auto", "never")
# Settings that may differ between a run and its continuation: they change how fast it goes, where
# it lies or what it prints, not what it computes.
FREE_SETTINGS = (
    "num_workers",
    "device",
    "results",
    "save_minutes",
    "log_every",
    "resume",
    "superpixel_cache",
    "save_format",
)


def add_crop_flag(data: argparse._ArgumentGroup, crop_size: int, multiple: int = 1) -> None:
    """--crop_size, default crop_size; multiple: of what it must be, for the help."""
    what = "" if multiple == 1 else f", a multiple of {multiple}"
    data.add_argument(
        "--crop_size",
        type=pixels,
        default=crop_size,
        help=f"side of the training crop, pixels{what} (default %(default)s)",
    )


def add_scale_range_flag(data: argparse._ArgumentGroup) -> None:
    """--scale of the trainers that scale before they crop."""
    data.add_argument(
        "--scale",
        action=MinMax,
        type=scale_number,
        nargs=2,
        default=(0.5, 1.5),
        metavar=("MIN", "MAX"),
        help="random scale before the crop (default 0.5 1.5)",
    )


def add_label_dir_flag(labels: argparse._ArgumentGroup) -> None:
    """--label_dir of the trainers that make labels of seeds."""
    labels.add_argument(
        "--label_dir",
        help="folder for them, to share between sessions (default labels in the session's folder)",
    )


def add_stride_flags(model: argparse._ArgumentGroup) -> None:
    """--output_stride and --freeze_blocks of a network on a timm backbone or on ResNet38."""
    model.add_argument(
        "--output_stride",
        type=positive_int,
        help="pixels a cell of the features (default 8 for resnet38, 16 for timm models that "
        "dilate, which have 8, 16 and 32; others have one: the patch of a transformer, 32 of most "
        "pyramids)",
    )
    model.add_argument(
        "--freeze_blocks",
        type=non_negative_int,
        help="leave out of training the first blocks of a plain transformer, or stages of another "
        "timm model, with all before them (default the stem alone, of a plain transformer nothing)",
    )


def add_batch_flags(
    optimisation: argparse._ArgumentGroup,
    batch_size: int,
    max_epoches: int | None,
    by_default: bool = True,
) -> None:
    """--batch_size, and --max_epoches where the training is counted in epochs.

    by_default: False leaves None where no number is given, for the script to fill in
    """
    optimisation.add_argument(
        "--batch_size",
        type=positive_int,
        default=batch_size,
        help="images a step, of all processes together (default %(default)s)",
    )
    if max_epoches is not None:
        optimisation.add_argument(
            "--max_epoches",
            type=positive_int,
            default=max_epoches if by_default else None,
            help=f"epochs (default {max_epoches})",
        )


def add_sgd_flags(
    optimisation: argparse._ArgumentGroup,
    lr: float | None,
    lr_of: str,
    weight_decay: float,
    momentum: float,
    momentum_is_a_slip: bool = True,
) -> None:
    """--lr, --wt_dec and --momentum.

    lr_of: whose learning rate, and what others take
    momentum_is_a_slip: the released code hands its weight decay to SGD's momentum slot
    """
    optimisation.add_argument(
        "--lr", type=positive_number, default=lr, help=f"learning rate of {lr_of}"
    )
    optimisation.add_argument(
        "--wt_dec",
        type=non_negative_number,
        default=weight_decay,
        help="weight decay (default %(default)s)",
    )
    slip = "; the released code's slip makes it %(default)s (default)"
    optimisation.add_argument(
        "--momentum",
        type=unit_number,
        default=momentum,
        help="SGD momentum" + (slip if momentum_is_a_slip else " (default %(default)s)"),
    )


def add_machine_flags(optimisation: argparse._ArgumentGroup) -> None:
    """--accum, --precision, --seed, --deterministic and --device."""
    optimisation.add_argument(
        "--accum",
        type=positive_int,
        default=1,
        help="pieces a batch is computed in, to save memory; the same result in train_cpn.py alone "
        "(default %(default)s)",
    )
    add_precision_flag(optimisation, "of convolutions; losses stay fp32")
    optimisation.add_argument(
        "--seed", type=seed_number, default=0, help="of everything random (default %(default)s)"
    )
    add_switch(
        optimisation,
        "--deterministic",
        "have a GPU repeat a run bit for bit, slower; a CPU does so anyway",
    )
    optimisation.add_argument(
        "--device", default="auto", help="auto, cuda, cuda:N, mps or cpu (default %(default)s)"
    )


def add_weights_key_flag(model: argparse._ArgumentGroup) -> None:
    """--weights_key: which state dict of a file that holds several."""
    model.add_argument(
        "--weights_key",
        metavar="NAME",
        help="entry of the --weights file to take, or prefix of its names, where it holds several "
        "networks, such as model and model_ema (default: the only one)",
    )


def add_session_flags(output: argparse._ArgumentGroup, session_name: str) -> None:
    """--session_name, --results, --resume, --save_minutes and --log_every."""
    output.add_argument(
        "--session_name",
        type=file_name,
        default=session_name,
        help="folder under --results and name of the weights (default %(default)s)",
    )
    output.add_argument(
        "--results", default=RESULTS, help="where sessions go (default %(default)s)"
    )
    output.add_argument(
        "--save_format",
        choices=WEIGHT_FORMATS,
        default=WEIGHT_FORMATS[0],
        help="of the final weights (default %(default)s)",
    )
    output.add_argument(
        "--resume",
        choices=RESUME_CHOICES,
        default="auto",
        help="continue a session that has a checkpoint, or start over (default %(default)s)",
    )
    output.add_argument(
        "--save_minutes",
        type=non_negative_number,
        default=15,
        help="minutes between checkpoints inside an epoch (default %(default)s)",
    )
    output.add_argument(
        "--log_every",
        type=positive_int,
        default=20,
        help="iterations between log lines (default %(default)s)",
    )
