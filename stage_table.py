"""The stage table: mIoU of seeds, seeds after the dense CRF, the pseudo masks of AffinityNet and
IRN, and the segmentation network's masks, on one or more lists.

Reads CAM files and masks, the ground truth of the lists and the class list; prints the table and
writes it as Markdown, and all numbers as JSON. {list} in a folder's name stands for the list's,
without the N of NAME:N.

    python stage_table.py --lists train val --seed_dir results/cpn/cam_{list} \\
        --irn_dir results/irn/mask_{list} --out results/stages

Each number of seeds is that of the best background threshold of its list, which stands beside it,
in unit scale; after the CRF it is what the CRF decided, which 0.50 stands for. In brackets: the
95 % interval over the photographs of the list.
"""

from tool.start import end_at_ctrl_c

if __name__ == "__main__":
    end_at_ctrl_c()  # while it imports

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tool.errors import InputError, run_script
from tool.expand.crf import named_settings
from tool.expand.seed import (
    AFF_MASK_STAGE,
    CAM_MASK_STAGE,
    CRF_THRESHOLD,
    IRN_MASK_STAGE,
    SEG_MASK_STAGE,
)
from tool.file.atomic import atomic_write, write_json
from tool.file.require import require_dir
from tool.run.crf_flags import add_seed_crf_flags, seed_crf
from tool.run.flags import AUTO, session_settings
from tool.run.machine_flags import add_workers_flag
from voc12.cam_folder import add_cam_format_flag, open_cam_folder, require_same_photographs
from voc12.class_list import load_class_list
from voc12.data_flags import add_mask_values_flag, add_root_flag
from voc12.evaluation import (
    Evaluation,
    evaluate_cams,
    evaluate_masks,
    label_map_reader,
    require_masks,
)
from voc12.evaluation_report import add_absent_flag, results, with_interval
from voc12.lists import LIST_HELP, list_stem, list_title, load_ids, require_root
from voc12.masks import ground_truth_dir, mask_reader
from voc12.orientation import require_mask_orientation
from voc12.threshold_choice import choose_threshold

SEED_DIR = "results/cpn/cam_{list}"
OUT = "results/stage_table"

# What masks say of themselves; make_masks.py's may be IRN's walked maps at another threshold. Masks
# from elsewhere say nothing.
MASK_STAGES = {
    "AffinityNet mask": {AFF_MASK_STAGE},
    "IRN mask": {IRN_MASK_STAGE, CAM_MASK_STAGE},
    "segmentation": {SEG_MASK_STAGE},
}

