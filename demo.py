"""The whole road on the embedded sample: train the plain CAM and CPN, make CAM files, score them, show them.

Needs nothing but the installed packages. Writes the sample data set to --data and everything else to --out; prints one table
(CAM beside CPN, seed mIoU and threshold, per class) and the path of a contact sheet.

    python demo.py
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

import evaluation_cam
import infer_cam
import train_cpn
from evaluation_cam import THRESHOLDS, Evaluation, evaluate_cams
from tool.cam_file import find_cam, load_cam
from tool.errors import run_script
from tool.files import atomic_write, write_json
from tool.images import read_image, read_mask, write_image
from tool.overlay import contact_sheet, mask_overlay, overlay
from voc12.constants import MASK_DIR
from voc12.lists import image_path, load_class_list, load_ids, mask_path
from voc12.sample import make_sample

DATA = "data/sample"
OUT = "results/demo"

METHODS = {"cam": "CAM", "cpn": "CPN"}
# Found on the sample's training split; docs/LOG.md has the tries.
NETWORK = ["--backbone", "efficientnet_lite0", "--output_stride", "16"]
TRAINING = [
    "--crop_size",
    "128",
    "--resize_long",
    "128",
    "192",
    "--batch_size",
    "4",
    "--lr",
    "0.01",
    "--momentum",
    "0.5",
    "--val_list",
    "none",
]
PATCHES = ["--patch", "grid", "--grid_sizes", "16", "32", "64"]
SCALES = ["--scales", "0.4", "0.55", "0.7"]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=DATA, help="folder of the sample data set (default %(default)s)")
    parser.add_argument("--out", default=OUT, help="folder for weights, CAM files, table and pictures (default %(default)s)")
    parser.add_argument("--images", type=int, default=400, help="training images of the sample (default %(default)s)")
    parser.add_argument("--val_images", type=int, default=100, help="validation images of the sample (default %(default)s)")
    parser.add_argument("--max_epoches", type=int, default=8, help="epochs of each method (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the trainings; the data set's is always 0 (default %(default)s)")
    parser.add_argument("--num_workers", type=int, default=2, help="loader processes (default %(default)s)")
    parser.add_argument("--sheet_images", type=int, default=8, help="rows of the contact sheet (default %(default)s)")
    return parser.parse_args(argv)


def train(args: argparse.Namespace, method: str) -> Path:
    """Train one method on the sample, or find it trained; the path of its weights."""
    name = f"{method}_seed{args.seed}"
    flags = ["--voc12_root", args.data, "--results", args.out, "--session_name", name, "--method", method]
    flags += ["--max_epoches", str(args.max_epoches), "--seed", str(args.seed), "--num_workers", str(args.num_workers)]
    train_cpn.main(train_cpn.parse_args(flags + NETWORK + TRAINING + PATCHES))
    return Path(args.out) / name / f"{name}.pth"


def infer(args: argparse.Namespace, weights: Path) -> Path:
    """CAM files of the validation split; their folder."""
    folder = weights.parent / "cam_val"
    flags = ["--voc12_root", args.data, "--infer_list", "val", "--weights", str(weights), "--out_cam", str(folder)]
    infer_cam.main(infer_cam.parse_args([*flags, "--num_workers", str(args.num_workers), *SCALES]))
    return folder


def table(results: dict[str, Evaluation], classes: tuple[str, ...], title: str) -> str:
    """CAM beside CPN: mIoU, threshold and the IoU of every class, as aligned text."""
    best = {method: evaluation.best("skip") for method, evaluation in results.items()}
    lines = [title, f"{'':14}" + "".join(f"{METHODS[method]:>8}" for method in results)]
    lines.append(f"{'mIoU (%)':14}" + "".join(f"{results[m].scores.miou_skip[best[m]]:8.1f}" for m in results))
    lines.append(f"{'threshold':14}" + "".join(f"{THRESHOLDS[best[m]]:8.2f}" for m in results))
    for index, name in enumerate(("background", *classes)):
        lines.append(f"{name:14}" + "".join(f"{results[m].scores.iou[best[m], index]:8.1f}" for m in results))
    return "\n".join(lines)


def sheet(args: argparse.Namespace, folders: dict[str, Path], results: dict[str, Evaluation], ids: list[str]) -> np.ndarray:
    """Photograph, ground truth, CAM of each method and the mask of each at its best threshold, for evenly spaced images."""
    rows = []
    for name in ids[:: max(1, len(ids) // args.sheet_images)][: args.sheet_images]:
        image = read_image(image_path(args.data, name))
        cams = {method: load_cam(find_cam(folder, name)) for method, folder in folders.items()}
        row = [image, mask_overlay(image, read_mask(mask_path(args.data, name)))]
        row += [overlay(image, cam.cam.max(axis=0)) for cam in cams.values()]
        for method, cam in cams.items():
            threshold = THRESHOLDS[results[method].best("skip")]
            label = np.where(cam.cam.max(axis=0) > threshold, cam.keys[cam.cam.argmax(axis=0)] + 1, 0)
            row.append(mask_overlay(image, label.astype(np.uint8)))
        rows.append(row)
    names = list(METHODS.values())
    return contact_sheet(rows, ["image", "ground truth", *names, *(f"{name} mask" for name in names)])


def main(args: argparse.Namespace) -> None:
    """Run every step that is not done yet, print the table, write the contact sheet."""
    start = time.monotonic()
    out = Path(args.out)
    print(f"1/4 sample data set: {args.images} training and {args.val_images} validation images in {args.data}", flush=True)
    make_sample(args.data, images=args.images, val_images=args.val_images)
    classes, ids = load_class_list(Path(args.data)), load_ids(args.data, "val")
    weights, folders, results = {}, {}, {}
    for step, method in enumerate(METHODS, start=2):
        print(f"{step}/4 {METHODS[method]}: train {args.max_epoches} epochs, then CAM files of the validation images", flush=True)
        weights[method] = train(args, method)
        folders[method] = infer(args, weights[method])
    print("4/4 evaluation", flush=True)
    for method, folder in folders.items():
        results[method] = evaluate_cams(ids, folder, Path(args.data) / MASK_DIR, classes, num_workers=args.num_workers)
        write_json(out / f"{method}_seed{args.seed}.json", evaluation_cam.results(results[method], "val", "skip"))
    text = table(
        results,
        classes,
        f"seed mIoU on the sample's validation split, {len(ids)} images, designs unseen in training, best threshold, seed {args.seed}",
    )
    with atomic_write(out / "table.txt", "w") as file:
        file.write(text + "\n")
    write_image(out / "contact_sheet.png", sheet(args, folders, results, ids))
    print(f"\n{text}\n\ntable: {out / 'table.txt'}\ncontact sheet: {out / 'contact_sheet.png'}")
    print(f"{time.monotonic() - start:.0f} s on {torch.get_num_threads()} threads")


if __name__ == "__main__":
    run_script(main, parse_args)
