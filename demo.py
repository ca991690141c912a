"""The whole road on the embedded sample: train the plain CAM and CPN, make CAM files, go on to pseudo masks, score them, show them.

Needs nothing but the installed packages. Writes the sample data set to --data and everything else to --out; prints one table
(CAM beside CPN: seed mIoU and threshold, per class, after the dense CRF, pseudo masks of IRN) and the path of a contact sheet.

    python demo.py
"""

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

import evaluation_cam
import infer_cam
import infer_irn
import train_cpn
import train_irn
from evaluation_cam import Evaluation, evaluate_cams
from tool.cam_file import find_cam, load_cam
from tool.crf import CRF_SETTINGS, SeedCrf, threshold_mask
from tool.errors import run_script
from tool.files import atomic_write, write_json
from tool.flags import non_negative_int, positive_int, seed_number
from tool.images import read_image, read_mask, write_image
from tool.overlay import contact_sheet, mask_overlay, overlay
from tool.seed import CRF_THRESHOLD
from voc12.constants import MASK_DIR
from voc12.lists import image_path, load_class_list, load_ids, mask_path
from voc12.sample import make_sample

DATA = "data/sample"
OUT = "results/demo"

METHODS = {"cam": "CAM", "cpn": "CPN"}
CRF_STAGE = "seed + CRF"
EXPANDED = "cpn"  # whose seeds become pseudo masks
# What two cores learn in a few minutes; docs/LOG.md has the tries. Both methods go on from the same plain CAM, for as many images:
# from ImageNet weights, patches hide too much for twenty classes to be learned in this time.
NETWORK = "--backbone efficientnet_lite0"
TRAINING = "--crop_size 144 --resize_long 144 176 --batch_size 4 --momentum 0.9 --val_list none"
START = "--lr 0.0003 --new_layer_factor 400 --refinement_factor 0"
GO_ON = "--lr 0.0003 --new_layer_factor 150 --refinement_factor 0"
PATCHES = "--patch grid --grid_sizes 72"
SCALES = {"val": "--scales 0.65 0.9 1.3", "train": "--scales 0.9"}
IRN = "--crop_size 224 --batch_size 8 --max_epoches 1 --fg_threshold 0.6 --bg_threshold 0.35"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=DATA, help="folder of the sample data set (default %(default)s)")
    parser.add_argument("--out", default=OUT, help="folder for weights, CAM files, table and pictures (default %(default)s)")
    parser.add_argument("--images", type=positive_int, default=400, help="training images of the sample (default %(default)s)")
    parser.add_argument(
        "--val_images", type=positive_int, default=100, help="validation images of the sample (default %(default)s)"
    )
    parser.add_argument(
        "--start_epoches",
        type=positive_int,
        default=5,
        help="epochs of the plain CAM from which both start (default %(default)s)",
    )
    parser.add_argument(
        "--max_epoches", type=positive_int, default=2, help="epochs of each method after that (default %(default)s)"
    )
    parser.add_argument("--seed", type=seed_number, default=0, help="of the trainings, not of the data (default %(default)s)")
    parser.add_argument("--num_workers", type=non_negative_int, default=2, help="loader processes (default %(default)s)")
    parser.add_argument("--sheet_images", type=positive_int, default=8, help="rows of the contact sheet (default %(default)s)")
    return parser.parse_args(argv)


def train(args: argparse.Namespace, name: str, method: str, epochs: int, flags: list[str]) -> Path:
    """Train a session on the sample, or find it trained; the path of its weights."""
    name = f"{name}_seed{args.seed}"
    session = ["--method", method]
    session += ["--voc12_root", args.data, "--results", args.out, "--session_name", name, "--max_epoches", str(epochs)]
    session += ["--seed", str(args.seed), "--num_workers", str(args.num_workers)]
    train_cpn.main(train_cpn.parse_args([*session, *f"{NETWORK} {TRAINING}".split(), *flags]))
    return Path(args.out) / name / f"{name}.pth"


def infer(args: argparse.Namespace, weights: Path, split: str) -> Path:
    """CAM files of a split; their folder."""
    folder = weights.parent / f"cam_{split}"
    flags = ["--voc12_root", args.data, "--infer_list", split, "--weights", str(weights), "--out_cam", str(folder)]
    infer_cam.main(infer_cam.parse_args([*flags, "--num_workers", str(args.num_workers), *SCALES[split].split()]))
    return folder


def expand(args: argparse.Namespace, weights: Path, seeds: Path) -> Path:
    """IRN on the seeds of the training images, and its walk from the seeds of the validation images; the folder of the walked maps."""
    name = f"irn_{weights.stem}"
    folder = Path(args.out) / name
    common = ["--voc12_root", args.data, "--num_workers", str(args.num_workers)]
    session = ["--results", args.out, "--session_name", name, "--seed", str(args.seed), "--train_list", "train"]
    train_seeds = ["--cam_dir", str(infer(args, weights, "train"))]
    train_irn.main(train_irn.parse_args([*common, *session, *train_seeds, *f"{NETWORK} {IRN}".split()]))
    walk = ["--weights", str(folder / f"{name}.pth"), "--infer_list", "val", "--cam_dir", str(seeds)]
    output = ["--out_mask", str(folder / "mask_val"), "--out_cam", str(folder / "cam_val")]
    infer_irn.main(infer_irn.parse_args([*common, *walk, *output]))
    return folder / "cam_val"


Stages = dict[str, dict[str, Evaluation]]  # stage -> method -> its evaluation


