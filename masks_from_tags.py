"""From a folder of photographs and their tags to a mask of each and a model that makes more, by one
command.

    python masks_from_tags.py --images photos --tags tags.csv --out results/mine

Without --tags every subfolder of --images is a class. A classifier learns from the tags, where it
looks becomes first masks, and a segmentation model that learns from these corrects them. No mask is
drawn by hand and none is needed. Leaves in --out:

    masks/            a palette PNG a photograph, paths kept; 0 is background
    classes.txt       the class of each value 1, 2, ...
    model.pth         for infer_seg.py --image; model.onnx for other programs
    classifier.pth    for infer_cam.py --image
    annotations.json  the masks as COCO
    report.html       a page to look through, opened from disk
    commands.txt      what it ran, to be taken from there by hand
    road.json         what app.py reads: scores, and how sure each mask is

Each step is a command of this repository. The same command skips what is finished and goes on
where it was stopped. --masks, real masks of some photographs, teach nothing: they score the result.
"""

from tool.start import end_at_ctrl_c

if __name__ == "__main__":
    end_at_ctrl_c()  # while it imports

import argparse
import contextlib
import json
import shlex
import shutil
from pathlib import Path
from typing import Any

from experiments.own_road import (
    CLASSIFIER,
    MODEL,
    Plan,
    Progress,
    Settings,
    choose_settings,
    data_state,
    masks_state,
    paths_state,
    require_room,
    road_record,
    verdict_of,
)
from tool.choices import METHODS
from tool.errors import InputError, run_script
from tool.file.atomic import atomic_write, hold, write_json
from tool.file.mask_reader import AUTO
from tool.file.model_folder import ROAD_FILE
from tool.run.flags import at_least, non_negative_int, pixels, positive_int, seed_number
from tool.run.machine_flags import add_workers_flag
from tool.run.shards import world_size
from voc12.constants import CLASS_LIST_FILE
from voc12.data_flags import add_mask_values_flag
from voc12.own_masks import match_masks, require_mask_places, write_evaluated
from voc12.own_photographs import Own, add_own_flags, held_out, read_own, write_own

