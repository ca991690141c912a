"""The walks against the released code's arrays and against dense matrix powers in float64."""

import numpy as np
import pytest
import torch

from tests.pairs import pair_indices
from tests.reference import load_arrays, relative_error
from tool.expand.affinity import fitting_radius, irn_offsets, pair_maps, pair_offsets, path_cells
from tool.expand.crf import prepend_background
from tool.expand.walk import (
    affinity_walk,
    edge_walk,
    edge_weights,
    fill_gaps,
    pool_scores,
    random_walk,
    scores_to_label,
    unit_scores,
    unit_scores_to_label,
    upsample_scores,
)


@pytest.fixture(scope="module")
def irn():
    return load_arrays("stages/irn_walk")


@pytest.fixture(scope="module")
def aff():
    return load_arrays("stages/aff_net")


def _matrix(weights, offsets, steps):
    """The walk's matrix (N, N) after `steps` steps, row i what a score of 1 at cell i becomes."""
    size = weights.shape[1:]
    cells = size[0] * size[1]
    return random_walk(
        torch.eye(cells, dtype=weights.dtype).view(cells, *size), weights, offsets, steps
    ).flatten(1)


def _dense(weights, offsets):
    """The symmetric matrix (N, N) of the weights, diagonal 1, by loops."""
    _, height, width = weights.shape
    matrix = np.eye(height * width)
    for weight, (dy, dx) in zip(weights.tolist(), offsets, strict=True):
        for y in range(height):
            for x in range(width):
                if y + dy < height and 0 <= x + dx < width:
                    source, destination = y * width + x, (y + dy) * width + x + dx
                    matrix[source, destination] = matrix[destination, source] = weight[y][x]
    return matrix


def _dense_walk(scores, matrix, beta, exp_times):
    """The released way: power, column sums, repeated squaring."""
    transition = matrix**beta
    transition = transition / transition.sum(axis=0, keepdims=True)
    for _ in range(exp_times):
        transition = transition @ transition
    return (scores.reshape(len(scores), -1) @ transition).reshape(scores.shape)


def test_edge_weights_match_the_released_ones(irn):
    weights = edge_weights(torch.from_numpy(irn["edge"][0]))
    matrix = _dense(weights, irn_offsets(5))
    assert relative_error(matrix.sum(axis=1), irn["affinity_row_sums"]) < 1e-5
    np.testing.assert_array_equal(
        (matrix != 0).sum(axis=1).reshape(17, 23), irn["affinity_neighbours"]
    )


def test_edge_walk_matches_the_released_one(irn):
    cam, edge = torch.from_numpy(irn["cam"]), torch.from_numpy(irn["edge"][0])
    kept = cam.clone(), edge.clone()
    assert relative_error(edge_walk(cam, edge), irn["walked"][:, 0]) < 1e-4
    assert torch.equal(cam, kept[0])
    assert torch.equal(edge, kept[1])


def test_edge_walk_matrix_matches_the_released_one(irn):
    """In float64: the released column sums alone are off 1 by 9e-5."""
    weights = edge_weights(torch.from_numpy(irn["edge"][0]).double()) ** 10
    one = _matrix(weights, irn_offsets(5), 1)
    assert relative_error(one.sum(1), irn["trans_row_sums"]) < 1e-5
    assert relative_error(one.sum(0), irn["trans_col_sums"]) < 1e-5
    walk = _matrix(weights, irn_offsets(5), 256)
    assert relative_error(walk.sum(1), irn["walk_row_sums"]) < 1e-4
    assert relative_error(walk.sum(0), irn["walk_col_sums"]) < 1e-4
    assert relative_error(walk.diagonal(), irn["walk_diagonal"]) < 1e-4


def test_edge_walk_in_single_precision():
    """float32 inputs lose nothing over 256 steps; steps in float32 would be off by 1e-4."""
    cam = torch.rand(1, 47, 63, generator=torch.Generator().manual_seed(0))
    edge = torch.rand(47, 63, generator=torch.Generator().manual_seed(1)) ** 4
    assert relative_error(edge_walk(cam, edge), edge_walk(cam.double(), edge.double())) < 3e-6


def test_irn_label_matches_the_released_one(irn):
    size, keys = tuple(irn["image_size"].tolist()), torch.from_numpy(irn["keys"])
    walked = edge_walk(torch.from_numpy(irn["cam"]), torch.from_numpy(irn["edge"][0]))
    scores = unit_scores(walked, size)
    assert relative_error(scores, irn["walked_up"]) < 1e-4
    top = np.sort(np.concatenate([np.full((1, *size), 0.25), irn["walked_up"]]), axis=0)
    sure = top[-1] - top[-2] > 1e-4
    assert sure.mean() > 0.99
    np.testing.assert_array_equal(
        unit_scores_to_label(scores, keys, 0.25).numpy()[sure], irn["pred"][sure]
    )


