"""A page about a run: one HTML file, pictures inside, that opens anywhere without a network.

Reads the folders that exist of a run, the photographs and masks of a list, and the training log;
writes stage table, threshold curve with the best threshold and the one chosen without masks, the
best, the median and the worst image, IoU of every class, confusion matrix, training curves, and a
gallery from the worst image to the best, with a filter of classes. Its pictures open large, all
stages side by side, with a slider for the threshold of each. Without any mask of the list it is a
page of what can be had without: the thresholds, the training curves and the gallery, in the order
of the list.

    python report.py --list val --refined_dir results/cpn/cam_val --session_dir results/cpn \\
        --out results/cpn/report.html

Class scores, confusion and the order of the gallery are those of the last stage given.
"""

from tool.start import end_at_ctrl_c

if __name__ == "__main__":
    end_at_ctrl_c()  # while it imports

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tool.bootstrap import LEVEL
from tool.errors import InputError, run_script
from tool.expand.seed import (
    CRF_STAGE,
    CRF_THRESHOLD,
    PLAIN_STAGE,
    REFINED_STAGE,
    WALK_STAGE,
    find_seeds,
)
from tool.file.atomic import atomic_write, read_json_lines
from tool.file.cam_file import CamFile, load_cam
from tool.file.mask_reader import MaskReader
from tool.file.require import require_dir, require_no_folder
from tool.file.text import read_text, shortened
from tool.image_counts import SIZES
from tool.run.flags import positive_int
from tool.run.machine_flags import add_workers_flag
from tool.run.notes import note
from tool.run.pool import pool_map
from tool.run.run_log import git_commit
from tool.show import page, report_page, viewer
from tool.show.report_page import Card, StageView
from tool.show.result_table import short_commit
from voc12.cam_folder import (
    add_cam_format_flag,
    open_cam_folder,
    open_seeds_of_walk,
    require_same_photographs,
)
from voc12.class_list import load_class_list
from voc12.data_flags import add_list_flag, add_mask_values_flag, add_root_flag
from voc12.evaluation import (
    Evaluation,
    evaluate_cams,
    evaluate_masks,
    label_map_reader,
    require_label_maps,
    require_masks,
)
from voc12.evaluation_report import add_absent_flag
from voc12.gallery import Gallery, Shown
from voc12.labels import class_counts
from voc12.lists import list_title, load_ids, require_root
from voc12.masks import ground_truth_dir, mask_reader, masks_missing, other_suffix
from voc12.orientation import require_mask_orientation
from voc12.threshold_choice import choose_threshold

OUT = "results/report.html"
LARGEST = 1e300  # of a number in a curve

