"""The conversion of an instances JSON of COCO 2014's size: seconds, and peak memory in each tenth
of the run.

    python -m benchmarks.coco

Makes in a temporary folder 82,783 photographs of 640 x 480 (hard links to a few files), of which
82,081 are annotated by 604,907 objects as COCO's train2014 has them: polygons of 45 points in the
mean, one object in a hundred a crowd by run-lengths, 80 classes; then runs python -m voc12.coco on
them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.common import section
from benchmarks.load import PARTS, watch
from tool.file.images import write_image
from tool.file.segmentation import run_lengths
from tool.run.flags import positive_int

IMAGES, ANNOTATED, OBJECTS = 82_783, 82_081, 604_907
SIZE = (480, 640)
CLASSES = 80


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--images", type=positive_int, default=IMAGES, help="photographs (default %(default)s)"
    )
    parser.add_argument(
        "--distinct", type=positive_int, default=20, help="different files (default %(default)s)"
    )
    parser.add_argument(
        "--num_workers", type=positive_int, default=2, help="processes (default %(default)s)"
    )
    return parser.parse_args(argv)


def polygon(rng: np.random.Generator) -> list[float]:
    """The outline of a star-shaped object inside the image; sizes spread as COCO's, most small."""
    points = int(rng.integers(8, 83))
    radius = 4 * (40 ** rng.random())
    centre = rng.uniform([radius, radius], [SIZE[1] - radius, SIZE[0] - radius])
    angles = np.sort(rng.uniform(0, 2 * np.pi, points))
    radii = radius * rng.uniform(0.6, 1, points)
    way = centre + np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]
    return way.round(2).ravel().tolist()


def crowd(rng: np.random.Generator) -> dict:
    """Run-lengths of a ragged band."""
    mask = np.zeros(SIZE, dtype=bool)
    tops = 200 + rng.integers(-20, 20, SIZE[1]).cumsum() % 100
    for column in range(100, 540):
        mask[tops[column] : tops[column] + 60, column] = True
    changes = np.flatnonzero(np.diff(mask.T.ravel().astype(np.int8), prepend=0))
    counts = np.diff(np.concatenate([[0], changes, [mask.size]])).tolist()
    run_lengths({"size": list(SIZE), "counts": counts}, SIZE)
    return {"size": list(SIZE), "counts": counts}


def annotation_lines(images: int) -> Iterator[str]:
    """The annotations, in an order that is not that of the images, as in COCO's file."""
    rng = np.random.default_rng(0)
    annotated = max(1, images * ANNOTATED // IMAGES)
    objects = max(annotated, images * OBJECTS // IMAGES)
    owners = np.concatenate([np.arange(annotated), rng.integers(0, annotated, objects - annotated)])
    rng.shuffle(owners)
    polygons, crowds = [polygon(rng) for _ in range(5000)], [crowd(rng) for _ in range(50)]
    for number, owner in enumerate(owners.tolist()):
        is_crowd = number % 100 == 99
        shape = crowds[number % 50] if is_crowd else [polygons[number % 5000]]
        yield json.dumps(
            {
                "segmentation": shape,
                "area": 702.1057499999998,
                "iscrowd": int(is_crowd),
                "image_id": owner + 1,
                "bbox": [473.07, 395.93, 38.65, 28.67],
                "category_id": int(rng.integers(0, CLASSES)) + 1,
                "id": number + 1,
            }
        )


def make_data(root: Path, images: int, distinct: int) -> Path:
    """Write photographs and JSON into root; returns the JSON's path."""
    rng = np.random.default_rng(1)
    for number in range(distinct):
        write_image(root / "files" / f"{number}.jpg", rng.integers(0, 256, (*SIZE, 3), np.uint8))
    (root / "photos").mkdir()
    names = [f"COCO_train2014_{number + 1:012d}.jpg" for number in range(images)]
    for number, name in enumerate(names):
        os.link(root / "files" / f"{number % distinct}.jpg", root / "photos" / name)
    path = root / "instances_train2014.json"
    with path.open("w") as file:
        file.write('{"info": {"description": "made", "year": 2014}, "images": ')
        sides = {"height": SIZE[0], "width": SIZE[1]}
        items = [{"file_name": n, "id": i + 1, **sides} for i, n in enumerate(names)]
        file.write(f'{json.dumps(items)}, "annotations": [')
        for number, line in enumerate(annotation_lines(images)):
            file.write(", " * (number > 0) + line)
        categories = [{"id": n + 1, "name": f"class {n + 1}"} for n in range(CLASSES)]
        file.write(f'], "categories": {json.dumps(categories)}}}\n')
    return path


def main(args: argparse.Namespace) -> None:
    """Make, convert, and print the section."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        path = make_data(root, args.images, args.distinct)
        megabytes = path.stat().st_size / 1e6
        words = ["-m", "voc12.coco", "--instances", path, "--images", root / "photos"]
        words += ["--out", root / "out", "--num_workers", args.num_workers]
        process = subprocess.Popen(
            [sys.executable, *map(str, words)], stdout=subprocess.PIPE, text=True
        )
        seconds, peaks = watch(process.communicate, process.pid)
        if process.returncode:
            raise SystemExit(f"voc12.coco ended with status {process.returncode}")
        masks = len(list((root / "out" / "SegmentationClassAug").iterdir()))
    rows = [["voc12.coco", *(f"{peak:.0f}" for peak in peaks), f"{seconds:.0f}"]]
    print(
        section(
            f"{args.images:,} images of COCO's size converted",
            "python -m benchmarks.coco",
            [
                "peak MiB in each tenth of the run",
                *(str(part + 1) for part in range(PARTS)),
                "seconds",
            ],
            rows,
            f"{masks:,} masks of 640 x 480 from a JSON of {megabytes:.0f} MB, {args.num_workers} "
            "worker processes. Resident memory of all processes\ntogether; the first tenth reads "
            "the JSON.",
        )
    )


if __name__ == "__main__":
    main(parse_args())
