"""mIoU of CAM files at every background threshold, or of label maps, against ground-truth masks.

Reads one prediction for each id of a list, the masks of the same ids and the class list; prints a table of all classes at the
best threshold, and on request writes the numbers as JSON and the curve of mIoU against the threshold as PNG.

    python evaluation_cam.py --list train --predict_dir results/cpn/cam_train --curve --json results/cpn/cam_train.json

CAM files of any format (tool/cam_file.py) are read as unit maps, so thresholds run from 0 to 1; the released code works on
halved maps, where the same threshold has half the value.
"""

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial, reduce
from pathlib import Path
from typing import Any

import numpy as np

from tool.cam_file import CAM_SUFFIXES, CamFile, find_cam, load_cam, require_made_for
from tool.crf import SeedCrf, named_settings
from tool.errors import InputError, naming_file, run_script
from tool.files import git_commit, require_dir, require_no_folder, write_json
from tool.flags import AUTO, DEFAULT_WORKERS, add_seed_crf_flags, auto_or_number, bool_flag, non_negative_int, seed_crf
from tool.images import read_image, read_mask, read_mask_meta
from tool.metrics import Scores, ThresholdSweep, confusion_matrix, iou_table
from tool.plots import plot_threshold_curve
from tool.pool import WorkerPool
from tool.progress import progress
from tool.seed import CRF_STAGE, CRF_THRESHOLD, crf_meta, crf_seed, load_seed
from voc12.auto_threshold import choose_threshold
from voc12.constants import BACKGROUND, DATA_HELP, MASK_DIR
from voc12.lists import LIST_HELP, image_path, list_title, load_class_list, load_ids

VOC12_ROOT = "data/VOCdevkit/VOC2012"
PREDICT_DIR = "results/cpn/cam"
LOGFILE = "evallog.txt"

THRESHOLDS = tuple(i / 100 for i in range(101))
IMAGES_PER_TASK = 32
CRF_IMAGES_PER_TASK = 2  # about a second each
NAMED_PROBLEMS = 10


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags; those of the released evaluation_cam.py keep their names and meaning."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("data")
    data.add_argument("--voc12_root", default=VOC12_ROOT, help="data set folder in VOC layout (default %(default)s)")
    data.add_argument("--list", default="train", help=f"{LIST_HELP} (default %(default)s)")
    data.add_argument("--gt_dir", help=f"folder of ground-truth masks <id>.png (default <voc12_root>/{MASK_DIR})")
    data.add_argument("--classes", help="file of foreground class names (default <voc12_root>/classes.txt, else VOC's 20)")
    data.add_argument("--predict_dir", default=PREDICT_DIR, help="folder of predictions (default %(default)s)")
    data.add_argument(
        "--type", choices=("npy", "png"), default="npy", help="npy: CAM files .npz or .npy; png: label maps (default %(default)s)"
    )
    data.add_argument(
        "--num_workers",
        type=non_negative_int,
        default=DEFAULT_WORKERS,
        help="reading processes (default %(default)s)",
    )

    evaluation = parser.add_argument_group("evaluation")
    evaluation.add_argument(
        "--t",
        type=auto_or_number,
        help="one background threshold in 0..1, or auto: chosen from photographs and CAMs without the masks, and compared with the "
        "best (default: all of 0.00, 0.01, ..., 1.00; after a CRF what it decides)",
    )
    evaluation.add_argument(
        "--seed_dir",
        help="with --t auto: the seeds that maps after IRN's walk were made from; the threshold then shows as many pixels as auto does "
        "there",
    )
    evaluation.add_argument(
        "--t_scale",
        choices=("unit", "halved"),
        default="unit",
        help="what --t refers to: unit maps, or the released halved ones, where 0.25 is 0.50 here (default %(default)s)",
    )
    evaluation.add_argument(
        "--curve",
        type=bool_flag,
        nargs="?",
        const=True,
        default=False,
        help="evaluate all thresholds, whatever --t is, and draw the curve (default false)",
    )
    evaluation.add_argument(
        "--absent",
        choices=("zero", "skip"),
        default="zero",
        help="a class in neither prediction nor ground truth counts as 0, as released, or not at all (default %(default)s)",
    )

    crf = parser.add_argument_group("dense CRF on seeds, before the evaluation (default: none)")
    add_seed_crf_flags(crf, default=None, threshold_default="the best threshold of the seeds themselves")

    output = parser.add_argument_group("output")
    output.add_argument("--json", help="file for the numbers (default: none)")
    output.add_argument("--curve_png", help="file for the curve, implies --curve (default <predict_dir>_curve.png)")
    output.add_argument("--logfile", help=f"file that the report is appended to (default: none; {LOGFILE} with --comment)")
    output.add_argument("--comment", default="", help="a line above the report in the log file")
    args = parser.parse_args(argv)
    args.curve = args.curve or args.curve_png is not None
    return args


