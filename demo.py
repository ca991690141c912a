"""The whole road on the embedded sample: train the plain CAM and CPN, make CAM files, go on to
pseudo masks and a segmentation model, score them, show them.

Needs nothing but the installed packages. Writes the sample data set to --data and everything else
to --out; prints one table (CAM beside CPN: seed mIoU and threshold, the masks that a dense CRF
makes of them, a segmentation model trained on such masks, IoU of every class) and the paths of a
sheet of three photographs and of a page about the run. With --expand irn the segmentation model
learns from IRN's masks instead, which take minutes more.

    python demo.py
"""

from tool.start import end_at_ctrl_c

if __name__ == "__main__":
    end_at_ctrl_c()  # while it imports

import argparse
import os
import shlex
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tool.errors import InputError, run_script
from tool.expand.crf import CRF_SETTINGS, SeedCrf, threshold_mask
from tool.expand.seed import CRF_THRESHOLD
from tool.file.atomic import atomic_write, write_json
from tool.file.cam_file import find_cam, load_cam
from tool.file.images import read_image, read_mask, write_image
from tool.run.flags import (
    positive_int,
    seed_number,
    worker_count,
)
from tool.run.steps import execute
from tool.show.overlay import mask_overlay, overlay
from tool.show.sheet import Example, Tile, example_sheet
from voc12.class_list import load_class_list
from voc12.constants import MASK_DIR
from voc12.evaluation import Evaluation, evaluate_cams, evaluate_masks
from voc12.evaluation_report import results
from voc12.labels import class_counts
from voc12.lists import image_path, load_ids, mask_path
from voc12.sample import recipe
from voc12.sample.make import make_sample
from voc12.threshold_choice import choose_threshold

OUT = "results/demo"

METHODS = {"cam": "CAM", "cpn": "CPN"}
EXPANDED = "cpn"  # whose seeds become pseudo masks
SEED, CRF, IRN, SEG = "seed", "seed + CRF", "IRN mask", "segmentation"
EXPANSIONS = ("crf", "irn")


class Stage(NamedTuple):
    """A row of the table for one method.

    best, without: evaluations of one threshold each, the best by the masks and the one chosen
    without them; best_at, auto: these thresholds of the seeds, None for a segmentation model, which
    has none; folder: CAM files or label maps of without, or the seeds' where a CRF has written none
    """

    name: str
    method: str
    best: Evaluation
    without: Evaluation
    best_at: float | None
    auto: float | None
    folder: Path

    @property
    def score(self) -> str:
        """mIoU at the best threshold: "34.5 @ 0.46", where there is one to choose."""
        return _score(self.best, self.best_at)

    @property
    def score_without_masks(self) -> str:
        """The same at the threshold chosen without masks."""
        return _score(self.without, self.auto)

    def image_ious(self) -> np.ndarray:
        """(N,) mIoU of each image at the threshold chosen without masks, percent, over the classes
        in its mask or prediction.
        """
        hits, unions = self.without.image_counts(0).hits_and_unions()
        share = np.where(unions > 0, hits / np.maximum(unions, 1), np.nan)
        return 100 * np.nanmean(share, axis=1)

    def rows(self) -> list[dict[str, Any]]:
        """Its numbers for the JSON file, at both thresholds."""
        name = f"{METHODS[self.method]}, {self.name}"
        rows = [{"row": name, "threshold": self.best_at} | results(self.best, "val", "skip")]
        if self.auto is not None:
            title = {"row": f"{name}, threshold without masks", "threshold": self.auto}
            rows.append(title | results(self.without, "val", "skip"))
        return rows


def _score(evaluation: Evaluation, threshold: float | None) -> str:
    at = "" if threshold is None else f" @ {threshold:.2f}"
    return f"{evaluation.scores.miou_skip[0]:.1f}{at}"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", default=recipe.DATA, help="folder of the sample data set (default %(default)s)"
    )
    parser.add_argument(
        "--out",
        default=OUT,
        help="folder for weights, CAM files, table and pictures (default %(default)s)",
    )
    parser.add_argument(
        "--images",
        type=positive_int,
        default=recipe.IMAGES,
        help="training images of the sample (default %(default)s)",
    )
    parser.add_argument(
        "--val_images",
        type=positive_int,
        default=recipe.VAL_IMAGES,
        help="validation images of the sample (default %(default)s)",
    )
    parser.add_argument(
        "--start_epoches",
        type=positive_int,
        default=recipe.START_EPOCHES,
        help="epochs of the plain CAM from which both start (default %(default)s)",
    )
    parser.add_argument(
        "--max_epoches",
        type=positive_int,
        default=recipe.MAX_EPOCHES,
        help="epochs of each method after that (default %(default)s)",
    )
    parser.add_argument(
        "--expand",
        choices=EXPANSIONS,
        default="crf",
        help="what makes masks of CPN's seeds: a dense CRF, or IRN (default %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=seed_number,
        default=0,
        help="of the trainings, not of the data (default %(default)s)",
    )
    parser.add_argument(
        "--num_workers",
        type=worker_count,
        default=2,
        help="loader processes (default %(default)s)",
    )
    return parser.parse_args(argv)


