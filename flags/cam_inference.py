"""Flags of infer_cam.py, defaults as released."""

import argparse

from tool.choices import AFFINITIES, PRCM_KEYS, REFINEMENTS
from tool.expand.seed import PLAIN_STAGE, REFINED_STAGE
from tool.file.cam_file import FORMATS, PACKED
from tool.run.flags import block_number, unit_number
from tool.run.machine_flags import (
    add_device_flags,
    add_overwrite_flag,
    add_scale_flags,
    add_workers_flag,
)
from tool.run.photograph_flags import add_photograph_flags
from tool.run.training_flags import add_weights_key_flag
from voc12.data_flags import (
    add_labels_flag,
    add_list_flag,
    add_mask_values_flag,
    add_root_flag,
)

WEIGHTS = "results/cpn/cpn.pth"
OUT_CAM = "results/cpn/cam"
BG_THRESHOLD = 0.5  # the released evaluation's 0.25 on halved maps
STAGES = {"plain": PLAIN_STAGE, "refined": REFINED_STAGE}


def parse_args(argv: list[str] | None = None, description: str | None = None) -> argparse.Namespace:
    """The flags, defaults as released."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = parser.add_argument_group("data")
    add_root_flag(data)
    add_list_flag(data, "--infer_list", default="train")
    add_labels_flag(data)
    add_mask_values_flag(data)
    add_workers_flag(data, "loader processes")

    model = parser.add_argument_group("model")
    model.add_argument(
        "--weights",
        default=WEIGHTS,
        help="weights of train_cpn.py, or the authors' CPN.pth (default %(default)s)",
    )
    add_weights_key_flag(model)
    model.add_argument(
        "--network",
        help="accepted for the released command line; the weights say which network they are",
    )
    model.add_argument(
        "--cam",
        choices=("auto", *STAGES),
        default="auto",
        help="which map; auto is plain for --method cam and --refinement none, else refined",
    )
    model.add_argument(
        "--refinement",
        choices=[name for name in REFINEMENTS if name != "none"],
        help="modules that refine the CAM here, whatever refined it in training (default the same; "
        "none is --cam plain); with --cam refined also on a network of --method cam, whose "
        "modules are as they start",
    )
    model.add_argument(
        "--prcm", choices=PRCM_KEYS, help="memory order of PRCM's keys (default as in training)"
    )
    model.add_argument(
        "--affinity",
        choices=AFFINITIES,
        help="along what the CAM is spread, instead of as it was trained: cosine of PCM's "
        "embedding (of the raw early maps, where none is trained), or the mean self-attention of a "
        "plain transformer; PRCM is left out",
    )
    model.add_argument(
        "--attention_blocks",
        type=block_number,
        nargs="+",
        metavar="N",
        help="blocks whose attention is taken, 0 is the first, -1 the last (default all)",
    )
    model.add_argument(
        "--refiner",
        metavar="NAME[:STRIDE]",
        help="another network, whose features or attention refine this one's plain CAM: a backbone "
        "as train_cpn.py takes it",
    )
    model.add_argument(
        "--refiner_weights",
        metavar="FILE",
        help="its weights: a file of the backbone, or of train_cpn.py (default what timm or a "
        "package has)",
    )
    add_scale_flags(model, (0.5, 1.0, 1.5, 2.0))
    add_device_flags(model)

    output = parser.add_argument_group("output")
    output.add_argument(
        "--out_cam", help=f"folder for the CAM files (default {OUT_CAM}; with --image none)"
    )
    output.add_argument(
        "--format",
        choices=FORMATS,
        default=PACKED,
        help="packed (ours, values to 5e-5); npz (ours, float32, six times as large); released "
        "(halved maps) or irn, which are always made again (default %(default)s)",
    )
    output.add_argument(
        "--save_png",
        help="folder for overlays on the photograph, <id>_<class>.png (default none); with --image "
        "for masks and scores too (default beside the photograph, or <folder>_cam)",
    )
    output.add_argument(
        "--scores",
        metavar="FILE",
        help="instead of CAM files, which need labels: a JSON file of what the classifier sees in "
        "each image of the list, probabilities of all classes",
    )
    output.add_argument(
        "--t",
        type=unit_number,
        default=BG_THRESHOLD,
        help="background threshold of the masks of --image, unit scale (default %(default)s)",
    )
    add_photograph_flags(data, output)
    data.add_argument(
        "--classes",
        nargs="+",
        metavar="NAME",
        help="with --image: classes to look for (default all that the weights know)",
    )
    seen = data.add_mutually_exclusive_group()
    seen.add_argument(
        "--min_score",
        type=unit_number,
        metavar="N",
        help="with --image: probability from which on a class is seen; none may be (default by "
        "--cut_offs)",
    )
    seen.add_argument(
        "--cut_offs",
        metavar="FILE",
        help="with --image: the same by class, from road.json of masks_from_tags.py or --json of "
        "voc12.class_scores (default: road.json beside the weights; without, over 0.5, and the "
        "likeliest class at least)",
    )
    add_overwrite_flag(output, "files")
    return parser.parse_args(argv)
