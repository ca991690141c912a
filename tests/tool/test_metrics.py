"""The sweep against a loop over thresholds and pixels, against the released numbers, and by
hand.
"""

import functools
import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import PARITY
from tool.errors import InputError
from tool.metrics import ThresholdSweep, _StepCounter, confusion_matrix, iou_table

EVAL = PARITY / "eval.npz"


def _naive_confusion(cam, keys, target, threshold, num_classes):
    """The released evaluation, pixel by pixel: argmax over [threshold, maps of all classes] in
    float32.
    """
    confusion = np.zeros((num_classes, num_classes), dtype=np.int64)
    for row, column in np.ndindex(target.shape):
        if target[row, column] == 255:
            continue
        best, best_score = 0, np.float32(threshold)
        for value in range(1, num_classes):
            for index, key in enumerate(keys):
                if key + 1 == value and cam[index, row, column] > best_score:
                    best, best_score = value, cam[index, row, column]
        confusion[target[row, column], best] += 1
    return confusion


def _naive_scores(confusion):
    """IoU, precision and recall in percent by their definitions, None where undefined, and the two
    means.
    """
    table = []
    for value in range(len(confusion)):
        hits = int(confusion[value, value])
        truth, predicted = int(confusion[value].sum()), int(confusion[:, value].sum())
        union = truth + predicted - hits
        table.append([100 * hits / whole if whole else None for whole in (union, predicted, truth)])
    ious = [row[0] for row in table]
    occurring = [iou for iou in ious if iou is not None]
    return table, sum(occurring) / len(ious), sum(occurring) / len(occurring)


def _random_image(generator, num_classes, n, size=(6, 7), levels=5):
    """Maps of few distinct values, so that ties between classes and with thresholds are common."""
    keys = generator.choice(num_classes - 1, size=n, replace=False)
    cam = (generator.integers(-1, levels, (n, *size)) / levels).astype(np.float32)
    target = generator.choice([*range(num_classes), 255], size=size).astype(np.uint8)
    return cam, keys, target


# ============ confusion matrix ============
def test_confusion_matrix_by_hand():
    target = np.array([[0, 0, 1], [0, 1, 1], [2, 255, 255]], dtype=np.uint8)
    prediction = np.array([[0, 1, 1], [0, 1, 2], [0, 2, 0]], dtype=np.uint8)
    confusion = confusion_matrix(prediction, target, 3)
    np.testing.assert_array_equal(confusion, [[2, 1, 0], [0, 2, 1], [1, 0, 0]])
    assert confusion.dtype == np.int64
    scores = iou_table(confusion)
    # background: 2 hits, union 2 + 1 + 1; class 1: 2 hits, union 2 + 1 + 1; class 2: no hit, union
    # 2
    np.testing.assert_allclose(scores.iou, [50, 50, 0])
    np.testing.assert_allclose(scores.precision, [200 / 3, 200 / 3, 0])
    np.testing.assert_allclose(scores.recall, [200 / 3, 200 / 3, 0])
    assert scores.miou_zero == pytest.approx(100 / 3)
    assert scores.miou_skip == pytest.approx(100 / 3)


def test_confusion_matrix_against_a_loop():
    generator = np.random.default_rng(0)
    target = generator.choice([0, 1, 2, 3, 255], size=(20, 30)).astype(np.uint8)
    prediction = generator.integers(0, 4, (20, 30))
    expected = np.zeros((4, 4), dtype=np.int64)
    for true, predicted in zip(target.ravel(), prediction.ravel(), strict=True):
        if true != 255:
            expected[true, predicted] += 1
    np.testing.assert_array_equal(confusion_matrix(prediction, target, 4), expected)


def test_perfect_prediction_and_ignored_pixels():
    target = np.array([[0, 1], [2, 255]], dtype=np.uint8)
    for at_ignored in (0, 1, 2):
        prediction = np.where(target == 255, at_ignored, target)
        scores = iou_table(confusion_matrix(prediction, target, 3))
        assert scores.miou_zero == scores.miou_skip == 100