def run(*words: str | int | Path) -> None:
    """Run `python WORDS`. Raises InputError naming the command if it fails."""
    command = [str(word) for word in words]
    if status := execute(command):
        raise InputError(f"`python {shlex.join(command)}` failed with exit status {status}")


def data_flags(args: argparse.Namespace) -> list[str]:
    """What every command gets."""
    return ["--voc12_root", args.data, "--num_workers", str(args.num_workers)]


def train(args: argparse.Namespace, name: str, method: str, epochs: int, flags: list[str]) -> Path:
    """Train a session on the sample, or find it trained; the path of its weights."""
    name = f"{name}_seed{args.seed}"
    session = ["--results", args.out, "--session_name", name, "--seed", args.seed]
    how = f"{recipe.NETWORK} {recipe.TRAINING} --method {method} --max_epoches {epochs}".split()
    run("train_cpn.py", *data_flags(args), *session, *how, *flags)
    return Path(args.out) / name / f"{name}.pth"


def infer(args: argparse.Namespace, weights: Path, split: str) -> Path:
    """CAM files of a split; their folder."""
    folder = weights.parent / f"cam_{split}"
    files = ["--infer_list", split, "--weights", weights, "--out_cam", folder]
    run("infer_cam.py", *data_flags(args), *files, *recipe.SCALES.split())
    return folder


def expand_crf(args: argparse.Namespace, seeds: dict[str, Path]) -> tuple[Path, Path]:
    """What a dense CRF makes of the seeds of both splits, cut at a threshold chosen without masks:
    (folder of the training images' masks, folder of the validation images' CAM files).
    """
    folder = seeds["val"].parent
    for split, cams in seeds.items():
        output = ["--out_cam", folder / f"crf_{split}", "--out_mask", folder / f"mask_{split}"]
        given = ["--infer_list", split, "--cam_dir", cams]
        run("make_crf.py", *data_flags(args), *given, *output, *recipe.CRF.split())
    return folder / "mask_train", folder / "crf_val"


def expand_irn(args: argparse.Namespace, seeds: dict[str, Path]) -> tuple[Path, Path]:
    """The same from IRN, trained on the seeds of the training images, and its walk."""
    name = f"irn_seed{args.seed}"
    folder = Path(args.out) / name
    session = ["--results", args.out, "--session_name", name, "--seed", args.seed]
    how = f"{recipe.NETWORK} {recipe.IRN}".split()
    given = ["--train_list", "train", "--cam_dir", seeds["train"]]
    run("train_irn.py", *data_flags(args), *session, *given, *how)
    for split, cams in seeds.items():
        walk = ["--weights", folder / f"{name}.pth", "--infer_list", split, "--cam_dir", cams]
        output = ["--out_mask", folder / f"mask_{split}", "--out_cam", folder / f"cam_{split}"]
        run("infer_irn.py", *data_flags(args), *walk, *output, *recipe.WALK.split())
    return folder / "mask_train", folder / "cam_val"


def segment(args: argparse.Namespace, masks: Path, start: Path) -> Path:
    """A segmentation model trained on masks of the training images, from the classifier's weights;
    the folder of its predictions on the validation images.
    """
    name = f"seg_{args.expand}_seed{args.seed}"
    session = ["--results", args.out, "--session_name", name, "--seed", args.seed]
    how = f"{recipe.NETWORK} {recipe.SEG}".split()
    given = ["--mask_dir", masks, "--weights", start]
    run("train_seg.py", *data_flags(args), *session, *given, *how)
    folder = Path(args.out) / name
    weights = ["--weights", folder / f"{name}.pth", *recipe.SEG_INFERENCE.split()]
    output = ["--infer_list", "val", "--out_mask", folder / "pred_val"]
    run("infer_seg.py", *data_flags(args), *weights, *output)
    return folder / "pred_val"


