"""Where AffinityNet's masks lose points: the labels, the affinity, or the walk. By the real masks,
so for looking only.

    python -m benchmarks.affinity --voc12_root PHOTOS --list animals_val:60 \\
        --cam_dir results/cpn/cam --weights results/aff/aff.pth \\
        --train_list animals_train_aug:40 --label_dir results/aff/labels

Prints how much of the training labels is right; how well the affinity tells pairs within an object
or within background from pairs across a border (AUC); and the mIoU (classes that occur) of the
seeds and after the walk, over alphas, powers and steps, with the network's affinity and with that
of the masks. --write_labels DIR writes labels from the real masks that pass for those in
--label_dir: `train_aff.py --label_dir DIR` with the flags that made those then shows what the
seeds' errors cost. Results: docs/log.
"""

import argparse
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import mannwhitneyu
from torch import Tensor

from network.expansion_inference import WALKS as PRESETS
from network.expansion_inference import image_affinity, image_mask
from network.expansion_weights import load_affinity_net
from tool.errors import run_script
from tool.expand.affinity import (
    AFFINITY_STRIDE,
    PairLabels,
    affinity_labels,
    fitting_radius,
    pair_labels,
    pair_offsets,
)
from tool.expand.crf import mask_values, prepend_background
from tool.expand.seed import find_seeds, load_seed
from tool.expand.walk import scores_to_label
from tool.file.cam_file import CamFile
from tool.file.images import read_image, read_mask
from tool.mask_values import IGNORE_LABEL
from tool.metrics import confusion_matrix, iou_table
from tool.run.flags import non_negative_int, positive_number
from tool.run.progress import progress
from tool.transforms import normalise, to_tensor
from voc12.class_list import load_class_list
from voc12.expansion_labels import load_scores, write_scores
from voc12.lists import LIST_HELP, image_path, load_ids, mask_path

ACROSS = (
    0.02  # affinity that the masks give a pair across a border: nothing at any power that is tried
)
MOST_PAIRS = 10_000  # of each kind and image, for the AUC


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--voc12_root", required=True, help="data set folder in VOC layout")
    parser.add_argument(
        "--list", default="val:60", help=f"{LIST_HELP}, for affinity and walk (default %(default)s)"
    )
    parser.add_argument("--cam_dir", required=True, help="folder of CAM files of both lists")
    parser.add_argument("--weights", required=True, help="weights of train_aff.py")
    parser.add_argument(
        "--alphas",
        type=positive_number,
        nargs="+",
        default=(0.85, 1.1, 1.4),
        help="(default 0.85 1.1 1.4)",
    )
    parser.add_argument(
        "--betas", type=positive_number, nargs="+", default=(4, 8, 16), help="(default 4 8 16)"
    )
    parser.add_argument(
        "--logts", type=non_negative_int, nargs="+", default=(4, 6, 8), help="(default 4 6 8)"
    )
    parser.add_argument(
        "--train_list",
        default="train_aug:40",
        help=f"{LIST_HELP}, for labels (default %(default)s)",
    )
    parser.add_argument(
        "--label_dir", help="folder of its score files (default: no line about labels)"
    )
    parser.add_argument(
        "--write_labels",
        help="folder for score files from the real masks, of the whole --train_list (default: "
        "none)",
    )
    return parser.parse_args(argv)


@dataclass(frozen=True, eq=False)
class Sample:
    """An image: its seed, the network's affinity (P, S), the mask (H, W) and what the mask says of
    the pairs, (P, S) each.
    """

    seed: CamFile
    affinity: Tensor
    mask: np.ndarray
    pairs: PairLabels


def load_samples(
    args: argparse.Namespace, ids: Sequence[str], classes: Sequence[str]
) -> list[Sample]:
    """The samples of a list."""
    net, _ = load_affinity_net(args.weights)
    samples = []
    for name, path in zip(
        progress(ids, desc="affinity", unit="img"), find_seeds(args.cam_dir, ids), strict=True
    ):
        image, mask = (
            read_image(image_path(args.voc12_root, name)),
            read_mask(mask_path(args.voc12_root, name)),
        )
        affinity = image_affinity(net, to_tensor(normalise(image, net.mean, net.std)), "fp32")
        seed = load_seed(path, image.shape[:2], classes)
        samples.append(Sample(seed, affinity, mask, mask_pairs(mask)))
    return samples


