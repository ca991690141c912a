"""The whole road on the embedded sample: train the plain CAM and CPN, make CAM files, go on to
pseudo masks and a segmentation model, score them, show them.

Needs nothing but the installed packages. Writes the sample data set to --data and everything else
to --out; prints one table (CAM beside CPN: seed mIoU and threshold, after the dense CRF, pseudo
masks of IRN, a segmentation model trained on such masks, IoU of every class) and the paths of a
sheet of three photographs and of a page about the run.

    python demo.py
"""

import argparse
import os
import shlex
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

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


class Stage(NamedTuple):
    """A row of the table for one method.

    auto: threshold chosen without masks, None where nothing is to choose; folder: its CAM files or
    label maps
    """

    name: str
    method: str
    evaluation: Evaluation
    auto: float | None
    folder: Path

    @property
    def best(self) -> int:
        """The place of the threshold with the best mIoU."""
        return self.evaluation.best("skip")

    @property
    def threshold(self) -> float:
        """That threshold, unit scale."""
        return self.evaluation.thresholds[self.best]

    @property
    def score(self) -> str:
        """mIoU at the best threshold: "34.5 @ 0.46", where there is one to choose."""
        at = "" if self.auto is None else f" @ {self.threshold:.2f}"
        return f"{self.evaluation.scores.miou_skip[self.best]:.1f}{at}"

    @property
    def score_without_masks(self) -> str:
        """The same at the threshold chosen without masks."""
        place = self.evaluation.thresholds.index(self.auto)
        return f"{self.evaluation.scores.miou_skip[place]:.1f} @ {self.auto:.2f}"

    def image_ious(self) -> np.ndarray:
        """(N,) mIoU of each image at the best threshold, percent, over the classes in its mask or
        prediction.
        """
        hits, unions = self.evaluation.image_counts(self.best).hits_and_unions()
        share = np.where(unions > 0, hits / np.maximum(unions, 1), np.nan)
        return 100 * np.nanmean(share, axis=1)


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
    run("infer_cam.py", *data_flags(args), *files, *recipe.SCALES[split].split())
    return folder


def expand(args: argparse.Namespace, weights: Path, seeds: Path) -> Path:
    """IRN on the seeds of the training images, and its walk from the seeds of both splits; its
    folder, with the walked maps in cam_<split> and masks, at a threshold chosen without masks, in
    mask_<split>.
    """
    name = f"irn_{weights.stem}"
    folder = Path(args.out) / name
    session = ["--results", args.out, "--session_name", name, "--seed", args.seed]
    split_seeds = {"train": infer(args, weights, "train"), "val": seeds}
    how = f"{recipe.NETWORK} {recipe.IRN}".split()
    given = ["--train_list", "train", "--cam_dir", split_seeds["train"]]
    run("train_irn.py", *data_flags(args), *session, *given, *how)
    for split, cams in split_seeds.items():
        walk = ["--weights", folder / f"{name}.pth", "--infer_list", split, "--cam_dir", cams]
        output = ["--out_mask", folder / f"mask_{split}", "--out_cam", folder / f"cam_{split}"]
        run("infer_irn.py", *data_flags(args), *walk, *output, *recipe.WALK.split())
    return folder


def segment(args: argparse.Namespace, masks: Path) -> Path:
    """A segmentation model trained on masks of the training images; the folder of its predictions
    on the validation images.
    """
    name = f"seg_seed{args.seed}"
    session = ["--results", args.out, "--session_name", name, "--seed", args.seed]
    how = f"{recipe.NETWORK} {recipe.SEG}".split()
    run("train_seg.py", *data_flags(args), *session, "--mask_dir", masks, *how)
    folder = Path(args.out) / name
    weights = ["--weights", folder / f"{name}.pth", *recipe.SEG_SCALES.split()]
    output = ["--infer_list", "val", "--crf", "none", "--out_mask", folder / "pred_val"]
    run("infer_seg.py", *data_flags(args), *weights, *output)
    return folder / "pred_val"