def test_confusion_matrix_refuses_wrong_values_and_sizes():
    mask = np.zeros((2, 3), dtype=np.uint8)
    with pytest.raises(
        InputError, match=r"the ground truth has class value 21; 20 classes use values 1\.\.20"
    ):
        confusion_matrix(mask, mask + 21, 21)
    with pytest.raises(InputError, match="the prediction has class value 255"):
        confusion_matrix(mask + 255, mask, 21)
    with pytest.raises(InputError, match="the prediction has class value -1"):
        confusion_matrix(mask.astype(np.int64) - 1, mask, 21)
    # the first of several
    with pytest.raises(InputError, match="the prediction has class value 30"):
        confusion_matrix(np.array([[0, 30, 40], [0, 0, 50]]), mask, 21)
    with pytest.raises(
        InputError,
        match=r"the prediction's size \(3, 2\) differs from the ground truth's \(2, 3\) \(height, "
        r"width\)",
    ):
        confusion_matrix(mask.T, mask, 21)


# ============ scores ============
def test_absent_classes():
    """Class 2 occurs nowhere, class 3 is predicted but never true, class 4 is true but never
    predicted.
    """
    confusion = np.zeros((5, 5), dtype=np.int64)
    confusion[0, 0], confusion[1, 1], confusion[0, 3], confusion[4, 0] = 6, 3, 2, 2
    scores = iou_table(confusion)
    np.testing.assert_allclose(scores.iou, [60, 100, np.nan, 0, 0])
    np.testing.assert_allclose(scores.precision, [75, 100, np.nan, 0, np.nan])
    np.testing.assert_allclose(scores.recall, [75, 100, np.nan, np.nan, 0])
    assert scores.miou_zero == scores.miou("zero") == 160 / 5
    assert scores.miou_skip == scores.miou("skip") == 160 / 4


def test_nothing_counted():
    scores = iou_table(np.zeros((3, 3), dtype=np.int64))
    assert scores.miou_zero == 0
    assert np.isnan(scores.miou_skip)


def test_scores_of_a_stack_are_those_of_its_parts():
    confusions = np.random.default_rng(0).integers(0, 3, (7, 4, 4)) * (np.arange(4) != 2)
    stacked = iou_table(confusions)
    for index, confusion in enumerate(confusions):
        table, miou_zero, miou_skip = _naive_scores(confusion)
        expected = np.array(table, dtype=np.float64)
        np.testing.assert_allclose(
            np.stack([stacked.iou, stacked.precision, stacked.recall], axis=-1)[index], expected
        )
        assert stacked.miou_zero[index] == pytest.approx(miou_zero)
        assert stacked.miou_skip[index] == pytest.approx(miou_skip)


def test_permuting_classes_permutes_scores():
    confusion = np.random.default_rng(0).integers(0, 9, (6, 6))
    order = np.array([3, 0, 5, 1, 4, 2])
    scores, permuted = iou_table(confusion), iou_table(confusion[np.ix_(order, order)])
    np.testing.assert_allclose(permuted.iou, scores.iou[order])
    assert permuted.miou_zero == pytest.approx(float(scores.miou_zero))


# ============ sweep ============
def _parity_images(arrays):
    count = sum(name.startswith("gt_") for name in arrays)
    return [(arrays[f"cam_{i}"], arrays[f"keys_{i}"], arrays[f"gt_{i}"]) for i in range(count)]


@pytest.mark.parametrize("unit", [False, True])
def test_released_numbers(unit):
    """Halved maps at the released thresholds, and unit maps at twice these: the same comparisons
    exactly.
    """
    with np.load(EVAL) as arrays:
        scale = 2 if unit else 1
        thresholds = [scale * i / 100 for i in range(20, 60)]
        np.testing.assert_allclose(thresholds, scale * arrays["thresholds"])
        sweep = ThresholdSweep(thresholds, arrays["iou"].shape[1])
        for cam, keys, target in _parity_images(arrays):
            sweep.update(cam * np.float32(scale), keys, target)
        scores = iou_table(sweep.confusion())
        np.testing.assert_allclose(np.nan_to_num(scores.iou), arrays["iou"], atol=1e-6)
        np.testing.assert_allclose(scores.miou_zero, arrays["miou"], atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), num_classes=st.integers(2, 6), images=st.integers(1, 3))
