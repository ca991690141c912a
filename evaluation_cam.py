"""mIoU of CAM files at every background threshold, or of label maps, against ground-truth masks.

Reads one prediction for each id of a list, the masks of the same ids and the class list; prints a
table of all classes at the best threshold, the mIoU with its 95 % interval over the photographs,
and the mIoU by the objects' share of the photograph. On request writes the numbers as JSON, the
counts of each photograph, and the curve of mIoU against the threshold as PNG.

    python evaluation_cam.py --list train --predict_dir results/cpn/cam_train --curve \\
        --json results/cpn/cam_train.json

CAM files of any format (tool/file/cam_file.py) are read as unit maps, so thresholds run from 0 to
1; the released code works on halved maps, where the same threshold has half the value.
"""

from tool.start import end_at_ctrl_c

if __name__ == "__main__":
    end_at_ctrl_c()  # while it imports

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tool.errors import InputError, run_script
from tool.expand.crf import SeedCrf, named_settings
from tool.expand.seed import CRF_STAGE, CRF_THRESHOLD
from tool.file.atomic import write_json
from tool.file.cam_file import CamFile
from tool.file.foreign_cam import AUTO_FORMAT, HALF
from tool.file.mask_reader import MaskReader
from tool.file.per_image import save_per_image
from tool.file.require import require_no_folder
from tool.run.crf_flags import add_seed_crf_flags, seed_crf
from tool.run.flags import AUTO, auto_or_number, bool_flag
from tool.run.machine_flags import add_workers_flag
from tool.run.notes import note
from voc12.cam_folder import (
    add_cam_format_flag,
    open_cam_folder,
    open_seeds_of_walk,
    require_same_photographs,
)
from voc12.class_list import load_class_list
from voc12.constants import MASK_DIR, VOC_MASK_DIR
from voc12.data_flags import add_list_flag, add_mask_values_flag, add_root_flag
from voc12.evaluation import (
    THRESHOLDS,
    Evaluation,
    evaluate_cams,
    evaluate_masks,
    label_map_reader,
    require_masks,
)
from voc12.evaluation_report import (
    add_absent_flag,
    append_log,
    curve_points,
    draw_curve,
    per_image,
    report,
    results,
)
from voc12.labels import class_counts
from voc12.lists import list_title, load_ids, require_root
from voc12.masks import ground_truth_dir, mask_reader, masks_missing, other_suffix
from voc12.orientation import require_mask_orientation
from voc12.threshold_choice import choose_threshold

PREDICT_DIR = "results/cpn/cam"
LOGFILE = "evallog.txt"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags; those of the released evaluation_cam.py keep their names and meaning."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = parser.add_argument_group("data")
    add_root_flag(data)
    add_list_flag(data, "--list", default="train")
    data.add_argument(
        "--gt_dir",
        help=f"folder of ground-truth masks <id>.png (default <voc12_root>/{MASK_DIR}, else "
        f"{VOC_MASK_DIR})",
    )
    add_mask_values_flag(data)
    data.add_argument(
        "--classes",
        help="file of foreground class names (default <voc12_root>/classes.txt, else VOC's 20)",
    )
    data.add_argument(
        "--predict_dir", default=PREDICT_DIR, help="folder of predictions (default %(default)s)"
    )
    add_cam_format_flag(data)
    data.add_argument(
        "--type",
        choices=("npy", "png"),
        default="npy",
        help="npy: CAM files .npz or .npy; png: label maps (default %(default)s)",
    )
    add_workers_flag(data, "reading processes")

    evaluation = parser.add_argument_group("evaluation")
    evaluation.add_argument(
        "--t",
        type=auto_or_number,
        help="one background threshold in 0..1, or auto: chosen from photographs and CAMs without "
        "the masks, and compared with the best (default: all of 0.00, 0.01, ..., 1.00; after "
        "a CRF what it decides)",
    )
    evaluation.add_argument(
        "--seed_dir",
        help="with --t auto: the seeds that maps after IRN's walk were made from; the threshold "
        "then shows as many pixels as auto does there",
    )
    evaluation.add_argument(
        "--t_scale",
        choices=("unit", "halved"),
        default="unit",
        help="what --t refers to: unit maps, or the released halved ones, where 0.25 is 0.50 here "
        "(default %(default)s)",
    )
    evaluation.add_argument(
        "--curve",
        type=bool_flag,
        nargs="?",
        const=True,
        default=False,
        help="evaluate all thresholds, whatever --t is, and draw the curve (default false)",
    )
    add_absent_flag(evaluation, "zero")

    crf = parser.add_argument_group("dense CRF on seeds, before the evaluation (default: none)")
    add_seed_crf_flags(
        crf, default=None, threshold_default="the best threshold of the seeds themselves"
    )

    output = parser.add_argument_group("output")
    output.add_argument("--json", help="file for the numbers (default: none)")
    output.add_argument(
        "--per_image",
        metavar="FILE.npz",
        help="file for the confusion matrix of each photograph at the reported thresholds, from "
        "which reproduce.py compares rows (default: none)",
    )
    output.add_argument(
        "--curve_png", help="file for the curve, implies --curve (default <predict_dir>_curve.png)"
    )
    output.add_argument(
        "--logfile",
        help=f"file that the report is appended to (default: none; {LOGFILE} with --comment)",
    )
    output.add_argument("--comment", default="", help="a line above the report in the log file")
    args = parser.parse_args(argv)
    args.curve = args.curve or args.curve_png is not None
    return args


