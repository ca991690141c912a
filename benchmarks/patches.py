"""CP pairs by superpixels: time a crop of the released way, of SLIC on every crop and of cached
superpixels, and how their regions agree.

    python -m benchmarks.patches --voc12_root DIR

Agreement is the adjusted Rand index (ARI) with SLIC on the same crop, over the pixels that show the
photograph. SLIC's own agreement with itself, when the crop moves by 9 x 13 pixels, is the
yardstick.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.common import add_photographs_flag, photographs, seconds_in_turn, section
from tool.errors import run_script
from tool.file.images import read_image
from tool.file.region_cache import RegionCache
from tool.patches import PatchMask, region_mask, superpixels
from tool.run.flags import positive_int
from tool.transforms import JITTER, TrainTransform
from voc12.lists import image_path

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHIFT = (9, 13)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_photographs_flag(parser)
    parser.add_argument(
        "--images", type=positive_int, default=40, help="photographs (default %(default)s)"
    )
    parser.add_argument(
        "--crop_size", type=positive_int, default=448, help="pixels (default %(default)s)"
    )
    parser.add_argument(
        "--resize_long",
        type=positive_int,
        nargs=2,
        default=(448, 768),
        help="pixels (default 448 768)",
    )
    parser.add_argument(
        "--superpixels",
        type=positive_int,
        default=300,
        help="segments asked per crop (default %(default)s)",
    )
    return parser.parse_args(argv)


def adjusted_rand(one: np.ndarray, two: np.ndarray) -> float:
    """The adjusted Rand index of two labelings of the same pixels: 1 if they agree, 0 as by chance
    (Hubert and Arabie, 1985).
    """
    pairs = np.bincount(one.ravel().astype(np.int64) * (int(two.max()) + 1) + two.ravel())
    together, first, second, total = (
        float((n * (n - 1.0) / 2).sum())
        for n in (pairs, np.bincount(one.ravel()), np.bincount(two.ravel()), np.array([one.size]))
    )
    expected = first * second / total
    return (together - expected) / ((first + second) / 2 - expected)


def pixel_loop_mask(regions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The mask as the released code builds it: every pixel looks for its label in the list of those
    drawn.
    """
    count = int(regions.max())
    drawn = set(rng.integers(0, count + 1, size=int(0.5 * (count + 1))).tolist())
    mask = np.ones(regions.shape, dtype=bool)
    for row in range(regions.shape[0]):
        for column in range(regions.shape[1]):
            if regions[row, column] in drawn:
                mask[row, column] = False
    return mask


def agreement(
    args: argparse.Namespace, cache: RegionCache, root: Path, ids: list[str]
) -> dict[str, list[float]]:
    """Over the photographs: ARI with exact SLIC, regions a crop and hidden fraction, cached and
    exact.
    """
    transform = TrainTransform(MEAN, STD, args.crop_size, tuple(args.resize_long), JITTER)
    still = replace(transform, jitter=(0, 0, 0, 0))
    found: dict[str, list[float]] = {}
    for index, name in enumerate(ids):
        image = read_image(image_path(root, name))
        crop, view = transform.with_view(image, np.random.default_rng([0, index]))
        shown = np.zeros(crop.shape[:2], dtype=bool)
        shown[view.window[1]] = True
        exact, cached = superpixels(crop, args.superpixels), cache.crop(image, view)
        moved = np.zeros_like(crop)
        moved[: -SHIFT[0], : -SHIFT[1]] = crop[SHIFT[0] :, SHIFT[1] :]
        moved = superpixels(moved, args.superpixels)[: -SHIFT[0], : -SHIFT[1]]
        common = shown[SHIFT[0] :, SHIFT[1] :]
        plain = superpixels(
            still.with_view(image, np.random.default_rng([0, index]))[0], args.superpixels
        )
        row = {
            "ARI cached": adjusted_rand(exact[shown], cached[shown]),
            "ARI moved": adjusted_rand(exact[SHIFT[0] :, SHIFT[1] :][common], moved[common]),
            "ARI without jitter": adjusted_rand(exact[shown], plain[shown]),
            "regions exact": len(np.unique(exact[shown])),
            "regions cached": len(np.unique(cached[shown])),
            "hidden exact": 1 - region_mask(exact, 0.5, np.random.default_rng([1, index])).mean(),
            "hidden cached": 1 - region_mask(cached, 0.5, np.random.default_rng([2, index])).mean(),
        }
        for key, value in row.items():
            found.setdefault(key, []).append(float(value))
    return found


