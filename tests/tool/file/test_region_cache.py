"""Cached superpixels: what a crop reads, that files are shared and healed, and how many regions a
crop gets.
"""

import json
import multiprocessing
from dataclasses import replace

import numpy as np
import pytest

from tests.conftest import PETS
from tool.errors import InputError
from tool.file.region_cache import RegionCache
from tool.patches import PatchMask, superpixels
from tool.transforms import TrainTransform, View, random_window
from voc12.dataset import TrainSet
from voc12.labels import load_labels
from voc12.lists import load_ids

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _photograph(height: int = 60, width: int = 90, seed: int = 0) -> np.ndarray:
    """Waves of colour, an edge, and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = 128 + 80 * np.stack([np.sin(x / 9), np.cos(y / 7), np.where(x > y, 1, -1)], axis=2)
    return (image + 4 * rng.normal(size=image.shape)).clip(0, 255).astype(np.uint8)


def _cache(folder, **settings) -> RegionCache:
    return RegionCache(
        folder, MEAN, STD, **({"segments": 40, "crop_size": 48, "resize_long": (48, 80)} | settings)
    )


# ============ View ============
@pytest.mark.parametrize("flip", [False, True])
def test_labels_follow_the_pixels_of_the_crop(flip):
    # Tiles whose colour is their label: away from their borders, resized pixels must be the labels
    # that the view gives.
    labels = (
        (40 * np.arange(1, 7, dtype=np.uint8).reshape(2, 3)).repeat(30, axis=0).repeat(30, axis=1)
    )
    transform = TrainTransform(
        (0.0,) * 3, (1 / 255,) * 3, crop_size=20, resize_long=(36, 36), jitter=(0, 0, 0, 0)
    )
    views = (
        transform.with_view(np.stack([labels] * 3, axis=2), np.random.default_rng(seed))
        for seed in range(50)
    )
    for crop, view in [pair for pair in views if pair[1].flip == flip][:5]:
        agree = np.abs(crop[:, :, 0] - view.labels(labels, outside=0)) < 4
        assert agree.mean() > 0.7


def test_at_the_same_size_labels_are_the_window_and_what_lies_outside():
    labels = np.arange(1, 51).reshape(5, 10)
    window = ((slice(0, 5), slice(2, 9)), (slice(1, 6), slice(0, 7)))
    crop = View(5, 10, False, window, 7).labels(labels, outside=99)
    np.testing.assert_array_equal(crop[1:6], labels[:, 2:9])
    assert (crop[[0, 6]] == 99).all()
    mirrored = View(5, 10, True, window, 7).labels(labels, outside=99)
    np.testing.assert_array_equal(mirrored[1:6], labels[:, ::-1][:, 2:9])


# ============ the files ============
def test_a_photograph_is_computed_once_and_then_read(tmp_path, monkeypatch):
    cache, image = _cache(tmp_path), _photograph()
    regions = cache.photograph(image)
    assert (regions.shape, regions.dtype, regions.min()) == ((60, 90), np.uint16, 1)
    np.testing.assert_array_equal(regions, cache.compute(image))
    monkeypatch.setattr(RegionCache, "compute", lambda *_: pytest.fail("computed again"))
    np.testing.assert_array_equal(cache.photograph(image), regions)
    assert len(list(tmp_path.rglob("*.npz"))) == 1


def test_other_photographs_and_settings_have_other_files(tmp_path):
    cache = _cache(tmp_path)
    cache.photograph(_photograph())
    cache.photograph(_photograph(seed=1))
    for changed in (
        {"segments": 30},
        {"crop_size": 40},
        {"slic_input": "raw"},
        {"compactness": 5.0},
        {"mean": (0.5,) * 3},
    ):
        replace(cache, **changed).photograph(_photograph())
    assert len(list(tmp_path.rglob("*.npz"))) == 7


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"no zip"])
def test_a_damaged_file_is_made_again(tmp_path, content):
    cache, image = _cache(tmp_path), _photograph()
    regions = cache.photograph(image)
    (path,) = tmp_path.rglob("*.npz")
    path.write_bytes(content)
    np.testing.assert_array_equal(cache.photograph(image), regions)
    np.testing.assert_array_equal(np.load(path)["regions"], regions)


def test_a_file_of_another_size_is_made_again(tmp_path):
    cache, image = _cache(tmp_path), _photograph()
    cache.photograph(image)
    (path,) = tmp_path.rglob("*.npz")
    np.savez_compressed(path, regions=np.ones((3, 3), np.uint16))
    assert cache.photograph(image).shape == (60, 90)


def test_more_regions_than_16_bits_hold_keep_their_numbers(tmp_path, monkeypatch):
    """A region a pixel; a file of before, whose numbers had wrapped, is made again."""
    numbers = np.arange(1, 260 * 260 + 1).reshape(260, 260)
    monkeypatch.setattr("tool.file.region_cache.superpixels", lambda *_: numbers)
    cache, image = _cache(tmp_path, crop_size=260), _photograph(260, 260)
    np.testing.assert_array_equal(cache.photograph(image), numbers)
    (path,) = tmp_path.rglob("*.npz")
    np.savez_compressed(path, regions=numbers.astype(np.uint16))
    np.testing.assert_array_equal(cache.photograph(image), numbers)
    np.testing.assert_array_equal(np.load(path)["regions"], numbers)
    whole = View(260, 260, False, ((slice(0, 260),) * 2,) * 2, 260)
    np.testing.assert_array_equal(cache.crop(image, whole), numbers)


def _write(job: tuple) -> int:
    cache, seed = job
    return int(cache.photograph(_photograph(seed=seed)).max())


def test_several_processes_write_the_same_folder(tmp_path):
    cache = _cache(tmp_path)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        counts = pool.map(_write, [(cache, seed % 2) for seed in range(8)], chunksize=1)
    assert counts == counts[:2] * 4
    assert len(list(tmp_path.rglob("*"))) == 3  # the settings' folder and two files


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        InputError,
        match=r"^cannot write superpixels to .*file/slic40.*; set --superpixel_cache DIR or",
    ):
        _cache(tmp_path / "file").photograph(_photograph())


# ============ crops ============
@pytest.mark.parametrize("size", [24, 48, 100], ids=["inside", "across", "padded"])
def test_labels_of_a_crop_run_from_one_without_gaps(tmp_path, size):
    cache, image, rng = _cache(tmp_path, crop_size=size), _photograph(), np.random.default_rng(0)
    for flip in (False, True):
        view = View(52, 78, flip, random_window((52, 78), size, rng), size)
        regions = cache.crop(image, view)
        assert regions.shape == (size, size)
        np.testing.assert_array_equal(np.unique(regions), np.arange(1, regions.max() + 1))


def test_regions_of_a_crop_are_those_of_the_photograph_and_squares_outside(tmp_path):
    cache, image = _cache(tmp_path, segments=36, crop_size=100), _photograph()
    view = View(60, 90, False, random_window((60, 90), 100, np.random.default_rng(3)), 100)
    regions, (_, (rows, columns)) = cache.crop(image, view), view.window
    whole = cache.photograph(image)
    # one to one
    assert len({*zip(regions[rows, columns].ravel(), whole.ravel(), strict=True)}) == whole.max()
    outside = np.ones((100, 100), bool)
    outside[rows, columns] = False
    assert not set(regions[outside]) & set(regions[~outside])
    assert 4 < len(np.unique(regions[outside])) <= 36


def test_a_crop_holds_about_as_many_regions_as_slic_on_the_crop(tmp_path):
    transform = TrainTransform(MEAN, STD, crop_size=96, resize_long=(110, 170), jitter=(0, 0, 0, 0))
    cache, ours, theirs = (
        _cache(tmp_path, segments=100, crop_size=96, resize_long=(110, 170)),
        [],
        [],
    )
    for seed in range(6):
        image = _photograph(90 + 10 * seed, 150)
        crop, view = transform.with_view(image, np.random.default_rng(seed))
        ours.append(cache.crop(image, view).max())
        theirs.append(superpixels(crop, segments=100).max())
    assert np.mean(ours) == pytest.approx(np.mean(theirs), rel=0.3)


# ============ in the data set ============
def test_samples_differ_from_exact_ones_in_the_mask_alone(pets_root, tmp_path):
    ids = load_ids(pets_root, "train")
    labels = load_labels(pets_root, ids, PETS)
    transform = TrainTransform(MEAN, STD, crop_size=32, resize_long=(30, 50))
    cache = RegionCache(tmp_path, MEAN, STD, segments=20, crop_size=32, resize_long=(30, 50))
    exact = TrainSet(pets_root, ids, labels, transform, PatchMask(segments=20), 4)
    cached = TrainSet(pets_root, ids, labels, transform, PatchMask(segments=20), 4, cache)
    first, again, plain = cached[1, 2], cached[1, 2], exact[1, 2]
    assert (first["mask"] == again["mask"]).all()
    assert (first["image"] == plain["image"]).all()
    assert (first["mask"] != plain["mask"]).any()
    assert first["visible"].item() == pytest.approx(first["mask"].float().mean().item())
    assert json.dumps(sorted(first)) == json.dumps(sorted(plain))
