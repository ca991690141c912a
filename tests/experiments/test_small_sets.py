"""Sets of few photographs: what is drawn, and how distances are summed up."""

import math
import shutil

import numpy as np
import pytest

from experiments import small_sets
from experiments.own_road import Plan, choose_settings
from experiments.small_sets import (
    CLASSES,
    FEWEST,
    MOST,
    as_json,
    score_maps,
    score_road,
    small_set,
    summary,
)
from tests.seeds import write_seeds
from tool.file.cam_file import CamFile, load_cam, save_cam
from voc12.constants import LIST_DIR, MASK_DIR
from voc12.lists import load_ids


def test_sets_have_one_to_six_classes_and_forty_to_a_hundred_and_twenty_photographs():
    sets = [small_set(number) for number in range(12)]
    assert [len(own.classes) for own in sets] == 2 * [1, 2, 3, 4, 5, 6]
    assert all(set(own.classes) <= set(CLASSES) for own in sets)
    assert all(FEWEST <= own.count + own.negatives <= MOST for own in sets)
    assert len({own.count + own.negatives for own in sets}) > 6
    assert sets == [small_set(number) for number in range(12)]


def test_a_set_of_one_class_has_as_many_photographs_without_it():
    own = small_set(0)
    assert own.count // 2 <= own.negatives <= own.count + 1
    assert small_set(1).negatives == 0


def test_summary_keeps_sets_that_chose_apart_from_those_that_test():
    rows = [
        {
            "set": number,
            "refined": {"auto": 70.0, "below": below},
            "agreed": {"auto": 70.0, "below": 2 * below},
        }
        for number, below in enumerate([1.0, 3.0, 0.0, 0.5])
    ]
    lines = summary(rows)
    assert lines[0] == "refined  choose  2 sets: auto is 2.00 below the best, at most 3.00"
    assert lines[1] == "refined  test    2 sets: auto is 0.25 below the best, at most 0.50"
    assert lines[5] == "agreed   all     4 sets: auto is 2.25 below the best, at most 6.00"
    assert len(lines) == 6
    # a set that failed counts in no distance
    nan = float("nan")
    rows += [{"set": 4, "refined": {"auto": nan, "below": nan}}]
    rows += [{"set": 5, **rows[0] | {"set": 5}}]
    lines = summary(rows)
    assert lines[1] == "refined  test    2 sets: auto is 0.75 below the best, at most 1.00"
    assert lines[5] == "agreed   all     5 sets: auto is 2.20 below the best, at most 6.00"
    assert lines[6] == "failed, their maps all alike: set 4"
    assert as_json(rows[4])["refined"] == {"auto": None, "below": None}
    assert [as_json(row)["failed"] for row in rows] == [False] * 4 + [True, False]


def write_dead(root, out, live):
    """Maps that are all alike into out, of seeds that go into live, the folder that is returned."""
    seeds = write_seeds(root, live, lists=("train",))
    for name in load_ids(root, "train"):
        seed = load_cam(seeds / f"{name}.npz")
        save_cam(out, CamFile(name, seed.keys, np.full_like(seed.cam, -1), seed.size, {}))
    return seeds


def test_maps_that_are_all_alike_are_scored_without_a_threshold_of_their_own(pets_root, tmp_path):
    """A training that learnt nothing ends no table."""
    seeds = write_dead(pets_root, tmp_path / "dead", tmp_path / "cam")
    masks = pets_root / MASK_DIR
    found = score_maps(pets_root, "train", seeds, masks, 0)
    assert 0 <= found["below"] == found["best"] - found["auto"]
    found = score_maps(pets_root, "train", tmp_path / "dead", masks, 0)
    assert all(math.isnan(found[name]) for name in ("auto", "auto_threshold", "below"))
    assert 0 < found["best"] < 50


@pytest.mark.parametrize(("dead", "ran"), [(False, [2, 3]), (True, [2])])
def test_a_set_whose_maps_are_all_alike_is_left_before_consensus_cam(
    pets_root, tmp_path, monkeypatch, dead, ran
):
    """Which would end with an error, and all sets with it."""
    settings = choose_settings(9, 0, {})
    out = tmp_path / "road"
    plan = Plan(settings, pets_root, out, 9, 9, 0, 0, 0, "cpu", 0, "a")
    shutil.copytree(pets_root, plan.data)
    lists = plan.data / LIST_DIR
    (lists / "train.txt").rename(lists / "tagged.txt")
    done = []

    class Made:
        def __init__(self, marks):
            pass

        def run(self, plan, until):
            done.append(until)
            if until == 2 and dead:
                write_dead(pets_root, plan.made("cam"), tmp_path / "live")
            else:
                folder = plan.made("cam" if until == 2 else "agreed")
                write_seeds(pets_root, folder, lists=("train",))

    monkeypatch.setattr(small_sets, "Progress", Made)
    args = small_sets.parse_args(["--out", str(tmp_path), "--num_workers", "0"])
    found = score_road(args, plan, pets_root / MASK_DIR)
    assert done == ran
    assert list(found) == ["refined", "agreed"][: len(ran)]
    assert math.isnan(found["refined"]["auto"]) == dead