def test_sweep_against_a_loop(seed, num_classes, images):
    generator = np.random.default_rng(seed)
    thresholds = [0.0, 0.1, 0.2, 0.4, 0.40000001, 0.6, 0.8, 1.0, 1.18]
    sweep = ThresholdSweep(thresholds, num_classes)
    expected = np.zeros((len(thresholds), num_classes, num_classes), dtype=np.int64)
    for _ in range(images):
        cam, keys, target = _random_image(
            generator, num_classes, n=int(generator.integers(0, num_classes))
        )
        sweep.update(cam, keys, target)
        expected += [
            _naive_confusion(cam, keys, target, threshold, num_classes) for threshold in thresholds
        ]
    np.testing.assert_array_equal(sweep.confusion(), expected)


@pytest.mark.parametrize(
    "limits",
    [
        [i / 100 for i in range(101)],
        [2 * i / 100 for i in range(20, 60)],
        [0.0],
        [1e-30, 0.5],
        [0.4, 0.40000001, 0.4000001, 7.0],  # too close for bins of their own
    ],
    ids=["sweep", "released", "zero", "tiny", "close"],
)
def test_exceeded_thresholds_are_those_that_float32_compares(limits):
    limits = np.array(limits, dtype=np.float32)
    around = [limits, np.nextafter(limits, np.float32(-1)), np.nextafter(limits, np.float32(9))]
    scores = np.concatenate(
        [*around, np.random.default_rng(0).uniform(-1, 1.3, 5000), [-1, 0, 1e30]]
    ).astype(np.float32)
    np.testing.assert_array_equal(
        _StepCounter(limits)(scores), (scores[:, None] > limits).sum(axis=1)
    )


def test_lowest_class_wins_a_tie_whatever_the_order_of_keys():
    cam = np.full((3, 1, 1), 0.5, dtype=np.float32)
    for keys in ([4, 1, 2], [1, 2, 4], [2, 4, 1]):
        sweep = ThresholdSweep([0.1], 6)
        sweep.update(cam, np.array(keys), np.zeros((1, 1), dtype=np.uint8))
        assert sweep.confusion()[0, 0].tolist() == [0, 0, 1, 0, 0, 0]


def test_foreground_needs_more_than_the_threshold_in_float32():
    """float32(0.3) > 0.3: a float64 comparison would call the equal score foreground."""
    score = np.float32(0.3)
    assert float(score) > 0.3
    below, above = np.nextafter(score, np.float32(0)), np.nextafter(score, np.float32(1))
    sweep = ThresholdSweep([0.3], 2)
    sweep.update(
        np.array([[[below, score, above]]]), np.array([0]), np.zeros((1, 3), dtype=np.uint8)
    )
    assert sweep.confusion().tolist() == [[[2, 1], [0, 0]]]


def test_ignored_pixels_do_not_count_and_limits_are_known():
    generator = np.random.default_rng(1)
    cam, keys, target = _random_image(generator, 5, n=3)
    sweep = ThresholdSweep([0.0, 1.0], 5)
    sweep.update(cam, keys, target)
    none, all_background = sweep.confusion()
    assert none.sum() == all_background.sum() == (target != 255).sum()
    assert all_background[:, 1:].sum() == 0
    np.testing.assert_array_equal(none[:, 0].sum(), (cam.max(axis=0) <= 0)[target != 255].sum())
    np.testing.assert_array_equal(none.sum(axis=1), [(target == value).sum() for value in range(5)])


def test_image_without_classes_is_background_at_every_threshold():
    target = np.array([[0, 1, 255]], dtype=np.uint8)
    for size in ((1, 3), (0, 0)):  # the released format loses the size
        sweep = ThresholdSweep([0.0, 0.5], 2)
        sweep.update(np.zeros((0, *size), dtype=np.float32), np.zeros(0, dtype=np.int64), target)
        assert sweep.confusion().tolist() == [[[1, 0], [1, 0]]] * 2