# ============ counting ============
@dataclass(eq=False)
class _Part:
    """What a task counted: a sweep or a confusion matrix, the stages named in the CAM files, a line for every failed image."""

    counts: ThresholdSweep | np.ndarray
    stages: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def __add__(self, other: "_Part") -> "_Part":
        return _Part(self.counts + other.counts, self.stages | other.stages, self.problems + other.problems)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Confusion matrices of a list of images.

    confusion:  (T, K, K) int64, rows ground truth; T = 1 for label maps
    classes:    the K names, background first
    thresholds: (T,) unit scale; empty for label maps
    stages:     what made the predictions, by their files
    crf:        what the CAMs went through before they were counted
    """

    confusion: np.ndarray
    classes: tuple[str, ...]
    thresholds: tuple[float, ...]
    images: int
    stages: tuple[str, ...]
    crf: SeedCrf | None = None

    @cached_property
    def scores(self) -> Scores:
        """The scores at every threshold."""
        return iou_table(self.confusion)

    def best(self, absent: str = "zero") -> int:
        """The index of the threshold with the highest mIoU, the lowest of equals."""
        return int(self.scores.miou(absent).argmax())

    def at(self, threshold: float) -> "Evaluation":
        """The same at one of its thresholds alone."""
        return replace(self, confusion=self.confusion[[self.thresholds.index(threshold)]], thresholds=(threshold,))


def evaluate_cams(
    ids: Sequence[str],
    predict_dir: str | Path,
    gt_dir: str | Path,
    classes: Sequence[str],
    thresholds: Sequence[float] = THRESHOLDS,
    num_workers: int = 1,
    crf: SeedCrf | None = None,
    voc12_root: str | Path = VOC12_ROOT,
) -> Evaluation:
    """Compare the CAM files of ids with their masks at all thresholds (unit scale, ascending), reading each file once.

    classes: foreground names. The result does not depend on num_workers (0 and 1: no further process).
    crf:     if not None, the CAMs are seeds that go through this CRF first, with the photographs of voc12_root; what comes out says
             at threshold 0.5 what the CRF says.
    Raises InputError counting all images that fail, for whatever reason, and naming the first ten.
    """
    predict_dir, gt_dir = Path(predict_dir), Path(gt_dir)
    hint = "run infer_cam.py for them, or check --predict_dir (label maps need --type png)"
    _require_files(ids, "CAM files", predict_dir, CAM_SUFFIXES, hint)
    _require_files(ids, "masks", gt_dir, (".png",), "check --gt_dir and --list")
    empty = _Part(ThresholdSweep(thresholds, len(classes) + 1))
    count = partial(
        _count_cams,
        predict_dir=predict_dir,
        gt_dir=gt_dir,
        classes=tuple(classes),
        thresholds=tuple(thresholds),
        crf=crf,
        voc12_root=Path(voc12_root),
    )
    part = _count_all(count, empty, ids, num_workers, IMAGES_PER_TASK if crf is None else CRF_IMAGES_PER_TASK)
    return replace(_evaluation(part, part.counts.confusion(), classes, part.counts.thresholds, len(ids)), crf=crf)


def evaluate_masks(
    ids: Sequence[str], predict_dir: str | Path, gt_dir: str | Path, classes: Sequence[str], num_workers: int = 1
) -> Evaluation:
    """Compare label maps <predict_dir>/<id>.png, values 0..K-1, with the masks; otherwise as evaluate_cams.

    255 in a prediction is an error: an unsure pixel has no class that could be counted.
    """
    predict_dir, gt_dir = Path(predict_dir), Path(gt_dir)
    _require_files(ids, "label maps", predict_dir, (".png",), "check --predict_dir (CAM files need --type npy)")
    _require_files(ids, "masks", gt_dir, (".png",), "check --gt_dir and --list")
    empty = _Part(np.zeros((len(classes) + 1,) * 2, dtype=np.int64))
    count = partial(_count_masks, predict_dir=predict_dir, gt_dir=gt_dir, classes=tuple(classes))
    part = _count_all(count, empty, ids, num_workers, IMAGES_PER_TASK)
    return _evaluation(part, part.counts[None], classes, (), len(ids))


def _count_cams(
    ids: Sequence[str],
    predict_dir: Path,
    gt_dir: Path,
    classes: tuple[str, ...],
    thresholds: tuple[float, ...],
    crf: SeedCrf | None,
    voc12_root: Path,
) -> _Part:
    part = _Part(ThresholdSweep(thresholds, len(classes) + 1))
    for name in ids:
        try:
            path, mask_path = find_cam(predict_dir, name), gt_dir / f"{name}.png"
            mask = read_mask(mask_path)
            cam_file = load_cam(path) if crf is None else _through_crf(path, crf, image_path(voc12_root, name), classes)
            with naming_file(f"{path} against {mask_path}"):
                require_made_for(cam_file.meta, classes)
                part.counts.update(cam_file.cam, cam_file.keys, mask)
            part.stages.add(str(cam_file.meta.get("stage", f"unnamed ({cam_file.meta.get('format', 'npz')} files)")))
        except InputError as error:
            part.problems.append(str(error))
    return part


def _through_crf(path: Path, crf: SeedCrf, photograph: Path, classes: tuple[str, ...]) -> CamFile:
    image = read_image(photograph)
    return crf_seed(image, load_seed(path, image.shape[:2], classes), crf, crf_meta(crf, classes))


def _count_masks(ids: Sequence[str], predict_dir: Path, gt_dir: Path, classes: tuple[str, ...]) -> _Part:
    part = _Part(np.zeros((len(classes) + 1,) * 2, dtype=np.int64))
    for name in ids:
        try:
            path, mask_path = predict_dir / f"{name}.png", gt_dir / f"{name}.png"
            prediction, mask, meta = read_mask(path), read_mask(mask_path), read_mask_meta(path)
            with naming_file(f"{path} against {mask_path}"):
                require_made_for(meta, classes, "the label map")
                part.counts += confusion_matrix(prediction, mask, len(classes) + 1)
            if "stage" in meta:
                part.stages.add(str(meta["stage"]))
        except InputError as error:
            part.problems.append(str(error))
    return part


def _count_all(
    count: Callable[[Sequence[str]], _Part], empty: _Part, ids: Sequence[str], num_workers: int, group_size: int
) -> _Part:
    """The sum of count(ids) over groups of ids, in the order of ids."""
    groups = [ids[start : start + group_size] for start in range(0, len(ids), group_size)]
    with progress(total=len(ids), unit="img", desc="evaluate") as bar:

        def add(total: _Part, part_of_group: tuple[_Part, Sequence[str]]) -> _Part:
            part, group = part_of_group
            bar.update(len(group))
            return total + part

        if num_workers <= 1 or len(groups) == 1:
            return reduce(add, zip(map(count, groups), groups, strict=True), empty)
        with WorkerPool(min(num_workers, len(groups))) as pool:
            return reduce(add, zip(pool.map(count, groups), groups, strict=True), empty)


def _evaluation(
    part: _Part, confusion: np.ndarray, classes: Sequence[str], thresholds: tuple[float, ...], images: int
) -> Evaluation:
    if part.problems:
        raise InputError(f"{len(part.problems)} of {images} images cannot be evaluated: {_some(part.problems, '; ')}")
    if not confusion.any():
        raise InputError(f"nothing to evaluate: no pixel of the {images} masks has a class, all are 255")
    return Evaluation(confusion, (BACKGROUND, *classes), thresholds, images, tuple(sorted(part.stages)))


def _require_files(ids: Sequence[str], what: str, folder: Path, suffixes: tuple[str, ...], hint: str) -> None:
    """Raise InputError counting the ids that have no file <folder>/<id><suffix>, before any is read."""
    require_dir(folder, f"folder of {what}", hint)
    missing = [name for name in ids if not any((folder / f"{name}{suffix}").is_file() for suffix in suffixes)]
    if missing:
        raise InputError(f"{len(missing)} of {len(ids)} {what} are not in {folder}: {_some(missing, ', ')}; {hint}")


def _some(items: Sequence[str], separator: str) -> str:
    rest = len(items) - NAMED_PROBLEMS
    return separator.join(items[:NAMED_PROBLEMS]) + (f"{separator}and {rest} more" if rest > 0 else "")


# ============ reporting ============
def report(evaluation: Evaluation, list_name: str, absent: str, auto: float | None = None) -> str:
    """The table at the threshold auto, or else at the best one, its means and what they were taken over, as text."""
    scores, best = evaluation.scores, evaluation.best(absent) if auto is None else evaluation.thresholds.index(auto)
    rows = zip(evaluation.classes, scores.iou[best], scores.precision[best], scores.recall[best], strict=True)
    width = max(len(name) for name in evaluation.classes)
    lines = [
        f"list {list_name}, {evaluation.images} images, {', '.join(evaluation.stages) or 'label maps'}",
        _threshold_line(evaluation, best) if auto is None else _auto_line(evaluation, best, absent),
        f"{'percent':<{width}}  {'IoU':>7}  {'precision':>9}  {'recall':>7}",
        *(
            f"{name:<{width}}  {_cell(iou, 7)}  {_cell(precision, 9)}  {_cell(recall, 7)}"
            for name, iou, precision, recall in rows
        ),
    ]
    missing = _absent_names(evaluation, best)
    total = len(evaluation.classes)
    means = {
        "zero": f"mIoU {scores.miou_zero[best]:.2f} over all {total} classes",
        "skip": f"mIoU {scores.miou_skip[best]:.2f} over the {total - len(missing)} classes that occur",
    }
    if not missing:
        return "\n".join([*lines, means["zero"]]) + "\n"
    means["zero"] += f", {len(missing)} of them counted as 0 because they occur nowhere (as the released code)"
    other = {"zero": "skip", "skip": "zero"}[absent]
    lines += [
        means[absent],
        f"otherwise (--absent {other}): {means[other]}",
        f"in neither prediction nor ground truth: {', '.join(missing)}",
    ]
    return "\n".join(lines) + "\n"


def _threshold_line(evaluation: Evaluation, best: int) -> str:
    if not evaluation.thresholds:
        return "no threshold"
    threshold = evaluation.thresholds[best]
    halved = f"unit scale (the released halved scale: {threshold / 2:.3f})"
    if len(evaluation.thresholds) == 1:
        at_decision = CRF_STAGE in evaluation.stages and threshold == CRF_THRESHOLD
        decided = " of a CRF's maps, which say there what it decided" if at_decision else ""
        return f"background threshold {threshold:.2f}{decided}, {halved}"
    first, last = evaluation.thresholds[0], evaluation.thresholds[-1]
    return f"best background threshold {threshold:.2f} of {first:.2f}..{last:.2f}, {halved}"


def _auto_line(evaluation: Evaluation, chosen: int, absent: str) -> str:
    best, miou = evaluation.best(absent), evaluation.scores.miou(absent)
    return (
        f"background threshold {evaluation.thresholds[chosen]:.2f}, chosen without masks: mIoU {miou[chosen]:.2f}; the best, by the "
        f"masks: {evaluation.thresholds[best]:.2f}, mIoU {miou[best]:.2f} ({miou[best] - miou[chosen]:.2f} more)"
    )


def _cell(value: float, width: int) -> str:
    return f"{'-':>{width}}" if math.isnan(value) else f"{value:>{width}.2f}"


def _absent_names(evaluation: Evaluation, best: int) -> list[str]:
    """The classes in neither prediction nor ground truth."""
    return [name for name, iou in zip(evaluation.classes, evaluation.scores.iou[best], strict=True) if math.isnan(iou)]


def results(evaluation: Evaluation, list_name: str, absent: str, auto: float | None = None) -> dict[str, Any]:
    """The numbers for a JSON file: percent, thresholds in unit scale, null where undefined.

    iou holds all classes at the best threshold, one that occurs nowhere as 0 or null as absent says, so that best_miou is the mean
    of what is not null. auto: the threshold chosen without masks, which goes in with its mIoU.
    """
    scores, best = evaluation.scores, evaluation.best(absent)
    undefined = 0.0 if absent == "zero" else None

    def by_class(values: np.ndarray, undefined: float | None) -> dict[str, float | None]:
        return {
            name: undefined if math.isnan(value) else float(value) for name, value in zip(evaluation.classes, values, strict=True)
        }

    return {
        "list": list_name,
        "images": evaluation.images,
        "stage": ", ".join(evaluation.stages) or None,
        "crf": asdict(evaluation.crf) if evaluation.crf else None,
        "absent_classes": absent,
        "classes_that_occur_nowhere": _absent_names(evaluation, best),
        "threshold_scale": "unit",
        "best_threshold": evaluation.thresholds[best] if evaluation.thresholds else None,
        "best_miou": float(scores.miou(absent)[best]),
        "auto_threshold": auto,
        "auto_miou": None if auto is None else float(scores.miou(absent)[evaluation.thresholds.index(auto)]),
        "miou_zero": float(scores.miou_zero[best]),
        "miou_skip": float(scores.miou_skip[best]),
        "iou": by_class(scores.iou[best], undefined),
        "precision": by_class(scores.precision[best], None),
        "recall": by_class(scores.recall[best], None),
        "curve": [
            {"threshold": threshold, "miou": float(miou)}
            for threshold, miou in zip(evaluation.thresholds, scores.miou(absent), strict=False)  # label maps: no threshold
        ],
        "commit": git_commit(),
    }


def draw_curve(path: Path, evaluation: Evaluation, list_name: str, absent: str) -> None:
    """Write the curve of mIoU against the threshold, the convention `absent` first; the other one if it differs."""
    scores, best = evaluation.scores, evaluation.best(absent)
    names = {"zero": f"mIoU over all {len(evaluation.classes)} classes", "skip": "mIoU over the classes that occur"}
    if np.array_equal(scores.miou_zero, scores.miou_skip):
        names = {absent: names["zero"]}
    curves = {names[key]: scores.miou(key) for key in sorted(names, key=lambda key: key != absent)}
    title = f"{list_name}, {', '.join(evaluation.stages)}, {evaluation.images} images"
    plot_threshold_curve(path, evaluation.thresholds, curves, best, title)


def append_log(path: str | Path, comment: str, text: str) -> None:
    """Append time, comment and report to a log file, as the released code does."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}\t{comment}\n{text}{'=' * 37}\n")


