"""The label files of IRN and AffinityNet: what they hold, and when they are made again."""

from dataclasses import replace

import numpy as np
import pytest

from tests.conftest import PETS
from tests.seeds import seed_of, write_seeds
from tool.errors import InputError
from tool.expand.crf import CRF_SETTINGS, alpha_scores, confident_label
from tool.file.cam_file import find_cam, save_cam
from tool.file.images import read_image, read_mask, read_mask_meta
from voc12.expansion_labels import AffinityScores, ConfidentLabels, load_scores, make_labels
from voc12.lists import image_path, load_ids


@pytest.fixture
def ids(pets_root):
    return load_ids(pets_root, "train")


@pytest.fixture(params=["confident", "scores"])
def maker(request, pets_root, tmp_path):
    """A maker of either kind over its own copy of the seeds."""
    common = (pets_root, write_seeds(pets_root, tmp_path / "cam"), tmp_path / "labels", PETS)
    if request.param == "confident":
        return ConfidentLabels(
            *common, fg_threshold=0.3, bg_threshold=0.05, crf=CRF_SETTINGS["irn"]
        )
    return AffinityScores(*common, low_alpha=4, high_alpha=24, crf=CRF_SETTINGS["seam"])


def test_confident_labels(pets_root, tmp_path, ids):
    maker = ConfidentLabels(
        pets_root,
        write_seeds(pets_root, tmp_path / "cam"),
        tmp_path / "labels",
        PETS,
        0.3,
        0.05,
        CRF_SETTINGS["irn"],
    )
    make_labels(maker, ids, num_workers=1)
    for name in ids:
        seed = seed_of(pets_root, name)
        label = read_mask(maker.path(name))
        np.testing.assert_array_equal(
            label, confident_label(read_image(image_path(pets_root, name)), seed.cam, seed.keys)
        )
        assert set(np.unique(label)) >= {0, *(seed.keys + 1)}
        meta = read_mask_meta(maker.path(name))
        assert (meta["stage"], meta["fg_threshold"], meta["crf"]["bilateral_srgb"]) == (
            "irn_label",
            0.3,
            5,
        )
        assert meta["cam"] == seed.meta
    assert sorted(path.stem for path in maker.label_dir.iterdir()) == ids


@pytest.mark.parametrize("format", ["released", "irn"])
def test_other_formats_give_the_same_labels(pets_root, tmp_path, ids, format):
    labels = []
    for name in ("npz", format):
        folder = write_seeds(pets_root, tmp_path / name, name)
        maker = ConfidentLabels(
            pets_root, folder, tmp_path / f"labels_{name}", PETS, 0.3, 0.05, CRF_SETTINGS["irn"]
        )
        make_labels(maker, ids[:2], num_workers=1)
        labels.append([read_mask(maker.path(image)) for image in ids[:2]])
    for ours, theirs in zip(*labels, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_affinity_scores(pets_root, tmp_path, ids):
    maker = AffinityScores(
        pets_root,
        write_seeds(pets_root, tmp_path / "cam"),
        tmp_path / "labels",
        PETS,
        4,
        24,
        CRF_SETTINGS["seam"],
    )
    make_labels(maker, ids[:2], num_workers=1)
    for name in ids[:2]:
        seed, image = seed_of(pets_root, name), read_image(image_path(pets_root, name))
        low, high, meta = load_scores(maker.path(name))
        np.testing.assert_allclose(low, alpha_scores(image, seed.cam, 4), atol=5e-4)
        np.testing.assert_allclose(high, alpha_scores(image, seed.cam, 24), atol=5e-4)
        assert low.dtype == np.float32
        assert (meta["stage"], meta["low_alpha"], meta["high_alpha"]) == ("aff_scores", 4, 24)


def test_image_without_classes_is_background(pets_root, maker, ids):
    seed = seed_of(pets_root, ids[0])
    save_cam(maker.cam_dir, replace(seed, keys=seed.keys[:0], cam=seed.cam[:0]))
    make_labels(maker, ids[:1], num_workers=1)
    if isinstance(maker, ConfidentLabels):
        assert not read_mask(maker.path(ids[0])).any()
    else:
        low, high, _ = load_scores(maker.path(ids[0]))
        assert low.shape == high.shape == (1, *seed.size)
        assert (low == 1).all()


def test_only_what_is_missing_or_outdated_is_made(pets_root, maker, ids):
    make_labels(maker, ids[:3], num_workers=1)
    before = {name: maker.path(name).stat().st_ino for name in ids[:3]}
    seed = seed_of(pets_root, ids[1])
    save_cam(maker.cam_dir, replace(seed, cam=seed.cam * np.float32(0.8)))
    maker.path(ids[2]).write_bytes(maker.path(ids[2]).read_bytes()[:-40])
    make_labels(maker, ids[:4], num_workers=1)
    after = {name: maker.path(name).stat().st_ino for name in ids[:4]}
    assert [after[name] == before[name] for name in ids[:3]] == [True, False, False]
    other = replace(maker, crf=CRF_SETTINGS["deeplab"])
    make_labels(other, ids[:1], num_workers=1)
    assert maker.path(ids[0]).stat().st_ino != after[ids[0]]


def test_processes_change_nothing(pets_root, tmp_path, ids):
    cam_dir = write_seeds(pets_root, tmp_path / "cam")
    makers = [
        ConfidentLabels(pets_root, cam_dir, tmp_path / name, PETS, 0.3, 0.05, CRF_SETTINGS["irn"])
        for name in ("alone", "shared")
    ]
    for workers, maker in enumerate(makers, start=1):
        make_labels(maker, ids[:3], num_workers=workers)
    alone, shared = (
        {path.name: path.read_bytes() for path in maker.label_dir.iterdir()} for maker in makers
    )
    assert alone == shared
    assert len(alone) == 3


def test_missing_seed_is_named_before_any_work(maker, ids):
    find_cam(maker.cam_dir, ids[3]).unlink()
    with pytest.raises(
        InputError, match=f"1 of 5 images have no CAM file in .*, first {ids[3]}; run infer_cam.py"
    ):
        make_labels(maker, ids, num_workers=1)
    assert not maker.label_dir.exists()


def test_file_that_holds_no_scores_is_named(tmp_path):
    with pytest.raises(
        InputError, match=r"score file not found: .*a\.npz; train_aff.py makes it from --cam_dir"
    ):
        load_scores(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", low=np.zeros(3))
    with pytest.raises(
        InputError,
        match=r"a\.npz is no score file of train_aff.py, or damaged \(KeyError\); delete it",
    ):
        load_scores(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", low=np.zeros((2, 3, 4)), high=np.zeros((2, 3, 4)), meta="{}")
    with pytest.raises(
        InputError, match=r"a\.npz is no score file of train_aff.py: low \(2, 3, 4\) float64"
    ):
        load_scores(tmp_path / "a.npz")