def measure(args: argparse.Namespace, root: Path, ids: list[str]) -> tuple[dict, dict, float]:
    """(agreement by kind, seconds by way, bytes of a photograph's file)."""
    with tempfile.TemporaryDirectory() as folder:
        cache = RegionCache(
            Path(folder), MEAN, STD, args.superpixels, args.crop_size, tuple(args.resize_long)
        )
        found = agreement(args, cache, root, ids)  # also fills the cache
        image = read_image(image_path(root, ids[0]))
        crop, view = TrainTransform(MEAN, STD, args.crop_size, tuple(args.resize_long)).with_view(
            image, np.random.default_rng(0)
        )
        draw, rng = PatchMask(segments=args.superpixels), np.random.default_rng(0)
        slow = seconds_in_turn(
            {
                "released": lambda: pixel_loop_mask(superpixels(crop, args.superpixels), rng),
                "exact": lambda: draw(crop, rng),
                "first": lambda: cache.compute(image),
            },
            rounds=3,
        )
        fast = seconds_in_turn(
            {"cached": lambda: draw(crop, rng, cache.crop(image, view))}, rounds=20
        )
        sizes = [path.stat().st_size for path in Path(folder).rglob("*.npz")]
    return found, slow | fast, float(np.mean(sizes))


def main(args: argparse.Namespace) -> None:
    """Print the section of RESULTS.md."""
    root, ids, what = photographs(args, args.images)
    found, taken, size = measure(args, root, ids)
    middle = {key: (np.mean(values), np.std(values)) for key, values in found.items()}

    def spread(key: str, digits: int) -> str:
        return f"{middle[key][0]:.{digits}f} (sd {middle[key][1]:.{digits}f})"

    def row(name: str, way: str, kind: str, ari: str) -> list[str]:
        seconds = taken[way]
        ratio = taken["released"] / seconds
        return [
            name,
            f"{1e3 * seconds:.1f}",
            f"{ratio:.3g}",
            ari,
            spread(f"regions {kind}", 0),
            spread(f"hidden {kind}", 3),
        ]

    released = "SLIC on the crop, mask by a loop over pixels (released)"
    exact = "`--superpixel_mode exact`: SLIC on the crop, mask by lookup"
    cached_ari = spread("ARI cached", 2)
    print(
        section(
            "CP pairs by superpixels",
            f"python -m benchmarks.patches --voc12_root DIR --crop_size {args.crop_size} "
            f"--superpixels {args.superpixels}",
            [
                "way",
                "ms a crop",
                "ratio",
                "ARI with exact",
                "regions in the photograph's part of a crop",
                "hidden pixels",
            ],
            [
                row(released, "released", "exact", "1"),
                row(exact, "exact", "exact", "1"),
                row("`--superpixel_mode cached` (default)", "cached", "cached", cached_ari),
            ],
            f"{what}, crop {args.crop_size}. A photograph's first visit costs "
            f"{1e3 * taken['first']:.0f} ms and a file of {size / 1e3:.0f} kB. The "
            f"yardstick: exact SLIC agrees with itself to an ARI of {spread('ARI moved', 2)} when "
            f"the crop moves by {SHIFT[0]} x {SHIFT[1]} pixels, and to "
            f"{spread('ARI without jitter', 2)} when the colour jitter is left out. A cached crop "
            "spends its time on reading the file, on hashing the photograph's pixels for its name, "
            "and on two table lookups a pixel.",
        )
    )


if __name__ == "__main__":
    run_script(main, parse_args)