def chosen_thresholds(args: argparse.Namespace) -> tuple[float, ...]:
    """The thresholds to evaluate, unit scale: --t alone, or the sweep. As released, --curve sweeps whatever --t is, and auto does."""
    if args.t in (None, AUTO) or args.curve:
        return THRESHOLDS
    return (args.t if args.t_scale == "unit" else 2 * args.t,)


def chosen_crf(args: argparse.Namespace, evaluate: Callable[..., Evaluation], auto: float | None) -> SeedCrf:
    """The CRF that the flags ask for; the background score that they leave open is auto, or else the best threshold of the seeds as
    they are.
    """
    score = auto
    if auto is None and args.crf_threshold is None and args.crf_alpha is None:
        seeds = evaluate()
        score = seeds.thresholds[seeds.best(args.absent)]
        print(
            f"seeds: mIoU {seeds.scores.miou(args.absent)[seeds.best(args.absent)]:.2f} at {score:.2f}, the CRF's background score"
        )
    return seed_crf(args, score)


def require_flags_that_act(args: argparse.Namespace) -> None:
    """Raise InputError for a flag that these other flags would leave without effect, or that contradicts them."""
    if args.seed_dir and args.t != AUTO:
        raise InputError("--seed_dir goes with --t auto")
    if args.t_scale == "halved" and not isinstance(args.t, float):
        raise InputError("--t_scale halved says what a number in --t refers to, and there is none")
    if args.type == "png" and (args.curve or args.t is not None or args.crf):
        raise InputError("--curve, --curve_png, --t and --crf need CAM files (--type npy); label maps have no threshold")
    own = {name: getattr(args, name) for name in ("crf_set", "crf_on", "crf_threshold", "crf_alpha")}
    if not args.crf and (given := [name for name, value in own.items() if value not in (None, [], ())]):
        raise InputError(f"--{given[0]} goes with --crf, which is not given")
    if args.crf:
        named_settings(args.crf, **dict(args.crf_set))
    if args.crf and args.t == AUTO and (args.crf_alpha is not None or args.crf_threshold not in (None, AUTO)):
        raise InputError("--t auto chooses the CRF's background score; give either it or --crf_threshold NUMBER, --crf_alpha")


