"""How far the threshold that is chosen without masks is from the best one on small sets of own
photographs.

    python -m experiments.small_sets --voc12_root VOC2012 --out sets/small

Draws sets of 40 to 120 photographs of 1 to 6 classes (a set of one class has as many without it),
goes masks_from_tags.py's road on each up to its maps, with a training seed of its own, and scores
the refined maps and those that all photographs agree on with the real masks. The first half of the
sets is for choosing settings by, the second half for testing them. What is done is kept. A set
whose maps are all alike has failed: it has nothing to agree on, and counts in no distance.
"""

from tool.start import end_at_ctrl_c

if __name__ == "__main__":
    end_at_ctrl_c()  # while it imports

import argparse
import math
from functools import partial
from pathlib import Path

import numpy as np

from experiments.own_road import Plan, Progress, choose_settings
from experiments.own_sets import SETS, OwnSet, write_set
from tool.errors import InputError, NothingLearntError, run_script
from tool.file.atomic import write_json
from tool.file.digests import file_digest
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
MADE = {"cam": 2, "agreed": 3}  # parts of the road after which they are there


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


def plan_road(args: argparse.Namespace, folder: Path, number: int) -> Plan:
    """masks_from_tags.py's road on the set in folder, whose data set is made."""
    out = folder / "road"
    words = ["--images", folder / "photos", "--tags", folder / "tags.csv"]
    words += ["--untagged", "background", "--out", out / "work" / "data"]
    if status := execute(["-m", "voc12.own_photographs", *map(str, words)]):
        raise InputError(f"voc12.own_photographs ended with {status}; its message stands above")
    labelled = len(load_ids(out / "work" / "data", "tagged"))
    scales = tuple(args.scales) if args.scales else None
    settings = choose_settings(labelled, 0, {"iterations": args.iterations, "scales": scales})
    return Plan(
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
        state=f"set {number} {file_digest(folder / 'tags.csv')}",  # other lists, other photographs
    )


def score_road(args: argparse.Namespace, plan: Plan, masks: Path) -> dict[str, dict[str, float]]:
    """score_maps of the road's maps, by what they are; of refined ones that are all alike alone,
    from which consensus_cam.py can learn nothing.

    masks: folder of the real ones
    """
    progress, found = Progress(plan.work / "done"), {}
    for maps, name in MAPS.items():
        progress.run(plan, until=MADE[maps])
        found[name] = score_maps(plan.data, "tagged", plan.made(maps), masks, args.num_workers)
        if math.isnan(found[name]["auto"]):
            break
    return found


def has_failed(row: dict) -> bool:
    """Whether some maps of a set are all alike, so that no threshold could be chosen."""
    return any(name not in row or math.isnan(row[name]["auto"]) for name in MAPS.values())


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


def as_json(row: dict) -> dict:
    """A row with null for what is not a number, and whether it has failed."""
    scores = {
        name: {key: None if math.isnan(value) else value for key, value in row[name].items()}
        for name in MAPS.values()
        if name in row
    }
    return row | scores | {"failed": has_failed(row)}


def summary(rows: list[dict]) -> list[str]:
    """Mean and largest distance, of the sets that choose, of those that test, and of all, without
    those that have failed, which are named.
    """
    failed = [row["set"] for row in rows if has_failed(row)]
    lines = []
    half = (max(row["set"] for row in rows) + 1) // 2
    for maps in MAPS.values():
        for title, part in (
            ("choose", [row for row in rows if row["set"] < half]),
            ("test", [row for row in rows if row["set"] >= half]),
            ("all", rows),
        ):
            if below := [row[maps]["below"] for row in part if row["set"] not in failed]:
                lines.append(
                    f"{maps:8} {title:6} {len(below):2} sets: auto is {np.mean(below):.2f} below "
                    f"the best, at most {max(below):.2f}"
                )
    if failed:
        lines.append(f"failed, their maps all alike: {', '.join(f'set {one}' for one in failed)}")
    return lines


def main(args: argparse.Namespace) -> None:
    """Draw, train and score every set."""
    rows = []
    for number in range(args.sets):
        folder, own = args.out / f"set_{number:02d}", small_set(number)
        count = write_set(args.voc12_root, args.list, own, number, folder)
        plan = plan_road(args, folder, number)
        row = {"set": number, "classes": own.classes, "photographs": count}
        scored = score_road(args, plan, folder / "masks")
        rows.append(row | scored)
        for name, one in scored.items():
            print(
                f"set {number}: {', '.join(own.classes)}, {count} photographs, {name} maps: best "
                f"{one['best']:.1f} @ {one['best_threshold']:.2f}, auto {one['auto']:.1f} @ "
                f"{one['auto_threshold']:.2f}, {one['below']:.2f} below",
                flush=True,
            )
        if has_failed(rows[-1]):
            print(f"set {number} has failed: its maps are all alike", flush=True)
        write_json(args.out / "small_sets.json", {"rows": [as_json(one) for one in rows]})
    print("\n".join(summary(rows)))


if __name__ == "__main__":
    run_script(main, parse_args)
