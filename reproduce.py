"""Make a table of the paper: run whatever stages are missing, and set our numbers beside the
published ones.

    python reproduce.py --table seeds --data sample --seeds 0 1 2
    python reproduce.py --table losses --data photos --voc12_root PHOTOS --seeds 0 1
    python reproduce.py --table seeds --data voc12 --seeds 0 1 2 --dry_run

Every stage is a command of this repository and is printed before it runs. Sessions go to
<results>/<name>, the name made of the settings, so tables that share a training share its session,
and the same command continues after a stop. Where a command fails, rows that do without it go on,
unless nothing is measured yet. The table is written after every evaluation to
<out>/<table>_<data>.md, .csv and .html (one file that opens without a network); --train_flags,
--score_images, --backbones and a --voc12_root that is not the preset's add a digest to the name. It
shows the seeds asked for, with 95 % intervals over the photographs, and differences of rows
photograph by photograph.

Tables: seeds (CAM, SEAM and CPN, with and without CRF), losses, patches, prcm, backbones, pseudo
(CRF, AffinityNet, IRN), segmentation, consensus (what all photographs agree on, masks made of it,
a segmentation model taught by these; the road of masks_from_tags.py).
"""

from tool.start import end_at_ctrl_c

if __name__ == "__main__":
    end_at_ctrl_c()  # while it imports

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.measure import Plan, compare, measure
from experiments.presets import PRESETS, Preset
from experiments.road import Road, changed_settings
from experiments.tables import PUBLISHED, PUBLISHED_NOTES, TABLES, seeds_lines, segmentation_lines
from flags import cpn_training
from tool.errors import InputError, run_script
from tool.file.atomic import atomic_write
from tool.file.digests import digest
from tool.run.flags import (
    DEFAULT_WORKERS,
    positive_int,
    seed_number,
    worker_count,
)
from tool.run.steps import Runner, StepFailed, execute
from tool.show.result_table import LEGEND, csv_text, differences_csv, html, markdown
from voc12.constants import LIST_DIR
from voc12.lists import load_ids

# flags of train_cpn.py that the table gives it, or that other stages have to agree with
SET_BY_TABLES = (
    "voc12_root",
    "train_list",
    "labels",
    "exif",
    "seed",
    "session_name",
    "results",
    "save_format",
)
OWN_FLAGS = {"voc12_root": "voc12_root", "seed": "seeds", "results": "results"}
RESULTS = "results"
OUT = "results/tables"


def regular_expression(text: str) -> re.Pattern[str]:
    """Compile; raises argparse.ArgumentTypeError saying what is wrong with it."""
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from None


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", choices=TABLES, required=True, help="which table")
    parser.add_argument(
        "--data",
        choices=PRESETS,
        default="sample",
        help="settings by data set (default %(default)s)",
    )
    parser.add_argument(
        "--seeds",
        type=seed_number,
        nargs="+",
        default=(0, 1, 2),
        help="training seeds (default 0 1 2)",
    )
    parser.add_argument(
        "--voc12_root",
        help="data set folder in VOC layout (default: the preset's; photos and photos20 have none)",
    )
    parser.add_argument(
        "--backbones",
        nargs="+",
        metavar="NAME[:STRIDE]",
        help="rows of the table of backbones (default: the preset's)",
    )
    parser.add_argument(
        "--score_images",
        type=positive_int,
        metavar="N",
        help="score N images of each split, evenly spread over its list, instead of all",
    )
    parser.add_argument(
        "--rows",
        metavar="REGEX",
        type=regular_expression,
        default=re.compile(""),
        help="run only rows whose 'setting, stage, split' it is found in, e.g. 'seed, val$'; the "
        "others show what is there (default: all)",
    )
    parser.add_argument(
        "--train_flags",
        default="",
        metavar="'FLAGS'",
        help="flags that every training of CAM networks gets after the preset's, e.g. "
        "'--max_epoches 6 --precision bf16'",
    )
    parser.add_argument(
        "--num_workers",
        type=worker_count,
        default=DEFAULT_WORKERS,
        help="processes (default %(default)s)",
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cuda, cuda:N, mps or cpu (default %(default)s)"
    )
    parser.add_argument(
        "--results", default=RESULTS, help="where sessions go (default %(default)s)"
    )
    parser.add_argument("--out", default=OUT, help="folder for the tables (default %(default)s)")
    parser.add_argument(
        "--dry_run", action="store_true", help="print the missing commands and stop"
    )
    return parser.parse_args(argv)


