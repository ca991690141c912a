"""What an evaluation says: as text, as numbers for a JSON file, as a curve."""

import argparse
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tool.bootstrap import DRAWS, LEVEL, SEED
from tool.expand.seed import CRF_STAGE, CRF_THRESHOLD
from tool.file.atomic import append_text
from tool.file.per_image import AUTO, BEST, PerImage
from tool.run.run_log import git_commit
from tool.show.plots import plot_threshold_curve
from voc12.evaluation import Evaluation, Interval, SizeScore


def add_absent_flag(group: argparse._ArgumentGroup, default: str) -> None:
    """--absent: what a class counts that occurs nowhere."""
    group.add_argument(
        "--absent",
        choices=("zero", "skip"),
        default=default,
        help="a class in neither prediction nor ground truth counts as 0, as released, or not at "
        "all (default %(default)s)",
    )


def report(evaluation: Evaluation, list_name: str, absent: str, auto: float | None = None) -> str:
    """The table at the threshold auto, or else at the best one, its means and what they were taken
    over, as text.
    """
    scores, best = (
        evaluation.scores,
        evaluation.best(absent) if auto is None else evaluation.thresholds.index(auto),
    )
    rows = zip(
        evaluation.classes,
        scores.iou[best],
        scores.precision[best],
        scores.recall[best],
        strict=True,
    )
    width = max(len(name) for name in evaluation.classes)
    lines = [
        f"list {list_name}, {evaluation.images} images, "
        f"{', '.join(evaluation.stages) or 'label maps'}",
        _threshold_line(evaluation, best) if auto is None else _auto_line(evaluation, best, absent),
        f"{'percent':<{width}}  {'IoU':>7}  {'precision':>9}  {'recall':>7}",
        *(
            f"{name:<{width}}  {_cell(iou, 7)}  {_cell(precision, 9)}  {_cell(recall, 7)}"
            for name, iou, precision, recall in rows
        ),
    ]
    missing = _absent_names(evaluation, best)
    total = len(evaluation.classes)
    zero, skip = (
        f"mIoU {with_interval(scores.miou(name)[best], evaluation.interval(best, name))}"
        for name in ("zero", "skip")
    )
    means = {
        "zero": f"{zero} over all {total} classes",
        "skip": f"{skip} over the {total - len(missing)} classes that occur",
    }
    doubts = [f"note: {line}" for line in evaluation.doubts]
    last = [*_last_lines(evaluation, best), *doubts]
    if not missing:
        return "\n".join([*lines, means["zero"], *last]) + "\n"
    means["zero"] += (
        f", {len(missing)} of them counted as 0 because they occur nowhere (as the released code)"
    )
    other = {"zero": "skip", "skip": "zero"}[absent]
    lines += [
        means[absent],
        f"otherwise (--absent {other}): {means[other]}",
        f"in neither prediction nor ground truth: {', '.join(missing)}",
        *last,
    ]
    return "\n".join(lines) + "\n"


def with_interval(miou: float, interval: Interval | None) -> str:
    """ "51.98 [49.03, 54.70]", percent, without brackets for None."""
    return f"{miou:.2f}" + ("" if interval is None else " [{:.2f}, {:.2f}]".format(*interval))


def _last_lines(evaluation: Evaluation, place: int) -> list[str]:
    """mIoU by the size of the objects, and what the brackets mean."""
    sizes = [score for score in evaluation.by_size(place) if score.images]
    width = max((len(score.size) for score in sizes), default=0)
    lines = ["by the objects' share of the photograph, over the classes that occur there:"]
    lines += [
        f"{score.size:<{width}}  mIoU {with_interval(score.miou, score.interval)}, "
        f"{score.images} images, {score.classes} classes"
        for score in sizes
    ]
    if evaluation.interval(place) is not None:
        lines.append(f"[low, high]: {LEVEL} % interval over the photographs, {DRAWS} draws of them")
    return lines


def _threshold_line(evaluation: Evaluation, best: int) -> str:
    if not evaluation.thresholds:
        return "no threshold"
    threshold = evaluation.thresholds[best]
    halved = f"unit scale (the released halved scale: {threshold / 2:.3f})"
    if len(evaluation.thresholds) == 1:
        at_decision = CRF_STAGE in evaluation.stages and threshold == CRF_THRESHOLD
        decided = " of a CRF's maps, which say there what it decided" if at_decision else ""
        return f"background threshold {threshold:.2f}{decided}, {halved}"
    first, last = evaluation.thresholds[0], evaluation.thresholds[-1]
    return f"best background threshold {threshold:.2f} of {first:.2f}..{last:.2f}, {halved}"


def _auto_line(evaluation: Evaluation, chosen: int, absent: str) -> str:
    best, miou = evaluation.best(absent), evaluation.scores.miou(absent)
    return (
        f"background threshold {evaluation.thresholds[chosen]:.2f}, chosen without masks: mIoU "
        f"{miou[chosen]:.2f}; the best, by the masks: {evaluation.thresholds[best]:.2f}, mIoU "
        f"{miou[best]:.2f} ({miou[best] - miou[chosen]:.2f} more)"
    )


