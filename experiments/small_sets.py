"""How far the threshold that is chosen without masks is from the best one on small sets of own
photographs.

    python -m experiments.small_sets --voc12_root VOC2012 --out sets/small

Draws sets of 40 to 120 photographs of 1 to 6 classes (a set of one class has as many without it),
goes masks_from_tags.py's road on each up to its maps, with a training seed of its own, and scores
the refined maps and those that all photographs agree on with the real masks. The first half of the
sets is for choosing settings by, the second half for testing them. What is done is kept.
"""

from tool.start import end_at_ctrl_c

if __name__ == "__main__":
    end_at_ctrl_c()  # while it imports

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from experiments.own_road import Plan, Progress, choose_settings
from experiments.own_sets import SETS, OwnSet, write_set
from tool.errors import InputError, NothingLearntError, run_script
from tool.file.atomic import write_json
from tool.run.flags import positive_int, worker_count
from tool.run.steps import execute
from voc12.class_list import load_class_list
from voc12.data_flags import add_list_flag, add_root_flag
from voc12.evaluation import evaluate_cams
from voc12.lists import load_ids
from voc12.threshold_choice import choose_threshold

CLASSES = SETS["six"].classes
FEWEST, MOST = 40, 120  # photographs of a set
MAPS = {"cam": "refined", "agreed": "agreed"}  # folders of the road, and what they hold
PARTS = 3  # of the road: classifier, its maps, what all agree on


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_root_flag(parser)
    add_list_flag(parser, "--list", default="animals_train_aug")
    parser.add_argument(
        "--sets", type=positive_int, default=12, help="how many (default %(default)s)"
    )
    parser.add_argument(
        "--iterations",
        type=positive_int,
        help="of each classifier's training (default: as masks_from_tags.py has it)",
    )
    parser.add_argument("--scales", nargs="+", type=float, help="as of masks_from_tags.py")
    parser.add_argument("--num_workers", type=worker_count, default=2)
    parser.add_argument("--out", required=True, type=Path, help="folder for sets and maps")
    return parser.parse_args(argv)


def small_set(number: int) -> OwnSet:
    """The set of that number: 1 to 6 classes in turn, which and how many photographs by chance."""
    rng = np.random.default_rng(number)
    classes = sorted(rng.choice(CLASSES, 1 + number % len(CLASSES), replace=False).tolist())
    count = int(rng.integers(FEWEST, MOST + 1))
    if len(classes) == 1:
        return OwnSet(tuple(classes), count // 2, negatives=count - count // 2)
    return OwnSet(tuple(classes), count)


def go_road(args: argparse.Namespace, folder: Path, number: int) -> Plan:
    """masks_from_tags.py's road on the set in folder, up to its maps."""
    out = folder / "road"
    words = ["--images", folder / "photos", "--tags", folder / "tags.csv"]
    words += ["--untagged", "background", "--out", out / "work" / "data"]
    if status := execute(["-m", "voc12.own_photographs", *map(str, words)]):
        raise InputError(f"voc12.own_photographs ended with {status}; its message stands above")
    labelled = len(load_ids(out / "work" / "data", "tagged"))
    scales = tuple(args.scales) if args.scales else None
    settings = choose_settings(labelled, 0, {"iterations": args.iterations, "scales": scales})
    plan = Plan(
        settings,
        images=folder / "photos",
        out=out,
        photographs=labelled,
        labelled=labelled,
        held=0,
        evaluated=0,
        num_workers=args.num_workers,
        device="auto",
        seed=number,
        state=f"set {number}",
    )
    Progress(out / "work" / "done").run(plan, until=PARTS)
    return plan


def score_maps(
    data: Path, image_list: str, cams: Path, masks: Path, num_workers: int
) -> dict[str, float]:
    """mIoU and threshold of the CAM files of a list, the best by the masks and that of auto, nan
    where the maps are all alike.
    """
    ids = load_ids(data, image_list)
    evaluation = evaluate_cams(
        ids,
        cams,
        gt_dir=masks,
        classes=load_class_list(data),
        voc12_root=data,
        num_workers=num_workers,
    )
    miou = partial(np.take, evaluation.scores.miou_skip)
    best = evaluation.best("skip")
    try:
        auto = choose_threshold(data, ids, cams, num_workers)
        found = float(miou(evaluation.thresholds.index(auto)))
    except NothingLearntError:
        auto = found = float("nan")
    return {
        "best": float(miou(best)),
        "best_threshold": evaluation.thresholds[best],
        "auto": found,
        "auto_threshold": auto,
        "below": float(miou(best)) - found,
    }


def summary(rows: list[dict]) -> list[str]:
    """Mean and largest distance, of the sets that choose, of those that test, and of all."""
    lines = []
    half = (max(row["set"] for row in rows) + 1) // 2
    for maps in MAPS.values():
        for title, part in (
            ("choose", [row for row in rows if row["set"] < half]),
            ("test", [row for row in rows if row["set"] >= half]),
            ("all", rows),
        ):
            if below := [row[maps]["below"] for row in part]:
                lines.append(
                    f"{maps:8} {title:6} {len(below):2} sets: auto is {np.mean(below):.2f} below "
                    f"the best, at most {max(below):.2f}"
                )
    return lines


def main(args: argparse.Namespace) -> None:
    """Draw, train and score every set."""
    rows = []
    for number in range(args.sets):
        folder, own = args.out / f"set_{number:02d}", small_set(number)
        count = write_set(args.voc12_root, args.list, own, number, folder)
        plan = go_road(args, folder, number)
        row = {"set": number, "classes": own.classes, "photographs": count}
        row |= {
            name: score_maps(
                plan.data, "tagged", plan.made(maps), folder / "masks", args.num_workers
            )
            for maps, name in MAPS.items()
        }
        rows.append(row)
        for name in MAPS.values():
            one = row[name]
            print(
                f"set {number}: {', '.join(own.classes)}, {count} photographs, {name} maps: best "
                f"{one['best']:.1f} @ {one['best_threshold']:.2f}, auto {one['auto']:.1f} @ "
                f"{one['auto_threshold']:.2f}, {one['below']:.2f} below",
                flush=True,
            )
        write_json(args.out / "small_sets.json", {"rows": rows})
    print("\n".join(summary(rows)))


if __name__ == "__main__":
    run_script(main, parse_args)
