"""CAM files packed against float32 ones: bytes, milliseconds to read and to write, and the largest
change of the mIoU at any of 101 background thresholds.

    python infer_cam.py --voc12_root DIR --infer_list animals_val --weights W --out_cam CAMS \\
        --format npz
    python -m benchmarks.cam_files --voc12_root DIR --list animals_val --cam_dir CAMS

Times are of load_cam and save_cam on files in the page cache, in turn, on one thread.
Results: benchmarks/RESULTS.md.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from benchmarks.common import section
from tool.file.cam_file import EXACT, PACKED, find_cam, has_cam, load_cam, save_cam
from tool.file.images import read_mask
from tool.metrics import ThresholdSweep, iou_table
from tool.run.flags import positive_int
from voc12.class_list import load_class_list
from voc12.lists import load_ids, mask_path

THRESHOLDS = tuple(i / 100 for i in range(101))


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--voc12_root", required=True, help="photographs and masks, VOC layout")
    parser.add_argument("--list", default="val", help="which of them (default %(default)s)")
    parser.add_argument("--cam_dir", required=True, help="CAM files, float32")
    parser.add_argument(
        "--rounds", type=positive_int, default=5, help="of each (default %(default)s)"
    )
    return parser.parse_args(argv)


def milliseconds(function: Callable, items: list) -> float:
    """CPU time of an item."""
    start = time.process_time()
    for item in items:
        function(item)
    return (time.process_time() - start) / len(items) * 1e3


def sweep(folder: Path, ids: list[str], root: Path, classes: int) -> np.ndarray:
    """(T,) mIoU, percent, over the classes that occur."""
    counts = ThresholdSweep(THRESHOLDS, classes)
    for name in ids:
        cam_file = load_cam(find_cam(folder, name))
        counts.update(cam_file.cam, cam_file.keys, read_mask(mask_path(root, name)))
    return iou_table(counts.confusion()).miou("skip")


def main(args: argparse.Namespace) -> None:
    """Measure; print the section."""
    cv2.setNumThreads(1)
    root, source = Path(args.voc12_root), Path(args.cam_dir)
    ids = [name for name in load_ids(root, args.list) if has_cam(source, name)]
    cam_files = [load_cam(find_cam(source, name)) for name in ids]
    maps = sum(len(cam_file.keys) for cam_file in cam_files)
    with tempfile.TemporaryDirectory() as folder:
        folders = {form: Path(folder) / form for form in (EXACT, PACKED)}
        read: dict[str, list[float]] = {form: [] for form in folders}
        written: dict[str, list[float]] = {form: [] for form in folders}
        for _ in range(args.rounds):
            for form, there in folders.items():
                written[form].append(
                    milliseconds(lambda one, d=there, f=form: save_cam(d, one, f), cam_files)
                )
            for form, there in folders.items():
                read[form].append(milliseconds(load_cam, [find_cam(there, name) for name in ids]))
        sizes = {
            form: sum(path.stat().st_size for path in there.iterdir())
            for form, there in folders.items()
        }
        classes = len(load_class_list(root)) + 1
        curves = {form: sweep(there, ids, root, classes) for form, there in folders.items()}
    rows = [
        [
            form,
            f"{sizes[form] / len(ids) / 1e3:.0f}",
            f"{sizes[form] / sizes[EXACT]:.3f}",
            f"{median(read[form]):.2f}",
            f"{median(written[form]):.2f}",
        ]
        for form in folders
    ]
    change = np.abs(curves[PACKED] - curves[EXACT]).max()
    words = (
        f"{len(ids)} photographs, {maps} maps. The mIoU changes by {change:.5f} points at most, at "
        f"any of {len(THRESHOLDS)} thresholds."
    )
    header = ["format", "kB a file", "ratio", "ms to read", "ms to write"]
    print(section("CAM files", "python -m benchmarks.cam_files", header, rows, words))


if __name__ == "__main__":
    main(parse_args())