COMMANDS = "commands.txt"
LEFT = (CLASSIFIER, MODEL, CLASS_LIST_FILE, COMMANDS, ROAD_FILE)
TRIES = 3  # trainings of the classifier, each with another seed, until one does not fail


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = parser.add_argument_group("photographs and tags")
    add_own_flags(data)
    data.add_argument(
        "--masks",
        metavar="DIR",
        help="real masks of some photographs, by their names, to score the result with; their "
        "values are those of classes.txt, their colours those of --classes, or of a labelmap.txt "
        "there or beside it (default: none)",
    )
    add_mask_values_flag(data)
    data.add_argument("--out", required=True, metavar="DIR", help="folder for all that is made")

    own = parser.add_argument_group(
        "settings (default: by the number of photographs and the machine, and printed)"
    )
    own.add_argument(
        "--method",
        choices=METHODS,
        help="of the classifier; cam's maps are refined by a PCM that needs no training",
    )
    own.add_argument("--backbone", help="a timm backbone, for classifier and model")
    own.add_argument("--crop_size", type=pixels, help="of the classifier's training, pixels")
    own.add_argument("--batch_size", type=positive_int, help="of the classifier's training")
    own.add_argument("--iterations", type=positive_int, help="of the classifier's training")
    own.add_argument("--seg_crop_size", type=pixels, help="of the model's training, pixels")
    own.add_argument("--seg_batch_size", type=at_least(2), help="of the model's training")
    own.add_argument("--seg_iterations", type=positive_int, help="of each of the model's trainings")
    own.add_argument(
        "--rounds",
        type=non_negative_int,
        help="how often the model corrects the masks and learns from them again",
    )
    own.add_argument(
        "--seed", type=seed_number, default=0, help="of all trainings (default %(default)s)"
    )
    machine = parser.add_argument_group("machine")
    add_workers_flag(machine, "processes that load and write")
    machine.add_argument(
        "--device", default="auto", help="auto, cuda, cuda:N, mps or cpu (default %(default)s)"
    )
    machine.add_argument(
        "--nproc_per_node",
        type=positive_int,
        dest="nproc",
        help="processes of each training, as torchrun has it (default: a process a GPU)",
    )
    return parser.parse_args(argv)


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file, whole or not at all."""
    with source.open("rb") as read, atomic_write(target) as written:
        shutil.copyfileobj(read, written)


def folder_word(given: str) -> Path:
    """A folder as it was given, or from the root where commands would take its name for a flag."""
    path = Path(given)
    return path.absolute() if str(path).startswith("-") else path


def count_gpus(device: str) -> int:
    """GPUs that --device may use."""
    import torch  # here, so that --help and wrong flags answer at once

    if device == "auto" or device == "cuda":
        return torch.cuda.device_count()
    return int(device.startswith("cuda"))


def train_classifier(make: Any, progress: Progress, seed: int) -> Plan:
    """The plan of the first seed whose classifier does not fail by its own signs, or else of the
    one whose worst sign is the least; its classifier is trained.
    """
    tried: list[tuple[float, Plan]] = []
    for number in range(TRIES):
        plan = make(seed + number)
        progress.run(plan, until=plan.classifier_parts)
        worst, failed = verdict_of(plan.classifier)
        tried.append((worst, plan))
        if not failed:
            return plan
        if number + 1 < TRIES:
            print(f"the classifier has failed; once more, with seed {seed + number + 1}")
    print("every classifier has failed by its own signs: expect poor masks, look at report.html")
    return min(tried, key=lambda pair: pair[0])[1]


def data_command(args: argparse.Namespace, out: Path) -> str:
    """The command that makes the data set which all others read."""
    words = ["python", "-m", "voc12.own_photographs", "--images", args.images]
    for name in ("tags", "image_column", "tag_columns", "classes", "untagged"):
        if (value := getattr(args, name)) is not None:
            words += [f"--{name}", *([value] if isinstance(value, str) else value)]
    # what the command would not know by its flags; of the road all, not the data set alone
    others = [*(args.leave_out or ()), *([args.masks] if args.masks else []), args.out]
    images = Path(args.images).resolve()
    others = [path for path in others if images in Path(path).resolve().parents]
    words += ["--leave_out", *dict.fromkeys(others)] if others else []
    words += ["--long_side", str(args.long_side), "--num_workers", str(args.num_workers)]
    return shlex.join([*words, "--out", str(out)])


def is_left(plan: Plan) -> bool:
    """Whether --out holds what leave_outputs leaves of this plan."""
    if not all((plan.out / name).is_file() for name in LEFT):
        return False
    with contextlib.suppress(ValueError):  # damaged, so it is written again
        said = json.loads((plan.out / ROAD_FILE).read_text(encoding="utf-8"))
        images = str(plan.images.resolve())  # which may have moved with all that is left
        return isinstance(said, dict) and (said.get("state"), said.get("images")) == (
            plan.state,
            images,
        )
    return False


def leave_outputs(plan: Plan, own: Own, nproc: int, first: str) -> None:
    """Copy weights and lists to --out, write commands.txt, whose first line is given, and, last,
    road.json.
    """
    out = plan.out
    (out / ROAD_FILE).unlink(missing_ok=True)  # it says that all beside it is there
    copy_whole(plan.classifier, out / CLASSIFIER)
    copy_whole(plan.model, out / MODEL)
    copy_whole(plan.data / CLASS_LIST_FILE, out / CLASS_LIST_FILE)
    with atomic_write(out / COMMANDS, "w") as file:
        file.write("\n".join([first, *(part.line(nproc) for part in plan.parts)]) + "\n")
    write_json(out / ROAD_FILE, road_record(plan, own))


def main(args: argparse.Namespace) -> None:
    """Go the road."""
    if world_size() > 1:
        raise InputError(
            "masks_from_tags.py starts the processes of its trainings itself; run it by python, "
            "with --nproc_per_node"
        )
    if args.mask_values != AUTO and not args.masks:
        raise InputError("--mask_values is about --masks, which is not given")
    out = folder_word(args.out)
    own = read_own(args)
    real = None
    if args.masks:
        real = match_masks(args.masks, own, args.images, out, args.classes, args.mask_values)
    require_mask_places(own, out / "masks")
    gpus = count_gpus(args.device)
    given = {name: getattr(args, name) for name in Settings.__dataclass_fields__ if name in args}
    settings = choose_settings(int(own.labelled.sum()), gpus, given)
    print("settings:", "; ".join(settings.lines()))

    work = out / "work"
    waiting = f"waiting for another process that works in {out}"
    with contextlib.closing(hold(work / ".lock", lambda: print(waiting, flush=True))):
        write_own(own, work / "data", args.long_side, args.num_workers)
        if real:
            write_evaluated(work / "evaluated", own, real, out / "masks", work / "data")

        def make(seed: int) -> Plan:
            return Plan(
                settings,
                images=folder_word(args.images),
                out=out,
                photographs=len(own.ids),
                labelled=int(own.labelled.sum()),
                held=int(held_out(own.labels, own.labelled, own.copy_of).sum()),
                evaluated=len(real.paths) if real else 0,
                num_workers=args.num_workers,
                device=args.device,
                seed=seed,
                state=data_state(own, args.long_side),
                paths_state=paths_state(own),
                masks_state=masks_state(real) if real else "",
            )

        progress = Progress(work / "done", settings.nproc)
        require_room(make(args.seed), LEFT)
        plan = train_classifier(make, progress, args.seed)
        progress.drop_old_scores(plan)
        progress.run(plan)
        if not is_left(plan):
            leave_outputs(plan, own, settings.nproc, data_command(args, plan.data))
    print(f"\n{out}: masks of {len(own.ids)} photographs; look through {out / 'report.html'}")


if __name__ == "__main__":
    run_script(main, parse_args)
