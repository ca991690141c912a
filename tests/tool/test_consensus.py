"""What photographs agree on about their pixels: each part against loops, and a flooded map that the
other photographs put right.
"""

import math

import numpy as np
import pytest
import torch

from tool.consensus import (
    BACKGROUND_PIXELS,
    CLASS_PIXELS,
    DIRECTIONS,
    ENOUGH,
    FEW,
    LEAD,
    UNSURE,
    DeepRows,
    Lessons,
    PixelClassifier,
    agreed_cam,
    around_the_middle,
    draw_pixels,
    fit_agreement,
    fit_pixels,
    main_directions,
    sure_labels,
)


def test_sure_labels_against_a_loop():
    rng = np.random.default_rng(0)
    cam, keys = rng.random((2, 12, 14)), np.array([4, 1])
    found = sure_labels(cam, keys, fg=0.7, bg=0.4)
    for y, x in np.ndindex(12, 14):
        best = max((0, 1), key=lambda index: cam[index, y, x])
        score, other = cam[best, y, x], cam[1 - best, y, x]
        sure = score > 0.7 and score - other >= LEAD
        assert found[y, x] == (keys[best] + 1 if sure else 0 if score < 0.4 else UNSURE)
    assert set(np.unique(found)) == {UNSURE, 0, 2, 5}


def test_a_single_class_leads_no_other():
    cam = np.array([[[0.8, 0.5, 0.2]]])
    assert sure_labels(cam, np.array([1]), 0.7, 0.4).tolist() == [[2, UNSURE, 0]]


def test_an_image_without_classes_is_background_throughout():
    found = sure_labels(np.zeros((0, 3, 4)), np.zeros(0, np.int64), 0.7, 0.4)
    assert found.shape == (3, 4)
    assert (found == 0).all()
    drawn = draw_pixels(found.ravel(), np.random.default_rng(0))
    assert len(drawn) == BACKGROUND_PIXELS


def test_each_class_gives_the_same_number_of_pixels():
    labels = np.array([0] * 500 + [3] * 5 + [UNSURE] * 40 + [1] * 100)
    drawn = draw_pixels(labels, np.random.default_rng(0))
    counts = dict(zip(*np.unique(labels[drawn], return_counts=True), strict=True))
    assert counts == {0: BACKGROUND_PIXELS, 1: CLASS_PIXELS, 3: CLASS_PIXELS}
    assert len(set(drawn[labels[drawn] == 0])) == BACKGROUND_PIXELS  # enough of them: none twice


def test_the_fit_learns_which_feature_tells_labels_apart():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat(200)
    features = torch.randn(600, 5, generator=generator)
    features[:, 2] += 6 * (labels == 1)  # noise elsewhere
    features[:, 4] -= 60 * (labels == 2)
    taught = fit_pixels(features, labels, 3, seed=0)
    said = taught.probabilities(features.T[:, None], np.arange(3)).argmax(axis=0)[0]
    assert (said == labels.numpy()).mean() > 0.98
    again = fit_pixels(features, labels, 3, seed=0)
    assert torch.equal(taught.weight, again.weight)
    assert torch.equal(taught.bias, again.bias)


def test_probabilities_of_some_labels_against_a_loop():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(3, 2, 4)).astype(np.float32)
    weight, bias = rng.normal(size=(6, 3)), rng.normal(size=6)
    mean, scale = rng.normal(size=3), 1 + rng.random(3)
    taught = PixelClassifier(
        *(torch.tensor(part, dtype=torch.float32) for part in (mean, scale, weight, bias))
    )
    values = [0, 5, 2]
    found = taught.probabilities(torch.from_numpy(features), np.array(values, dtype=np.uint8))
    for y, x in np.ndindex(2, 4):
        logits = [
            sum(weight[v, d] * (features[d, y, x] - mean[d]) / scale[d] for d in range(3)) + bias[v]
            for v in values
        ]
        total = sum(math.exp(logit) for logit in logits)
        expected = [math.exp(logit) / total for logit in logits]
        np.testing.assert_allclose(found[:, y, x], expected, rtol=1e-4)