@pytest.mark.parametrize(
    ("size", "radius", "beta", "exp_times"),
    [((9, 13), 5, 10, 8), ((3, 14), 5, 4, 5), ((12, 2), 3, 1, 1), ((1, 1), 5, 10, 3)],
)
def test_edge_walk_matches_a_dense_matrix_power(size, radius, beta, exp_times):
    """In float64, with affinities from the definition: 1 - max over the path of every pair inside
    the map.
    """
    generator = torch.Generator().manual_seed(size[0])
    edge = torch.rand(size, dtype=torch.float64, generator=generator) ** 3
    cam = torch.rand(3, *size, dtype=torch.float64, generator=generator)
    cells = [(y, x) for y in range(size[0]) for x in range(size[1])]
    matrix = np.eye(len(cells))
    for i, (y, x) in enumerate(cells):
        for j, (v, u) in enumerate(cells):
            if i != j and (v - y) ** 2 + (u - x) ** 2 < radius**2:
                matrix[i, j] = 1 - max(
                    edge[y + dy, x + dx].item() for dy, dx in path_cells((v - y, u - x))
                )
    expected = _dense_walk((cam * (1 - edge)).numpy(), matrix, beta, exp_times)
    np.testing.assert_allclose(edge_walk(cam, edge, radius, beta, exp_times), expected, rtol=1e-10)


@pytest.mark.parametrize(
    ("size", "beta", "exp_times"),
    [((14, 11), 8, 6), ((8, 13), 8, 8), ((3, 6), 2, 3), ((2, 2), 8, 6)],
)
def test_affinity_walk_matches_a_dense_matrix_power(size, beta, exp_times):
    radius = fitting_radius(size)
    source, destination = pair_indices(pair_offsets(radius), radius, size)
    generator = torch.Generator().manual_seed(size[1])
    affinity = torch.rand(destination.shape, dtype=torch.float64, generator=generator)
    scores = torch.rand(4, *size, dtype=torch.float64, generator=generator)
    matrix = np.eye(size[0] * size[1])
    for values, cells in zip(affinity.numpy(), destination, strict=True):
        matrix[source, cells] = matrix[cells, source] = values
    expected = _dense_walk(scores.numpy(), matrix, beta, exp_times)
    np.testing.assert_allclose(
        affinity_walk(scores, affinity, radius, beta, exp_times), expected, rtol=1e-10
    )


