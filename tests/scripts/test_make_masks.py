"""Label maps of CAM files through the command line."""

import numpy as np
import pytest

from make_masks import main, parse_args
from tests.seeds import seed_of, write_seeds
from tool.auto_threshold import THRESHOLDS
from tool.errors import InputError
from tool.file.cam_file import CamFile, load_cam, save_cam
from tool.file.images import read_mask, read_mask_meta
from voc12.lists import load_ids
from voc12.threshold_choice import choose_sure_thresholds, choose_threshold


def _make(root, cam_dir, out, *flags):
    words = [
        "--voc12_root",
        root,
        "--cam_dir",
        cam_dir,
        "--out_mask",
        out,
        "--num_workers",
        0,
        *flags,
    ]
    main(parse_args([str(word) for word in words]))
    return out


@pytest.fixture(scope="module")
def cam_dir(pets_root, tmp_path_factory):
    return write_seeds(pets_root, tmp_path_factory.mktemp("seeds") / "cam")


def test_a_pixel_has_its_best_class_above_the_threshold(pets_root, cam_dir, tmp_path):
    _make(pets_root, cam_dir, tmp_path, "--t", 0.6)
    for name in load_ids(pets_root, "train"):
        seed = seed_of(pets_root, name)
        expected = np.where(seed.cam.max(axis=0) > 0.6, seed.keys[seed.cam.argmax(axis=0)] + 1, 0)
        np.testing.assert_array_equal(read_mask(tmp_path / f"{name}.png"), expected)
    meta = read_mask_meta(tmp_path / f"{name}.png")
    assert (meta["stage"], meta["threshold"], meta["cam"]["stage"]) == (
        "cam_mask",
        0.6,
        "cam_refined",
    )


def test_finished_masks_are_kept_and_another_threshold_makes_them_again(
    pets_root, cam_dir, tmp_path, capfd
):
    paths = [tmp_path / f"{name}.png" for name in load_ids(pets_root, "train")]

    def times(threshold):
        _make(pets_root, cam_dir, tmp_path, "--t", threshold)
        return [path.stat().st_mtime_ns for path in paths]

    first = times(0.3)
    assert "are there already" not in "".join(capfd.readouterr())
    assert times(0.3) == first
    assert "5 of 5 masks are there already" in "".join(capfd.readouterr())
    assert all(a != b for a, b in zip(times(0.4), first, strict=True))


def test_walked_maps_are_read_too(pets_root, cam_dir, tmp_path):
    for name in load_ids(pets_root, "train"):
        seed = load_cam(cam_dir / f"{name}.npz")
        save_cam(
            tmp_path / "walk",
            CamFile(seed.id, seed.keys, seed.cam, seed.size, seed.meta | {"stage": "irn_walk"}),
        )
    _make(pets_root, tmp_path / "walk", tmp_path / "mask", "--t", 0.5)
    assert read_mask_meta(tmp_path / "mask" / f"{name}.png")["cam"]["stage"] == "irn_walk"


def test_threshold_without_masks(pets_root, cam_dir, tmp_path, capsys):
    _make(pets_root, cam_dir, tmp_path, "--t", "auto")
    few, said = capsys.readouterr().out.splitlines()[:2]
    assert few.startswith("note: the threshold is chosen from 5 images; with under 100 it may")
    chosen = float(said.rsplit(" ", 1)[1])
    assert read_mask_meta(tmp_path / f"{load_ids(pets_root, 'train')[0]}.png")[
        "threshold"
    ] == pytest.approx(chosen)


def test_maps_after_a_walk_show_as_much_as_the_seeds_at_their_threshold(
    pets_root, cam_dir, tmp_path, capsys
):
    """A walk that squares the scores shows at t ** 2 what the seeds show at t."""
    for name in load_ids(pets_root, "train"):
        seed = load_cam(cam_dir / f"{name}.npz")
        save_cam(
            tmp_path / "walk",
            CamFile(seed.id, seed.keys, seed.cam**2, seed.size, seed.meta | {"stage": "irn_walk"}),
        )
    with pytest.raises(
        InputError,
        match=r"is of stage irn_walk, where auto needs the seeds that walked; evaluation_cam.py "
        r"and make_masks.py",
    ):
        _make(pets_root, tmp_path / "walk", tmp_path / "mask", "--t", "auto")
    capsys.readouterr()
    _make(pets_root, cam_dir, tmp_path / "mask", "--t", "auto")
    _make(pets_root, tmp_path / "walk", tmp_path / "mask", "--t", "auto", "--seed_dir", cam_dir)
    first, second = (
        float(line.rsplit(" ", 1)[1])
        for line in capsys.readouterr().out.splitlines()
        if "chosen without masks" in line
    )
    assert second == pytest.approx(first**2, abs=0.015)


def test_the_threshold_of_agreed_maps_lies_between_autos_and_their_middle(
    pets_root, cam_dir, tmp_path
):
    ids = load_ids(pets_root, "train")
    plain = choose_threshold(pets_root, ids, cam_dir)
    for name in ids:
        seed = load_cam(cam_dir / f"{name}.npz")
        meta = seed.meta | {"consensus": {"threshold": 0.4}}
        save_cam(tmp_path / "agreed", CamFile(seed.id, seed.keys, seed.cam, seed.size, meta))
    agreed = choose_threshold(pets_root, ids, tmp_path / "agreed")
    assert agreed == pytest.approx((plain + 0.5) / 2, abs=0.0051)
    assert agreed in THRESHOLDS
    around, sure, unsure = choose_sure_thresholds(pets_root, ids, tmp_path / "agreed")
    assert around == agreed
    assert unsure < agreed < sure
