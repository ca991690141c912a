"""What the benchmarks compare computes the same, and what they measure is right where the answer is
known.
"""

import copy
import itertools

import numpy as np
import pytest
import torch

from benchmarks.common import seconds_in_turn, section
from benchmarks.evaluation import THRESHOLDS, make_images, naive_sweep
from benchmarks.inference import SIZE, naive_cam
from benchmarks.patches import adjusted_rand, pixel_loop_mask
from benchmarks.train_step import naive_step
from network.cam_inference import image_cam
from network.cam_steps import train_cpn_step
from tool.patches import region_mask
from voc12.evaluation import evaluate_cams


def _pairs_rand(one: np.ndarray, two: np.ndarray) -> float:
    """The adjusted Rand index from its definition over pairs."""
    pairs = list(itertools.combinations(range(len(one)), 2))
    a, b = ([x[i] == x[j] for i, j in pairs] for x in (one, two))
    together, first, second = sum(p and q for p, q in zip(a, b, strict=True)), sum(a), sum(b)
    expected = first * second / len(pairs)
    return (together - expected) / ((first + second) / 2 - expected)


def test_adjusted_rand_is_that_over_pairs_and_ignores_names():
    rng = np.random.default_rng(0)
    one, two = rng.integers(0, 3, 30), rng.integers(1, 5, 30)
    assert adjusted_rand(one, two) == pytest.approx(_pairs_rand(one, two))
    assert adjusted_rand(one, 7 - one) == pytest.approx(1)
    assert adjusted_rand(*rng.integers(0, 4, (2, 20000))) == pytest.approx(0, abs=0.01)


def test_the_loop_over_pixels_hides_what_the_lookup_hides():
    regions = np.random.default_rng(0).integers(1, 9, (20, 24))
    regions[0, 0] = 8
    loop, lookup = (
        mask(regions, rng=np.random.default_rng(5)) for mask in (pixel_loop_mask, _released_mask)
    )
    np.testing.assert_array_equal(loop, lookup)
    assert not loop.all()


def _released_mask(regions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return region_mask(regions, 0.5, rng)


def test_the_naive_step_has_the_loss_and_gradients_of_ours(small_net):
    generator = torch.Generator().manual_seed(0)
    batch = {
        "image": torch.randn(2, 3, 64, 64, generator=generator),
        "mask": torch.rand(2, 64, 64, generator=generator) < 0.6,
        "label": torch.tensor([[1.0, 0, 1], [0, 1, 0]]),
        "visible": torch.tensor([0.6, 0.55]),
    }
    gradients = []
    for step in (naive_step, lambda net, batch: train_cpn_step(net, batch)["loss"]):
        net = copy.deepcopy(small_net)
        step(net, batch).backward()
        gradients.append({name: p.grad for name, p in net.named_parameters() if p.grad is not None})
    assert "fc8.weight" in gradients[0]
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(
            gradients[1][name], gradient, rtol=0, atol=2e-3 * float(gradient.abs().max()), msg=name
        )


def test_the_naive_cam_is_ours(small_net):
    scaled = [torch.randn(3, 60, 80, generator=torch.Generator().manual_seed(1))]
    keys = torch.tensor([0, 2])
    ours = image_cam(small_net, scaled, SIZE, keys, refined=True, flip=True, precision="fp32")
    np.testing.assert_allclose(naive_cam(small_net, scaled, keys), ours, atol=1e-4)


def test_the_naive_sweep_counts_what_one_pass_counts(tmp_path):
    ids = make_images(tmp_path, 2, (24, 32), 5)
    ours = evaluate_cams(ids, tmp_path, tmp_path, [f"class{i}" for i in range(5)], THRESHOLDS)
    np.testing.assert_array_equal(naive_sweep(tmp_path, ids, 5), ours.confusion)


def test_functions_run_in_turn_after_a_warm_up():
    calls = []
    seconds = seconds_in_turn(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2
    )
    assert calls == ["a", "b"] * 3
    assert all(0 <= value < 1 for value in seconds.values())


def test_a_section_names_the_machine_the_command_and_the_versions():
    text = section("Speed", "python -m x", ["way", "s"], [["ours", 1]], "Words.")
    lines = text.splitlines()
    assert lines[0] == "## Speed"
    assert f"torch {torch.__version__}" in lines[2]
    assert "`python -m x`" in lines[2]
    assert lines[4:7] == ["| way | s |", "|---|---|", "| ours | 1 |"]
