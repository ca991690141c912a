"""Pairs, paths, path affinities and pair labels against the released code's arrays and against
loops.
"""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch

from tests.pairs import pair_indices
from tests.reference import load_arrays, relative_error
from tool.expand.affinity import (
    affinity_labels,
    fitting_radius,
    irn_offsets,
    pair_labels,
    pair_maps,
    pair_offsets,
    pair_paths,
    path_affinity,
    path_cells,
    reduce_label,
    shifted,
)

SIZES = [(3, (6, 9)), (4, (11, 7)), (5, (5, 9)), (7, (16, 13))]


@pytest.fixture(scope="module")
def paths():
    return load_arrays("stages/irn_paths")


@pytest.fixture(scope="module")
def aff():
    return load_arrays("stages/aff_net")


@pytest.mark.parametrize("radius", [5, 10])
def test_paths_match_the_released_ones(paths, radius):
    ours = pair_paths(radius)
    assert irn_offsets(radius) == [
        tuple(offset) for offset in paths[f"r{radius}_search_dst"].tolist()
    ]
    lengths = [len(path) for path in ours]
    assert sorted(set(lengths)) == paths[f"r{radius}_path_lengths"].tolist()
    counts = [lengths.count(length) for length in sorted(set(lengths))]
    assert counts == paths[f"r{radius}_paths_per_length"].tolist()
    for length in sorted(set(lengths)):
        np.testing.assert_array_equal(
            [path for path in ours if len(path) == length],
            paths[f"r{radius}_paths_len{length:02d}"],
        )


@pytest.mark.parametrize("radius", [1, 2, 7, 8, 13])
def test_offsets_are_half_of_the_disc(radius):
    offsets = pair_offsets(radius)
    disc = {
        c
        for c in itertools.product(range(-radius, radius + 1), repeat=2)
        if c[0] ** 2 + c[1] ** 2 < radius**2
    }
    assert len(set(offsets)) == len(offsets)
    assert {*offsets, *((-dy, -dx) for dy, dx in offsets), (0, 0)} == disc
    assert set(irn_offsets(radius)) == set(offsets)


@pytest.mark.parametrize("offset", pair_offsets(9))
def test_path_is_every_cell_nearer_than_one(offset):
    """Distance to the line by projection, in exact fractions, over a region larger than the
    rectangle.
    """
    dy, dx = offset
    expected = set()
    for y, x in itertools.product(range(-9, 10), repeat=2):
        along = Fraction(y * dy + x * dx, dy * dy + dx * dx)
        distance = (y - along * dy) ** 2 + (x - along * dx) ** 2
        if distance < 1 and min(0, dy) <= y <= max(0, dy) and min(0, dx) <= x <= max(0, dx):
            expected.add((y, x))
    cells = path_cells(offset)
    assert set(cells) == expected
    assert len(cells) == len(expected)
    assert (cells[0], cells[-1]) == (offset, (0, 0))


def test_pair_indices_and_path_affinity_match_the_released_ones(paths):
    source, destination = pair_indices(irn_offsets(5), 5, paths["edge"].shape)
    np.testing.assert_array_equal(source, paths["r5_src_indices"])
    np.testing.assert_array_equal(destination, paths["r5_dst_indices"])
    affinity = path_affinity(torch.from_numpy(paths["edge"])[None], 5)
    assert relative_error(affinity[0], paths["r5_affinity"]) < 1e-6


