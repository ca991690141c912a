"""How far thresholds that are chosen without masks are from the best one: every idea, on folders of
CAM files.

    python -m benchmarks.auto_threshold --voc12_root PHOTOS \\
        --list animals_val results/cam/cam_val results/cpn/cam_val
    python -m benchmarks.auto_threshold --voc12_root PHOTOS --list animals_val \\
        results/cpn/cam_val --parts 100 50 25

Prints for each folder and method the threshold, the mIoU there and the distance to the best mIoU of
the sweep (classes that occur nowhere left out), then a line a method over all folders. --parts N
adds how far auto is from the best of the whole list when it sees N random images of it, and how far
the hard switch between its two rules was that it had before. --crf adds the agreement with the
dense CRF, seconds an image. Results: docs/log.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import reduce
from operator import add
from pathlib import Path

import cv2
import numpy as np
from skimage import filters

from tool.auto_threshold import OFFSET, SIDE, THRESHOLDS, Evidence, highest, image_evidence
from tool.errors import run_script
from tool.expand.crf import CRF_SETTINGS, crf_labels, named_settings, threshold_label
from tool.file.cam_file import find_cam, load_cam
from tool.file.images import read_image
from tool.run.flags import non_negative_int, positive_int
from voc12.class_list import load_class_list
from voc12.constants import MASK_DIR
from voc12.evaluation import evaluate_cams
from voc12.lists import evenly, image_path, load_ids
from voc12.threshold_choice import MAX_IMAGES

CRF_THRESHOLDS = np.arange(0.1, 0.95, 0.1)
COLOUR_LEVELS = (0.35, 0.5)
OFFSETS = (OFFSET, 0.7)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("predict_dirs", nargs="+", type=Path, help="folders of CAM files")
    parser.add_argument("--voc12_root", required=True, help="data set folder in VOC layout")
    parser.add_argument(
        "--list", default="val", help="list file, or its name (default %(default)s)"
    )
    parser.add_argument(
        "--images",
        type=positive_int,
        default=MAX_IMAGES,
        help="images that choose, evenly spread (default %(default)s)",
    )
    parser.add_argument(
        "--num_workers",
        type=non_negative_int,
        default=1,
        help="processes of the sweep (default %(default)s)",
    )
    parser.add_argument(
        "--parts",
        type=positive_int,
        nargs="+",
        default=(),
        metavar="N",
        help="sizes of parts to choose from",
    )
    parser.add_argument(
        "--crf", action="store_true", help="try the agreement with the dense CRF too"
    )
    return parser.parse_args(argv)


# (photograph, maps of its classes), both reduced to SIDE
Pictures = list[tuple[np.ndarray, np.ndarray]]


def load_pictures(root: str, ids: list[str], folder: Path) -> Pictures:
    """The images that have a class."""
    pictures = []
    for name in ids:
        cam = load_cam(find_cam(folder, name)).cam
        if len(cam):
            image = read_image(image_path(root, name))
            scale = SIDE / max(image.shape[:2])
            size = [max(2, round(side * scale)) for side in image.shape[1::-1]]
            small = np.stack([cv2.resize(map_, size, interpolation=cv2.INTER_AREA) for map_ in cam])
            pictures.append(
                (cv2.resize(image, size, interpolation=cv2.INTER_AREA), small.clip(0, 1))
            )
    return pictures


# ============ methods: pictures and their evidence -> threshold ============
def of_histogram(method: Callable[[np.ndarray], float]) -> Callable[[Pictures, Evidence], float]:
    """A threshold of grey values, on the largest score of every pixel of all pictures."""
    return lambda pictures, _: float(
        method(np.concatenate([cam.max(axis=0).ravel() for _, cam in pictures]))
    )


def mean_otsu(pictures: Pictures, _evidence: Evidence) -> float:
    """The mean of each picture's Otsu threshold."""
    return float(np.mean([filters.threshold_otsu(cam.max(axis=0)) for _, cam in pictures]))


