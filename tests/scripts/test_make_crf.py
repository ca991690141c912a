"""Seeds through the CRF on the command line, and evaluation_cam.py --crf, which gives the same
numbers without the files.
"""

import json

import numpy as np
import pytest

import evaluation_cam
from make_crf import main, parse_args
from tests.seeds import seed_of, write_seeds
from tool.errors import InputError
from tool.expand.crf import CRF_SETTINGS, SeedCrf
from tool.expand.seed import crf_seed
from tool.file.cam_file import load_cam, save_cam
from tool.file.images import read_image, read_mask, read_mask_meta
from voc12.lists import image_path, load_ids

# A CRF that leaves something of the small objects on 60 x 80 images.
MILD = ["--crf_set", "bilateral_sxy=8", "iterations=3"]


@pytest.fixture(scope="module")
def cam_dir(pets_root, tmp_path_factory):
    return write_seeds(pets_root, tmp_path_factory.mktemp("seeds") / "cam")


def _refine(root, cam_dir, out, *flags):
    arguments = [
        "--voc12_root",
        root,
        "--cam_dir",
        cam_dir,
        "--out_cam",
        out,
        "--num_workers",
        1,
        *MILD,
        *flags,
    ]
    main(parse_args([str(value) for value in arguments]))
    return out


def _evaluate(root, predict_dir, folder, *flags):
    arguments = [
        "--voc12_root",
        root,
        "--list",
        "train",
        "--predict_dir",
        predict_dir,
        "--num_workers",
        1,
        "--json",
        folder / "e.json",
    ]
    evaluation_cam.main(evaluation_cam.parse_args([str(value) for value in [*arguments, *flags]]))
    return json.loads((folder / "e.json").read_text())


def test_files_hold_the_refined_seeds_and_the_masks_their_labels(pets_root, cam_dir, tmp_path):
    _refine(
        pets_root,
        cam_dir,
        tmp_path / "crf",
        "--crf_threshold",
        0.3,
        "--out_mask",
        tmp_path / "mask",
    )
    settings = CRF_SETTINGS["seam"].__class__(iterations=3, bilateral_sxy=8)
    for name in load_ids(pets_root, "train"):
        seed, image = seed_of(pets_root, name), read_image(image_path(pets_root, name))
        expected = crf_seed(image, seed, SeedCrf(settings, bg_threshold=0.3), {})
        found, mask = (
            load_cam(tmp_path / "crf" / f"{name}.npz"),
            read_mask(tmp_path / "mask" / f"{name}.png"),
        )
        np.testing.assert_allclose(found.cam, expected.cam, rtol=0, atol=5.1e-5)  # packed
        assert (found.meta["stage"], found.meta["threshold"], found.meta["bg_threshold"]) == (
            "seed_crf",
            0.5,
            0.3,
        )
        assert found.meta["cam"] == seed.meta
        highest = found.cam.max(axis=0)
        np.testing.assert_array_equal(
            mask, np.where(highest > 0.5, seed.keys[found.cam.argmax(axis=0)] + 1, 0)
        )
        assert set(np.unique(mask)) == {0, *(seed.keys + 1)}
        assert read_mask_meta(tmp_path / "mask" / f"{name}.png")["stage"] == "seed_crf_mask"


def test_finished_files_are_kept(pets_root, cam_dir, tmp_path, capfd):
    def times():
        return {
            path.name: path.stat().st_mtime_ns
            for path in _refine(pets_root, cam_dir, tmp_path / "crf").iterdir()
        }

    before = times()
    assert "are there already" not in "".join(capfd.readouterr())
    assert times() == before
    said = f"{len(before)} of {len(before)} CAM files are there already, made with these CAM files"
    assert said in "".join(capfd.readouterr())
    (tmp_path / "crf" / "2007_000001.npz").write_bytes(b"PK")
    assert {name for name, time in times().items() if time != before[name]} == {"2007_000001.npz"}
    _refine(pets_root, cam_dir, tmp_path / "crf", "--crf_alpha", 4, "--crf", "irn")
    meta = load_cam(tmp_path / "crf" / "2007_000001.npz").meta
    assert (
        meta["on"],
        meta["alpha"],
        meta["bg_threshold"],
        meta["settings"]["bilateral_srgb"],
    ) == ("labels", 4, None, 5)


