"""Rows and differences of a table from evaluations on disk: pairing by photograph, means over
seeds, evaluations from before single photographs were counted.
"""

import json

import numpy as np
import pytest

from experiments.measure import compare, measure, measurement
from experiments.road import per_image_file
from experiments.tables import Line
from tool.bootstrap import interval, resampled_miou
from tool.errors import InputError
from tool.file.atomic import write_json
from tool.file.per_image import PerImage, save_per_image
from tool.image_counts import ImageSweep
from tool.run.steps import Step
from tool.show.result_table import differences_csv

IDS = tuple(f"image_{i}" for i in range(20))
CLASSES = ("background", "cat", "dog")


def _counts(seed, better=0.0):
    """20 photographs; better: how much more of each is right."""
    generator = np.random.default_rng(seed)
    parts = []
    for share in generator.beta(4, 3, len(IDS)):
        right = np.rint(100 * min(share + better, 1)).astype(int)
        confusion = np.array([[300, 0, 0], [100 - right, right, 0], [0, 0, 0]])
        cells = np.flatnonzero(confusion)
        parts.append((9 + cells, confusion.ravel()[cells]))
    return ImageSweep.of(parts, 3).at(0)


def _miou(counts, absent):
    hits, unions = (values.sum(axis=0)[:2] for values in counts.hits_and_unions())
    return 100 * (hits / unions).sum() / (3 if absent == "zero" else 2)


def _step(folder, name, counts, absent="skip", ids=IDS, auto=None, per_image=True):
    """An evaluation; auto: counts at the threshold chosen without masks."""
    folder.mkdir(exist_ok=True)
    step = Step("evaluation_cam.py", (), folder / f"{name}.json", folder)
    numbers = {
        "best_miou": _miou(counts, absent),
        "best_threshold": 0.5,
        "images": len(ids),
        "iou": dict.fromkeys(CLASSES),
        "absent_classes": absent,
        "classes_that_occur_nowhere": ["dog"],
        "crf": None,
    }
    found = {"best": counts}
    if auto is not None:
        numbers |= {"auto_miou": _miou(auto, absent), "auto_threshold": 0.4}
        found["auto"] = auto
    write_json(step.output, numbers)
    if per_image:
        thresholds = dict.fromkeys(found, 0.5)
        save_per_image(per_image_file(step.output), PerImage(ids, CLASSES, found, thresholds))
    return step


def _line(setting, against=()):
    return Line(setting, "seed", "val", lambda seed: None, None, against)


@pytest.mark.parametrize(("absent", "share"), [("skip", 1), ("zero", 2 / 3)])
def test_rows_and_differences_over_two_seeds(tmp_path, absent, share):
    counts = {(name, seed): _counts(seed, 0.1 * (name == "b")) for name in "ab" for seed in (0, 1)}
    steps = {
        name: {
            seed: _step(tmp_path / name, seed, counts[name, seed], absent, auto=counts["a", seed])
            for seed in (0, 1)
        }
        for name in "ab"
    }
    plan = [(_line("a"), steps["a"]), (_line("b", ("a, seed, val",)), steps["b"])]
    rows, _ = measure(plan)
    values = {
        name: share
        * sum(resampled_miou(*counts[name, seed].hits_and_unions()) for seed in (0, 1))
        / 2
        for name in "ab"
    }
    for row, name in zip(rows, "ab", strict=True):
        assert row.interval == pytest.approx(interval(values[name]))
        assert row.auto_interval == pytest.approx(interval(values["a"]))
    (found,) = compare(plan)
    assert (found.name, found.other, found.seeds) == ("b, seed, val", "a, seed, val", (0, 1))
    assert found.best[0] == pytest.approx(np.mean(rows[1].mious) - np.mean(rows[0].mious))
    assert found.best[1] == pytest.approx(interval(values["b"] - values["a"]))
    assert found.best[1][0] > 0
    assert found.auto == (0, (0, 0))  # the same counts in both rows


def _masks(folder, counts):
    """An evaluation of masks, which have no threshold."""
    step = _step(folder, 0, counts)
    numbers = json.loads(step.output.read_text()) | {"best_threshold": None}
    write_json(step.output, numbers)
    return step


def test_masks_stand_against_maps_at_the_threshold_chosen_without_masks(tmp_path):
    """Their own numbers are chosen without masks, so those of the maps have to be."""
    best, auto, made = _counts(0, 0.2), _counts(1), _counts(2, 0.1)
    maps = _step(tmp_path / "maps", 0, best, auto=auto)
    masks = _masks(tmp_path / "masks", made)
    same = _masks(tmp_path / "same", _counts(3))
    against = ("a, seed, val",)
    plan = [(_line("a"), {0: maps}), (_line("b", against), {0: masks})]
    plan.append((_line("c", ("b, seed, val",)), {0: same}))
    one, two = compare(plan)
    assert one.best is None
    assert one.auto[0] == pytest.approx(_miou(made, "skip") - _miou(auto, "skip"))
    values = [resampled_miou(*counts.hits_and_unions()) for counts in (made, auto)]
    assert one.auto[1] == pytest.approx(interval(values[0] - values[1]))
    assert two.best == two.auto  # masks and masks
    assert two.best[0] == pytest.approx(_miou(_counts(3), "skip") - _miou(made, "skip"))
    text = differences_csv([one])
    assert text.splitlines()[1].startswith('"b, seed, val","a, seed, val",0,,,,,')
    plan[0] = (_line("a"), {0: _step(tmp_path / "maps", 0, best)})  # without auto: not comparable
    assert len(compare(plan)) == 1


def test_only_seeds_of_both_and_only_equal_photographs_are_compared(tmp_path):
    a, b = ({seed: _step(tmp_path / n, seed, _counts(seed)) for seed in (0, 1)} for n in "ab")
    b[2] = Step("evaluation_cam.py", (), tmp_path / "b" / "2.json", tmp_path / "b")  # not there yet
    plan = [(_line("a"), a), (_line("b", ("a, seed, val", "c, seed, val")), b)]
    assert compare(plan)[0].seeds == (0, 1)
    assert compare(plan)[0].auto is None
    (tmp_path / "b" / "1.json").unlink()
    assert compare(plan)[0].seeds == (0,)
    _step(tmp_path / "b", 0, _counts(0), ids=IDS[::-1])
    assert compare(plan) == []


def test_evaluations_without_counts_are_read(tmp_path):
    """Those from before, beside new ones: numbers without intervals and differences."""
    old = {seed: _step(tmp_path / "a", seed, _counts(seed), per_image=seed == 1) for seed in (0, 1)}
    new = {seed: _step(tmp_path / "b", seed, _counts(seed)) for seed in (0, 1)}
    plan = [(_line("a"), old), (_line("b", ("a, seed, val",)), new)]
    rows, _ = measure(plan)
    assert rows[0].mious == rows[1].mious
    assert rows[0].interval is None
    assert rows[1].interval is not None
    assert compare(plan) == []


def test_counts_of_another_evaluation_are_refused(tmp_path):
    step = _step(tmp_path / "a", 0, _counts(0))
    _step(tmp_path / "a", 0, _counts(1), per_image=False)
    with pytest.raises(InputError, match=r"0\.npz was not written with 0\.json"):
        measure([(_line("a"), {0: step})])


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"best_miou": 3}', "[" * 100_000])
def test_an_evaluation_that_is_none_is_named(tmp_path, text):
    step = _step(tmp_path, "a", _counts(0))
    step.output.write_text(text)
    with pytest.raises(InputError, match=r"a\.json is no JSON of evaluation_cam\.py; delete it"):
        measurement(step, 0)
