"""How often a training fails, and whether it says so: many training seeds of each method, on a list
in VOC layout or on a set of own photographs.

    python -m experiments.training_seeds --voc12_root VOC2012 --set three --out OUT
    python -m experiments.training_seeds --voc12_root VOC2012 --train_list animals_train_aug \\
        --list animals_val --seeds 10 --flags="--preset small" --out OUT

A run has failed when its refined maps (a plain CAM's by PCM as it starts) are more than --margin
points under the median of its method, here or in another --out (--against). The verdict of
train_cpn.py, which sees no masks, is set against that. What is done is kept; --out is for one
choice of flags, lists and scales. Sessions in OUT/results are named as reproduce.py names them, so
its tables take them by --results.
"""

from tool.start import end_at_ctrl_c

if __name__ == "__main__":
    end_at_ctrl_c()  # while it imports

import argparse
import json
import shlex
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from experiments.own_road import CAM
from experiments.own_sets import SETS, write_set
from experiments.presets import PRESETS, UNTRAINED_PCM
from experiments.road import Road, deciding_settings
from experiments.small_sets import score_maps
from flags import cpn_training
from tool.choices import METHODS
from tool.errors import InputError, run_script
from tool.file.atomic import write_json
from tool.file.state_dict import read_training
from tool.run.flags import non_negative_number, positive_int, worker_count
from tool.run.steps import Runner, execute
from voc12.constants import MASK_DIR
from voc12.data_flags import add_list_flag, add_root_flag
from voc12.lists import require_root
from voc12.verdict import Verdict

MARGIN = 3.0  # points of mIoU
DRAW = 0  # of the photographs of a set
FILE = "training_seeds.json"
SETTINGS = ("flags", "voc12_root", "set", "train_list", "list", "scales")  # of all rows of a file


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_root_flag(parser)
    parser.add_argument(
        "--set", choices=SETS, help="train on this set of own photographs cut from --train_list"
    )
    add_list_flag(parser, "--train_list", default="animals_train_aug")
    add_list_flag(parser, "--list", default="animals_val")
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=list(METHODS), help="default: all"
    )
    parser.add_argument(
        "--seeds", type=positive_int, default=10, help="of each method (default %(default)s)"
    )
    parser.add_argument(
        "--flags",
        default="--preset small",
        help="of train_cpn.py (default %(default)s)",
    )
    parser.add_argument(
        "--scales", nargs="+", default=["0.5", "0.75"], help="of the maps (default 0.5 0.75)"
    )
    parser.add_argument(
        "--margin",
        type=non_negative_number,
        default=MARGIN,
        help="a run has failed that is more points under the median (default %(default)s)",
    )
    parser.add_argument(
        "--against",
        type=Path,
        help="--out of other runs on the same lists, whose medians are taken (default: of these)",
    )
    parser.add_argument("--num_workers", type=worker_count, default=2)
    parser.add_argument("--out", required=True, type=Path, help="folder for all")
    return parser.parse_args(argv)


def make_data(args: argparse.Namespace) -> tuple[Path, str, str, Path]:
    """(data set, list to train on, list to score, its masks); raises InputError where the set is
    not made.
    """
    root = require_root(args.voc12_root)
    if args.set is None:
        return root, args.train_list, args.list, root / MASK_DIR
    folder, data = args.out / args.set, args.out / "data"
    write_set(args.voc12_root, args.train_list, SETS[args.set], DRAW, folder)
    words = ["-m", "voc12.own_photographs", "--images", folder / "photos"]
    words += ["--tags", folder / "tags.csv", "--untagged", "background", "--out", data]
    if status := execute([str(word) for word in words]):
        raise InputError(f"voc12.own_photographs ended with {status}; its message stands above")
    return data, "train", "tagged", folder / "masks"


def one_row(
    args: argparse.Namespace, method: str, seed: int, place: tuple[Path, str, str, Path]
) -> dict[str, object]:
    """Train and score a run."""
    data, train_list, score_list, masks = place
    preset = replace(
        PRESETS["photos"],
        voc12_root=str(data),
        train_list=train_list,
        train=args.flags,
        scales=shlex.join(["--scales", *args.scales]),
    )
    road = Road(preset, args.out / "results", args.num_workers, "auto")
    weights = road.train(("--val_list", "none", "--method", method), seed)
    cams = road.cams(weights, score_list, *(UNTRAINED_PCM.split() if method == CAM else ()))
    Runner(execute).make(cams)
    verdict = read_training(weights.output).get("verdict")
    if verdict is None:
        raise InputError(
            f"{weights.output} is of a version that said no verdict; give another --out"
        )
    maps = score_maps(data, score_list, cams.output, masks, args.num_workers)
    return {"method": method, "seed": seed, "maps": maps, "verdict": verdict}