def chosen_thresholds(args: argparse.Namespace) -> tuple[float, ...]:
    """The thresholds to evaluate, unit scale: --t alone, or the sweep. As released, --curve sweeps
    whatever --t is, and auto does.
    """
    if args.t in (None, AUTO) or args.curve:
        return THRESHOLDS
    return (args.t if args.t_scale == "unit" else 2 * args.t,)


def chosen_crf(
    args: argparse.Namespace, evaluate: Callable[..., Evaluation], auto: float | None
) -> SeedCrf:
    """The CRF that the flags ask for; the background score that they leave open is auto, or else
    the best threshold of the seeds as they are.
    """
    score = auto
    if auto is None and args.crf_threshold is None and args.crf_alpha is None:
        seeds = evaluate()
        score = seeds.thresholds[seeds.best(args.absent)]
        print(
            f"seeds: mIoU {seeds.scores.miou(args.absent)[seeds.best(args.absent)]:.2f} at "
            f"{score:.2f}, the CRF's background score"
        )
    return seed_crf(args, score)


def require_flags_that_act(args: argparse.Namespace) -> None:
    """Raise InputError for a flag that these other flags would leave without effect, or that
    contradicts them.
    """
    if args.seed_dir and args.t != AUTO:
        raise InputError("--seed_dir goes with --t auto")
    if args.t_scale == "halved" and not isinstance(args.t, float):
        raise InputError("--t_scale halved says what a number in --t refers to, and there is none")
    if args.t_scale == "halved" and args.t > HALF:  # which the released sweep has too
        note(
            f"note: --t {args.t} is over {HALF}, the highest value of halved maps, so all is "
            "background; leave --t_scale out if it refers to unit maps"
        )
    if args.type == "png" and args.cam_format != AUTO_FORMAT:
        raise InputError("--cam_format is for CAM files (--type npy)")
    if args.type == "png" and (args.curve or args.t is not None or args.crf):
        raise InputError(
            "--curve, --curve_png, --t and --crf need CAM files (--type npy); label maps have no "
            "threshold"
        )
    own = {
        name: getattr(args, name) for name in ("crf_set", "crf_on", "crf_threshold", "crf_alpha")
    }
    if not args.crf and (
        given := [name for name, value in own.items() if value not in (None, [], ())]
    ):
        raise InputError(f"--{given[0]} goes with --crf, which is not given")
    if args.crf:
        named_settings(args.crf, **dict(args.crf_set))
    if (
        args.crf
        and args.t == AUTO
        and (args.crf_alpha is not None or args.crf_threshold not in (None, AUTO))
    ):
        raise InputError(
            "--t auto chooses the CRF's background score; give either it or --crf_threshold "
            "NUMBER, --crf_alpha"
        )


def print_threshold_alone(
    args: argparse.Namespace, root: Path, ids: list[str], classes: Sequence[str], gt_dir: Path
) -> None:
    """--t auto of a list without any mask: the threshold, which needs none, and no evaluation."""
    seen = other_suffix(gt_dir, ids)
    if args.crf or args.curve or args.per_image:
        raise InputError(
            f"--crf, --curve and --per_image evaluate, and no image of {args.list} has a mask in "
            f"{gt_dir}{seen}; give --gt_dir, or leave them out for the threshold alone"
        )
    cams = open_cam_folder(args.predict_dir, args.cam_format, root, ids, classes, args.exif)
    auto = chosen_without_masks(args, root, ids, classes, cams.load)
    text = (
        f"threshold chosen without masks: {auto:.2f} (unit scale)\n"
        f"no evaluation: no image of {args.list} has a mask in {gt_dir}{seen}\n"
    )
    print(text, end="")
    if args.logfile or args.comment:
        append_log(args.logfile or LOGFILE, args.comment, text)
    if args.json:
        numbers = {"list": list_title(args.list), "images": len(ids), "threshold_scale": "unit"}
        write_json(args.json, numbers | {"auto_threshold": auto})


def chosen_without_masks(
    args: argparse.Namespace,
    root: Path,
    ids: list[str],
    classes: Sequence[str],
    load: Callable[[Path], CamFile],
) -> float:
    """The threshold that --t auto chooses; load: reads a CAM file of --predict_dir."""
    return choose_threshold(
        root,
        ids,
        args.predict_dir,
        args.num_workers,
        args.seed_dir,
        load,
        args.exif,
        open_seeds_of_walk(args.seed_dir, root, ids, classes, args.exif),
    )


