"""Intervals over photographs: against a loop over the same draws and against scipy, known cases,
pairing, and how often they hold the truth.
"""

import numpy as np
import pytest
from scipy import stats

from tool import bootstrap
from tool.bootstrap import interval, is_shown, mean_iou, resampled_miou


def _counts(generator: np.random.Generator, images: int, classes: int):
    """(hits, unions) of photographs that each hold a few of the classes."""
    unions = generator.integers(1, 500, (images, classes))
    unions *= generator.random((images, classes)) < 0.4
    return (unions * generator.random((images, classes))).astype(np.int64), unions


def _loop(hits, unions, draws, seed):
    """A draw at a time, a photograph at a time, a class at a time."""
    generator, mious = np.random.default_rng(seed), []
    whole = [
        100 * int(hit) / int(union) if union else None
        for hit, union in zip(hits.sum(axis=0), unions.sum(axis=0), strict=True)
    ]
    for _ in range(draws):
        total = [[0, 0] for _ in range(hits.shape[1])]
        for image in generator.integers(len(hits), size=len(hits)):
            for k, sums in enumerate(total):
                sums[0] += int(hits[image, k])
                sums[1] += int(unions[image, k])
        ious = [
            100 * part / union if union else known
            for (part, union), known in zip(total, whole, strict=True)
            if known is not None
        ]
        mious.append(sum(ious) / len(ious))
    return mious


@pytest.mark.parametrize(("entries", "images"), [(1 << 20, 12), (25, 12), (1, 7)])
def test_against_a_loop_over_the_same_draws(entries, images, monkeypatch):
    """However few draws are in memory at once, and with classes that a draw leaves out."""
    monkeypatch.setattr(bootstrap, "_ENTRIES", entries)
    hits, unions = _counts(np.random.default_rng(1), images, 5)
    unions[:, 3] = hits[:, 3] = 0
    unions[1:, 4] = hits[1:, 4] = 0
    found = resampled_miou(hits, unions, draws=40, seed=3)
    np.testing.assert_allclose(found, _loop(hits, unions, 40, 3), rtol=1e-13)
    assert len(set(found)) > 30


def test_interval_is_that_of_scipy():
    """The draws differ, so the limits agree as well as 20,000 of them tell."""
    hits, unions = _counts(np.random.default_rng(2), 60, 4)

    def miou(index, axis):
        assert axis == -1
        return mean_iou(hits[index].sum(axis=-2), unions[index].sum(axis=-2))

    expected = stats.bootstrap(
        (np.arange(60),), miou, n_resamples=20_000, method="percentile", rng=0, batch=500
    ).confidence_interval
    low, high = interval(resampled_miou(hits, unions, draws=20_000))
    assert high - low > 3
    assert (low, high) == pytest.approx(expected, abs=0.02 * (high - low))


def test_equal_photographs_leave_no_doubt():
    hits, unions = np.full((30, 2), [75, 5]), np.full((30, 2), [100, 20])
    values = resampled_miou(hits, unions)
    assert (values == (75 + 25) / 2).all()
    assert interval(values) == (50, 50)


def test_two_photographs_by_hand():
    """One right, one wrong: a draw has both, or one of them twice."""
    hits, unions = np.array([[10], [0]]), np.array([[10], [10]])
    values = resampled_miou(hits, unions)
    assert set(values) == {0, 50, 100}
    assert interval(values) == (0, 100)
    assert np.mean(values == 50) == pytest.approx(0.5, abs=0.05)


def test_a_class_that_a_draw_lacks_counts_as_on_the_list():
    """A class that one photograph shows, and all of it wrong, makes no draw better."""
    hits, unions = np.array([[10], [0]]), np.array([[20], [0]])
    assert interval(resampled_miou(hits, unions)) == (50, 50)
    generator = np.random.default_rng(6)
    hits, unions = _counts(generator, 100, 2)
    rare = np.zeros((100, 1), dtype=np.int64)
    rare[7] = 300
    point = mean_iou(hits.sum(axis=0), unions.sum(axis=0))
    low, high = interval(
        resampled_miou(np.append(hits, 0 * rare, axis=1), np.append(unions, rare, axis=1))
    )
    assert low < point * 2 / 3 < high
    assert high - low < 15


def test_no_class_at_all():
    nothing = np.zeros((3, 2), dtype=np.int64)
    assert np.isnan(resampled_miou(nothing, nothing)).all()
    assert np.isnan(mean_iou(nothing.sum(axis=0), nothing.sum(axis=0)))


def test_same_photographs_same_draws():
    """Two results on the same photographs differ by exactly 0 where they are equal, and by much
    less than each is unsure where they are alike.
    """
    generator = np.random.default_rng(4)
    hits, unions = _counts(generator, 80, 6)
    first = resampled_miou(hits, unions)
    assert (first - resampled_miou(hits.copy(), unions.copy()) == 0).all()
    assert not is_shown(interval(first - resampled_miou(hits, unions)))
    better = resampled_miou(np.minimum(hits + unions // 20, unions), unions)
    low, high = interval(better - first)
    assert is_shown((low, high))
    assert low > 0
    assert high - low < 0.3 * np.subtract(*interval(first)[::-1])
    assert (resampled_miou(hits, unions, seed=1) != first).any()


@pytest.mark.parametrize(
    ("limits", "shown"),
    [
        ((0.1, 2), True),
        ((-2, -0.1), True),
        ((-1, 1), False),
        ((0, 1), False),
        ((-1, 0), False),
        ((float("nan"), float("nan")), False),
    ],
)
def test_a_difference_is_shown_where_zero_lies_outside(limits, shown):
    assert is_shown(limits) == shown


def test_intervals_hold_the_truth_as_often_as_they_say():
    """400 lists of 100 photographs, drawn from a world whose mIoU and whose difference between two
    methods are known.
    """
    generator = np.random.default_rng(5)
    classes, probability = 4, 0.7

    def photographs(count):
        unions = generator.integers(20, 200, (count, classes))
        unions *= generator.random((count, classes)) < probability
        hardness = generator.beta(4, 3, (count, 1))
        first = np.rint(unions * hardness)
        second = np.rint(unions * np.clip(hardness + generator.normal(0.03, 0.1, (count, 1)), 0, 1))
        return first, second, unions

    def miou(hits, unions):
        return mean_iou(hits.sum(axis=0), unions.sum(axis=0))

    first, second, unions = photographs(400_000)
    truth, gain = miou(first, unions), miou(second, unions) - miou(first, unions)
    holds = np.zeros((400, 2))
    for place in range(400):
        first, second, unions = photographs(100)
        ours, theirs = (resampled_miou(hits, unions, draws=400) for hits in (first, second))
        for column, (values, value) in enumerate(((ours, truth), (theirs - ours, gain))):
            low, high = interval(values)
            holds[place, column] = low <= value <= high
    # a share of 400 trials of 0.95 has a standard deviation of 0.011
    assert holds.mean(axis=0) == pytest.approx([0.95, 0.95], abs=0.03)