CAM_STAGES = {
    "cam_dir": "CAM",
    "refined_dir": "refined CAM",
    "crf_dir": "CAM + CRF",
    "walk_dir": "IRN's walk",
}
MASK_STAGES = {"mask_dir": "pseudo mask", "pred_dir": "prediction"}
# what the files say of themselves
FILE_STAGES = {
    "cam_dir": PLAIN_STAGE,
    "refined_dir": REFINED_STAGE,
    "crf_dir": CRF_STAGE,
    "walk_dir": WALK_STAGE,
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = parser.add_argument_group("data")
    add_root_flag(data)
    add_list_flag(data, "--list", default="val")
    add_mask_values_flag(data)
    add_workers_flag(data, "processes")

    stages = parser.add_argument_group("stages, at least one of the folders of images")
    stages.add_argument("--cam_dir", help="folder of CAM files, plain")
    stages.add_argument("--refined_dir", help="folder of CAM files, refined")
    stages.add_argument("--crf_dir", help="folder of CAM files after the dense CRF (make_crf.py)")
    stages.add_argument(
        "--walk_dir",
        help="folder of maps after IRN's walk (infer_irn.py --out_cam); their threshold without "
        "masks follows from the seeds in --refined_dir, or else --cam_dir",
    )
    add_cam_format_flag(stages)
    stages.add_argument("--mask_dir", help="folder of pseudo masks")
    stages.add_argument("--pred_dir", help="folder of predicted masks of a segmentation network")
    stages.add_argument("--session_dir", help="folder of the training session, for its log.jsonl")

    stages.add_argument(
        "--sureness",
        metavar="FILE",
        help="for a list without masks: a JSON file of how sure each image's mask is, 0 to 1, "
        "which orders the gallery (voc12.own_masks)",
    )
    stages.add_argument(
        "--classifier",
        metavar="FILE",
        help="a JSON file of how right the classifier is on photographs that did not train it "
        "(voc12.class_scores)",
    )

    output = parser.add_argument_group("output")
    output.add_argument("--out", default=OUT, help="the page (default %(default)s)")
    output.add_argument("--title", help="heading (default: the session's name, or the list's)")
    output.add_argument(
        "--limit",
        type=positive_int,
        default=60,
        help="images of the gallery, evenly spread from worst to best (default 60)",
    )
    add_absent_flag(output, "skip")
    return parser.parse_args(argv)


# ============ numbers ============
@dataclass(frozen=True)
class Stage:
    """A stage of the run: its folder, its evaluation, None where the list has no masks; load: reads
    its CAM files; read: its masks, None for maps.

    auto: the threshold chosen without masks; decided: the one after a CRF; unit scale
    """

    name: str
    folder: Path
    evaluation: Evaluation | None
    best: int
    auto: float | None
    load: Callable[[Path], CamFile] = load_cam
    read: MaskReader | None = None
    decided: float | None = None

    @property
    def searched(self) -> bool:
        """Whether its threshold is free: of maps, but after a CRF."""
        return self.read is None and self.decided is None

    @property
    def threshold(self) -> float | None:
        """The best threshold by the masks, or else auto, or else what a CRF has decided."""
        if self.evaluation is None:
            return self.decided if self.auto is None else self.auto
        return self.evaluation.thresholds[self.best] if self.evaluation.thresholds else None


def evaluate_stages(
    args: argparse.Namespace,
    ids: Sequence[str],
    classes: Sequence[str],
    truth: MaskReader | None,
) -> list[Stage]:
    """The stages whose folders are given, in the order of the road.

    truth: reads the masks; None where the list has none
    """
    stages = []
    gt_dir = ground_truth_dir(args.voc12_root)
    require_mask_orientation(args.voc12_root, ids, gt_dir, args.exif)
    for flag, name in (CAM_STAGES | MASK_STAGES).items():
        if (given := getattr(args, flag)) is None:
            continue
        folder = require_dir(given, f"folder of stage {name}", f"check --{flag}")
        evaluate, how, load, read = evaluate_masks, {}, load_cam, None
        if flag in CAM_STAGES:
            load = open_cam_folder(
                folder, args.cam_format, args.voc12_root, ids, classes, args.exif
            ).load
            require_stage(flag, folder, ids, load)
            require_same_photographs(folder, args.voc12_root, ids)  # on which it shows the maps
            evaluate, how = evaluate_cams, {"load": load}
        else:
            require_mask_orientation(args.voc12_root, ids, folder, args.exif, f"masks in {folder}")
            require_label_maps(ids, folder, f"check --{flag}")
            read = label_map_reader(args.voc12_root, folder, ids, classes)
        if flag == "crf_dir":
            how["thresholds"] = (CRF_THRESHOLD,)
        elif flag in MASK_STAGES:
            how = {"named": class_counts(args.voc12_root, ids, classes), "predicted": read}
        evaluation = (
            None
            if truth is None
            else evaluate(
                ids, folder, gt_dir, classes, num_workers=args.num_workers, truth=truth, **how
            )
        )
        auto = auto_threshold(args, flag, folder, ids, classes, load)
        if flag == "walk_dir" and auto is None and truth is None:
            raise InputError(
                f"--walk_dir on a list without masks, as {args.list} is, has no threshold without "
                "its seeds; give them as --refined_dir or --cam_dir"
            )
        best = 0 if evaluation is None else evaluation.best(args.absent)
        decided = CRF_THRESHOLD if flag == "crf_dir" else None
        stages.append(Stage(name, folder, evaluation, best, auto, load, read, decided))
    if not stages:
        raise InputError("no stage given; set --refined_dir or another of the folders in --help")
    return stages


def auto_threshold(
    args: argparse.Namespace,
    flag: str,
    folder: Path,
    ids: Sequence[str],
    classes: Sequence[str],
    load: Callable[[Path], CamFile],
) -> float | None:
    """The threshold of a stage chosen without masks; None for masks, after a CRF, which has chosen
    already, and after a walk from seeds that are not given.
    """
    seeds = (args.refined_dir or args.cam_dir) if flag == "walk_dir" else None
    if flag not in CAM_STAGES or flag == "crf_dir" or (flag == "walk_dir" and seeds is None):
        return None
    root, exif = args.voc12_root, args.exif
    load_seed = open_seeds_of_walk(seeds, root, ids, classes, exif, args.cam_format)
    return choose_threshold(root, ids, folder, args.num_workers, seeds, load, exif, load_seed)


def require_stage(
    flag: str, folder: Path, ids: Sequence[str], load: Callable[[Path], CamFile]
) -> None:
    """Raise InputError where the first CAM file of a folder says that it is of another stage than
    the flag's; the field's formats name none.
    """
    path = find_seeds(folder, ids)[0]
    stage = load(path).meta.get("stage", FILE_STAGES[flag])
    if stage != FILE_STAGES[flag]:
        right = next(
            (f"give the folder as --{other}" for other, its in FILE_STAGES.items() if its == stage),
            None,
        )
        hint = right or "give the masks made from it (make_masks.py) as --mask_dir"
        raise InputError(
            f"--{flag} is for files of stage {FILE_STAGES[flag]}, {path} is of stage {stage}; "
            f"{hint}"
        )


def training_log(session: Path) -> list[dict[str, Any]]:
    """The lines of a session's log since it last began anew; raises InputError where there is no
    log.
    """
    log = session / "log.jsonl"
    if not log.is_file():
        raise InputError(f"no log.jsonl in {session}; check --session_dir")
    lines = list(read_json_lines(log))
    begun = [number for number, line in enumerate(lines) if line.get("kind") == "start"]
    return lines[begun[-1] if begun else 0 :]


def verdict_words(log: Sequence[dict[str, Any]]) -> tuple[bool, str]:
    """(whether the training of this log has failed by its own signs, what it said of itself,
    without masks); no words where it said nothing: it is not finished, or no CAM training.
    """
    said = [entry for entry in log if entry.get("kind") == "verdict"]
    if not said:
        return False, ""
    failures = said[-1].get("failures")
    if not isinstance(failures, list) or not all(isinstance(one, str) for one in failures):
        return False, ""
    if failures:
        return True, f"This training has FAILED by its own signs: {'; '.join(failures)}."
    return False, "No sign of a failed training, by its loss and its maps, without masks."


def training_curves(log: Sequence[dict[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """name -> (iteration, value) of every loss in the log, once where two are the same, as the
    classification loss is of a plain CAM's; where a stopped run did iterations again, the later
    ones count. A note counts the values that are not finite, which no curve shows.
    """
    curves: dict[str, dict[int, float]] = {}
    left_out = 0
    for entry in log:
        step = entry.get("step")
        if entry.get("kind") != "train" or type(step) is not int:
            continue
        for name, value in entry.items():
            if name.startswith("loss") and type(value) in (int, float):
                if abs(value) < LARGEST and abs(step) < LARGEST:  # not NaN either
                    curves.setdefault(name, {})[step] = value
                else:
                    left_out += 1
    if left_out:
        note(f"note: {left_out} losses of the log are not finite; the curves are without them")
    found = {name: sorted(points.items()) for name, points in sorted(curves.items())}
    return {
        name: points
        for index, (name, points) in enumerate(found.items())
        if points not in list(found.values())[:index]
    }


# ============ pictures ============
def spread_places(count: int, limit: int) -> list[int]:
    """At most limit of the places 0..count - 1, evenly spread, with the first, the middle and the
    last if limit allows.
    """
    places = np.linspace(0, count - 1, min(limit, count)).round().astype(int)
    if len(places) > 2:
        inner = places[1:-1]
        inner[np.abs(inner - (count - 1) // 2).argmin()] = (count - 1) // 2
    return [int(place) for place in np.unique(places)]


def read_sureness(path: str, ids: Sequence[str]) -> np.ndarray:
    """(N,) how sure the masks of ids are, 0 to 1; NaN for those that the file has not.

    Raises InputError for a file that is no object of numbers 0 to 1, or has none of ids.
    """
    found = read_json(path, "--sureness")
    if not isinstance(found, dict):
        raise InputError(
            f"--sureness {path} is no id -> number 0 to 1, but {type(found).__name__}; give what "
            "voc12.own_masks --json writes"
        )
    for name, value in found.items():
        if type(value) not in (int, float) or not 0 <= value <= 1:
            raise InputError(
                f"--sureness {path}: {shortened(name)} has {shortened(json.dumps(value))}, no "
                "number 0 to 1; give what voc12.own_masks --json writes"
            )
    if not any(name in found for name in ids):
        raise InputError(
            f"--sureness {path} has none of the {len(ids)} images of the list; is it of other "
            "photographs?"
        )
    return np.array([found.get(name, np.nan) for name in ids])


def read_json(path: str, flag: str) -> Any:
    """What a JSON file holds. Raises InputError where it is none."""
    try:
        return json.loads(read_text(path, flag, f"check {flag}"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{flag} {path} is no JSON: {error}") from None


def cards(
    args: argparse.Namespace,
    ids: Sequence[str],
    stages: Sequence[Stage],
    classes: Sequence[str],
    truth: MaskReader | None,
    sureness: np.ndarray | None = None,
) -> tuple[list[Card], dict[str, int]]:
    """At most --limit cards, evenly spread from the worst image to the best, and what three of them
    are -> their places; images whose mask is all 255 have no score and no card. Without masks
    evenly spread over the list, or with sureness (N,), 0 to 1, from the least sure to the surest,
    without those whose sureness is NaN.
    """
    made = Gallery(
        Path(args.voc12_root),
        tuple(Shown(s.name, s.folder, s.threshold, s.searched, s.load, s.read) for s in stages),
        tuple(classes),
        truth,
        args.exif,
    )
    if truth is None and sureness is not None:
        scores = 100 * sureness
        # NaN is sorted to the end
        order = np.argsort(scores, kind="stable")[: np.isfinite(scores).sum()]
        words = ("least sure", "median", "surest")
    elif truth is None:
        order, scores = np.arange(len(ids)), np.full(len(ids), np.nan)
        words = ("first", "middle", "last")
    else:
        scores = np.array(pool_map(made.score, ids, args.num_workers, "scores"))
        # NaN is sorted to the end
        order = np.argsort(scores, kind="stable")[: np.isfinite(scores).sum()]
        words = ("worst", "median", "best")
    places = spread_places(len(order), args.limit)
    three = dict(zip(words, (0, (len(order) - 1) // 2, len(order) - 1), strict=True))
    three = {word: places.index(place) for word, place in three.items() if place in places}
    once = {place: word for word, place in three.items()}
    chosen = [
        (ids[order[place]], scores[order[place]], number in once)
        for number, place in enumerate(places)
    ]
    found = pool_map(made.card, chosen, args.num_workers, "pictures")
    return found, {
        once[number]: number
        for number in sorted(once, reverse=truth is not None or sureness is not None)
    }


# ============ page ============
def summary_section(args: argparse.Namespace, stages: Sequence[Stage]) -> str:
    """mIoU of every stage with its interval, at the best threshold and at the one chosen without
    masks; without masks the thresholds alone.
    """
    rows = []
    for stage in stages:
        auto = "" if stage.auto is None else f"{stage.auto:.2f}"
        if stage.evaluation is None:
            rows.append((stage.name, auto))
            continue
        miou = stage.evaluation.scores.miou(args.absent)
        limits = stage.evaluation.interval(stage.best, args.absent)
        at = "" if stage.threshold is None else f" @ {stage.threshold:.2f}"
        found = (
            f"{miou[stage.evaluation.thresholds.index(stage.auto)]:.1f} @ {auto}" if auto else ""
        )
        between = "" if limits is None else "{:.1f} to {:.1f}".format(*limits)
        rows.append((stage.name, f"{miou[stage.best]:.1f}{at}", between, found))
    head = ("stage", "mIoU (%) @ best threshold", f"{LEVEL} % interval", "threshold without masks")
    if stages[0].evaluation is None:
        head = ("stage", "threshold without masks")
    return page.section("Result", page.table(head, rows, numbers=range(1, len(head))))


def stage_section(args: argparse.Namespace, stages: Sequence[Stage]) -> str:
    """mIoU, by size of objects as well, thresholds and provenance of every stage."""
    rows = []
    for stage in stages:
        auto = stage.auto
        if stage.evaluation is None:
            by_masks = ("", "", "", "", "" if auto is None else f"{auto:.2f}", "", "", "", "", "")
            rows.append((stage.name, *by_masks, str(stage.folder)))
            continue
        miou = stage.evaluation.scores.miou(args.absent)
        limits = stage.evaluation.interval(stage.best, args.absent)
        sizes = stage.evaluation.by_size(stage.best)
        rows.append(
            (
                stage.name,
                f"{miou[stage.best]:.2f}",
                "" if limits is None else "{:.2f} to {:.2f}".format(*limits),
                "" if stage.threshold is None else f"{stage.threshold:.2f}",
                "" if auto is None else f"{miou[stage.evaluation.thresholds.index(auto)]:.2f}",
                "" if auto is None else f"{auto:.2f}",
                str(stage.evaluation.images),
                *(f"{score.miou:.2f} ({score.images})" if score.images else "" for score in sizes),
                ", ".join(stage.evaluation.stages),
                str(stage.folder),
            )
        )
    head = (
        "stage",
        "mIoU (%)",
        f"{LEVEL} % interval",
        "best threshold",
        "mIoU without masks",
        "its threshold",
        "images",
        *(f"objects {size}" for size in SIZES),
        "files say",
        "folder",
    )
    legend = (
        "Interval: over the photographs (bootstrap). Objects: mIoU of the photographs of which "
        "objects take up so much, over the classes that occur there; in brackets their number. "
        "Both at the best threshold."
    )
    return page.section(
        "Stages in full",
        page.table(head, rows, numbers=range(1, 7 + len(SIZES))),
        page.paragraph(legend, soft=True),
    )


def curve_section(args: argparse.Namespace, stages: Sequence[Stage]) -> str:
    """mIoU against the threshold with the best one and the one chosen without masks, for the stages
    that have one.
    """
    searched = [stage for stage in stages if stage.searched and stage.evaluation]
    if not searched:
        return ""
    curves = {
        stage.name: list(
            zip(stage.evaluation.thresholds, stage.evaluation.scores.miou(args.absent), strict=True)
        )
        for stage in searched
    }
    markers = []
    for stage in searched:
        alone = len(searched) == 1
        best = f"{'best ' if alone else ''}{stage.threshold:.2f}"
        markers.append(page.Marker(stage.threshold, best, stage.name))
        if stage.auto is not None:
            auto = f"{'without masks ' if alone else ''}{stage.auto:.2f}"
            markers.append(page.Marker(stage.auto, auto, stage.name, dashed=True))
    return page.section(
        "Background threshold",
        page.line_chart(curves, "background threshold (unit scale)", "mIoU (%)", markers),
        page.paragraph("Solid: the best by the masks. Dashed: chosen without masks.", soft=True),
    )


def class_sections(last: Stage, where: str) -> list[str]:
    """IoU of the classes and confusion matrix of the last stage; none without masks."""
    if last.evaluation is None:
        return []
    iou = last.evaluation.scores.iou[last.best]
    doubts = [page.paragraph(f"Note: {line}") for line in last.evaluation.doubts]
    return [
        page.section(
            f"IoU of classes, {last.name}{where} (%)",
            report_page.bars(dict(zip(last.evaluation.classes, iou, strict=True))),
            *doubts,
        ),
        page.section(
            f"Confusion, {last.name}{where}",
            report_page.heat_table(last.evaluation.confusion[last.best], last.evaluation.classes),
            page.paragraph(
                "Rows: ground truth; columns: prediction; percent of the row's pixels.", soft=True
            ),
        ),
    ]


def classifier_section(path: str) -> str:
    """How right the classifier is, from the file of --classifier."""
    found = read_json(path, "--classifier")
    try:
        rows = [
            (name, *(str(its[key]) for key in ("photographs", "seen", "wrongly seen", "cut_off")))
            for name, its in found["classes"].items()
        ]
        count = int(found["held_out"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"--classifier {path} is no file of voc12.class_scores: {error}") from None
    if not count:
        return ""
    head = ("class", "show it", "seen", "others taken for it", "seen from a score of")
    about = page.paragraph(f"On {count} photographs that did not train it.", soft=True)
    return page.section("Classifier", about, page.table(head, rows))


def open_truth(
    args: argparse.Namespace, ids: Sequence[str], classes: Sequence[str]
) -> MaskReader | None:
    """The reader of the list's masks; None, with a line, where none of its images has one."""
    folder = ground_truth_dir(args.voc12_root)
    if len(masks_missing(folder, ids)) == len(ids):
        seen = other_suffix(folder, ids)
        note(f"no image of {args.list} has a mask in {folder}: the page is without scores{seen}")
        return None
    require_masks(ids, folder)
    paths = [folder / f"{name}.png" for name in ids]
    return mask_reader(args.voc12_root, paths, classes, args.mask_values)


def main(args: argparse.Namespace) -> None:
    """Write the page."""
    require_no_folder(args.out, "out")
    root = require_root(args.voc12_root)
    classes = load_class_list(root)
    ids = load_ids(root, args.list)
    list_name = list_title(args.list)
    log = training_log(Path(args.session_dir)) if args.session_dir else []
    curves = training_curves(log)
    failed, verdict = verdict_words(log)
    truth = open_truth(args, ids, classes)
    if args.sureness and truth is not None:
        raise InputError(f"--sureness is for a list without masks, {args.list} has some")
    sureness = read_sureness(args.sureness, ids) if args.sureness else None
    stages = evaluate_stages(args, ids, classes, truth)
    last = stages[-1]

    title = args.title or (
        Path(args.session_dir).resolve().name if args.session_dir else f"Report, {list_name}"
    )
    where = ""
    if last.searched and truth is not None:
        where = f" @ {last.threshold:.2f} (best by the masks)"
    panels = [
        page.section(
            "Training",
            page.line_chart(curves, "iteration", "loss"),
            page.paragraph(verdict, soft=True) if verdict and not failed else "",
        )
        if any(curves.values())
        else "",
        classifier_section(args.classifier) if args.classifier else "",
        *class_sections(last, where),
    ]
    shown, three = cards(args, ids, stages, classes, truth, sureness)
    unknown = 0 if sureness is None else int(np.isnan(sureness).sum())
    rest = f"; --limit {len(ids)} shows all" if len(shown) < len(ids) - unknown else ""
    if unknown:
        rest += f"; {unknown} more are left out, as --sureness does not say how sure they are"
    order = (
        f"{len(shown)} of {len(ids)} images, in the order of the list, which has no masks{rest}."
    )
    if args.sureness:
        order = (
            f"{len(shown)} of {len(ids)} images, the least sure first: the number is how far "
            f"{last.name} and what it learnt from agree, in percent{rest}."
        )
    if truth is not None:
        order = (
            f"{len(shown)} of {len(ids)} images, worst first, by the mIoU of {last.name}{where} "
            f"over the classes in each image{rest}."
        )
    order += " A picture opens large, with all stages and a slider for their thresholds."
    views = [StageView(s.name, s.threshold if s.searched else None) for s in stages]
    by = "" if truth is None else f", by the mIoU of {last.name} on each"
    if args.sureness and truth is None:
        by = ", by how sure the mask is"
    body = [
        f"<h1>{page.isolated(title)}</h1>",
        page.paragraph(
            f"{list_name}, {len(ids)} images, commit {short_commit(git_commit())}", soft=True
        ),
        page.warning(verdict) if failed else "",
        '<div class="first"><div>',
        summary_section(args, stages),
        curve_section(args, stages),
        "</div><div>",
        page.section(
            f"{', '.join(three).capitalize()} of {len(ids) - unknown} images{by}",
            report_page.examples(shown, three, [stage.name for stage in stages], classes),
        ),
        "</div></div>",
        '<div class="columns">' + "\n".join(filter(None, panels)) + "</div>",
        page.section(
            "Gallery", page.paragraph(order, soft=True), report_page.gallery(shown, views, classes)
        ),
        stage_section(args, stages),
    ]
    with atomic_write(args.out, "w") as file:
        file.write(page.page(title, "\n".join(body), viewer.STYLE, viewer.SCRIPT))
    print(f"page: {args.out}, {Path(args.out).stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    run_script(main, parse_args)