def evaluate(
    args: argparse.Namespace,
    ids: list[str],
    seeds: dict[str, Path],
    expanded: Path,
    predicted: Path,
) -> list[Stage]:
    """Seeds and seeds after the dense CRF of both methods; of the expanded one IRN's masks, if they
    were asked for, and the segmentation model.
    """
    root, classes = Path(args.data), load_class_list(args.data)
    given = {"gt_dir": root / MASK_DIR, "classes": classes, "num_workers": args.num_workers}
    score: Callable[..., Evaluation] = partial(evaluate_cams, ids, voc12_root=root, **given)

    def with_masks_and_without(name: str, method: str, folder: Path, auto: float) -> Stage:
        sweep = score(folder)
        best_at = sweep.thresholds[sweep.best("skip")]
        return Stage(name, method, sweep.at(best_at), sweep.at(auto), best_at, auto, folder)

    def with_crf(stage: Stage) -> Stage:
        made = [
            score(
                stage.folder,
                crf=SeedCrf(CRF_SETTINGS["irn"], "labels", threshold),
                thresholds=(CRF_THRESHOLD,),
            )
            for threshold in (stage.best_at, stage.auto)
        ]
        return Stage(CRF, stage.method, *made, stage.best_at, stage.auto, stage.folder)

    stages = []
    for method, folder in seeds.items():
        auto = choose_threshold(root, ids, folder, args.num_workers)
        stages.append(with_masks_and_without(SEED, method, folder, auto))
    stages += map(with_crf, tuple(stages))
    if args.expand == "crf":
        stages[-1] = stages[-1]._replace(folder=expanded)
    else:
        auto = choose_threshold(root, ids, expanded, args.num_workers, seed_dir=seeds[EXPANDED])
        stages.append(with_masks_and_without(IRN, EXPANDED, expanded, auto))
    named = class_counts(root, ids, classes)
    made = evaluate_masks(ids, predicted, named=named, **given)
    return [*stages, Stage(SEG, EXPANDED, made, made, None, None, predicted)]


def table(stages: list[Stage], title: str) -> str:
    """CAM beside CPN: mIoU of every stage at its best threshold and at the one chosen without
    masks, and the IoU of every class of the seeds, as aligned text.
    """

    def line(name: str, cells: dict[str, str]) -> str:
        return f"{name:25}" + "".join(f"{cells.get(method, '-'):>14}" for method in METHODS)

    lines = [title, line("mIoU (%)", METHODS)]
    for name in dict.fromkeys(stage.name for stage in stages):
        row = [stage for stage in stages if stage.name == name]
        lines.append(line(name, {stage.method: stage.score for stage in row}))
        if row[0].auto is not None:
            cells = {stage.method: stage.score_without_masks for stage in row}
            lines.append(line("  threshold without masks", cells))
    lines.append("IoU (%) of the seeds")
    seeds = [stage for stage in stages if stage.name == SEED]
    for index, name in enumerate(seeds[0].best.classes):
        ious = {s.method: f"{s.best.scores.iou[0, index]:.1f}" for s in seeds}
        lines.append(line(name, ious))
    return "\n".join(lines)


def example(args: argparse.Namespace, what: str, place: int, stages: list[Stage]) -> Example:
    """An image of the list for the sheet: photograph and map of every stage, below them ground
    truth and mask of every stage.
    """
    classes, name = stages[0].best.classes, stages[0].best.ids[place]
    image, truth = read_image(image_path(args.data, name)), read_mask(mask_path(args.data, name))
    maps, masks = [Tile(image, "photograph")], [Tile(mask_overlay(image, truth), "ground truth")]
    for stage in stages:
        cam = load_cam(find_cam(stage.folder, name))
        added = {CRF: " + CRF", IRN: " + IRN"}.get(stage.name, "")
        maps.append(Tile(overlay(image, cam.cam.max(axis=0)), METHODS[stage.method] + added))
        # the CRF has cut at the seeds' threshold already
        cut = CRF_THRESHOLD if stage.name == CRF else stage.auto
        mask = threshold_mask(cam.cam, cam.keys, cut)
        line = f"mask @ {stage.auto:.2f}: IoU {stage.image_ious()[place]:.1f}"
        masks.append(Tile(mask_overlay(image, mask), line))
    shown = ", ".join(classes[value] for value in np.unique(truth) if 0 < value < len(classes))
    return Example(f"{what}: {name}, {shown}", [maps, masks])


