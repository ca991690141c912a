"""Memory over a long run: 20,000 images through the training loader and the evaluation, resident
memory over time.

    python -m benchmarks.load

The images are hard links to a few of the sample data set, the CAM files to a few made from their
masks. Resident memory is the sum over the process and its workers, pages that they share counted
once for each (Linux). Prints a Markdown section. Results: benchmarks/RESULTS.md.
"""

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.common import section
from tool.file.cam_file import CamFile, save_cam
from tool.file.images import read_mask
from tool.patches import PatchMask
from tool.run.flags import positive_int, worker_count
from tool.transforms import TrainTransform
from voc12.constants import CLASSES, IMAGE_DIR, MASK_DIR
from voc12.dataset import TrainSet, epoch_loader
from voc12.evaluation import evaluate_cams
from voc12.labels import load_labels
from voc12.lists import load_ids
from voc12.sample.make import make_sample

PARTS = 10
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def parse_args() -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--images", type=positive_int, default=20_000, help="links (default %(default)s)"
    )
    parser.add_argument(
        "--distinct",
        type=positive_int,
        default=100,
        help="images that they link to (default %(default)s)",
    )
    parser.add_argument(
        "--num_workers",
        type=worker_count,
        default=2,
        help="processes beside the main one (default %(default)s)",
    )
    parser.add_argument(
        "--crop_size", type=positive_int, default=224, help="pixels (default %(default)s)"
    )
    parser.add_argument(
        "--batch_size", type=positive_int, default=8, help="images (default %(default)s)"
    )
    return parser.parse_args()


def link_data(root: Path, images: int, distinct: int) -> tuple[list[str], np.ndarray]:
    """(ids, image labels) of `images` links below root, in VOC layout, with CAM files in
    root/cam.
    """
    make_sample(out=root / "sample", images=distinct, val_images=1, num_workers=1, classes="voc")
    sources = load_ids(root / "sample", "train")
    labels = load_labels(root / "sample", sources, CLASSES)
    for name, label in zip(sources, labels, strict=True):
        mask = read_mask(root / "sample" / MASK_DIR / f"{name}.png")
        keys = np.flatnonzero(label)
        cam = np.stack([(mask == key + 1) * np.float32(0.8) for key in keys])
        save_cam(root / "sample" / "cam", CamFile(name, keys, cam, mask.shape, {"stage": "cam"}))
    ids = [f"2007_{index:06d}" for index in range(images)]
    for folder, suffix in ((IMAGE_DIR, "jpg"), (MASK_DIR, "png"), ("cam", "npz")):
        (root / folder).mkdir()
        for index, name in enumerate(ids):
            os.link(
                root / "sample" / folder / f"{sources[index % distinct]}.{suffix}",
                root / folder / f"{name}.{suffix}",
            )
    return ids, labels[np.arange(images) % distinct]


def resident_mib(process: int) -> float:
    """Resident memory of a process and its children, MiB; 0 for one that has ended."""
    total = 0.0
    try:
        total += (
            int(Path(f"/proc/{process}/statm").read_text().split()[1])
            * os.sysconf("SC_PAGE_SIZE")
            / 2**20
        )
        for task in Path(f"/proc/{process}/task").iterdir():
            total += sum(
                resident_mib(int(child)) for child in (task / "children").read_text().split()
            )
    except (FileNotFoundError, ProcessLookupError):
        return total
    return total


def watch(work: Callable[[], object], process: int | None = None) -> tuple[float, list[float]]:
    """(seconds of work(), peak resident memory in MiB in each of PARTS equal spans of its time).

    process: the number of the one to look at with its children, None for this one.
    """
    samples: list[tuple[float, float]] = []
    stop = threading.Event()
    start = time.perf_counter()

    def look() -> None:
        while not stop.wait(0.1):
            samples.append((time.perf_counter() - start, resident_mib(process or os.getpid())))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        work()
    finally:
        seconds = time.perf_counter() - start
        stop.set()
        watcher.join()
    spans = [
        [memory for at, memory in samples if int(at / seconds * PARTS) == part]
        for part in range(PARTS)
    ]
    return seconds, [max(span, default=float("nan")) for span in spans]


def main(args: argparse.Namespace) -> None:
    """Run both, and print the section."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        ids, labels = link_data(root, args.images, args.distinct)
        transform = TrainTransform(
            MEAN, STD, args.crop_size, (args.crop_size, args.crop_size * 3 // 2)
        )
        data = TrainSet(root, ids, labels, transform, PatchMask(strategy="grid"), seed=0)
        loader = epoch_loader(data, args.batch_size, 0, args.num_workers, pin_memory=False)
        loaded, evaluated = (
            watch(lambda: sum(len(batch["id"]) for batch in loader(0, 0))),
            watch(
                lambda: evaluate_cams(
                    ids, root / "cam", root / MASK_DIR, CLASSES, num_workers=args.num_workers
                )
            ),
        )
    rows = [
        [name, *(f"{peak:.0f}" for peak in peaks), f"{args.images / seconds:.0f}"]
        for name, (seconds, peaks) in (("loader", loaded), ("evaluation", evaluated))
    ]
    print(
        section(
            f"{args.images:,} images at constant memory",
            "python -m benchmarks.load",
            [
                "peak MiB in each tenth of the run",
                *(str(part + 1) for part in range(PARTS)),
                "images a second",
            ],
            rows,
            f"{args.images:,} hard links to {args.distinct} sample images, {args.num_workers} "
            f"worker processes; the loader with crop {args.crop_size}, batch\n"
            f"{args.batch_size} and grid patches, the evaluation with 101 thresholds. Resident "
            "memory of all processes together; the first tenths include their start.",
        )
    )


if __name__ == "__main__":
    main(parse_args())