@dataclass(frozen=True)
class Asked:
    """What is evaluated: the list and where its masks are; class_list: where the colours of masks
    may be named; truth: reads a mask.
    """

    root: Path
    ids: list[str]
    classes: tuple[str, ...]
    class_list: str | Path
    gt_dir: Path
    truth: MaskReader


def evaluate_label_maps(args: argparse.Namespace, asked: Asked) -> Evaluation:
    """The evaluation of --type png."""
    require_mask_orientation(asked.root, asked.ids, args.predict_dir, args.exif, "label maps")
    folder = Path(args.predict_dir)
    return evaluate_masks(
        asked.ids,
        folder,
        asked.gt_dir,
        asked.classes,
        args.num_workers,
        asked.truth,
        class_counts(asked.root, asked.ids, asked.classes),
        label_map_reader(asked.class_list, folder, asked.ids, asked.classes, (asked.root,)),
    )


def evaluate_cam_files(
    args: argparse.Namespace, asked: Asked
) -> tuple[Evaluation, float | None, Evaluation]:
    """(evaluation of --type npy, threshold chosen without masks that it is to be reported at, the
    evaluation at all thresholds that --curve draws).
    """
    root, ids, folder = asked.root, asked.ids, args.predict_dir
    cams = open_cam_folder(folder, args.cam_format, root, ids, asked.classes, args.exif)
    if args.crf:
        require_same_photographs(folder, root, ids)
    evaluate = partial(
        evaluate_cams,
        ids,
        folder,
        asked.gt_dir,
        asked.classes,
        num_workers=args.num_workers,
        load=cams.load,
        exif=args.exif,
        truth=asked.truth,
    )
    auto = None
    if args.t == AUTO or (args.crf and args.crf_threshold == AUTO):
        auto = chosen_without_masks(args, root, ids, asked.classes, cams.load)
    crf = chosen_crf(args, evaluate, auto) if args.crf else None
    evaluation = evaluate(thresholds=chosen_thresholds(args), crf=crf, voc12_root=root)
    if CRF_STAGE in evaluation.stages and len(evaluation.stages) > 1:
        raise InputError(
            f"{folder} mixes seeds before and after the CRF; keep them in folders of their own"
        )
    swept = evaluation
    if CRF_STAGE in evaluation.stages and args.t in (None, AUTO):
        # the best of the sweep would be a choice by the masks that no CRF has made
        evaluation = evaluation.at(CRF_THRESHOLD)
        swept = swept if args.curve else evaluation
    if crf is not None and auto is not None:
        print(f"threshold chosen without masks: {auto:.2f}, the CRF's background score")
        auto = None  # of what comes out of the CRF no threshold is chosen
    return evaluation, auto, swept


def write_outputs(
    args: argparse.Namespace, evaluation: Evaluation, auto: float | None, swept: Evaluation
) -> None:
    """Print the report, and write the files that were asked for; swept: what the curve is of."""
    list_name = list_title(args.list)
    text = report(evaluation, list_name, args.absent, auto)
    print(text, end="")
    if args.per_image:
        save_per_image(args.per_image, per_image(evaluation, args.absent, auto))
    if args.json:
        numbers = results(evaluation, list_name, args.absent, auto)
        write_json(args.json, numbers | {"curve": curve_points(swept, args.absent)})
    if args.curve:
        predict_dir = Path(args.predict_dir).resolve()
        path = Path(args.curve_png or predict_dir.with_name(f"{predict_dir.name}_curve.png"))
        draw_curve(path, swept, list_name, args.absent)
        print(f"curve: {path}")
    if args.logfile or args.comment:
        append_log(args.logfile or LOGFILE, args.comment, text)


def main(args: argparse.Namespace) -> None:
    """Evaluate the predictions of a list, print the report and write what was asked for."""
    # ============ data ============
    root = Path(args.voc12_root)
    if args.gt_dir is None:
        require_root(root)
    gt_dir = Path(args.gt_dir or ground_truth_dir(root))
    ids = load_ids(root, args.list)
    classes = load_class_list(args.classes or (root if root.is_dir() else None))

    # ============ checks, before anything slow ============
    require_flags_that_act(args)
    for flag in ("json", "per_image", "curve_png", "logfile"):
        require_no_folder(getattr(args, flag), flag)
    require_mask_orientation(root, ids, gt_dir, args.exif)
    if args.t == AUTO and len(masks_missing(gt_dir, ids)) == len(ids):
        print_threshold_alone(args, root, ids, classes, gt_dir)
        return
    if AUTO in (args.t, args.crf_threshold):  # goes through all photographs first
        require_masks(ids, gt_dir)
    paths = [gt_dir / f"{name}.png" for name in ids]
    class_list = args.classes or root
    truth = mask_reader(class_list, paths, classes, args.mask_values, others=(root,))

    # ============ evaluation, output ============
    asked = Asked(root, ids, classes, class_list, gt_dir, truth)
    if args.type == "png":
        evaluation = evaluate_label_maps(args, asked)
        write_outputs(args, evaluation, None, evaluation)
    else:
        write_outputs(args, *evaluate_cam_files(args, asked))


if __name__ == "__main__":
    run_script(main, parse_args)