def expanded_stage(args: argparse.Namespace, stages: list[Stage]) -> Stage:
    """The stage whose masks the segmentation model learnt from."""
    name = CRF if args.expand == "crf" else IRN
    return next(stage for stage in stages if (stage.name, stage.method) == (name, EXPANDED))


def sheet(args: argparse.Namespace, stages: list[Stage]) -> np.ndarray:
    """The best, the median and the worst image by the IoU of the expanded masks."""
    last = expanded_stage(args, stages)
    shown = [*(stage for stage in stages if stage.name == SEED), last]
    order = np.argsort(last.image_ious(), kind="stable")
    places = {"Best": order[-1], "Median": order[(len(order) - 1) // 2], "Worst": order[0]}
    classes = dict(enumerate(last.best.classes[1:], start=1))
    title = (
        f"Of {len(order)} validation images those with the highest, the median and the lowest IoU "
        f"of the mask at the right (training seed {args.seed}). IoU: percent, mean over background "
        "and the classes in the image. @: the seeds' threshold, one for all images, chosen without "
        "masks."
    )
    examples = [example(args, what, place, shown) for what, place in places.items()]
    return example_sheet(title, examples, classes, "map, from 0 to 1")


def write_page(args: argparse.Namespace, stages: list[Stage], weights: Path) -> Path:
    """The page about the run; its path."""
    path = Path(args.out) / "report.html"
    seeds = {stage.method: stage.folder for stage in stages if stage.name == SEED}
    last, predicted = expanded_stage(args, stages), stages[-1].folder
    folders = ["--cam_dir", seeds["cam"], "--refined_dir", seeds["cpn"]]
    folders += ["--crf_dir" if last.name == CRF else "--walk_dir", last.folder]
    folders += ["--pred_dir", predicted, "--session_dir", weights.parent]
    words = ["--list", "val", "--title", f"Demo on the sample, seed {args.seed}", "--out", path]
    run("report.py", *data_flags(args), *folders, *words)
    return path


def main(args: argparse.Namespace) -> None:
    """Run every step that is not done yet, print the table, write the contact sheet."""
    start = time.monotonic()
    out, steps = Path(args.out), len(METHODS) + 6

    def announce(step: int, text: str) -> None:
        print(f"{step}/{steps} {text} ({time.monotonic() - start:.0f} s so far)", flush=True)

    sizes = f"{args.images} training and {args.val_images} validation images in {args.data}"
    announce(1, f"sample data set: {sizes}")
    make_sample(args.data, images=args.images, val_images=args.val_images)
    ids = load_ids(args.data, "val")
    announce(2, f"train the plain CAM for {args.start_epoches} epochs")
    begin = train(args, "start", "cam", args.start_epoches, recipe.START_RATE.split())
    weights, seeds = {}, {}
    for step, method in enumerate(METHODS, start=3):
        then = "then CAM files of the validation images"
        announce(step, f"{METHODS[method]}: go on for {args.max_epoches} epochs, {then}")
        flags = [*recipe.RATE.split(), *recipe.PATCHES.split(), "--weights", str(begin)]
        weights[method] = train(args, method, method, args.max_epoches, flags)
        seeds[method] = infer(args, weights[method], "val")
    announce(steps - 3, f"pseudo masks of {METHODS[EXPANDED]}'s seeds: {args.expand.upper()}")
    split_seeds = {
        "train": infer(args, weights[EXPANDED], "train"),
        "val": seeds[EXPANDED],
    }
    expand = {"crf": expand_crf, "irn": expand_irn}[args.expand]
    masks, expanded = expand(args, split_seeds)
    announce(steps - 2, "segmentation model, trained on the masks")
    predicted = segment(args, masks, weights[EXPANDED])
    announce(steps - 1, "evaluation")
    stages = evaluate(args, ids, seeds, expanded, predicted)
    rows = [row for stage in stages for row in stage.rows()]
    write_json(out / f"table_seed{args.seed}.json", {"rows": rows})
    text = table(stages, f"sample's validation split: {len(ids)} images, seed {args.seed}")
    with atomic_write(out / "table.txt", "w") as file:
        file.write(text + "\n")
    write_image(out / "contact_sheet.png", sheet(args, stages))
    announce(steps, "page about the run")
    path = write_page(args, stages, weights[EXPANDED])
    print(f"\n{text}\n\ntable: {out / 'table.txt'}\nthree photographs: {out / 'contact_sheet.png'}")
    print(f"all photographs, with sliders, in a browser: {path}")
    print(f"{time.monotonic() - start:.0f} s on {os.cpu_count()} cores")


if __name__ == "__main__":
    run_script(main, parse_args)