@pytest.mark.parametrize("dims", [(1,), (2,), (1, 2)])
def test_mirrored_input_gives_the_mirrored_walk(dims):
    cam = torch.rand(2, 10, 17, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    edge = torch.rand(10, 17, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mirrored = edge_walk(cam.flip(dims), edge.flip([d - 1 for d in dims]))
    torch.testing.assert_close(mirrored.flip(dims), edge_walk(cam, edge), rtol=1e-10, atol=0)


def test_each_step_is_a_weighted_mean():
    """Constant scores stay; others stay within their range; steps add up."""
    generator = torch.Generator().manual_seed(0)
    weights = edge_weights(torch.rand(10, 17, dtype=torch.float64, generator=generator))
    scores = torch.rand(2, 10, 17, dtype=torch.float64, generator=generator)
    constant = torch.full((1, 10, 17), 0.7, dtype=torch.float64)
    torch.testing.assert_close(random_walk(constant, weights, irn_offsets(5), 100), constant)
    walked = random_walk(scores, weights, irn_offsets(5), 7)
    assert scores.min() < walked.min()
    assert walked.max() < scores.max()
    torch.testing.assert_close(
        random_walk(random_walk(scores, weights, irn_offsets(5), 3), weights, irn_offsets(5), 4),
        walked,
    )
    assert torch.equal(random_walk(scores, weights, irn_offsets(5), 0), scores)


def test_a_boundary_stops_the_walk():
    edge = torch.zeros(8, 11)
    edge[:, 5] = 1
    cam = torch.zeros(1, 8, 11)
    cam[:, :, :5] = 1
    torch.testing.assert_close(edge_walk(cam, edge), cam)


def test_walk_on_a_map_whose_matrix_fits_nowhere():
    """160,000 cells: a dense matrix takes 95 GiB."""
    cam = torch.rand(1, 400, 400, generator=torch.Generator().manual_seed(0))
    edge = torch.zeros(400, 400)
    walked = edge_walk(cam, edge, exp_times=1)
    disc = [(dy, dx) for dy in range(-4, 5) for dx in range(-4, 5) if dy * dy + dx * dx < 25]
    once = sum(cam.roll(offset, dims=(1, 2)) for offset in disc) / len(disc)
    twice = sum(once.roll(offset, dims=(1, 2)) for offset in disc) / len(disc)
    torch.testing.assert_close(walked[:, 10:-10, 10:-10], twice[:, 10:-10, 10:-10])


def test_affinity_net_walk_matches_the_released_one(aff):
    affinity, scores = (
        torch.from_numpy(aff["affinity"]),
        torch.from_numpy(prepend_background(aff["cam"], alpha=6)),
    )
    maps = pair_maps(affinity, 5, (12, 12))
    matrix = _dense(maps, pair_offsets(5))
    assert relative_error(matrix.sum(axis=1), aff["dense_row_sums"]) < 1e-5
    np.testing.assert_array_equal(
        (matrix != 0).sum(axis=1).reshape(12, 12), aff["dense_neighbours"]
    )
    one = _matrix(maps**8, pair_offsets(5), 1)
    assert relative_error(one.sum(1), aff["trans_row_sums"]) < 1e-5
    assert relative_error(one.sum(0), aff["trans_col_sums"]) < 1e-5
    walk = _matrix(maps**8, pair_offsets(5), 64)
    assert relative_error(walk.sum(1), aff["walk_row_sums"]) < 1e-4
    assert relative_error(walk.diagonal(), aff["walk_diagonal"]) < 1e-4

    pooled = pool_scores(scores)
    assert relative_error(pooled, aff["cam_pooled"]) < 1e-6
    walked = affinity_walk(pooled, affinity, radius=5)
    assert relative_error(walked, aff["walked"]) < 1e-4
    up = upsample_scores(walked, 8)
    assert relative_error(up, aff["walked_up"]) < 1e-4
    top = np.sort(aff["walked_up"], axis=0)[:, :90, :93]
    sure = top[-1] - top[-2] > 1e-4
    assert sure.mean() > 0.98
    label = scores_to_label(up, torch.from_numpy(aff["keys"]))[:90, :93]
    np.testing.assert_array_equal(label.numpy()[sure], aff["pred"][sure])


def test_small_affinity_net_matrix_matches_the_released_one(aff):
    matrix = _dense(pair_maps(torch.from_numpy(aff["small_affinity"]), 4, (9, 10)), pair_offsets(4))
    assert relative_error(matrix.sum(axis=1), aff["small_dense_row_sums"]) < 1e-5


def test_background_wins_ties_and_empty_scores():
    keys = torch.tensor([4, 14])
    scores = torch.tensor([[[0.25, 0.3, 0.0]], [[0.25, 0.3, 0.26]]])
    assert unit_scores_to_label(scores, keys, 0.25).tolist() == [[0, 5, 15]]
    nothing = unit_scores(torch.zeros(2, 3, 4), (10, 13))
    assert nothing.shape == (2, 10, 13)
    assert not unit_scores_to_label(nothing, keys).any()
    assert unit_scores_to_label(scores, keys).dtype == torch.uint8


def test_unit_scores_share_one_maximum():
    walked = (
        torch.rand(2, 5, 6, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1.0, 0.3])[:, None, None]
    )
    scores = unit_scores(walked, (18, 23))
    assert scores.max() == 1
    assert scores[1].max() < 0.4
    torch.testing.assert_close(unit_scores(walked * 7, (18, 23)), scores)


def test_pool_scores_pads_with_zero():
    pooled = pool_scores(torch.ones(1, 9, 12))
    assert pooled.tolist() == [[[1, 0.5], [0.125, 0.0625]]]


def test_cells_on_a_boundary_get_no_score_and_are_filled():
    cam, edge = torch.zeros(1, 20, 20), torch.full((20, 20), 0.05)
    cam[:, 4:16, 4:16] = 0.7
    edge[3, 3:17] = edge[16, 3:17] = edge[3:17, 3] = edge[3:17, 16] = 1.0  # around the object
    edge[8, 8], edge[12, 5:15] = 1.0, 0.95  # a speck and a line within
    walked = edge_walk(cam, edge)
    walked /= walked.max()
    assert walked[0, 6, 6] > 0.95
    assert walked[0, 8, 8] < 0.01  # though the walk is long enough for all others
    assert walked[0, 12, 6:14].max() < 0.2
    filled = fill_gaps(walked, 1)
    assert filled[0, 4:16, 4:16].min() > 0.95
    outside = torch.ones(20, 20, dtype=torch.bool)
    outside[4:16, 4:16] = False
    torch.testing.assert_close(filled[0][outside], walked[0][outside], rtol=0, atol=0.05)
    torch.testing.assert_close(fill_gaps(walked, 0), walked, rtol=0, atol=0)
