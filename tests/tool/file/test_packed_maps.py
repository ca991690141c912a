"""Packed maps: values to a step, thresholds of hundredths exactly, sizes, damage."""

import zlib

import cv2
import numpy as np
import pytest

from tool.file.packed_maps import LOWEST, STEPS, pack_map, unpack_map

RNG = np.random.default_rng(0)


def enlarged_cells(height: int, width: int, cells: int = 6) -> np.ndarray:
    """A map as CAMs are: cells at two scales, enlarged and added, the lowest pixel far below 0."""
    total = np.zeros((height, width), np.float32)
    for factor in (1, 2):
        small = RNG.random((cells * factor, cells * factor), dtype=np.float32)
        total += cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    total = (total - total.min()) / (total.max() - total.min())
    total[np.unravel_index(total.argmin(), total.shape)] = -1.7
    return total


MAPS = {
    "cells": enlarged_cells(150, 200),
    "noise": RNG.random((40, 50), dtype=np.float32),
    "flat after a CRF": (enlarged_cells(60, 90) > 0.5).astype(np.float32),
    "no response": np.full((7, 9), -1, np.float32),
    "one pixel far from the next": np.eye(1, 300 * 400, 70_000, dtype=np.float32).reshape(300, 400),
    "high jumps": np.where(np.indices((9, 9)).sum(0) % 2, 1, -90).astype(np.float32),
    "one pixel": np.ones((1, 1), np.float32),
    "one row": np.linspace(-1, 1, 33, dtype=np.float32)[None],
    "one column": np.linspace(-1, 1, 33, dtype=np.float32)[:, None],
}


def round_trip(values: np.ndarray) -> np.ndarray:
    recipe, content = pack_map(values)
    return unpack_map(recipe, content, values.shape)


@pytest.mark.parametrize("name", MAPS)
def test_every_value_comes_back_less_than_a_step_higher(name):
    values = MAPS[name]
    back = round_trip(values)
    assert (back.dtype, back.shape) == (np.float32, values.shape)
    higher = back.astype(np.float64) - values
    assert higher.min() > -1e-5 * np.abs(values).max()
    assert higher.max() < 1 / STEPS + 1e-7 * np.abs(values).max()


def test_what_whole_hundredths_say_stays():
    thresholds = np.arange(0, 101) / 100
    near = np.concatenate([thresholds - 1e-6, thresholds, thresholds + 1e-6]).astype(np.float32)
    for values in (MAPS["cells"], near[None]):
        back = round_trip(values)
        for threshold in thresholds:
            limit = np.float32(threshold)
            np.testing.assert_array_equal(back > limit, values > limit)


def test_values_that_thresholds_know_are_exact():
    values = np.array([[-1, 0, 0.25, 0.5, 1]], dtype=np.float32)
    np.testing.assert_array_equal(round_trip(values), values)


def test_very_low_values_are_cut():
    values = np.array([[0.5, -1000.0], [-99.5, 0.25]], dtype=np.float32)
    np.testing.assert_allclose(round_trip(values), [[0.5, LOWEST], [-99.5, 0.25]], rtol=1e-6)


def test_the_map_that_is_packed_stays():
    values = MAPS["cells"].copy()
    pack_map(values)
    np.testing.assert_array_equal(values, MAPS["cells"])


def test_cams_take_a_fifth_and_flat_maps_much_less():
    sizes = {name: len(pack_map(MAPS[name])[1]) / MAPS[name].nbytes for name in MAPS}
    assert sizes["cells"] < 1 / 5
    assert sizes["flat after a CRF"] < 1 / 10


@pytest.mark.parametrize(
    "change",
    [
        {"bits": 3},
        {"bits": "4"},
        {"bits": [4]},
        {"others": -1},
        {"others": 10**12},
        {"others": 0.5},
        {"deflated": True},
    ],
)
def test_a_recipe_of_another_map_is_refused(change):
    recipe, content = pack_map(MAPS["cells"])
    with pytest.raises((ValueError, TypeError, zlib.error)):
        unpack_map(recipe | change, content, MAPS["cells"].shape)


@pytest.mark.parametrize("size", [(151, 200), (2**25, 2**25), (0, 0)])
def test_another_size_is_refused(size):
    for name in ("cells", "flat after a CRF"):
        with pytest.raises((ValueError, OverflowError)):
            unpack_map(*pack_map(MAPS[name]), size)


def test_a_place_outside_the_map_is_refused():
    values = MAPS["cells"]
    recipe, content = pack_map(values)
    assert not recipe["deflated"]
    gaps = len(content) - 3 * recipe["others"]
    damaged = content[:gaps] + b"\xff" * recipe["others"] + content[gaps + recipe["others"] :]
    with pytest.raises(ValueError, match="outside the map"):
        unpack_map(recipe, damaged, values.shape)