def test_evaluation_with_crf_gives_the_numbers_of_the_files(pets_root, cam_dir, tmp_path):
    files = _evaluate(
        pets_root, _refine(pets_root, cam_dir, tmp_path / "crf", "--crf_threshold", 0.3), tmp_path
    )
    direct = _evaluate(
        pets_root, cam_dir, tmp_path, "--crf", "seam", *MILD, "--crf_threshold", "0.3"
    )
    assert files["crf"] is None
    assert (direct["crf"]["bg_threshold"], direct["crf"]["settings"]["iterations"]) == (0.3, 3)
    assert direct | {"crf": None} == files
    assert direct["stage"] == "seed_crf"
    # The best of a sweep over the CRF's maps is a choice by the masks that the CRF has not made; it
    # is there on request.
    swept = _evaluate(
        pets_root, cam_dir, tmp_path, "--crf", "seam", *MILD, "--crf_threshold", "0.3", "--curve"
    )
    assert direct["best_threshold"] == 0.5
    assert {round(point["threshold"], 2): point["miou"] for point in swept["curve"]}[0.5] == direct[
        "best_miou"
    ]
    assert swept["best_miou"] >= direct["best_miou"]


def test_evaluation_knows_files_after_the_crf(pets_root, cam_dir, tmp_path, capsys):
    done = _refine(pets_root, cam_dir, tmp_path / "crf", "--crf_threshold", 0.3)
    assert len(_evaluate(pets_root, done, tmp_path)["curve"]) == 1
    assert (
        "background threshold 0.50 of a CRF's maps, which say there what it decided"
        in capsys.readouterr().out
    )
    assert len(_evaluate(pets_root, done, tmp_path, "--curve")["curve"]) == 101
    with pytest.raises(
        InputError,
        match=r"\.npz is of stage seed_crf, where the CRF has decided already; leave auto out",
    ):
        _evaluate(pets_root, done, tmp_path, "--t", "auto")
    with pytest.raises(
        InputError,
        match="--t auto chooses the CRF's background score; give either it or --crf_threshold "
        "NUMBER",
    ):
        _evaluate(
            pets_root, cam_dir, tmp_path, "--crf", "seam", "--t", "auto", "--crf_threshold", "0.3"
        )
    (done / "2007_000001.npz").write_bytes((cam_dir / "2007_000001.npz").read_bytes())
    with pytest.raises(
        InputError,
        match="crf mixes seeds before and after the CRF; keep them in folders of their own",
    ):
        _evaluate(pets_root, done, tmp_path)


def test_evaluation_takes_the_best_threshold_of_the_seeds(pets_root, cam_dir, tmp_path, capsys):
    seeds = _evaluate(pets_root, cam_dir, tmp_path)
    capsys.readouterr()
    found = _evaluate(pets_root, cam_dir, tmp_path, "--crf", "seam", *MILD)
    line = (
        f"seeds: mIoU {seeds['best_miou']:.2f} at {seeds['best_threshold']:.2f}, the CRF's "
        "background score"
    )
    assert capsys.readouterr().out.splitlines()[0] == line
    given = _evaluate(
        pets_root,
        cam_dir,
        tmp_path,
        "--crf",
        "seam",
        *MILD,
        "--crf_threshold",
        str(seeds["best_threshold"]),
    )
    assert found == given
    assert found["best_miou"] != seeds["best_miou"]


def test_wrong_inputs_are_named(pets_root, cam_dir, tmp_path):
    with pytest.raises(
        InputError,
        match=r"--out_cam is --cam_dir, .*; give another folder, the seeds are needed again",
    ):
        _refine(pets_root, cam_dir, cam_dir)
    done = _refine(pets_root, cam_dir, tmp_path / "crf", "--crf_threshold", 0.3)
    with pytest.raises(
        InputError,
        match=r"2007_000000\.npz is of stage seed_crf, seeds are of stage cam or cam_refined",
    ):
        _refine(pets_root, done, tmp_path / "again")
    with pytest.raises(
        InputError,
        match=r"2007_000000\.npz is of stage seed_crf, seeds are of stage cam or cam_refined",
    ):
        _evaluate(pets_root, done, tmp_path, "--crf", "seam", "--crf_threshold", "0.3")
    with pytest.raises(
        InputError, match=r"--curve, --curve_png, --t and --crf need CAM files \(--type npy\)"
    ):
        _evaluate(pets_root, cam_dir, tmp_path, "--crf", "seam", "--type", "png")
    small = write_seeds(pets_root, tmp_path / "small")
    seed = seed_of(pets_root, "2007_000000")
    save_cam(
        small,
        type(seed)(
            seed.id, seed.keys, seed.cam[:, 1:], (seed.size[0] - 1, seed.size[1]), seed.meta
        ),
    )
    with pytest.raises(
        InputError, match=r"2007_000000\.npz is of size \(59, 80\), its image \(60, 80\)"
    ):
        _refine(pets_root, small, tmp_path / "other")


@pytest.mark.parametrize(
    "flags",
    [
        ["--crf_threshold", "0.3", "--crf_alpha", "4"],
        ["--crf", "mine"],
        ["--crf_set", "iterations"],
    ],
)
def test_wrong_flags_are_refused(flags, capsys):
    with pytest.raises(SystemExit):
        parse_args(flags)
    message = capsys.readouterr().err
    assert (
        "not allowed with argument" in message
        or "invalid choice: 'mine'" in message
        or "is not NAME=NUMBER" in message
    )