def test_the_threshold_goes_to_the_middle_and_the_ends_stay():
    found = around_the_middle(np.array([0, 0.2, 0.4, 0.7, 1.0]), 0.4)
    np.testing.assert_allclose(found, [0, 0.25, 0.5, 0.75, 1.0])


def test_agreed_maps_are_geometric_means():
    rng = np.random.default_rng(0)
    cam = rng.random((2, 5, 6)).astype(np.float32)
    probabilities = rng.random((3, 5, 6)).astype(np.float32)
    probabilities /= probabilities.sum(axis=0)
    found = agreed_cam(cam, 0.6, probabilities)
    assert found.dtype == np.float32
    for k, y, x in np.ndindex(2, 5, 6):
        score = cam[k, y, x]
        score = score / 0.6 / 2 if score <= 0.6 else 0.5 + (score - 0.6) / 0.4 / 2
        background, *others = probabilities[:, y, x]
        said = probabilities[k + 1, y, x] / (background + max(others))
        assert found[k, y, x] == pytest.approx(math.sqrt(score * said), abs=1e-5)


def test_probabilities_are_enlarged_to_the_seed():
    found = agreed_cam(np.full((1, 8, 12), 0.5, np.float32), 0.5, np.full((2, 2, 3), 0.5))
    np.testing.assert_allclose(found, np.full((1, 8, 12), 0.5), atol=1e-6)


def _photograph(sea: float, flooded: bool):
    """Features (sea's or fur's colour, noise), seed, truth of a boat on the sea, 12 x 16."""
    rng = np.random.default_rng(int(-1000 * sea))
    truth = np.zeros((12, 16), bool)
    truth[4:8, 5:11] = True
    colour = np.where(truth, 1.0, sea) + 0.05 * rng.normal(size=truth.shape)
    features = torch.tensor(np.stack([colour, rng.normal(size=truth.shape)]), dtype=torch.float32)
    cam = np.where(truth, 0.9, 0.6 if flooded else 0.1)[None].astype(np.float32)
    return features, cam, truth


def test_a_flooded_map_is_put_right_by_other_photographs():
    rng, keys = np.random.default_rng(0), np.array([0])
    photographs = [_photograph(sea, False) for sea in (-1.0, -0.9, -1.1, -0.95, -1.05)]
    photographs.append(_photograph(-1.02, True))
    rows, labels = [], []
    for features, cam, _ in photographs:
        label = sure_labels(cam, keys, 0.7, 0.3).ravel()
        drawn = draw_pixels(label, rng)
        rows.append(features.flatten(1).T[drawn])
        labels.append(torch.from_numpy(label[drawn]))
    taught = fit_pixels(torch.cat(rows), torch.cat(labels), 2, seed=0)
    features, cam, truth = photographs[-1]
    assert ((cam[0] > 0.5) != truth).mean() > 0.8
    agreed = agreed_cam(cam, 0.5, taught.probabilities(features, np.array([0, 1])))
    assert ((agreed[0] > 0.5) == truth).mean() > 0.95


def test_main_directions_are_those_of_a_singular_value_decomposition():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(300, 50, generator=generator) @ torch.randn(50, 50, generator=generator)
    found = main_directions(rows)
    z = (rows - rows.mean(dim=0)) / (rows.std(dim=0) + 1e-3)
    _, _, directions = torch.linalg.svd(z, full_matrices=False)
    assert found.basis.shape == (50, DIRECTIONS)
    turned = (found.basis * directions[:DIRECTIONS].T).sum(dim=0).abs()  # signs are free
    torch.testing.assert_close(turned, torch.ones(DIRECTIONS), atol=1e-3, rtol=0)
    torch.testing.assert_close(found.reduce(rows), z @ found.basis, atol=1e-4, rtol=1e-4)
    assert main_directions(rows[:, :5]).basis.shape == (5, 5)


