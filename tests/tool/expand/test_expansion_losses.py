"""IRN's and AffinityNet's losses and gradients against the released code's arrays and against
loops.
"""

import math

import numpy as np
import pytest
import torch

from tests.pairs import pair_indices
from tests.reference import load_arrays, relative_error
from tool.expand.affinity import PairLabels, irn_offsets, pair_paths, path_affinity
from tool.expand.expansion_losses import affinity_net_loss, irn_loss, pair_displacement


@pytest.fixture(scope="module")
def irn():
    return load_arrays("stages/irn_loss")


def _pairs(arrays, prefix):
    return PairLabels(
        *(
            torch.from_numpy(arrays[f"{prefix}_{name}"]).bool()
            for name in ("bg_pos", "fg_pos", "neg")
        )
    )


def test_irn_terms_and_gradients_match_the_released_ones(irn):
    edge = torch.from_numpy(irn["edge_logits"]).requires_grad_()
    displacement = torch.from_numpy(irn["displacement"]).requires_grad_()
    assert relative_error(path_affinity(edge.sigmoid().squeeze(1), 5), irn["affinity"]) < 1e-6
    assert (
        relative_error(pair_displacement(displacement, irn_offsets(5), 5), irn["pair_displacement"])
        < 1e-6
    )
    losses = irn_loss(edge, displacement, torch.from_numpy(irn["label"]), radius=5, num_labels=21)
    for name, value in losses.items():
        assert relative_error(value, irn[name]) < 1e-5, name
    losses["total_loss"].backward()
    assert relative_error(edge.grad, irn["grad_edge_logits"]) < 1e-4
    assert relative_error(displacement.grad, irn["grad_displacement"]) < 1e-4


def test_irn_loss_matches_loops():
    """Radius 3 on a 7 x 9 map, pair by pair in Python floats."""
    rng = np.random.default_rng(0)
    label = rng.choice([0, 0, 4, 4, 9, 255], size=(2, 7, 9)).astype(np.uint8)
    logits, displacement = rng.normal(size=(2, 1, 7, 9)), rng.normal(size=(2, 2, 7, 9)) * 3
    source, destination = pair_indices(irn_offsets(3), 3, (7, 9))
    sums = {"bg": [0.0, 0.0, 0], "fg": [0.0, 0.0, 0], "neg": [0.0, 0.0, 0]}
    for image in range(2):
        edge = 1 / (1 + np.exp(-logits[image, 0]))
        for p, path in enumerate(pair_paths(3)):
            for s, start in enumerate(source.tolist()):
                y, x = divmod(start, 9)
                v, u = divmod(int(destination[p, s]), 9)
                a, b = label[image, y, x], label[image, v, u]
                if 255 in (a, b):
                    continue
                affinity = 1 - max(edge[y + dy, x + dx] for dy, dx in path)
                difference = displacement[image, :, y, x] - displacement[image, :, v, u]
                kind = "neg" if a != b else "bg" if a == 0 else "fg"
                target = np.array(path[0]) if kind == "fg" else 0
                sums[kind][0] -= math.log(1 + 1e-5 - affinity if kind == "neg" else affinity + 1e-5)
                sums[kind][1] += np.abs(difference - target).sum()
                sums[kind][2] += 1
    expected = {
        "bg_pos_aff_loss": sums["bg"][0] / sums["bg"][2],
        "fg_pos_aff_loss": sums["fg"][0] / sums["fg"][2],
        "neg_aff_loss": sums["neg"][0] / sums["neg"][2],
        "dp_fg_loss": sums["fg"][1] / (2 * sums["fg"][2]),
        "dp_bg_loss": sums["bg"][1] / (2 * sums["bg"][2]),
    }
    losses = irn_loss(
        torch.from_numpy(logits), torch.from_numpy(displacement), torch.from_numpy(label), radius=3
    )
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, rel=1e-5), name
    pos = (expected["bg_pos_aff_loss"] + expected["fg_pos_aff_loss"]) / 2
    total = (pos + expected["neg_aff_loss"]) / 2 + (
        expected["dp_fg_loss"] + expected["dp_bg_loss"]
    ) / 2
    assert losses["total_loss"].item() == pytest.approx(total, rel=1e-5)


def test_irn_loss_of_ignored_labels_is_zero():
    edge = torch.randn(1, 1, 12, 12, requires_grad=True)
    losses = irn_loss(
        edge,
        torch.randn(1, 2, 12, 12),
        torch.full((1, 12, 12), 40, dtype=torch.uint8),
        radius=4,
        num_labels=21,
    )
    assert all(value == 0 for value in losses.values())
    losses["total_loss"].backward()
    assert not edge.grad.any()


def test_perfect_displacement_costs_nothing():
    """The vector from each cell to a common centre differs between two cells by exactly their
    offset.
    """
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(24.0), indexing="ij")
    displacement = torch.stack([9 - y, 11 - x])[None]
    losses = irn_loss(
        torch.zeros(1, 1, 20, 24), displacement, torch.ones(1, 20, 24, dtype=torch.uint8), radius=10
    )
    assert losses["dp_fg_loss"] == 0
    assert losses["fg_pos_aff_loss"].item() == pytest.approx(-math.log(0.5 + 1e-5), rel=1e-5)


def test_affinity_net_loss_and_gradient_match_the_released_ones():
    arrays = load_arrays("stages/aff_net")
    affinity = torch.from_numpy(arrays["loss_affinity"]).requires_grad_()
    pairs = _pairs(arrays, "label12")
    for name in ("bg", "fg", "neg"):
        mask = getattr(pairs, "neg" if name == "neg" else f"{name}_pos")
        assert (mask.sum() + 1e-5).item() == pytest.approx(float(arrays[f"{name}_count"]), rel=1e-6)
    losses = affinity_net_loss(affinity, pairs)
    for name, value in losses.items():
        assert relative_error(value, arrays[name]) < 1e-5, name
    losses["loss"].backward()
    assert relative_error(affinity.grad, arrays["grad_affinity"]) < 1e-4


def test_affinity_net_loss_counts_over_the_batch():
    """Two images of unequal pair counts: one mean over all pairs, not a mean of means."""
    affinity = torch.rand(2, 34, 32, generator=torch.Generator().manual_seed(0))
    arrays = load_arrays("stages/aff_net")
    pairs = PairLabels(
        *(torch.stack([mask, torch.zeros_like(mask)]) for mask in _pairs(arrays, "label12"))
    )
    alone = affinity_net_loss(affinity[:1], PairLabels(*(mask[:1] for mask in pairs)))
    both = affinity_net_loss(affinity, pairs)
    for name in alone:
        torch.testing.assert_close(both[name], alone[name])