def settings_text(settings: Mapping[str, Any]) -> str:
    """name value, name value, ... as one types them."""

    def word(value: Any) -> str:
        if isinstance(value, list | tuple):
            return "=".join(map(word, value))
        return f"{value:g}" if isinstance(value, float) else str(value)

    values = {
        name: value if isinstance(value, list | tuple) else [value]
        for name, value in settings.items()
    }
    return ", ".join(f"{name} {' '.join(map(word, value))}" for name, value in values.items())


def _own_root(args: argparse.Namespace) -> str | None:
    """The --voc12_root that is not the preset's."""
    return None if args.voc12_root == PRESETS[args.data].voc12_root else args.voc12_root


def table_name(args: argparse.Namespace) -> str:
    """The table's files without their endings; flags that change what all its rows say have a
    digest in it.
    """
    own = {
        "train_flags": args.train_flags.split(),
        "score_images": args.score_images,
        "backbones": args.backbones,
        "voc12_root": _own_root(args),
    }
    return f"{args.table}_{args.data}" + (f"_{digest(own)}" if any(own.values()) else "")


def require_rows_as_named(args: argparse.Namespace, preset: Preset) -> None:
    """Raise InputError where --train_flags change what the table's rows vary, or a flag belongs to
    another table.
    """
    if args.backbones and args.table != "backbones":
        raise InputError(
            f"--backbones is for the table backbones, not for {args.table}; give --train_flags "
            "'--backbone NAME'"
        )
    given = ["--train_list", preset.train_list]
    if (root := args.voc12_root or preset.voc12_root) is not None:
        given += ["--voc12_root", root]
    before, now = (
        vars(cpn_training.parse_args([*given, *flags.split()]))
        for flags in (preset.train, f"{preset.train} {args.train_flags}")
    )
    for name in TABLES[args.table].varied:
        if before[name] != now[name]:
            raise InputError(
                f"--train_flags change --{name}, in which rows of the table {args.table} differ"
            )
    for name in SET_BY_TABLES:
        if before[name] != now[name]:
            own = f"--{OWN_FLAGS[name]} of reproduce.py is for that" if name in OWN_FLAGS else ""
            raise InputError(
                f"--train_flags change --{name}, which the other stages would not know of; "
                f"{own or 'leave it out'}"
            )


def published_numbers(road: Road, args: argparse.Namespace, seed: int) -> dict[Path, float]:
    """What is in print for an evaluation of this seed, whatever a table calls it."""
    tables = (seeds_lines(road, args), segmentation_lines(road, args))
    keys = {
        line.evaluate(seed).output: (line.setting, line.stage, line.split)
        for lines in tables
        for line in lines
    }
    numbers = PUBLISHED[road.preset.published]
    return {output: numbers[key] for output, key in keys.items() if key in numbers}


def data_text(preset: Preset) -> str:
    """What a table is made of: the data set, and its lists with their lengths today."""
    root = preset.voc12_root
    lists = {"trained on": preset.train_list} | {
        f"scored as {split}": name for split, name in preset.splits.items()
    }
    said = [f"{use} {name} ({len(load_ids(root, name)):,})" for use, name in lists.items()]
    return f"{preset.about}, {root}: {', '.join(said)}"


