"""Augmentation: where pixels go, and that a generator fixes everything."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tool.transforms import (
    JITTER,
    PairTransform,
    TrainTransform,
    colour_jitter,
    normalise,
    random_crop,
    resize,
    to_tensor,
)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=(height, width, 3), dtype=np.uint8)


# ============ normalise, resize, to_tensor ============
def test_normalise_matches_float64():
    image = _image(9, 11)
    ours = normalise(image, MEAN, STD)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, (image / 255 - np.array(MEAN)) / np.array(STD), atol=1e-6)


def test_resize_keeps_an_image_of_that_size_and_a_constant_one_constant():
    image = _image(9, 11)
    np.testing.assert_array_equal(resize(image, 9, 11), image)
    np.testing.assert_array_equal(
        resize(np.full((9, 11, 3), 77, np.uint8), 30, 5), np.full((30, 5, 3), 77)
    )


def test_resize_is_pillows_bicubic():
    image = _image(20, 30)
    expected = np.asarray(Image.fromarray(image).resize((12, 9), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(resize(image, 9, 12), expected)


def test_to_tensor_puts_channels_first():
    image = normalise(_image(4, 5), MEAN, STD)
    tensor = to_tensor(image[:, ::-1])
    assert tensor.shape == (3, 4, 5)
    assert tensor[2, 1, 0] == image[1, 4, 2]


# ============ random_crop ============
@given(
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    size=st.integers(1, 12),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=150, deadline=None)
def test_crop_holds_one_window_of_the_image_and_zeros(height, width, size, seed):
    # every pixel its own number
    image = np.arange(1, height * width + 1, dtype=np.float32).reshape(height, width, 1)
    crop = random_crop(image, size, np.random.default_rng(seed))[:, :, 0]
    assert crop.shape == (size, size)
    rows, columns = np.nonzero(crop)
    window = crop[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert window.shape == (min(height, size), min(width, size))
    assert (crop == 0).sum() == size**2 - window.size
    top, left = divmod(int(window[0, 0]) - 1, width)
    np.testing.assert_array_equal(
        window, image[top : top + window.shape[0], left : left + window.shape[1], 0]
    )


@pytest.mark.parametrize(("side", "size"), [(5, 3), (3, 5)])
def test_every_offset_occurs_equally_often(side, size):
    image = np.arange(1, side + 1, dtype=np.float32)[None, :, None].repeat(side, axis=0)
    crops = [
        random_crop(image, size, np.random.default_rng(seed))[size // 2, :, 0]
        for seed in range(600)
    ]
    patterns, counts = np.unique(crops, axis=0, return_counts=True)
    assert len(patterns) == 3
    assert counts.min() > 150


def test_crop_of_the_same_size_is_the_image():
    image = normalise(_image(8, 8), MEAN, STD)
    np.testing.assert_array_equal(random_crop(image, 8, np.random.default_rng(0)), image)


# ============ TrainTransform ============
def test_generator_fixes_the_sample_and_the_global_generators_stay():
    transform = TrainTransform(MEAN, STD, crop_size=32, resize_long=(30, 60))
    image = _image(40, 50)
    before = image.copy()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = transform(image, np.random.default_rng([1, 2, 3]))
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)  # another state must not matter
    np.testing.assert_array_equal(transform(image, np.random.default_rng([1, 2, 3])), first)
    assert (transform(image, np.random.default_rng([1, 2, 4])) != first).any()
    np.testing.assert_array_equal(image, before)
    assert first.shape == (32, 32, 3)
    assert first.dtype == np.float32


def test_without_resizing_and_jitter_the_image_or_its_mirror_image_is_left():
    transform = TrainTransform(MEAN, STD, crop_size=40, resize_long=(40, 40), jitter=(0, 0, 0, 0))
    image = _image(40, 40)
    plain = normalise(image, MEAN, STD)
    mirrored = 0
    for seed in range(100):
        ours = transform(image, np.random.default_rng(seed))
        if np.array_equal(ours, plain[:, ::-1]):
            mirrored += 1
        else:
            np.testing.assert_array_equal(ours, plain)
    assert 30 < mirrored < 70


def test_long_side_is_drawn_from_the_range_with_both_ends():
    # The crop shows all of the image, so that the window of nonzero pixels has its size.
    transform = TrainTransform(
        (0.0,) * 3, (1.0,) * 3, crop_size=40, resize_long=(20, 22), jitter=(0, 0, 0, 0)
    )
    sizes = set()
    for seed in range(40):
        rows, columns, _ = np.nonzero(
            transform(np.full((30, 60, 3), 9, np.uint8), np.random.default_rng(seed))
        )
        sizes.add((int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1))
    assert sizes == {(10, 20), (10, 21), (11, 21), (11, 22)} & sizes
    assert {width for _, width in sizes} == {20, 21, 22}


def test_very_long_image_keeps_a_row():
    transform = TrainTransform(MEAN, STD, crop_size=16, resize_long=(16, 16))
    assert transform(_image(1, 200), np.random.default_rng(0)).shape == (16, 16, 3)


def test_torchvision_is_there_once_a_transform_that_jitters_is_made():
    """In a process of its own: this one has imported it. Forked workers inherit what it imports
    before the loader starts.
    """
    code = (
        "import sys\n"
        "from tool.transforms import JITTER, PairTransform, TrainTransform\n"
        "there = lambda: 'torchvision' in sys.modules\n"
        "PairTransform((0,), (1,), 8)\n"
        "before = there()\n"
        "eval(sys.argv[1])\n"
        "print(before, there())"
    )
    for transform in ("TrainTransform((0,), (1,))", "PairTransform((0,), (1,), 8, jitter=JITTER)"):
        command = [sys.executable, "-c", code, transform]
        run = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
        )
        assert run.stdout.split() == ["False", "True"]


# ============ PairTransform ============
def _coded(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """An image whose red is its label in flat areas, so that a crop shows whether both moved
    together.
    """
    label = np.kron(
        np.arange(12).reshape(3, 4), np.ones((height // 3, width // 4), dtype=int)
    ).astype(np.uint8)
    return np.stack([20 * label] * 3, axis=2), label


@given(height=st.sampled_from([30, 60]), width=st.sampled_from([40, 88]), seed=st.integers(0, 99))
def test_image_and_mask_move_together(height, width, seed):
    image, label = _coded(height, width)
    transform = PairTransform(mean=(0, 0, 0), std=(1, 1, 1), crop_size=48, scale=(0.5, 1.5))
    crop, crop_label = transform(image, label, np.random.default_rng(seed))
    assert (crop.shape, crop_label.shape) == ((48, 48, 3), (48, 48))
    inside = crop_label != 255
    assert (crop[~inside] == 0).all()
    # Away from the borders between areas, where bicubic and nearest differ, red tells the label.
    flat = inside & (np.abs(255 / 20 * crop[:, :, 0] - crop_label) < 0.01)
    assert flat.sum() > 0.3 * inside.sum()
    again = transform(image, label, np.random.default_rng(seed))
    np.testing.assert_array_equal(again[0], crop)
    np.testing.assert_array_equal(again[1], crop_label)


def test_jitter_seeds_no_generator_of_a_gpu(monkeypatch):
    """Dropout there would repeat itself with --num_workers 0."""
    monkeypatch.setattr(torch, "manual_seed", lambda _seed: pytest.fail("seeds all devices"))
    image, state = _image(8, 8), torch.random.get_rng_state()
    one, two = (colour_jitter(image, JITTER, np.random.default_rng(0)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, image)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_jitter_changes_colours_and_neither_geometry_nor_padding():
    image, label = _coded(30, 40)
    plain, jittered = (
        PairTransform(MEAN, STD, 64, (0.5, 1.0), jitter)(image, label, np.random.default_rng(3))
        for jitter in (None, JITTER)
    )
    np.testing.assert_array_equal(plain[1], jittered[1])
    outside = plain[1] == 255
    assert outside.any()
    assert (jittered[0][outside] == 0).all()
    assert np.abs(jittered[0] - plain[0])[~outside].mean() > 0.05
