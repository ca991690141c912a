"""Sets of few photographs: what is drawn, and how distances are summed up."""

import math

import numpy as np

from experiments.small_sets import CLASSES, FEWEST, MOST, score_maps, small_set, summary
from tests.seeds import write_seeds
from tool.file.cam_file import CamFile, load_cam, save_cam
from voc12.constants import MASK_DIR
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
        {"set": number, "refined": {"below": below}, "agreed": {"below": 2 * below}}
        for number, below in enumerate([1.0, 3.0, 0.0, 0.5])
    ]
    lines = summary(rows)
    assert lines[0] == "refined  choose  2 sets: auto is 2.00 below the best, at most 3.00"
    assert lines[1] == "refined  test    2 sets: auto is 0.25 below the best, at most 0.50"
    assert lines[5] == "agreed   all     4 sets: auto is 2.25 below the best, at most 6.00"


def test_maps_that_are_all_alike_are_scored_without_a_threshold_of_their_own(pets_root, tmp_path):
    """A training that learnt nothing ends no table."""
    seeds = write_seeds(pets_root, tmp_path / "cam", lists=("train",))
    for name in load_ids(pets_root, "train"):
        seed = load_cam(seeds / f"{name}.npz")
        dead = CamFile(name, seed.keys, np.full_like(seed.cam, -1), seed.size, {})
        save_cam(tmp_path / "dead", dead)
    masks = pets_root / MASK_DIR
    found = score_maps(pets_root, "train", seeds, masks, 0)
    assert 0 <= found["below"] == found["best"] - found["auto"]
    found = score_maps(pets_root, "train", tmp_path / "dead", masks, 0)
    assert all(math.isnan(found[name]) for name in ("auto", "auto_threshold", "below"))
    assert 0 < found["best"] < 50
