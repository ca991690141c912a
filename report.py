"""A page about a run: one HTML file, pictures inside, that opens anywhere without a network.

Reads the folders that exist of a run, the photographs and masks of a list, and the training log; writes stage table, threshold curve with
the best threshold and the one chosen without masks, IoU of every class, confusion matrix, training curves, and a gallery from the worst
image to the best, with a filter of classes.

    python report.py --list val --refined_dir results/cpn/cam_val --session_dir results/cpn --out results/cpn/report.html

Class scores, confusion and the order of the gallery are those of the last stage given.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluation_cam import Evaluation, evaluate_cams, evaluate_masks
from tool import page, report_page
from tool.cam_file import find_cam, load_cam
from tool.crf import threshold_mask
from tool.errors import InputError, run_script
from tool.files import atomic_write, git_commit, read_json_lines, require_dir, require_no_folder
from tool.flags import DEFAULT_WORKERS, non_negative_int, positive_int
from tool.images import read_image, read_mask
from tool.metrics import confusion_matrix, iou_table
from tool.overlay import mask_overlay, overlay
from tool.pool import pool_map
from tool.report_page import Card, jpeg_uri
from tool.result_table import short_commit
from tool.seed import CRF_STAGE, CRF_THRESHOLD, PLAIN_STAGE, REFINED_STAGE, find_seeds
from voc12.auto_threshold import choose_threshold
from voc12.constants import DATA_HELP, IGNORE_LABEL, MASK_DIR
from voc12.lists import LIST_HELP, image_path, list_title, load_class_list, load_ids, mask_path

VOC12_ROOT = "data/VOCdevkit/VOC2012"
OUT = "results/report.html"

CAM_STAGES = {"cam_dir": "CAM", "refined_dir": "refined CAM", "crf_dir": "CAM + CRF"}
MASK_STAGES = {"mask_dir": "pseudo mask", "pred_dir": "prediction"}
FILE_STAGES = {"cam_dir": PLAIN_STAGE, "refined_dir": REFINED_STAGE, "crf_dir": CRF_STAGE}  # what the files say of themselves


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("data")
    data.add_argument("--voc12_root", default=VOC12_ROOT, help="data set folder in VOC layout (default %(default)s)")
    data.add_argument("--list", default="val", help=f"{LIST_HELP} (default %(default)s)")
    data.add_argument("--num_workers", type=non_negative_int, default=DEFAULT_WORKERS, help="processes (default %(default)s)")

    stages = parser.add_argument_group("stages, at least one of the first five")
    stages.add_argument("--cam_dir", help="folder of CAM files, plain")
    stages.add_argument("--refined_dir", help="folder of CAM files, refined")
    stages.add_argument("--crf_dir", help="folder of CAM files after the dense CRF (make_crf.py)")
    stages.add_argument("--mask_dir", help="folder of pseudo masks")
    stages.add_argument("--pred_dir", help="folder of predicted masks of a segmentation network")
    stages.add_argument("--session_dir", help="folder of the training session, for its log.jsonl")

    output = parser.add_argument_group("output")
    output.add_argument("--out", default=OUT, help="the page (default %(default)s)")
    output.add_argument("--title", help="heading (default: the session's name, or the list's)")
    output.add_argument(
        "--limit", type=positive_int, default=60, help="images of the gallery, evenly spread from worst to best (default 60)"
    )
    output.add_argument(
        "--absent",
        choices=("zero", "skip"),
        default="skip",
        help="a class in neither prediction nor ground truth counts as 0, as released, or not at all (default %(default)s)",
    )
    args = parser.parse_args(argv)
    if args.limit < 1:
        parser.error(f"--limit {args.limit}: at least one image")
    return args


# ============ numbers ============
@dataclass(frozen=True)
class Stage:
    """A stage of the run: its folder, its evaluation; thresholds in unit scale, None for masks, auto without ground truth."""

    name: str
    folder: Path
    evaluation: Evaluation
    best: int
    auto: float | None

    @property
    def threshold(self) -> float | None:
        """The best threshold by the masks."""
        return self.evaluation.thresholds[self.best] if self.evaluation.thresholds else None


def evaluate_stages(args: argparse.Namespace, ids: Sequence[str], classes: Sequence[str]) -> list[Stage]:
    """The stages whose folders are given, in the order of the road."""
    stages = []
    gt_dir = Path(args.voc12_root) / MASK_DIR
    for flag, name in (CAM_STAGES | MASK_STAGES).items():
        if (given := getattr(args, flag)) is None:
            continue
        folder = require_dir(given, f"folder of stage {name}", f"check --{flag}")
        if flag in FILE_STAGES:
            require_stage(flag, folder, ids)
        evaluate = evaluate_cams if flag in CAM_STAGES else evaluate_masks
        decided = {"thresholds": (CRF_THRESHOLD,)} if flag == "crf_dir" else {}
        evaluation = evaluate(ids, folder, gt_dir, classes, num_workers=args.num_workers, **decided)
        searched = flag in CAM_STAGES and flag != "crf_dir"  # after the CRF the threshold is chosen already
        auto = choose_threshold(args.voc12_root, ids, folder, args.num_workers) if searched else None
        stages.append(Stage(name, folder, evaluation, evaluation.best(args.absent), auto))
    if not stages:
        raise InputError("no stage given; set --refined_dir or another of the folders in --help")
    return stages


def require_stage(flag: str, folder: Path, ids: Sequence[str]) -> None:
    """Raise InputError where the first CAM file of a folder says that it is of another stage than the flag's; the field's formats name
    none.
    """
    path = find_seeds(folder, ids)[0]
    stage = load_cam(path).meta.get("stage", FILE_STAGES[flag])
    if stage != FILE_STAGES[flag]:
        right = next((f"give the folder as --{other}" for other, its in FILE_STAGES.items() if its == stage), None)
        hint = right or "give the masks made from it (make_masks.py) as --mask_dir"
        raise InputError(f"--{flag} is for files of stage {FILE_STAGES[flag]}, {path} is of stage {stage}; {hint}")


def training_curves(session: Path) -> dict[str, list[tuple[float, float]]]:
    """name -> (iteration, value) of every loss in the log; where a stopped run did iterations again, the later ones count."""
    log = session / "log.jsonl"
    if not log.is_file():
        raise InputError(f"no log.jsonl in {session}; check --session_dir")
    curves: dict[str, dict[int, float]] = {}
    for entry in read_json_lines(log):
        for name, value in entry.items() if entry.get("kind") == "train" else ():
            if name.startswith("loss"):
                curves.setdefault(name, {})[entry["step"]] = value
    return {name: sorted(points.items()) for name, points in curves.items()}


# ============ pictures ============
@dataclass(frozen=True)
class Gallery:
    """Labels and pictures of one image of the list."""

    voc12_root: Path
    stages: tuple[tuple[str, Path, float | None], ...]  # name, folder, threshold
    num_classes: int

    def label(self, name: str, folder: Path, threshold: float | None) -> np.ndarray:
        """The label map (H, W) of a stage."""
        if threshold is None:
            return read_mask(folder / f"{name}.png")
        cam = load_cam(find_cam(folder, name))
        if not len(cam.keys):
            return np.zeros(read_mask(mask_path(self.voc12_root, name)).shape, dtype=np.uint8)
        return threshold_mask(cam.cam, cam.keys, threshold)

    def score(self, name: str) -> float:
        """mIoU of the last stage on the image, percent, over the classes in its mask or label map; NaN where the mask is all 255."""
        _, folder, threshold = self.stages[-1]
        confusion = confusion_matrix(
            self.label(name, folder, threshold), read_mask(mask_path(self.voc12_root, name)), self.num_classes
        )
        return float(iou_table(confusion).miou_skip)

    def card(self, scored: tuple[str, float]) -> Card:
        """The card of (id, score)."""
        name, score = scored
        image, truth = read_image(image_path(self.voc12_root, name)), read_mask(mask_path(self.voc12_root, name))
        if image.shape[:2] != truth.shape:
            raise InputError(
                f"{image_path(self.voc12_root, name)} is of size {image.shape[:2]}, its mask {truth.shape} (height, width); a photograph "
                "is turned as its EXIF says, its mask must be turned as well"
            )
        pictures = {"photograph": image, "ground truth": mask_overlay(image, truth)}
        for stage, folder, threshold in self.stages:
            if threshold is not None and stage != CAM_STAGES["crf_dir"]:
                cam = load_cam(find_cam(folder, name)).cam
                heat = cam.max(axis=0) if len(cam) else np.zeros(truth.shape, dtype=np.float32)
                pictures[stage] = overlay(image, heat)
        for stage, folder, threshold in self.stages:
            title = f"seed, {stage}" if threshold is not None else stage
            pictures[title] = mask_overlay(image, self.label(name, folder, threshold))
        present = tuple(int(value) - 1 for value in np.unique(truth) if 0 < value < IGNORE_LABEL)
        return Card(name, score, present, {title: jpeg_uri(picture) for title, picture in pictures.items()})


def cards(args: argparse.Namespace, ids: Sequence[str], stages: Sequence[Stage], num_classes: int) -> list[Card]:
    """At most --limit cards, evenly spread from the worst image to the best; images whose mask is all 255 have no score and no card."""
    made = Gallery(Path(args.voc12_root), tuple((s.name, s.folder, s.threshold) for s in stages), num_classes)
    scores = pool_map(made.score, ids, args.num_workers, "scores")
    order = np.argsort(scores, kind="stable")[: np.isfinite(scores).sum()]  # NaN is sorted to the end
    chosen = order[np.unique(np.linspace(0, len(order) - 1, min(args.limit, len(order))).round().astype(int))]
    return pool_map(made.card, [(ids[index], scores[index]) for index in chosen], args.num_workers, "pictures")


# ============ page ============
def stage_section(args: argparse.Namespace, stages: Sequence[Stage]) -> str:
    """mIoU, thresholds and provenance of every stage."""
    rows = []
    for stage in stages:
        miou = stage.evaluation.scores.miou(args.absent)
        auto = stage.auto
        rows.append(
            (
                stage.name,
                f"{miou[stage.best]:.2f}",
                "" if stage.threshold is None else f"{stage.threshold:.2f}",
                "" if auto is None else f"{miou[stage.evaluation.thresholds.index(auto)]:.2f}",
                "" if auto is None else f"{auto:.2f}",
                str(stage.evaluation.images),
                ", ".join(stage.evaluation.stages),
                str(stage.folder),
            )
        )
    head = ("stage", "mIoU (%)", "best threshold", "mIoU without masks", "its threshold", "images", "files say", "folder")
    return page.section("Stages", page.table(head, rows, numbers=range(1, 6)))


def curve_section(args: argparse.Namespace, stages: Sequence[Stage]) -> str:
    """mIoU against the threshold with the best one and the one chosen without masks, for the stages that have one."""
    searched = [stage for stage in stages if stage.auto is not None]
    if not searched:
        return ""
    curves = {
        stage.name: list(zip(stage.evaluation.thresholds, stage.evaluation.scores.miou(args.absent), strict=True))
        for stage in searched
    }
    markers = []
    for stage in searched:
        of = f"{stage.name}: " if len(searched) > 1 else ""
        markers.append(page.Marker(stage.threshold, f"{of}best {stage.threshold:.2f}", stage.name))
        markers.append(page.Marker(stage.auto, f"{of}without masks {stage.auto:.2f}", stage.name, dashed=True))
    return page.section("Background threshold", page.line_chart(curves, "background threshold (unit scale)", "mIoU (%)", markers))


def main(args: argparse.Namespace) -> None:
    """Write the page."""
    require_no_folder(args.out, "out")
    root = require_dir(args.voc12_root, "--voc12_root", DATA_HELP)
    classes = load_class_list(root)
    ids = load_ids(root, args.list)
    list_name = list_title(args.list)
    curves = training_curves(Path(args.session_dir)) if args.session_dir else {}
    stages = evaluate_stages(args, ids, classes)
    last = stages[-1]

    title = args.title or (Path(args.session_dir).resolve().name if args.session_dir else f"Report, {list_name}")
    iou = last.evaluation.scores.iou[last.best]
    where = "" if last.auto is None else f" @ {last.threshold:.2f} (best by the masks)"
    panels = [
        curve_section(args, stages),
        page.section("Training", page.line_chart(curves, "iteration", "loss")) if any(curves.values()) else "",
        page.section(
            f"IoU of classes, {last.name}{where} (%)", report_page.bars(dict(zip(last.evaluation.classes, iou, strict=True)))
        ),
        page.section(
            f"Confusion, {last.name}{where}",
            report_page.heat_table(last.evaluation.confusion[last.best], last.evaluation.classes),
            page.paragraph("Rows: ground truth; columns: prediction; percent of the row's pixels.", soft=True),
        ),
    ]
    shown = cards(args, ids, stages, len(classes) + 1)
    order = f"{len(shown)} of {len(ids)} images, worst first, by the mIoU of {last.name}{where} over the classes in each image."
    body = [
        f"<h1>{page.escape(title)}</h1>",
        page.paragraph(f"{list_name}, {len(ids)} images, commit {short_commit(git_commit())}", soft=True),
        stage_section(args, stages),
        '<div class="columns">' + "\n".join(filter(None, panels)) + "</div>",
        page.section("Gallery", page.paragraph(order, soft=True), report_page.gallery(shown, classes)),
    ]
    with atomic_write(args.out, "w") as file:
        file.write(page.page(title, "\n".join(body), report_page.STYLE, report_page.SCRIPT))
    print(f"page: {args.out}, {Path(args.out).stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    run_script(main, parse_args)
