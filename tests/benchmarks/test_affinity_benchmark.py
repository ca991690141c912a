"""The benchmark of AffinityNet's affinity: its numbers where the answer is known, and every line
from the command.
"""

import numpy as np
import pytest
import torch

from benchmarks.affinity import (
    ACROSS,
    Sample,
    main,
    mask_affinity,
    mask_cells,
    mask_pairs,
    parse_args,
    separation,
)
from network.aff import build_affinity_net
from network.weights import save_network
from tests.conftest import PETS
from tests.seeds import seed_of, write_seeds
from tool.expand.affinity import affinity_labels
from voc12.expansion_labels import load_scores, write_scores
from voc12.lists import load_ids

STRIDE = 8


def _mask():
    """64 x 80: an object of class 3 in the lower right, a strip of 255 above it, background
    elsewhere.
    """
    mask = np.zeros((64, 80), np.uint8)
    mask[32:, 40:] = 3
    mask[24:32, 40:] = 255
    return mask


def test_cells_are_the_pixels_in_their_middle_and_255_outside():
    mask = np.zeros((20, 24), np.uint8)
    mask[4, 12] = 7
    cells = mask_cells(mask)
    assert cells.shape == (3, 3)
    assert cells[0].tolist() == [0, 7, 0]
    assert (cells[2] == 255).all()


def test_the_masks_affinity_is_between_equal_cells():
    mask = _mask()
    pairs = mask_pairs(mask)
    affinity = mask_affinity(Sample(None, torch.empty(0), mask, pairs))
    assert sorted(set(affinity.unique().tolist())) == pytest.approx([0, ACROSS, 1])
    assert pairs.fg_pos.any()
    assert pairs.bg_pos.any()
    assert (affinity == 1).equal(pairs.fg_pos | pairs.bg_pos)


@pytest.mark.parametrize(("right", "expected"), [(1.0, 1.0), (0.0, 0.0), (None, 0.5)])
def test_separation_is_a_rank(right, expected):
    mask = _mask()
    pairs = mask_pairs(mask)
    within = (pairs.fg_pos | pairs.bg_pos).float()
    affinity = torch.full_like(within, 0.3) if right is None else within if right else 1 - within
    sample = Sample(None, affinity, mask, pairs)
    assert separation([sample, sample], "fg_pos") == expected
    assert separation([sample], "bg_pos") == expected


def test_the_command_prints_every_line_and_labels_from_masks_are_right(pets_root, tmp_path, capsys):
    torch.manual_seed(0)
    weights = tmp_path / "aff.pth"
    save_network(
        weights,
        build_affinity_net("resnet10t"),
        {"method": "aff", "backbone": "resnet10t", "preset": "seam"},
        PETS,
        {},
    )
    cams = write_seeds(pets_root, tmp_path / "cam")
    seeds, labels = tmp_path / "labels", tmp_path / "real"
    for name in load_ids(pets_root, "val"):
        seed = seed_of(pets_root, name)
        scores = np.full((1 + len(seed.keys), *seed.size), 0.5, np.float32)
        write_scores(
            seeds / f"{name}.npz",
            seed.keys,
            scores,
            scores,
            {"stage": "aff_scores", "low_alpha": 1},
        )
    flags = [
        "--voc12_root",
        pets_root,
        "--list",
        "val",
        "--cam_dir",
        cams,
        "--weights",
        weights,
        "--train_list",
        "val",
    ]
    flags += ["--alphas", "1", "--betas", "8", "--logts", "2", "--label_dir"]
    main(parse_args([str(flag) for flag in [*flags, seeds, "--write_labels", labels]]))
    lines = capsys.readouterr().out.splitlines()
    starts = (
        "labels, val: foreground",
        "labels, val: background",
        "AUC, val: foreground",
        "seeds: ",
    )
    starts += (
        "the masks' affinity, beta 8, 4 steps: ",
        "the network's affinity, beta 8, 4 steps: ",
    )
    assert [line.startswith(start) for line, start in zip(lines, starts, strict=True)] == [
        True
    ] * len(starts)

    for name in load_ids(pets_root, "val"):
        low, high, meta = load_scores(labels / f"{name}.npz")
        assert meta["low_alpha"] == 1  # passes for what train_aff.py would make itself
        label = affinity_labels(torch.from_numpy(low), torch.from_numpy(high), STRIDE)
        assert not (label == 255).any()
    main(parse_args([str(flag) for flag in [*flags, labels]]))
    foreground, background = capsys.readouterr().out.splitlines()[:2]
    assert foreground == "labels, val: foreground 10 % of the cells, 100 % of these right"
    # means over cells against their middles
    assert background == "labels, val: background 90 % of the cells, 97 % of these right"
