"""mIoU at 100 thresholds: the naive sweep, a pass over the files for every threshold, against one
pass; and images of COCO's size.

    python -m benchmarks.evaluation

CAM files and masks are made up: smooth maps of three classes an image, written to a temporary
folder and read from there.
"""

import argparse
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from benchmarks.common import measure_apart, print_json, seconds_in_turn, section
from tool.errors import run_script
from tool.file.cam_file import CamFile, load_cam, save_cam
from tool.file.images import read_mask, write_mask
from tool.metrics import confusion_matrix
from tool.run.flags import positive_int, worker_count
from voc12.evaluation import evaluate_cams

THRESHOLDS = tuple(i / 100 for i in range(100))
CLASSES_AN_IMAGE = 3


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--images",
        type=positive_int,
        default=4,
        help="images of VOC's size for the ratio (default %(default)s)",
    )
    parser.add_argument(
        "--coco_images",
        type=positive_int,
        default=10000,
        help="of COCO's size (default %(default)s)",
    )
    parser.add_argument(
        "--num_workers",
        type=worker_count,
        default=2,
        help="reading processes for COCO's size (default %(default)s)",
    )
    parser.add_argument("--coco_only", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def make_images(
    folder: Path, count: int, size: tuple[int, int], num_classes: int, seed: int = 0
) -> list[str]:
    """Write CAM files and masks of `count` images; their ids."""
    rng = np.random.default_rng(seed)

    def smooth() -> np.ndarray:
        return cv2.resize(
            rng.random((12, 16), dtype=np.float32), size[::-1], interpolation=cv2.INTER_LINEAR
        )

    ids = [f"{index:06d}" for index in range(count)]
    for name in ids:
        keys = rng.permutation(num_classes)[:CLASSES_AN_IMAGE]
        cam = np.stack([smooth() for _ in keys])
        mask = np.zeros(size, dtype=np.uint8)
        for key in keys:
            mask[smooth() > 0.7] = key + 1
        mask[:4] = 255
        save_cam(folder, CamFile(name, keys.astype(np.int64), cam, size, {}))
        write_mask(folder / f"{name}.png", mask)
    return ids


def naive_sweep(folder: Path, ids: list[str], num_classes: int) -> np.ndarray:
    """(T, K, K) confusion matrices as the released script counts them: every file read, and all
    classes compared, per threshold.
    """
    confusions = []
    for threshold in THRESHOLDS:
        confusion = np.zeros((num_classes + 1,) * 2, dtype=np.int64)
        for name in ids:
            cam_file = load_cam(folder / f"{name}.npz")
            scores = np.zeros((num_classes + 1, *cam_file.size), dtype=np.float32)
            scores[0] = threshold
            scores[cam_file.keys + 1] = cam_file.cam
            confusion += confusion_matrix(
                scores.argmax(axis=0), read_mask(folder / f"{name}.png"), num_classes + 1
            )
        confusions.append(confusion)
    return np.stack(confusions)


def coco(args: argparse.Namespace) -> None:
    """Print {seconds: of evaluating args.coco_images, peak: GiB of this process}; the images repeat
    a few hundred files.
    """
    with tempfile.TemporaryDirectory() as name:
        folder, classes = Path(name), [f"class{index}" for index in range(80)]
        drawn = make_images(folder, min(200, args.coco_images), (480, 640), 80)
        ids = []
        # links: 37 GB of CAM files would measure the disk, if it held them
        for index in range(args.coco_images):
            source = drawn[index % len(drawn)]
            ids.append(f"image{index}")
            for suffix in (".npz", ".png"):
                (folder / f"image{index}{suffix}").symlink_to(folder / f"{source}{suffix}")
        start = time.perf_counter()
        evaluate_cams(ids, folder, folder, classes, THRESHOLDS, num_workers=args.num_workers)
        print_json({"seconds": time.perf_counter() - start})


def both_ways(images: int) -> dict[str, float]:
    """Seconds of the naive sweep and of ours over images of VOC's size. Raises SystemExit unless
    their confusion matrices are equal.
    """
    with tempfile.TemporaryDirectory() as name:
        folder, classes = Path(name), [f"class{index}" for index in range(20)]
        ids = make_images(folder, images, (375, 500), 20)
        confusion = {}
        seconds = seconds_in_turn(
            {
                "naive": lambda: confusion.__setitem__("naive", naive_sweep(folder, ids, 20)),
                "ours": lambda: confusion.__setitem__(
                    "ours", evaluate_cams(ids, folder, folder, classes, THRESHOLDS).confusion
                ),
            },
            rounds=1,
        )
        if not np.array_equal(confusion["naive"], confusion["ours"]):
            raise SystemExit("the two sweeps disagree")
    return seconds


def main(args: argparse.Namespace) -> None:
    """Print the section of RESULTS.md."""
    if args.coco_only:
        return coco(args)
    seconds = both_ways(args.images)
    apart = ("--coco_only", "--num_workers", args.num_workers, "--coco_images")
    few = measure_apart("benchmarks.evaluation", *apart, args.coco_images // 10)
    many = measure_apart("benchmarks.evaluation", *apart, args.coco_images)
    each = {key: 1e3 * value / args.images for key, value in seconds.items()}
    print(
        section(
            f"Evaluation at {len(THRESHOLDS)} thresholds",
            "python -m benchmarks.evaluation",
            ["way", "images", "seconds", "ratio", "peak memory"],
            [
                [
                    "a pass over the files per threshold, argmax over all classes",
                    f"{args.images} of VOC's size",
                    f"{seconds['naive']:.1f}",
                    1,
                    "",
                ],
                [
                    "`evaluation_cam.py`, one process",
                    f"the same {args.images}",
                    f"{seconds['ours']:.2f}",
                    f"{seconds['naive'] / seconds['ours']:.0f}",
                    "",
                ],
                [
                    f"`evaluation_cam.py`, {args.num_workers} processes",
                    f"{args.coco_images // 10} of COCO's size, 81 classes",
                    f"{few['seconds']:.1f}",
                    "",
                    f"{few['peak']:.2f} GiB",
                ],
                [
                    f"`evaluation_cam.py`, {args.num_workers} processes",
                    f"{args.coco_images} of COCO's size, 81 classes",
                    f"{many['seconds']:.1f}",
                    "",
                    f"{many['peak']:.2f} GiB",
                ],
            ],
            "The confusion matrices of both ways are equal, number by number. An image takes "
            f"{each['naive']:.0f} ms and {each['ours']:.1f}: one read of its files, about half of "
            "it, and a handful of passes over its pixels, which sort each into a small count of "
            "(thresholds exceeded, true class, best class). Files come from the page cache. Peak "
            "memory is the main process's.",
        )
    )


if __name__ == "__main__":
    run_script(main, parse_args)