def mean_class_otsu(pictures: Pictures, _evidence: Evidence) -> float:
    """The mean of each class map's Otsu threshold."""
    return float(
        np.mean(
            [filters.threshold_otsu(map_) for _, cam in pictures for map_ in cam if map_.max() > 0]
        )
    )


def of_curve(curve: Callable[[Evidence], np.ndarray]) -> Callable[[Pictures, Evidence], float]:
    """Where a curve over THRESHOLDS is highest."""
    return lambda _, evidence: float(THRESHOLDS[curve(evidence).argmax()])


def colour_share(level: float) -> Callable[[Pictures, Evidence], float]:
    """Where the share of pixels of this score that look like foreground falls under level.

    Colour histograms of the highest tenth and the lowest three tenths of each picture's scores
    stand for foreground and background; blocks of 16 pixels that gave a histogram are judged by the
    other half's.
    """

    def threshold(pictures: Pictures, _evidence: Evidence) -> float:
        sums, ends = np.zeros((2, 50)), np.zeros((2, 2))
        for image, cam in pictures:
            score = cam.max(axis=0)
            lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.int64)
            a, b = (((lab[..., i] - 64) // 8).clip(0, 15) for i in (1, 2))
            colours = (lab[..., 0] // 16 * 16 + a) * 16 + b
            y, x = np.indices(score.shape)
            half = (y // 16 + x // 16) % 2 == 0
            cores = (score < np.quantile(score, 0.3), score > np.quantile(score, 0.9))
            for part in (half, ~half):
                if min((core & part).sum() for core in cores) < 20:
                    continue
                low, high = (_histogram(colours[core & part]) for core in cores)
                looks = (high / (low + high))[colours]
                where = ~part
                bins = (score[where] * 50).astype(int).clip(0, 49)
                sums += [
                    np.bincount(bins, weights=looks[where], minlength=50),
                    np.bincount(bins, minlength=50),
                ]
                ends += [[looks[core & where].sum(), (core & where).sum()] for core in cores]
        low, high = ends[:, 0] / ends[:, 1]
        excess = (sums[0] - low * sums[1]) / (high - low) - level * sums[1]
        return float(excess[::-1].cumsum()[::-1].argmax() / 50)

    return threshold


def _histogram(colours: np.ndarray) -> np.ndarray:
    counts = np.bincount(colours, minlength=4096).astype(float).reshape(16, 16, 16)
    for axis in range(3):
        counts = (np.roll(counts, 1, axis) + 2 * counts + np.roll(counts, -1, axis)) / 4
    return counts.ravel() / counts.sum() + 1e-6


def crf_agreement(pictures: Pictures, _evidence: Evidence) -> float:
    """Where thresholded masks agree best with what the dense CRF makes of them: mean IoU of
    foreground and background.
    """
    settings = named_settings(
        "seam", iterations=5, bilateral_sxy=CRF_SETTINGS["seam"].bilateral_sxy * SIDE / 500
    )
    agreement = []
    for threshold in CRF_THRESHOLDS:
        counts = np.zeros(4)
        for image, cam in pictures:
            label = threshold_label(cam, threshold)
            before, after = (
                label > 0,
                crf_labels(image, label, len(cam) + 1, settings).argmax(axis=0) > 0,
            )
            counts += [
                (before & after).sum(),
                (before | after).sum(),
                (~before & ~after).sum(),
                (~before | ~after).sum(),
            ]
        agreement.append(counts[0] / counts[1] + counts[2] / counts[3])
    return float(CRF_THRESHOLDS[int(np.argmax(agreement))])


def by_photograph(offset: float) -> Callable[[Pictures, Evidence], float]:
    """information * (contrast - offset) formed in each photograph, as auto has it for maps that
    follow edges, whatever the map.
    """
    return of_curve(lambda evidence: evidence.agreement - offset * evidence.information)


def all_together(offset: float) -> Callable[[Pictures, Evidence], float]:
    """The same with the contrast of all outlines together."""
    return of_curve(lambda evidence: evidence.mean_information() * (evidence.contrast() - offset))


def hard_switch(_pictures: Pictures, evidence: Evidence) -> float:
    """auto as it was: one of its two rules by the contrast of all outlines together, and half of
    the way to Otsu's threshold.
    """
    peak = highest(evidence.information)
    if evidence.contrast()[peak] >= 1.1:
        return float(THRESHOLDS[highest(evidence.agreement - OFFSET * evidence.information)])
    otsu = filters.threshold_otsu(hist=(evidence.scores, np.append(THRESHOLDS, 1) - 0.005))
    return float(THRESHOLDS[(peak + int(otsu * 100)) // 2])


def part_gaps(
    evidence: Sequence[Evidence], miou: np.ndarray, size: int, draws: int = 15
) -> dict[str, list[float]]:
    """method -> how far below the best of miou (at 0.00, 0.01, ..., of the whole list) it is with
    size random images of the list.
    """
    rng, gaps = np.random.default_rng(0), {"auto": [], "hard switch": []}
    for _ in range(draws):
        part = reduce(
            add,
            (
                evidence[index]
                for index in rng.choice(len(evidence), min(size, len(evidence)), replace=False)
            ),
        )
        for name, found in gaps.items():
            found.append(float(miou.max() - miou[round(100 * METHODS[name]([], part))]))
    return gaps


METHODS = {
    "auto": lambda _, evidence: evidence.threshold(),
    "hard switch": hard_switch,
    **{f"each photograph, offset {offset}": by_photograph(offset) for offset in OFFSETS},
    **{f"all together, offset {offset}": all_together(offset) for offset in OFFSETS},
    "information of colour": of_curve(Evidence.mean_information),
    "contrast of outlines": of_curve(Evidence.contrast),
    "Otsu": of_histogram(filters.threshold_otsu),
    "Otsu, mean of pictures": mean_otsu,
    "Otsu, mean of class maps": mean_class_otsu,
    "Li": of_histogram(filters.threshold_li),
    "Yen": of_histogram(filters.threshold_yen),
    "triangle": of_histogram(filters.threshold_triangle),
    **{f"colour share {level}": colour_share(level) for level in COLOUR_LEVELS},
}


def main(args: argparse.Namespace) -> None:
    """Print a table a folder and the summary."""
    ids = load_ids(args.voc12_root, args.list)
    classes = load_class_list(Path(args.voc12_root))
    methods = METHODS | ({"agreement with the CRF": crf_agreement} if args.crf else {})
    gaps: dict[str, list[float]] = {name: [] for name in methods}
    parts: dict[tuple[int, str], list[float]] = {}
    for folder in args.predict_dirs:
        gt_dir = Path(args.voc12_root) / MASK_DIR
        miou = evaluate_cams(
            ids, folder, gt_dir, classes, num_workers=args.num_workers
        ).scores.miou_skip
        best = int(miou.argmax())
        print(f"{folder}, {args.list}, {len(ids)} images: best {miou[best]:.2f} @ {best / 100:.2f}")
        pictures = load_pictures(args.voc12_root, evenly(ids, args.images), folder)
        every = [image_evidence(image, cam) for image, cam in pictures]
        evidence = reduce(add, every)
        for size in args.parts:
            for name, found in part_gaps(every, miou, size).items():
                parts.setdefault((size, name), []).extend(found)
        for name, method in methods.items():
            threshold = min(max(method(pictures, evidence), 0), 1)
            value = miou[round(threshold * 100)]
            gaps[name].append(miou[best] - value)
            print(f"  {name:30} {threshold:.2f}  {value:6.2f}  {value - miou[best]:+6.2f}")
    print(f"distance to the best, {len(args.predict_dirs)} folders: mean, largest")
    for name, values in gaps.items():
        print(f"  {name:30} {np.mean(values):6.2f}  {max(values):6.2f}")
    for (size, name), values in parts.items():
        high = np.quantile(values, 0.95)
        print(
            f"parts of {size}, {name}: mean {np.mean(values):.2f}, 95 of 100 under {high:.2f}, "
            f"{max(values):.2f} at most"
        )


if __name__ == "__main__":
    run_script(main, parse_args)