def write_table(
    args: argparse.Namespace, preset: Preset, plan: Sequence[Plan], failed: Sequence[str]
) -> str:
    """Write Markdown, CSV and HTML of what is there so far, and return the Markdown. failed: what
    was said of commands that failed.
    """
    table = TABLES[args.table]
    rows, commands = measure(plan)
    differences = compare(plan)
    done, wanted = sum(len(row.measurements) for row in rows), sum(len(steps) for _, steps in plan)
    in_force = changed_settings(
        cpn_training.parse_args, ["--train_list", preset.train_list, *preset.train.split()]
    )
    notes = [
        f"Data: {data_text(preset)}. CAM networks: the released settings, train_cpn.py's defaults, "
        f"but for {settings_text(in_force)}, and what a row says."
    ]
    if in_force.get("refinement_factor") == 0:
        notes.append(
            "refinement_factor 0: PCM and PRCM stay as they start, and loss_cpcr, whose gradients "
            "reach their layers alone, trains nothing; they count in the norm by which --clip_norm "
            "clips."
        )
    notes += [f"Unfinished: {done} of {wanted} evaluations are there."] if done < wanted else []
    notes += [f"Failed: {message.partition(';')[0]}." for message in failed]
    # of the data, not with --train_flags, which all rows have
    notes += [note for note in (table.note, table.note_on(PRESETS[args.data])) if note]
    notes += [LEGEND + PUBLISHED_NOTES[preset.published]]
    text = markdown(table.title, notes, rows, differences)
    for ending, content in (
        (".md", text),
        (".csv", csv_text(rows)),
        ("_differences.csv", differences_csv(differences)),
        (".html", html(table.title, notes, rows, commands, differences)),
    ):
        with atomic_write(Path(args.out) / f"{table_name(args)}{ending}", "w") as file:
            file.write(content)
    return text


def main(args: argparse.Namespace) -> None:
    """Run what is missing of a table, seed by seed, and write it."""
    preset = PRESETS[args.data]
    if args.voc12_root is not None:  # a session is named by it: data/ is data
        args.voc12_root = str(Path(args.voc12_root))
    require_rows_as_named(args, preset)
    preset = replace(
        preset,
        voc12_root=args.voc12_root or preset.voc12_root,
        train=f"{preset.train} {args.train_flags}",
        consensus_cam=f"{preset.consensus_cam} {args.train_flags}",
    )
    if args.score_images is not None:
        preset = replace(
            preset,
            splits={split: f"{name}:{args.score_images}" for split, name in preset.splits.items()},
        )
    if preset.voc12_root is None:
        raise InputError(
            f"--data {args.data} needs --voc12_root, the folder of the photographs in VOC layout"
        )
    road = Road(preset, Path(args.results), args.num_workers, args.device)
    seeds = list(dict.fromkeys(args.seeds))
    if (
        Path(preset.voc12_root) / LIST_DIR
    ).is_dir():  # else the first command makes it, or says that it is missing
        for image_list in preset.splits.values():
            load_ids(preset.voc12_root, image_list)
    published = published_numbers(road, args, seeds[0])
    plan = []
    for line in TABLES[args.table].lines(road, args):
        steps = {seed: line.evaluate(seed) for seed in seeds}
        plan.append((replace(line, published=published.get(steps[seeds[0]].output)), steps))
    chosen = [steps for line, steps in plan if args.rows.search(line.name)]
    if not chosen:
        raise InputError(f"--rows {args.rows.pattern} is found in no row of the table {args.table}")
    runner = Runner(execute, args.dry_run)
    failed: list[str] = []
    for seed in seeds:
        for steps in chosen:
            try:
                runner.make(steps[seed])
            except StepFailed as error:
                if not any(row.measurements for row in measure(plan)[0]):
                    raise
                failed += [str(error)] if str(error) not in failed else []
                print(f"{error}; rows without it go on", file=sys.stderr, flush=True)
            if not args.dry_run:
                write_table(args, preset, plan, failed)
    if args.dry_run:
        return
    print(
        f"{write_table(args, preset, plan, failed)}\n"
        f"table: {args.out}/{table_name(args)}.md, .csv, .html"
    )
    if failed:
        raise InputError(
            f"{len(failed)} commands failed, whose rows the table lacks; the same command tries "
            f"them again, the first: {failed[0].partition(';')[0]}"
        )


if __name__ == "__main__":
    run_script(main, parse_args)