def evaluate(
    args: argparse.Namespace, ids: list[str], seeds: dict[str, Path], walked: Path, predicted: Path
) -> list[Stage]:
    """Seeds and seeds after the dense CRF of both methods; of the expanded one IRN's masks and the
    segmentation model trained on such masks.
    """
    root, classes = Path(args.data), load_class_list(args.data)
    given = {"gt_dir": root / MASK_DIR, "classes": classes, "num_workers": args.num_workers}
    score: Callable[..., Evaluation] = partial(evaluate_cams, ids, voc12_root=root, **given)
    stages = []
    for method, folder in seeds.items():
        auto = choose_threshold(root, ids, folder, args.num_workers)
        stages.append(Stage(SEED, method, score(folder), auto, folder))
    for stage in tuple(stages):
        crf = SeedCrf(CRF_SETTINGS["irn"], "labels", stage.threshold)
        made = score(stage.folder, crf=crf, thresholds=(CRF_THRESHOLD,))
        stages.append(Stage(CRF, stage.method, made, None, stage.folder))
    auto = choose_threshold(root, ids, walked, args.num_workers, seed_dir=seeds[EXPANDED])
    stages.append(Stage(IRN, EXPANDED, score(walked), auto, walked))
    named = class_counts(root, ids, classes)
    made = evaluate_masks(ids, predicted, named=named, **given)
    return [*stages, Stage(SEG, EXPANDED, made, None, predicted)]


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
    for index, name in enumerate(seeds[0].evaluation.classes):
        ious = {s.method: f"{s.evaluation.scores.iou[s.best, index]:.1f}" for s in seeds}
        lines.append(line(name, ious))
    return "\n".join(lines)


def example(args: argparse.Namespace, what: str, place: int, stages: list[Stage]) -> Example:
    """An image of the list for the sheet: photograph and map of every stage, below them ground
    truth and mask of every stage.
    """
    classes, name = stages[0].evaluation.classes, stages[0].evaluation.ids[place]
    image, truth = read_image(image_path(args.data, name)), read_mask(mask_path(args.data, name))
    maps, masks = [Tile(image, "photograph")], [Tile(mask_overlay(image, truth), "ground truth")]
    for stage in stages:
        cam = load_cam(find_cam(stage.folder, name))
        method = METHODS[stage.method] + (" + IRN" if stage.name == IRN else "")
        maps.append(Tile(overlay(image, cam.cam.max(axis=0)), method))
        mask = threshold_mask(cam.cam, cam.keys, stage.threshold)
        iou = stage.image_ious()[place]
        maps_at = f"mask @ {stage.threshold:.2f}: IoU {iou:.1f}"
        masks.append(Tile(mask_overlay(image, mask), maps_at))
    shown = ", ".join(classes[value] for value in np.unique(truth) if 0 < value < len(classes))
    return Example(f"{what}: {name}, {shown}", [maps, masks])


def sheet(args: argparse.Namespace, stages: list[Stage]) -> np.ndarray:
    """The best, the median and the worst image by the IoU of IRN's masks."""
    shown = [stage for stage in stages if stage.name in (SEED, IRN)]
    order = np.argsort(shown[-1].image_ious(), kind="stable")
    places = {"Best": order[-1], "Median": order[(len(order) - 1) // 2], "Worst": order[0]}
    classes = dict(enumerate(shown[0].evaluation.classes[1:], start=1))
    title = (
        f"Of {len(order)} validation images those with the highest, the median and the lowest IoU "
        f"of the mask at the right (training seed {args.seed}). IoU: percent, mean over background "
        "and the classes in the image. @: the threshold, the best for all images."
    )
    examples = [example(args, what, place, shown) for what, place in places.items()]
    return example_sheet(title, examples, classes, "map, from 0 to 1")


def write_page(args: argparse.Namespace, stages: list[Stage], weights: Path) -> Path:
    """The page about the run; its path."""
    path = Path(args.out) / "report.html"
    seeds = {stage.method: stage.folder for stage in stages if stage.name == SEED}
    other = {stage.name: stage.folder for stage in stages}
    folders = ["--cam_dir", seeds["cam"], "--refined_dir", seeds["cpn"]]
    folders += ["--walk_dir", other[IRN], "--pred_dir", other[SEG], "--session_dir", weights.parent]
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
    begin = train(args, "start", "cam", args.start_epoches, [])
    weights, seeds = {}, {}
    for step, method in enumerate(METHODS, start=3):
        then = "then CAM files of the validation images"
        announce(step, f"{METHODS[method]}: go on for {args.max_epoches} epochs, {then}")
        flags = [*recipe.PATCHES.split(), "--weights", str(begin)]
        weights[method] = train(args, method, method, args.max_epoches, flags)
        seeds[method] = infer(args, weights[method], "val")
    announce(steps - 3, f"pseudo masks: IRN on {METHODS[EXPANDED]}'s seeds")
    expanded = expand(args, weights[EXPANDED], seeds[EXPANDED])
    announce(steps - 2, "segmentation model, trained on the masks")
    predicted = segment(args, expanded / "mask_train")
    announce(steps - 1, "evaluation")
    stages = evaluate(args, ids, seeds, expanded / "cam_val", predicted)
    rows = [
        {"row": f"{METHODS[stage.method]}, {stage.name}"}
        | results(stage.evaluation, "val", "skip", stage.auto)
        for stage in stages
    ]
    write_json(out / f"table_seed{args.seed}.json", {"rows": rows})
    title = (
        f"sample's validation split: {len(ids)} images of designs that training never shows, seed "
        f"{args.seed}"
    )
    text = table(stages, title)
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
