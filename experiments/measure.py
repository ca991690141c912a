"""What the evaluations of a table have written so far, as its rows, and how rows differ."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from experiments.road import per_image_file
from experiments.tables import Line
from tool.bootstrap import interval, mean_iou, resampled_miou
from tool.errors import InputError
from tool.file.per_image import AUTO, BEST, load_per_image
from tool.run.steps import Step, commits, seconds
from tool.show.result_table import Difference, Measurement, Row

# what a row takes from an evaluation
NEEDED = {
    "absent_classes",
    "classes_that_occur_nowhere",
    "best_miou",
    "best_threshold",
    "crf",
    "images",
    "iou",
}

Plan = tuple[Line, dict[int, Step]]  # a row, and its last step for each seed


def measurement(step: Step, seed: int) -> Measurement:
    """What an evaluation wrote, with the time and commits of all steps before it."""
    numbers = _numbers(step)
    nowhere = numbers["classes_that_occur_nowhere"] if numbers["absent_classes"] == "skip" else ()
    return Measurement(
        seed=seed,
        miou=numbers["best_miou"],
        threshold=numbers["crf"]["bg_threshold"] if numbers["crf"] else numbers["best_threshold"],
        auto_miou=numbers.get("auto_miou"),
        auto_threshold=numbers.get("auto_threshold"),
        images=numbers["images"],
        classes=len(numbers["iou"]) - len(nowhere),
        seconds=seconds(step),
        commits=tuple(commits(step)),
    )


def _numbers(step: Step) -> dict:
    try:
        numbers = json.loads(step.output.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        numbers = None
    if not isinstance(numbers, dict) or not numbers.keys() >= NEEDED:
        raise InputError(
            f"{step.output} is no JSON of evaluation_cam.py; delete it, and the same command makes "
            "it again"
        )
    return numbers


# ============ over the photographs ============
@dataclass(frozen=True, eq=False)
class _Draws:
    """An evaluation, and its mIoU on draws of its photographs; percent.

    ids: the photographs; two evaluations with equal ids have the same draws
    """

    ids: tuple[str, ...]
    miou: float
    values: np.ndarray


def is_decided(step: Step) -> bool:
    """Whether an evaluation is of masks, in which no threshold was left to choose."""
    numbers = _numbers(step)
    return numbers["best_threshold"] is None and not numbers["crf"]


def draws(step: Step, result: str) -> _Draws | None:
    """Of what an evaluation says at its best threshold or at auto's; None where it has no such
    result, where it was made before single photographs were counted, and of one photograph.
    """
    path = per_image_file(step.output)
    if not path.is_file():
        return None
    numbers = _numbers(step)
    if numbers.get(f"{result}_miou") is None:
        return None
    absent, miou = numbers["absent_classes"], numbers[f"{result}_miou"]
    return _draws(path, path.stat().st_mtime_ns, result, absent, miou)


@lru_cache(maxsize=1024)
def _draws(path: Path, _time: int, result: str, absent: str, miou: float) -> _Draws | None:
    """Read once, as a table is written after each evaluation."""
    stored = load_per_image(path)
    if result not in stored.counts or len(stored.ids) < 2:
        return None
    hits, unions = stored.counts[result].hits_and_unions()
    # as Evaluation.interval: what the whole list lacks counts as absent says
    share = unions.any(axis=0).mean() if absent == "zero" else 1.0
    if not np.isclose(share * mean_iou(hits.sum(axis=0), unions.sum(axis=0)), miou):
        raise InputError(
            f"{path} was not written with {path.with_suffix('.json').name}, whose mIoU is another; "
            "delete both, and the same command makes them again"
        )
    return _Draws(stored.ids, miou, share * resampled_miou(hits, unions))


def _all_draws(evaluations: Iterable[tuple[Step, str]]) -> list[_Draws] | None:
    """Of evaluations, each with its result; None where one has none, or not the same
    photographs.
    """
    found = [draws(step, result) for step, result in evaluations]
    if not found or None in found or len({one.ids for one in found}) > 1:
        return None
    return found


def _mean(found: Sequence[_Draws]) -> _Draws:
    """The mean over seeds, on each draw of photographs."""
    return _Draws(
        found[0].ids,
        float(np.mean([one.miou for one in found])),
        np.mean([one.values for one in found], axis=0),
    )


# ============ tables ============
def measure(plan: Sequence[Plan]) -> tuple[list[Row], list[str]]:
    """(rows with what is there so far, the commands behind it)."""
    rows, commands = [], {}
    for line, steps in plan:
        made = _made(steps)
        found = tuple(measurement(step, seed) for seed, step in made.items())
        intervals = [
            interval(_mean(sampled).values)
            if (sampled := _all_draws((step, name) for step in made.values()))
            else None
            for name in (BEST, AUTO)
        ]
        rows.append(Row(line.setting, line.stage, line.split, line.published, found, *intervals))
        commands |= dict.fromkeys(part.command for step in made.values() for part in step.chain())
    return rows, list(commands)


def compare(plan: Sequence[Plan]) -> list[Difference]:
    """The differences that rows ask for, of those whose evaluations are there."""
    made = {line.name: _made(steps) for line, steps in plan}
    differences = []
    for line, _ in plan:
        for other in line.against:
            seeds = tuple(seed for seed in made[line.name] if seed in made.get(other, {}))
            ours, theirs = ([made[name][seed] for seed in seeds] for name in (line.name, other))
            best, auto = (_difference(ours, theirs, at) for at in (BEST, AUTO))
            if best is not None or auto is not None:
                differences.append(Difference(line.name, other, seeds, best, auto))
    return differences


def _difference(
    steps: Sequence[Step], others: Sequence[Step], result: str
) -> tuple[float, tuple[float, float]] | None:
    """(points, interval); None where not both have draws of the same photographs.

    Masks, which had no threshold to choose, are as they were made without real ones: set against
    maps, they are comparable with AUTO alone, and no difference at BEST is fair.
    """
    every = [*steps, *others]
    if result == BEST and len(set(map(is_decided, every))) > 1:
        return None
    found = _all_draws((step, BEST if is_decided(step) else result) for step in every)
    if found is None:
        return None
    ours, theirs = _mean(found[: len(steps)]), _mean(found[len(steps) :])
    return ours.miou - theirs.miou, interval(ours.values - theirs.values)


def _made(steps: dict[int, Step]) -> dict[int, Step]:
    return {seed: step for seed, step in steps.items() if step.output.is_file()}