def evaluate(args: argparse.Namespace, ids: list[str], folders: dict[str, Path], walked: Path) -> Stages:
    """Seeds and seeds after the dense CRF of both methods, and IRN's masks, made from one's."""
    root = Path(args.data)
    score = partial(
        evaluate_cams, ids, gt_dir=root / MASK_DIR, classes=load_class_list(root), num_workers=args.num_workers, voc12_root=root
    )
    seeds = {method: score(folder) for method, folder in folders.items()}
    crf = {method: SeedCrf(CRF_SETTINGS["irn"], "labels", threshold(seeds[method])) for method in folders}
    refined = {method: score(folder, crf=crf[method], thresholds=(CRF_THRESHOLD,)) for method, folder in folders.items()}
    return {"seed": seeds, CRF_STAGE: refined, "IRN mask": {EXPANDED: score(walked)}}


def threshold(evaluation: Evaluation) -> float:
    """The background threshold with the best mIoU."""
    return evaluation.thresholds[evaluation.best("skip")]


def table(stages: Stages, classes: tuple[str, ...], title: str) -> str:
    """CAM beside CPN: mIoU of every stage at its best threshold, and the IoU of every class of the seeds, as aligned text."""

    def line(name: str, cells: dict[str, str]) -> str:
        return f"{name:14}" + "".join(f"{cells.get(method, '-'):>14}" for method in METHODS)

    lines = [title, line("mIoU (%)", METHODS)]
    for stage, evaluations in stages.items():
        scores = {method: f"{e.scores.miou_skip[e.best('skip')]:.1f}" for method, e in evaluations.items()}
        if stage != CRF_STAGE:  # the CRF decides by itself, from labels at the threshold of the seeds
            scores = {method: f"{score} @ {threshold(evaluations[method]):.2f}" for method, score in scores.items()}
        lines.append(line(stage, scores))
    lines.append("IoU (%) of the seeds")
    for index, name in enumerate(("background", *classes)):
        lines.append(line(name, {m: f"{e.scores.iou[e.best('skip'), index]:.1f}" for m, e in stages["seed"].items()}))
    return "\n".join(lines)


def sheet(args: argparse.Namespace, folders: dict[str, Path], walked: Path, stages: Stages, ids: list[str]) -> np.ndarray:
    """Photograph, ground truth, CAM of each method, mask of each at its best threshold, IRN's mask, for evenly spaced images."""
    masks = [(folder, threshold(stages["seed"][method])) for method, folder in folders.items()]
    masks.append((walked, threshold(stages["IRN mask"][EXPANDED])))
    rows = []
    for name in ids[:: max(1, len(ids) // args.sheet_images)][: args.sheet_images]:
        image = read_image(image_path(args.data, name))
        row = [image, mask_overlay(image, read_mask(mask_path(args.data, name)))]
        row += [overlay(image, load_cam(find_cam(folder, name)).cam.max(axis=0)) for folder in folders.values()]
        for folder, background in masks:
            cam = load_cam(find_cam(folder, name))
            row.append(mask_overlay(image, threshold_mask(cam.cam, cam.keys, background)))
        rows.append(row)
    names = list(METHODS.values())
    return contact_sheet(
        rows, ["image", "ground truth", *names, *(f"{name} mask" for name in names), f"{METHODS[EXPANDED]} + IRN mask"]
    )


def main(args: argparse.Namespace) -> None:
    """Run every step that is not done yet, print the table, write the contact sheet."""
    start = time.monotonic()
    out, steps = Path(args.out), len(METHODS) + 4

    def announce(step: int, text: str) -> None:
        print(f"{step}/{steps} {text} ({time.monotonic() - start:.0f} s so far)", flush=True)

    announce(1, f"sample data set: {args.images} training and {args.val_images} validation images in {args.data}")
    make_sample(args.data, images=args.images, val_images=args.val_images)
    ids = load_ids(args.data, "val")
    announce(2, f"train the plain CAM for {args.start_epoches} epochs")
    begin = train(args, "start", "cam", args.start_epoches, START.split())
    weights, folders = {}, {}
    for step, method in enumerate(METHODS, start=3):
        announce(step, f"{METHODS[method]}: go on for {args.max_epoches} epochs, then CAM files of the validation images")
        weights[method] = train(args, method, method, args.max_epoches, [*f"{GO_ON} {PATCHES}".split(), "--weights", str(begin)])
        folders[method] = infer(args, weights[method], "val")
    announce(steps - 1, f"pseudo masks: IRN on {METHODS[EXPANDED]}'s seeds")
    walked = expand(args, weights[EXPANDED], folders[EXPANDED])
    announce(steps, "evaluation")
    stages = evaluate(args, ids, folders, walked)
    rows = [
        {"row": f"{METHODS[method]}, {stage}"} | evaluation_cam.results(evaluation, "val", "skip")
        for stage, evaluations in stages.items()
        for method, evaluation in evaluations.items()
    ]
    write_json(out / f"table_seed{args.seed}.json", {"rows": rows})
    title = (
        f"sample's validation split: {len(ids)} images of designs that training never shows; best thresholds, seed {args.seed}"
    )
    text = table(stages, load_class_list(Path(args.data)), title)
    with atomic_write(out / "table.txt", "w") as file:
        file.write(text + "\n")
    write_image(out / "contact_sheet.png", sheet(args, folders, walked, stages, ids))
    print(f"\n{text}\n\ntable: {out / 'table.txt'}\ncontact sheet: {out / 'contact_sheet.png'}")
    print(f"{time.monotonic() - start:.0f} s on {torch.get_num_threads()} threads")


if __name__ == "__main__":
    run_script(main, parse_args)