def test_as_many_classes_as_a_mask_can_hold():
    """254 classes and the background, on a mask without the highest of them."""
    sweep = ThresholdSweep([0.5], 255)
    sweep.update(np.zeros((0, 2, 3), np.float32), np.zeros(0, np.int64), np.zeros((2, 3), np.uint8))
    assert sweep.confusion()[0, 0, 0] == sweep.confusion().sum() == 6
    sweep.update(np.ones((1, 1, 2), np.float32), np.array([253]), np.array([[254, 255]], np.uint8))
    assert sweep.confusion()[0, 254, 254] == 1
    assert sweep.confusion().sum() == 7


@pytest.mark.parametrize("keys", [[], [3], [4, 1, 2]])
def test_update_returns_the_image_cell_by_cell(keys):
    rng = np.random.default_rng(len(keys))
    target = rng.choice([0, 1, 2, 5, 255], size=(6, 7)).astype(np.uint8)
    cam = rng.random((len(keys), 6, 7), dtype=np.float32)
    expected = {}
    for row, column in np.ndindex(target.shape):
        if target[row, column] == 255:
            continue
        scores = {key: cam[place, row, column] for place, key in enumerate(keys)}
        best = max(scores, key=scores.get, default=None)
        exceeded = 0 if best is None else sum(scores[best] > limit for limit in (0.25, 0.5))
        value = 0 if best is None else best + 1
        cell = (exceeded * 6 + int(target[row, column])) * 6 + value
        expected[cell] = expected.get(cell, 0) + 1
    cells, pixels = ThresholdSweep([0.25, 0.5], 6).update(cam, np.array(keys, dtype=int), target)
    assert cells.dtype.kind == "i"
    assert dict(zip(cells.tolist(), pixels.tolist(), strict=True)) == expected


def test_parts_add_up_in_any_order():
    generator = np.random.default_rng(2)
    images = [_random_image(generator, 4, n=2) for _ in range(5)]
    whole = ThresholdSweep([0.2, 0.4], 4)
    parts = [ThresholdSweep([0.2, 0.4], 4) for _ in images]
    for part, image in zip(parts, images, strict=True):
        whole.update(*image)
        part.update(*image)
    for order in (parts, parts[::-1]):
        np.testing.assert_array_equal(
            functools.reduce(operator.add, order).confusion(), whole.confusion()
        )
    with pytest.raises(ValueError, match="do not add up"):
        whole + ThresholdSweep([0.2, 0.5], 4)


def test_update_changes_nothing_it_is_given():
    image = _random_image(np.random.default_rng(3), 4, n=3)
    before = [part.copy() for part in image]
    ThresholdSweep([0.2], 4).update(*image)
    for part, old in zip(image, before, strict=True):
        np.testing.assert_array_equal(part, old)


def test_sweep_refuses_what_it_cannot_count():
    mask = np.zeros((2, 3), dtype=np.uint8)
    cam = np.zeros((1, 2, 3), dtype=np.float32)
    sweep = ThresholdSweep([0.5], 21)
    with pytest.raises(
        InputError, match=r"the prediction's size \(3, 2\) differs from the ground truth's \(2, 3\)"
    ):
        sweep.update(cam.transpose(0, 2, 1), np.array([0]), mask)
    with pytest.raises(
        InputError, match=r"the CAM has class value 21; 20 classes use values 1\.\.20"
    ):
        sweep.update(cam, np.array([20]), mask)
    with pytest.raises(InputError, match="the ground truth has class value 21"):
        sweep.update(cam, np.array([0]), mask + 21)
    assert sweep.confusion().sum() == 0
    for thresholds in ([], [0.5, 0.4], [0.5, 0.5], [-0.1], [float("nan")]):
        with pytest.raises(
            InputError, match="background thresholds must be ascending numbers from 0 up"
        ):
            ThresholdSweep(thresholds, 21)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_sweep_refuses_maps_that_are_not_finite(bad):
    cam = np.full((1, 2, 2), bad, dtype=np.float32)
    with pytest.raises(InputError, match="values that are not finite"):
        ThresholdSweep([0.1], 2).update(cam, np.array([0]), np.zeros((2, 2), np.uint8))