def mask_cells(mask: np.ndarray) -> np.ndarray:
    """The mask (H, W) at AffinityNet's cells, (ceil(H / 8), ceil(W / 8)): the pixel in the middle
    of each, 255 outside the image.
    """
    padded = np.pad(
        mask, [(0, -side % AFFINITY_STRIDE) for side in mask.shape], constant_values=IGNORE_LABEL
    )
    return padded[AFFINITY_STRIDE // 2 :: AFFINITY_STRIDE, AFFINITY_STRIDE // 2 :: AFFINITY_STRIDE]


def mask_pairs(mask: np.ndarray) -> PairLabels:
    """What the mask (H, W) says of AffinityNet's pairs; of those with a cell of 255 nothing."""
    cells = torch.from_numpy(mask_cells(mask).astype(np.int64))
    radius = fitting_radius(cells.shape)
    return pair_labels(cells, pair_offsets(radius), radius)


def mask_affinity(sample: Sample) -> Tensor:
    """The affinity (P, S) that the mask has: 1 within an object or background, ACROSS across a
    border, 0 where it says nothing.
    """
    return (sample.pairs.fg_pos | sample.pairs.bg_pos).float() + ACROSS * sample.pairs.neg.float()


def separation(samples: Sequence[Sample], kind: str) -> float:
    """The share of (pair of kind "fg_pos" or "bg_pos", pair across a border) of which the first has
    more affinity: the AUC.
    """
    found = {name: [] for name in (kind, "neg")}
    for sample in samples:
        for name, values in found.items():
            chosen = sample.affinity[getattr(sample.pairs, name)]
            values.append(chosen[:: max(1, len(chosen) // MOST_PAIRS)])
    within, across = (torch.cat(values).numpy() for values in found.values())
    return mannwhitneyu(within, across).statistic / (len(within) * len(across))


def score(samples: Sequence[Sample], label: Callable[[Sample], Tensor], num_classes: int) -> float:
    """mIoU over the classes that occur, percent, of label(sample), (H, W)."""
    confusion = sum(
        confusion_matrix(label(sample).numpy(), sample.mask, num_classes) for sample in samples
    )
    return float(iou_table(confusion[None]).miou_skip[0])


def walk_score(
    samples: Sequence[Sample], affinity: Callable[[Sample], Tensor], num_classes: int, **walk: float
) -> float:
    """The score after SEAM's walk with other settings."""
    chosen = replace(PRESETS["seam"], **walk)

    def label(sample: Sample) -> Tensor:
        return image_mask(
            torch.from_numpy(sample.seed.cam),
            torch.from_numpy(sample.seed.keys),
            affinity(sample),
            chosen,
        )

    return score(samples, label, num_classes)


def seed_score(samples: Sequence[Sample], alpha: float, num_classes: int) -> float:
    """The score of the seeds against the background (1 - max) ** alpha."""

    def label(sample: Sample) -> Tensor:
        scores = torch.from_numpy(prepend_background(sample.seed.cam, alpha))
        return scores_to_label(scores, torch.from_numpy(sample.seed.keys))

    return score(samples, label, num_classes)


def label_keys(path: Path) -> np.ndarray:
    """The classes (n,) of a score file."""
    with np.load(path, allow_pickle=False) as arrays:
        return arrays["keys"]


def label_quality(args: argparse.Namespace, ids: Sequence[str]) -> dict[str, tuple[float, float]]:
    """ "foreground" and "background" -> (share of the cells that are labelled so, share of these
    that are right).
    """
    counts = {"foreground": np.zeros(2), "background": np.zeros(2)}
    cells = 0
    for name in ids:
        path = Path(args.label_dir) / f"{name}.npz"
        low, high, _ = load_scores(path)
        label = affinity_labels(
            torch.from_numpy(low), torch.from_numpy(high), AFFINITY_STRIDE
        ).numpy()
        values = mask_values(label_keys(path))
        truth = mask_cells(read_mask(mask_path(args.voc12_root, name)))
        known = truth != IGNORE_LABEL
        cells += known.sum()
        for part, labelled in (
            ("foreground", (label > 0) & (label != IGNORE_LABEL)),
            ("background", label == 0),
        ):
            chosen = known & labelled
            counts[part] += chosen.sum(), (values[label[chosen]] == truth[chosen]).sum()
    return {
        part: (labelled / cells, right / max(labelled, 1))
        for part, (labelled, right) in counts.items()
    }


def write_mask_labels(args: argparse.Namespace, ids: Sequence[str]) -> None:
    """Score files from the real masks, saying of themselves what those in --label_dir say."""
    for name in progress(ids, desc="labels", unit="img"):
        path = Path(args.label_dir) / f"{name}.npz"
        _, _, meta = load_scores(path)
        keys = label_keys(path)
        scores = np.stack(
            [read_mask(mask_path(args.voc12_root, name)) == value for value in mask_values(keys)]
        ).astype(np.float32)
        write_scores(Path(args.write_labels) / f"{name}.npz", keys, scores, scores, meta)


def main(args: argparse.Namespace) -> None:
    """Print the lines."""
    classes = load_class_list(Path(args.voc12_root))
    train_ids = load_ids(args.voc12_root, args.train_list) if args.label_dir else []
    if args.write_labels:
        write_mask_labels(args, train_ids)
    if args.label_dir:
        for part, (labelled, right) in label_quality(args, train_ids).items():
            print(
                f"labels, {args.train_list}: {part} {100 * labelled:.0f} % of the cells, "
                f"{100 * right:.0f} % of these right"
            )
    samples = load_samples(args, load_ids(args.voc12_root, args.list), classes)
    num_classes = len(classes) + 1
    print(
        f"AUC, {args.list}: foreground {separation(samples, 'fg_pos'):.3f}, background "
        f"{separation(samples, 'bg_pos'):.3f}"
    )
    scores = {alpha: seed_score(samples, alpha, num_classes) for alpha in args.alphas}
    print(
        "seeds: " + ", ".join(f"{score:.2f} @ alpha {alpha:g}" for alpha, score in scores.items())
    )
    for name, affinity in (
        ("the masks'", mask_affinity),
        ("the network's", lambda sample: sample.affinity),
    ):
        for logt, beta in itertools.product(args.logts, args.betas):
            scores = (
                walk_score(samples, affinity, num_classes, alpha=a, beta=beta, logt=logt)
                for a in args.alphas
            )
            text = ", ".join(
                f"{value:.2f} @ alpha {alpha:g}"
                for alpha, value in zip(args.alphas, scores, strict=True)
            )
            print(f"{name} affinity, beta {beta:g}, {2**logt} steps: {text}", flush=True)


if __name__ == "__main__":
    run_script(main, parse_args)