def is_named(row: dict) -> bool:
    """Whether the verdict names a run, by the limits of today."""
    numbers = {field.name: row["verdict"][field.name] for field in fields(Verdict)}
    return bool(Verdict(**numbers).failures)


def failed_runs(rows: Sequence[dict], margin: float, against: Sequence[dict]) -> list[bool]:
    """Of each row whether it is margin under the median of its method in against."""
    return [
        row["maps"]["best"]
        < np.median([one["maps"]["best"] for one in against if one["method"] == row["method"]])
        - margin
        for row in rows
    ]


def summary(rows: Sequence[dict], margin: float, against: Sequence[dict] = ()) -> list[str]:
    """Markdown: the runs of each method, and how often the verdict was right; against: rows whose
    medians are taken instead of those of rows.
    """
    failed = failed_runs(rows, margin, against or rows)
    whose = "that median" if against else "the median"
    lines = [
        f"| method | runs | median | lowest | highest | over {margin:g} under {whose} | most "
        "silent maps | most astray |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        miou = [row["maps"]["best"] for row in own]
        count = sum(bad for row, bad in zip(rows, failed, strict=True) if row["method"] == method)
        silent, astray = (max(row["verdict"][name] for row in own) for name in ("silent", "astray"))
        lines.append(
            f"| {method} | {len(own)} | {np.median(miou):.1f} | {min(miou):.1f} | "
            f"{max(miou):.1f} | {count} | {silent:.0%} | {astray:.0%} |"
        )
    named = [is_named(row) for row in rows]
    pairs = list(zip(failed, named, strict=True))
    lines += [
        "",
        "| runs | named by the verdict | not named |",
        "|---|---|---|",
        f"| failed | {pairs.count((True, True))} | {pairs.count((True, False))} |",
        f"| others | {pairs.count((False, True))} | {pairs.count((False, False))} |",
    ]
    return lines


def in_force(flags: str) -> dict[str, object]:
    """What flags of train_cpn.py mean today for each method, as JSON has it: a preset or a rule may
    change.
    """
    found = {
        method: deciding_settings(
            cpn_training.parse_args, [*shlex.split(flags), "--method", method]
        )
        for method in METHODS
    }
    return json.loads(json.dumps(found))


def read_rows(path: Path, settings: dict[str, object]) -> list[dict]:
    """The rows that path has; raises InputError where they are of other settings."""
    if not path.is_file():
        return []
    recorded = json.loads(path.read_text())
    rows = recorded.pop("rows")
    for name, value in settings.items():
        if recorded.get(name) == value:
            continue
        if name == "in_force":
            raise InputError(
                f"{path} has runs of another version, for which {recorded['flags']} meant other "
                "settings; give another --out"
            )
        raise InputError(
            f"{path} has runs of another --{name}: {recorded.get(name)}; give another --out"
        )
    return rows


def other_rows(
    folder: Path | None, settings: dict[str, object], methods: Sequence[str]
) -> list[dict]:
    """The rows of another --out, none for None; their --flags may be others. Raises InputError
    where a method has none, or they are of other lists.
    """
    if folder is None:
        return []
    same = {name: settings[name] for name in SETTINGS if name != "flags"}
    rows = read_rows(folder / FILE, same)
    for method in methods:
        if not any(row["method"] == method for row in rows):
            raise InputError(f"--against {folder} has no run of {method}; train some there first")
    return rows


def main(args: argparse.Namespace) -> None:
    """Train and score every run, seed by seed, so that an early end has all methods."""
    file = args.out / FILE
    args.voc12_root = str(Path(args.voc12_root))  # a session is named by it: data/ is data
    settings = {name: getattr(args, name) for name in SETTINGS}
    settings["in_force"] = in_force(args.flags)
    kept = read_rows(file, settings)
    others = other_rows(args.against, settings, args.methods)
    place = make_data(args)
    rows = []
    for seed in range(args.seeds):
        for method in args.methods:
            done = [row for row in kept if (row["method"], row["seed"]) == (method, seed)]
            row = done[0] if done else one_row(args, method, seed, place)
            rows.append(row)
            maps, verdict = row["maps"], row["verdict"]
            print(
                f"{method}, seed {seed}: best {maps['best']:.1f} @ {maps['best_threshold']:.2f}, "
                f"auto {maps['auto']:.1f} @ {maps['auto_threshold']:.2f}, loss "
                f"{verdict['loss']:.3f} of {verdict['prior']:.3f}, silent "
                f"{verdict['silent']:.0%}, astray {verdict['astray']:.0%}"
                f"{', FAILED by its own signs' if is_named(row) else ''}",
                flush=True,
            )
            later = [row for row in kept if row not in rows]
            write_json(file, settings | {"rows": rows + later})
    print("\n".join(summary(rows, args.margin, others)))


if __name__ == "__main__":
    run_script(main, parse_args)
