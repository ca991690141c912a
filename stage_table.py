"""The stage table: mIoU of seeds, seeds after the dense CRF, the pseudo masks of AffinityNet and IRN, and the segmentation
network's masks, on one or more lists.

Reads CAM files and masks, the ground truth of the lists and the class list; prints the table and writes it as Markdown, and all numbers
as JSON. {list} in a folder's name stands for the list's, without the N of NAME:N.

    python stage_table.py --lists train val --seed_dir results/cpn/cam_{list} --irn_dir results/irn/mask_{list} --out results/stages

Each number of seeds is that of the best background threshold of its list, which stands beside it, in unit scale; after the CRF it is
what the CRF decided, which 0.50 stands for.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from evaluation_cam import Evaluation, evaluate_cams, evaluate_masks, results
from tool.crf import named_settings
from tool.errors import InputError, run_script
from tool.files import atomic_write, require_dir, write_json
from tool.flags import AUTO, DEFAULT_WORKERS, add_seed_crf_flags, non_negative_int, seed_crf, session_settings
from tool.seed import AFF_MASK_STAGE, CAM_MASK_STAGE, CRF_THRESHOLD, IRN_MASK_STAGE, SEG_MASK_STAGE
from voc12.auto_threshold import choose_threshold
from voc12.constants import DATA_HELP, MASK_DIR
from voc12.lists import LIST_HELP, list_stem, list_title, load_class_list, load_ids

VOC12_ROOT = "data/VOCdevkit/VOC2012"
SEED_DIR = "results/cpn/cam_{list}"
OUT = "results/stage_table"

# What masks say of themselves; make_masks.py's may be IRN's walked maps at another threshold. Masks from elsewhere say nothing.
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("data")
    data.add_argument("--voc12_root", default=VOC12_ROOT, help="data set folder in VOC layout (default %(default)s)")
    data.add_argument("--lists", nargs="+", default=("train", "val"), help=f"each a {LIST_HELP} (default train val)")
    data.add_argument("--seed_dir", default=SEED_DIR, help="folder of CAM files (default %(default)s)")
    data.add_argument("--aff_dir", help="folder of AffinityNet's masks (default: no row)")
    data.add_argument("--irn_dir", help="folder of IRN's masks (default: no row)")
    data.add_argument("--seg_dir", help="folder of infer_seg.py's masks (default: no row)")
    data.add_argument("--num_workers", type=non_negative_int, default=DEFAULT_WORKERS, help="processes (default %(default)s)")

    evaluation = parser.add_argument_group("evaluation")
    evaluation.add_argument(
        "--absent",
        choices=("zero", "skip"),
        default="zero",
        help="a class in neither prediction nor ground truth counts as 0, as released, or not at all (default %(default)s)",
    )
    crf = parser.add_argument_group("dense CRF on seeds")
    add_seed_crf_flags(crf, default="seam", threshold_default="the best threshold of the seeds themselves")

    output = parser.add_argument_group("output")
    output.add_argument("--out", default=OUT, help="the table's files without .md and .json (default %(default)s)")
    return parser.parse_args(argv)


def _folder(template: str, list_name: str) -> Path:
    return Path(template.replace("{list}", list_stem(list_name)))


def evaluate_list(args: argparse.Namespace, name: str, classes: Sequence[str]) -> dict[str, Evaluation]:
    """stage -> evaluation, of one list."""
    root = Path(args.voc12_root)
    ids = load_ids(root, name)

    def evaluation_of(evaluate: Callable[..., Evaluation], folder: str) -> Callable[..., Evaluation]:
        return partial(evaluate, ids, _folder(folder, name), root / MASK_DIR, classes, num_workers=args.num_workers)

    seeds = evaluation_of(evaluate_cams, args.seed_dir)
    rows = {"seed": seeds()}
    best = rows["seed"].thresholds[rows["seed"].best(args.absent)]
    auto = args.crf_threshold == AUTO
    folder = _folder(args.seed_dir, name)
    crf = seed_crf(args, bg_threshold=choose_threshold(root, ids, folder, args.num_workers) if auto else best)
    rows["seed + CRF"] = seeds(crf=crf, voc12_root=root, thresholds=(CRF_THRESHOLD,))
    for stage, folder in (("AffinityNet mask", args.aff_dir), ("IRN mask", args.irn_dir), ("segmentation", args.seg_dir)):
        if folder:
            rows[stage] = evaluation_of(evaluate_masks, folder)()
            if wrong := set(rows[stage].stages) - MASK_STAGES[stage]:
                raise InputError(f"{_folder(folder, name)} holds masks of stage {min(wrong)}, given for the row {stage}")
    return rows


def markdown(table: dict[str, dict[str, Evaluation]], absent: str) -> str:
    """The table: a row for each stage, a column for each list; table: list -> stage -> evaluation."""
    lists = list(table)
    lines = [
        f"| mIoU (%), threshold | {' | '.join(f'{name} ({_images(table[name])} images)' for name in lists)} |",
        f"|---|{'---|' * len(lists)}",
    ]
    for stage in table[lists[0]]:
        lines.append(f"| {stage} | {' | '.join(_cell(table[name][stage], absent) for name in lists)} |")
    return "\n".join(lines) + "\n"


def _images(rows: dict[str, Evaluation]) -> int:
    return next(iter(rows.values())).images


def _cell(evaluation: Evaluation, absent: str) -> str:
    best = evaluation.best(absent)
    threshold = f", {evaluation.thresholds[best]:.2f}" if evaluation.thresholds else ""
    return f"{evaluation.scores.miou(absent)[best]:.2f}{threshold}"


def main(args: argparse.Namespace) -> None:
    """Evaluate every stage on every list, print the table and write it."""
    root = require_dir(args.voc12_root, "--voc12_root", DATA_HELP)
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
    rows = [{"row": stage} | results(value, name, args.absent) for name in table for stage, value in table[name].items()]
    write_json(f"{args.out}.json", {"settings": session_settings(args), "rows": rows})
    print(f"table: {args.out}.md, numbers: {args.out}.json")


if __name__ == "__main__":
    run_script(main, parse_args)