def test_main_directions_of_features_that_are_never_lit():
    """torch.linalg.eigh does not converge on some of these."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(60, 1280, generator=generator).relu()
    rows[:, 100:] = 0
    rows[30:] = rows[:30]
    found = main_directions(rows)
    identity = torch.eye(DIRECTIONS)
    torch.testing.assert_close(found.basis.T @ found.basis, identity, atol=1e-4, rtol=0)


def test_deep_rows_are_in_the_directions_of_the_first_photographs():
    generator = torch.Generator().manual_seed(0)
    photographs = [torch.randn(3, 40, generator=generator) for _ in range(2 * ENOUGH + 5)]
    rows = DeepRows()
    for number, photograph in enumerate(photographs):
        rows.add(photograph)
        if number == 7:
            rows.add(torch.zeros(0, 40))  # of which no seed is sure
    directions, found = rows.finish()
    expected = main_directions(torch.cat(photographs[:ENOUGH]))
    assert torch.equal(directions.basis, expected.basis)
    torch.testing.assert_close(found, expected.reduce(torch.cat(photographs)))


def test_the_deepest_map_tells_classes_apart_and_leaves_the_background():
    """Early maps that know background, deep ones that know classes and take all for an object."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat(200)
    early = 0.1 * torch.randn(600, 2, generator=generator) + (labels > 0)[:, None]
    deep = 0.1 * torch.randn(600, 10, generator=generator)
    deep[:, 3] += 5 * (labels == 1)
    deep[:, 9] += 5 * (labels == 2)
    rows = DeepRows()
    rows.add(deep)
    taught = fit_agreement(early, rows, labels, 3, seed=0)
    maps = early.T[:, None], deep.T[:, None]
    said = taught.probabilities(*maps, np.array([0, 1, 2]))
    assert (said.argmax(axis=0)[0] == labels.numpy()).mean() > 0.98
    np.testing.assert_allclose(said.sum(axis=0), 1, atol=1e-5)
    known = taught.background.probabilities(maps[0], np.array([0, 1, 2]))
    np.testing.assert_array_equal(said[0], known[0])
    one = taught.probabilities(*maps, np.array([0, 2]))  # nothing to tell apart
    np.testing.assert_array_equal(one, taught.background.probabilities(maps[0], np.array([0, 2])))


def _lessons(riders: int, walkers: int) -> dict[int, int]:
    """How many pixels teach each label: horses with riders whose maps are theirs, and walkers."""
    lessons = Lessons((0.6, 0.3), np.random.default_rng(0))
    early, deep = torch.zeros(2, 4, 5), torch.zeros(3, 4, 5)
    both = np.zeros((2, 4, 5))
    both[0, 0], both[1, 0] = 0.8, 0.9  # the rider's map is over the horse too
    both[0, 2] = 0.9  # where the horse leads
    for _ in range(riders):
        lessons.add(both, np.array([0, 1]), early, deep)
    for _ in range(walkers):
        lessons.add(both[1:], np.array([1]), early, deep)
    rows, deep_rows, labels = lessons.finish()
    assert len(rows) == len(labels) == len(deep_rows.finish()[1])
    return dict(zip(*np.unique(labels.numpy(), return_counts=True), strict=True))


def test_a_class_that_hardly_leads_learns_from_what_it_has():
    both = {0: BACKGROUND_PIXELS, 1: CLASS_PIXELS, 2: CLASS_PIXELS}
    assert _lessons(1, 0) == both
    few = _lessons(3, FEW - 1)
    assert few[2] == (FEW - 1 + 3) * CLASS_PIXELS
    assert _lessons(3, FEW)[2] == FEW * CLASS_PIXELS
    assert _lessons(3, FEW)[1] == 3 * CLASS_PIXELS