FOLDERS = {
    "seed_dir": "CAM files",
    "aff_dir": "AffinityNet masks",
    "irn_dir": "IRN masks",
    "seg_dir": "segmentation masks",
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = parser.add_argument_group("data")
    add_root_flag(data)
    data.add_argument(
        "--lists",
        nargs="+",
        default=("train", "val"),
        help=f"each a {LIST_HELP} (default train val)",
    )
    data.add_argument(
        "--seed_dir", default=SEED_DIR, help="folder of CAM files (default %(default)s)"
    )
    add_cam_format_flag(data)
    add_mask_values_flag(data)
    data.add_argument("--aff_dir", help="folder of AffinityNet's masks (default: no row)")
    data.add_argument("--irn_dir", help="folder of IRN's masks (default: no row)")
    data.add_argument("--seg_dir", help="folder of infer_seg.py's masks (default: no row)")
    add_workers_flag(data, "processes")

    evaluation = parser.add_argument_group("evaluation")
    add_absent_flag(evaluation, "zero")
    crf = parser.add_argument_group("dense CRF on seeds")
    add_seed_crf_flags(
        crf, default="seam", threshold_default="the best threshold of the seeds themselves"
    )

    output = parser.add_argument_group("output")
    output.add_argument(
        "--out", default=OUT, help="the table's files without .md and .json (default %(default)s)"
    )
    return parser.parse_args(argv)


def _folder(template: str, list_name: str) -> Path:
    return Path(template.replace("{list}", list_stem(list_name)))


def evaluate_list(
    args: argparse.Namespace, name: str, classes: Sequence[str]
) -> dict[str, Evaluation]:
    """stage -> evaluation, of one list."""
    root = Path(args.voc12_root)
    ids = load_ids(root, name)
    masks = ground_truth_dir(root)
    require_masks(ids, masks)
    given = [_folder(given, name) for given in (args.aff_dir, args.irn_dir, args.seg_dir) if given]
    for folder in (masks, *given):
        require_mask_orientation(root, ids, folder, args.exif, f"masks in {folder}")
    paths = [masks / f"{image}.png" for image in ids]
    truth = mask_reader(root, paths, classes, args.mask_values)

    def evaluation_of(
        evaluate: Callable[..., Evaluation], folder: str
    ) -> Callable[..., Evaluation]:
        return partial(
            evaluate,
            ids,
            _folder(folder, name),
            masks,
            classes,
            num_workers=args.num_workers,
            truth=truth,
        )

    folder = _folder(args.seed_dir, name)
    cams = open_cam_folder(folder, args.cam_format, root, ids, classes, args.exif)
    require_same_photographs(folder, root, ids)
    seeds = partial(evaluation_of(evaluate_cams, args.seed_dir), load=cams.load, exif=args.exif)
    rows = {"seed": seeds()}
    best = rows["seed"].thresholds[rows["seed"].best(args.absent)]
    auto = args.crf_threshold == AUTO
    crf = seed_crf(
        args,
        bg_threshold=choose_threshold(
            root, ids, folder, args.num_workers, load=cams.load, exif=args.exif
        )
        if auto
        else best,
    )
    rows["seed + CRF"] = seeds(crf=crf, voc12_root=root, thresholds=(CRF_THRESHOLD,))
    for stage, folder in (
        ("AffinityNet mask", args.aff_dir),
        ("IRN mask", args.irn_dir),
        ("segmentation", args.seg_dir),
    ):
        if folder:
            read = label_map_reader(root, _folder(folder, name), ids, classes)
            rows[stage] = evaluation_of(evaluate_masks, folder)(predicted=read)
            if wrong := set(rows[stage].stages) - MASK_STAGES[stage]:
                raise InputError(
                    f"{_folder(folder, name)} holds masks of stage {min(wrong)}, given for the row "
                    f"{stage}"
                )
    return rows


def markdown(table: dict[str, dict[str, Evaluation]], absent: str) -> str:
    """The table: a row for each stage, a column for each list; table: list -> stage ->
    evaluation.
    """
    lists = list(table)
    lines = [
        "| mIoU (%), threshold | "
        f"{' | '.join(f'{name} ({_images(table[name])} images)' for name in lists)} |",
        f"|---|{'---|' * len(lists)}",
    ]
    for stage in table[lists[0]]:
        lines.append(
            f"| {stage} | {' | '.join(_cell(table[name][stage], absent) for name in lists)} |"
        )
    return "\n".join(lines) + "\n"


def _images(rows: dict[str, Evaluation]) -> int:
    return next(iter(rows.values())).images


def _cell(evaluation: Evaluation, absent: str) -> str:
    best = evaluation.best(absent)
    threshold = f", {evaluation.thresholds[best]:.2f}" if evaluation.thresholds else ""
    miou = evaluation.scores.miou(absent)[best]
    return f"{with_interval(miou, evaluation.interval(best, absent))}{threshold}"


def main(args: argparse.Namespace) -> None:
    """Evaluate every stage on every list, print the table and write it."""
    root = require_root(args.voc12_root)
    classes = load_class_list(root)
    titles = [list_title(name) for name in args.lists]
    if twice := next((title for title in titles if titles.count(title) > 1), None):
        raise InputError(f"--lists names {twice} twice; a column needs a name of its own")
    named_settings(args.crf, **dict(args.crf_set))
    for name in args.lists:
        for flag, what in FOLDERS.items():
            if folder := getattr(args, flag):
                require_dir(_folder(folder, name), f"folder of {what}", f"check --{flag}")
    table = {list_title(name): evaluate_list(args, name, classes) for name in args.lists}
    text = markdown(table, args.absent)
    print(text, end="")
    with atomic_write(f"{args.out}.md", "w") as file:
        file.write(text)
    rows = [
        {"row": stage} | results(value, name, args.absent)
        for name in table
        for stage, value in table[name].items()
    ]
    write_json(f"{args.out}.json", {"settings": session_settings(args), "rows": rows})
    print(f"table: {args.out}.md, numbers: {args.out}.json")


if __name__ == "__main__":
    run_script(main, parse_args)