def main(args: argparse.Namespace) -> None:
    """Evaluate the predictions of a list, print the report and write what was asked for."""
    # ============ data ============
    root = Path(args.voc12_root)
    if args.gt_dir is None:
        require_dir(root, "--voc12_root", DATA_HELP)
    gt_dir = Path(args.gt_dir or root / MASK_DIR)
    ids = load_ids(root, args.list)
    list_name = list_title(args.list)
    classes = load_class_list(args.classes or (root if root.is_dir() else None))

    # ============ evaluation ============
    require_flags_that_act(args)
    for flag in ("json", "curve_png", "logfile"):
        require_no_folder(getattr(args, flag), flag)
    auto = None
    if args.type == "png":
        evaluation = evaluate_masks(ids, args.predict_dir, gt_dir, classes, args.num_workers)
    else:
        evaluate = partial(evaluate_cams, ids, args.predict_dir, gt_dir, classes, num_workers=args.num_workers)
        if args.t == AUTO or (args.crf and args.crf_threshold == AUTO):
            auto = choose_threshold(root, ids, args.predict_dir, args.num_workers, args.seed_dir)
        crf = chosen_crf(args, evaluate, auto) if args.crf else None
        evaluation = evaluate(thresholds=chosen_thresholds(args), crf=crf, voc12_root=root)
        if CRF_STAGE in evaluation.stages and len(evaluation.stages) > 1:
            raise InputError(f"{args.predict_dir} mixes seeds before and after the CRF; keep them in folders of their own")
        if CRF_STAGE in evaluation.stages and args.t in (None, AUTO) and not args.curve:
            evaluation = evaluation.at(CRF_THRESHOLD)  # the best of the sweep would be a choice by the masks that no CRF has made
        if crf is not None and auto is not None:
            print(f"threshold chosen without masks: {auto:.2f}, the CRF's background score")
            auto = None  # of what comes out of the CRF no threshold is chosen

    # ============ output ============
    text = report(evaluation, list_name, args.absent, auto)
    print(text, end="")
    if args.json:
        write_json(args.json, results(evaluation, list_name, args.absent, auto))
    if args.curve:
        predict_dir = Path(args.predict_dir).resolve()
        path = Path(args.curve_png or predict_dir.with_name(f"{predict_dir.name}_curve.png"))
        draw_curve(path, evaluation, list_name, args.absent)
        print(f"curve: {path}")
    if args.logfile or args.comment:
        append_log(args.logfile or LOGFILE, args.comment, text)


if __name__ == "__main__":
    run_script(main, parse_args)