@pytest.mark.parametrize("prefix", ["", "small_"])
def test_affinity_net_order_matches_the_released_one(aff, prefix):
    image = aff["image_padded_shape"] if prefix == "" else np.array(aff["small_image"].shape)
    size = tuple(int(side) // 8 for side in image[2:])
    radius = fitting_radius(size)
    assert radius == aff[f"{prefix}radius"]
    source, destination = pair_indices(pair_offsets(radius), radius, size)
    np.testing.assert_array_equal(source, aff[f"{prefix}ind_from"])
    np.testing.assert_array_equal(destination.flatten(), aff[f"{prefix}ind_to"])


def _loop_affinity(edge, radius):
    """1 - max over each path, pair by pair."""
    height, width = edge.shape
    values = []
    for path in pair_paths(radius):
        for y in range(height - radius + 1):
            for x in range(radius - 1, width - radius + 1):
                values.append(1 - max(edge[y + dy, x + dx] for dy, dx in path))
    return np.array(values).reshape(len(pair_paths(radius)), -1)


@pytest.mark.parametrize(("radius", "size"), SIZES)
def test_path_affinity_matches_loops(radius, size):
    edge = torch.rand(
        2, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(radius)
    )
    affinity = path_affinity(edge, radius)
    for image in range(2):
        np.testing.assert_array_equal(affinity[image], _loop_affinity(edge[image].numpy(), radius))


def test_path_affinity_gradient():
    edge = torch.rand(
        2, 6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(3), requires_grad=True
    )
    assert torch.autograd.gradcheck(lambda e: path_affinity(e, 4), (edge,))


def test_gradient_goes_to_one_cell_of_a_tie():
    """On a constant map each pair gives its whole gradient to its destination, the first cell of
    its path.
    """
    edge = torch.full((1, 6, 9), 0.5, requires_grad=True)
    path_affinity(edge, 3).sum().backward()
    _, destination = pair_indices(irn_offsets(3), 3, (6, 9))
    np.testing.assert_array_equal(
        -edge.grad.flatten(), torch.bincount(destination.flatten(), minlength=54).float()
    )


@pytest.mark.parametrize(
    ("size", "radius"),
    [
        ((56, 56), 5),
        ((11, 40), 5),
        ((10, 40), 4),
        ((40, 9), 4),
        ((8, 13), 3),
        ((3, 5), 1),
        ((2, 9), 1),
        ((1, 1), 1),
    ],
)
def test_fitting_radius(size, radius):
    assert fitting_radius(size) == radius
    rows = shifted(torch.zeros(size), (0, 0), radius)
    assert rows.numel() > 0
    assert pair_indices(pair_offsets(radius), radius, size)[1].shape == (
        len(pair_offsets(radius)),
        rows.numel(),
    )


def test_map_without_a_source_is_named():
    with pytest.raises(
        ValueError, match="a map of 4 x 20 cells has no pairs at radius 5; use fitting_radius"
    ):
        pair_indices(pair_offsets(5), 5, (4, 20))


def test_pair_maps_put_values_at_their_sources():
    radius, size = 3, (7, 8)
    source, destination = pair_indices(pair_offsets(radius), radius, size)
    maps = pair_maps(destination.double() + 1, radius, size).flatten(1)
    np.testing.assert_array_equal(maps[:, source], destination + 1)
    assert (maps != 0).sum() == destination.numel()


@pytest.mark.parametrize("size", [12, 16])
def test_affinity_net_pair_labels_match_the_released_ones(aff, size):
    labels = pair_labels(torch.from_numpy(aff[f"label{size}"]), pair_offsets(5), 5)
    for name in ("bg_pos", "fg_pos", "neg"):
        np.testing.assert_array_equal(getattr(labels, name), aff[f"label{size}_{name}"])


def test_irn_pair_labels_match_the_released_ones():
    arrays = load_arrays("stages/irn_loss")
    labels = pair_labels(torch.from_numpy(arrays["label"]), irn_offsets(5), 5, num_labels=21)
    for name in ("bg_pos", "fg_pos", "neg"):
        np.testing.assert_array_equal(getattr(labels, name), arrays[name])


def test_reduced_label_matches_the_released_one():
    arrays = load_arrays("stages/irn_loss")
    for full, label in zip(arrays["label_full"], arrays["label"], strict=True):
        np.testing.assert_array_equal(reduce_label(full), label)
        np.testing.assert_array_equal(label, full[2::4, 2::4])
    assert reduce_label(np.zeros((102, 90), np.uint8)).shape == (26, 22)


@pytest.mark.parametrize(("radius", "size"), SIZES)
def test_pair_labels_match_loops(radius, size):
    label = torch.from_numpy(
        np.random.default_rng(radius).choice([0, 0, 3, 5, 30, 255], size=size).astype(np.uint8)
    )
    offsets = irn_offsets(radius)
    ours = pair_labels(label, offsets, radius, num_labels=21)
    source, destination = pair_indices(offsets, radius, size)
    flat = label.flatten().tolist()
    for p, s in itertools.product(range(len(offsets)), range(len(source))):
        a, b = flat[source[s]], flat[destination[p, s]]
        known = a < 21 and b < 21
        assert ours.bg_pos[p, s] == (known and a == b == 0)
        assert ours.fg_pos[p, s] == (known and a == b != 0)
        assert ours.neg[p, s] == (known and a != b)


def test_affinity_labels_match_the_released_ones(aff):
    low, high = torch.from_numpy(aff["la"]), torch.from_numpy(aff["ha"])
    kept = low.clone(), high.clone()
    np.testing.assert_array_equal(affinity_labels(low, high), aff["label12"])
    assert torch.equal(low, kept[0])
    assert torch.equal(high, kept[1])


def test_affinity_labels_by_case():
    """Cells: both class 1, both background, only the low alpha background, no score, only the high
    alpha background.
    """
    low = torch.tensor([[0.1, 0.9, 0.6, 0.0, 0.3], [0.9, 0.1, 0.4, 0.0, 0.7]])
    high = torch.tensor([[0.1, 0.9, 0.2, 0.0, 0.7], [0.9, 0.1, 0.8, 0.0, 0.3]])
    low, high = (
        scores.repeat_interleave(8, dim=1)[:, None].repeat(1, 8, 1) for scores in (low, high)
    )
    assert affinity_labels(low, high).tolist() == [[1, 0, 255, 255, 0]]
    # A cut last cell counts with the pixels that it has.
    assert affinity_labels(low[:, :5, :35], high[:, :5, :35]).tolist() == [[1, 0, 255, 255, 0]]