def _cell(value: float, width: int) -> str:
    return f"{'-':>{width}}" if math.isnan(value) else f"{value:>{width}.2f}"


def _absent_names(evaluation: Evaluation, best: int) -> list[str]:
    """The classes in neither prediction nor ground truth."""
    return [
        name
        for name, iou in zip(evaluation.classes, evaluation.scores.iou[best], strict=True)
        if math.isnan(iou)
    ]


def results(
    evaluation: Evaluation, list_name: str, absent: str, auto: float | None = None
) -> dict[str, Any]:
    """The numbers for a JSON file: percent, thresholds in unit scale, null where undefined.

    iou holds all classes at the best threshold, one that occurs nowhere as 0 or null as absent
    says, so that best_miou is the mean of what is not null. auto: the threshold chosen without
    masks, which goes in with its mIoU. Intervals are over the photographs (tool/bootstrap.py).
    """
    scores, best = evaluation.scores, evaluation.best(absent)
    at_auto = None if auto is None else evaluation.thresholds.index(auto)
    undefined = 0.0 if absent == "zero" else None

    def by_class(values: np.ndarray, undefined: float | None) -> dict[str, float | None]:
        return {
            name: undefined if math.isnan(value) else float(value)
            for name, value in zip(evaluation.classes, values, strict=True)
        }

    return {
        "list": list_name,
        "images": evaluation.images,
        "stage": ", ".join(evaluation.stages) or None,
        "crf": asdict(evaluation.crf) if evaluation.crf else None,
        "absent_classes": absent,
        "classes_that_occur_nowhere": _absent_names(evaluation, best),
        "notes": list(evaluation.doubts),
        "threshold_scale": "unit",
        "best_threshold": evaluation.thresholds[best] if evaluation.thresholds else None,
        "best_miou": float(scores.miou(absent)[best]),
        "best_interval": evaluation.interval(best, absent),
        "best_by_size": _sizes(evaluation.by_size(best)),
        "auto_threshold": auto,
        "auto_miou": None if auto is None else float(scores.miou(absent)[at_auto]),
        "auto_interval": None if auto is None else evaluation.interval(at_auto, absent),
        "auto_by_size": None if auto is None else _sizes(evaluation.by_size(at_auto)),
        "intervals": {"percent": LEVEL, "draws": DRAWS, "seed": SEED, "over": "photographs"},
        "miou_zero": float(scores.miou_zero[best]),
        "miou_skip": float(scores.miou_skip[best]),
        "iou": by_class(scores.iou[best], undefined),
        "precision": by_class(scores.precision[best], None),
        "recall": by_class(scores.recall[best], None),
        "curve": curve_points(evaluation, absent),
        "commit": git_commit(),
    }


def curve_points(evaluation: Evaluation, absent: str) -> list[dict[str, float]]:
    """threshold (unit scale) and miou (percent) of each threshold; [] for label maps."""
    return [
        {"threshold": threshold, "miou": float(miou)}
        for threshold, miou in zip(
            evaluation.thresholds, evaluation.scores.miou(absent), strict=False
        )
    ]


def _sizes(scores: tuple[SizeScore, ...]) -> list[dict[str, Any]]:
    """Numbers by size for a JSON file, null where undefined."""
    return [
        asdict(score) | {"miou": None if math.isnan(score.miou) else score.miou} for score in scores
    ]


def per_image(evaluation: Evaluation, absent: str, auto: float | None = None) -> PerImage:
    """The counts of each image at the best threshold, and at the one chosen without masks."""
    places = {BEST: evaluation.best(absent)}
    if auto is not None:
        places[AUTO] = evaluation.thresholds.index(auto)
    return PerImage(
        evaluation.ids,
        evaluation.classes,
        {name: evaluation.image_counts(place) for name, place in places.items()},
        {
            name: evaluation.thresholds[place] if evaluation.thresholds else None
            for name, place in places.items()
        },
    )


def draw_curve(path: Path, evaluation: Evaluation, list_name: str, absent: str) -> None:
    """Write the curve of mIoU against the threshold, the convention `absent` first; the other one
    if it differs.
    """
    scores, best = evaluation.scores, evaluation.best(absent)
    names = {
        "zero": f"mIoU over all {len(evaluation.classes)} classes",
        "skip": "mIoU over the classes that occur",
    }
    if np.array_equal(scores.miou_zero, scores.miou_skip):
        names = {absent: names["zero"]}
    curves = {names[key]: scores.miou(key) for key in sorted(names, key=lambda key: key != absent)}
    title = f"{list_name}, {', '.join(evaluation.stages)}, {evaluation.images} images"
    plot_threshold_curve(path, evaluation.thresholds, curves, best, title)


def append_log(path: str | Path, comment: str, text: str) -> None:
    """Append time, comment and report to a log file, as the released code does."""
    append_text(path, f"{time.strftime('%Y-%m-%d %H:%M:%S')}\t{comment}\n{text}{'=' * 37}\n")
