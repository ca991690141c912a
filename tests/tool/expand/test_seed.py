"""Seeds: which CAM files are taken, what files made from them say, and the CRF on them."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.conftest import PETS
from tests.seeds import seed_of, write_seeds
from tool.errors import InputError
from tool.expand.crf import CRF_INPUTS, CRF_SETTINGS, SeedCrf, named_settings, seed_marginals
from tool.expand.seed import (
    CRF_THRESHOLD,
    crf_meta,
    crf_seed,
    find_seeds,
    is_made_from,
    load_seed,
    made_from,
    mask_is_finished,
)
from tool.file.cam_file import FORMATS, CamFile, find_cam, save_cam
from tool.file.images import META_KEY, read_image, read_mask, read_mask_meta, write_mask
from voc12.lists import image_path, load_ids

SIZE = (6, 8)


def _seed(**changes) -> CamFile:
    cam = np.random.default_rng(0).random((2, *SIZE), dtype=np.float32)
    return replace(
        CamFile("a", np.array([2, 0]), cam, SIZE, {"stage": "cam", "classes": list(PETS)}),
        **changes,
    )


# ============ reading ============
@pytest.mark.parametrize("format", FORMATS)
def test_every_format_gives_the_same_seed(pets_root, tmp_path, format):
    name = load_ids(pets_root, "train")[1]
    expected = seed_of(pets_root, name)
    found = load_seed(find_cam(write_seeds(pets_root, tmp_path, format), name), expected.size, PETS)
    np.testing.assert_array_equal(found.keys, expected.keys)
    tolerance = 5.1e-5 if format == "packed" else 0  # half a step of the packed values
    np.testing.assert_allclose(found.cam, expected.cam, rtol=0, atol=tolerance)
    assert (found.id, found.size) == (name, expected.size)


def test_values_below_zero_count_as_zero(tmp_path):
    cam = np.linspace(-1, 1, 48, dtype=np.float32).reshape(1, *SIZE)
    path = save_cam(tmp_path, _seed(keys=np.array([1]), cam=cam))
    np.testing.assert_array_equal(load_seed(path, SIZE, PETS).cam, np.maximum(cam, 0))


def test_image_without_classes_has_its_image_size_in_every_format(tmp_path):
    nothing = _seed(keys=np.zeros(0, dtype=np.int64), cam=np.zeros((0, *SIZE), dtype=np.float32))
    for format in FORMATS:
        assert load_seed(save_cam(tmp_path, nothing, format), SIZE, PETS).cam.shape == (0, *SIZE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"meta": {"stage": "seed_crf"}},
            "is of stage seed_crf, seeds are of stage cam or cam_refined; give CAM files of "
            "infer_cam",
        ),
        (
            {"meta": {"classes": ["dog", "cat", "owl"]}},
            "was made for other classes than cat, dog, owl; check --voc12_root and the class",
        ),
        (
            {"keys": np.array([3, 0])},
            r"has class number 3, the class list 0\.\.2; check --voc12_root and the folder",
        ),
        (
            {"cam": np.zeros((2, 8, 6), dtype=np.float32), "size": (8, 6)},
            r"is of size \(8, 6\), its image \(6, 8\) \(height, width\)",
        ),
    ],
)
def test_wrong_seed_is_named(tmp_path, changes, message):
    path = save_cam(tmp_path, _seed(**changes))
    with pytest.raises(InputError, match=rf"a\.npz {message}"):
        load_seed(path, SIZE, PETS)


def test_images_without_seed_are_counted(tmp_path):
    path = save_cam(tmp_path, _seed())
    assert find_seeds(tmp_path, ["a"]) == [path]
    with pytest.raises(
        InputError,
        match=r"^2 of 3 images have no CAM file in .*, first b; run infer_cam.py for them, or "
        r"check the folder",
    ):
        find_seeds(tmp_path, ["a", "b", "c"])
    write_mask(tmp_path / "b.png", np.zeros(SIZE))
    with pytest.raises(
        InputError,
        match=r"^1 of 2 images have .*, first b; it holds masks: give the folder of CAM files$",
    ):
        find_seeds(tmp_path, ["a", "b"])


# ============ what files say of themselves ============
def test_mask_says_what_it_was_given(tmp_path):
    meta = {
        "stage": "irn_mask",
        "bg_threshold": 0.25,
        "classes": ["chien à poil"],
        "cam": {"scales": [0.5, 1.0]},
    }
    mask = np.arange(48, dtype=np.uint8).reshape(SIZE)
    write_mask(tmp_path / "a.png", mask, meta)
    assert read_mask_meta(tmp_path / "a.png") == meta
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), mask)
    write_mask(tmp_path / "b.png", mask)
    assert read_mask_meta(tmp_path / "b.png") == {}


@pytest.mark.parametrize(
    ("text", "reason"), [("{", "Expecting property name"), ("[1]", "no JSON object")]
)
def test_mask_with_other_text_is_named(tmp_path, text, reason):
    info = PngInfo()
    info.add_text(META_KEY, text)
    Image.new("L", (2, 2)).save(tmp_path / "a.png", pnginfo=info)
    with pytest.raises(
        InputError, match=rf"cannot read what mask .*a\.png says of itself: {reason}"
    ):
        read_mask_meta(tmp_path / "a.png")


def test_mask_is_finished_until_a_setting_or_the_seed_changes(tmp_path):
    cam_path = save_cam(tmp_path, _seed())
    mask_path, meta = tmp_path / "a.png", {"stage": "irn_mask", "beta": 10}
    assert not mask_is_finished(mask_path, meta, cam_path)
    write_mask(mask_path, np.zeros(SIZE), made_from(meta, cam_path, _seed()))
    assert mask_is_finished(mask_path, meta, cam_path)
    assert read_mask_meta(mask_path)["cam"] == _seed().meta
    assert not mask_is_finished(mask_path, meta | {"beta": 8}, cam_path)
    save_cam(tmp_path, _seed(cam=_seed().cam / 2))
    assert not mask_is_finished(mask_path, meta, cam_path)
    assert not is_made_from(meta, meta, cam_path)
    write_mask(mask_path, np.zeros(SIZE), made_from(meta, cam_path, _seed()))
    mask_path.write_bytes(mask_path.read_bytes()[:-30])
    assert not mask_is_finished(mask_path, meta, cam_path)


# ============ CRF ============
@pytest.fixture(scope="module")
def crowded(pets_root):
    """(photograph, seed) of an image with two classes and noise on its maps."""
    name = load_ids(pets_root, "train")[1]
    seed = seed_of(pets_root, name)
    noise = np.random.default_rng(0).random(seed.cam.shape, dtype=np.float32)
    return read_image(image_path(pets_root, name)), replace(seed, cam=(seed.cam + noise) / 2)


HOWS = [SeedCrf(CRF_SETTINGS["seam"], on=on, bg_threshold=0.4) for on in CRF_INPUTS] + [
    SeedCrf(CRF_SETTINGS["psa"], alpha=2)
]


@pytest.mark.parametrize("how", HOWS)
def test_refined_seed_says_at_its_threshold_what_the_crf_says(crowded, how):
    image, seed = crowded
    refined = crf_seed(image, seed, how, {})
    marginals = seed_marginals(image, seed.cam, how)
    says = np.concatenate(
        [np.full((1, *seed.size), CRF_THRESHOLD, dtype=np.float32), refined.cam]
    ).argmax(axis=0)
    top = np.sort(marginals, axis=0)
    sure = top[-1] - top[-2] > 1e-6
    assert sure.mean() > 0.99
    np.testing.assert_array_equal(says[sure], marginals.argmax(axis=0)[sure])
    assert len(np.unique(says)) == 3
    np.testing.assert_array_equal(refined.cam.argmax(axis=0), marginals[1:].argmax(axis=0))
    assert 0 <= refined.cam.min() <= refined.cam.max() <= 1


def test_map_of_one_class_is_its_marginal(crowded):
    image, seed = crowded
    how = SeedCrf(CRF_SETTINGS["seam"], bg_threshold=0.4)
    refined = crf_seed(image, replace(seed, keys=seed.keys[:1], cam=seed.cam[:1]), how, {})
    np.testing.assert_allclose(
        refined.cam[0], seed_marginals(image, seed.cam[:1], how)[1], atol=1e-6
    )


def test_a_higher_background_score_leaves_less_foreground(crowded):
    image, seed = crowded
    areas = [
        (
            crf_seed(image, seed, SeedCrf(CRF_SETTINGS["seam"], bg_threshold=score), {}).cam.max(
                axis=0
            )
            > CRF_THRESHOLD
        ).sum()
        for score in (0.1, 0.4, 0.7)
    ]
    assert areas[0] > areas[1] > areas[2]


@pytest.mark.parametrize("how", HOWS)
def test_image_without_classes_stays_so(crowded, how):
    image, seed = crowded
    nothing = replace(seed, keys=seed.keys[:0], cam=seed.cam[:0])
    assert crf_seed(image, nothing, how, {}).cam.shape == (0, *seed.size)


def test_meta_has_stage_units_threshold_and_settings(tmp_path, crowded):
    image, seed = crowded
    meta = crf_meta(HOWS[0], PETS)
    assert (meta["stage"], meta["units"], meta["threshold"], meta["bg_threshold"]) == (
        "seed_crf",
        "unit",
        0.5,
        0.4,
    )
    assert meta["settings"]["bilateral_srgb"] == 13
    path = save_cam(tmp_path, crf_seed(image, seed, HOWS[0], meta))
    with pytest.raises(
        InputError, match="is of stage seed_crf, seeds are of stage cam or cam_refined"
    ):
        load_seed(path, seed.size, PETS)


def test_settings_by_number():
    settings = named_settings("irn", iterations=5.0, bilateral_sxy=60)
    assert settings == replace(CRF_SETTINGS["irn"], iterations=5, bilateral_sxy=60)
    assert isinstance(settings.iterations, int)
    with pytest.raises(
        InputError, match="the dense CRF has no setting sxy; it has iterations, gaussian_sxy, "
    ):
        named_settings("irn", sxy=3)
